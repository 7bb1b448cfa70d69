#!/bin/sh
# What a guest runs first: mounts what a node has, runs /infera/command with its output on
# the virtio console, says how it ended behind a record separator, and powers off.
export PATH=/usr/bin:/bin HOME=/root TERM=dumb
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q "^devtmpfs /dev " /proc/mounts || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for controller in cpu cpuset memory pids; do
	echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
done 2>/dev/null
[ -d /sys/kernel/tracing ] && mount -t tracefs tracefs /sys/kernel/tracing
[ -d /sys/kernel/debug ] && mount -t debugfs debugfs /sys/kernel/debug
hostname infera
ifconfig lo 127.0.0.1 netmask 255.0.0.0 up

# Held open throughout: the terminal's settings are lost when the last user closes it.
exec 3<>/dev/hvc0
stty raw -echo <&3
cd /root
/infera/command </dev/null >&3 2>&3
printf '\036%d\n' $? >&3
sync
exec 3>&-
poweroff -f
