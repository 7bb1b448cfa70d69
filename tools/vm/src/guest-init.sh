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
for module in /lib/modules/*.ko; do
	[ -f $module ] && insmod $module
done

# A disk is a whole system, which goes on from here.
if [ -b /dev/vda ]; then
	mkdir -p /lower /upper /system
	mount -t squashfs -o ro /dev/vda /lower && mount -t tmpfs tmpfs /upper && mkdir /upper/changes /upper/work &&
		mount -t overlay -o lowerdir=/lower,upperdir=/upper/changes,workdir=/upper/work overlay /system || poweroff -f
	mkdir /system/infera
	cp /infera/script /system/infera/test
	for place in proc sys/fs/cgroup sys/kernel/debug sys/kernel/tracing sys dev/shm dev/pts tmp run; do umount /$place; done 2>/dev/null
	mkdir -p /system/dev /system/proc /system/sys /system/run
	mount --move /dev /system/dev
	exec switch_root /system /sbin/init
fi
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
