# What a container of the chart has: these capabilities, nothing to gain, read-only sysfs and
# sysctls, and its own directories. `cargo xtask chart check` holds the list to the chart's.
CAPABILITIES=-all,+sys_admin,+bpf,+perfmon,+sys_nice,+ipc_lock,+sys_resource,+dac_read_search
mkdir -p $CG/critical /run/infera /run/scx /var/lib/infera
cat >/tmp/container.sh <<INNER
mount --make-rprivate /
mount -o remount,bind,ro /sys
mount -o remount,bind,ro /sys/fs/cgroup
for place in /proc/sys /proc/sysrq-trigger; do
	mount --bind \$place \$place
	mount -o remount,bind,ro \$place
done
exec /usr/bin/setpriv --bounding-set=$CAPABILITIES --inh-caps=-all --no-new-privs \
	infera-guard -- scx_infera --tier critical=/critical
INNER
unshare -m sh /tmp/container.sh >$LOG 2>&1 &
GUARD=$!
wait_for enabled 200
sleep 1
chrt -p $(pidof infera-guard) | grep -q FIFO || fail "the guard is not a real-time process"
# It cannot act on SIGTERM: the guard has to use its other hands.
kill -STOP $(pidof scx_infera)
wait_for disabled 20
grep -q 'Operation not permitted' $LOG && fail "the guard may not do what it has to"
wait_for enabled 100
infera safe-mode on capabilities || fail "safe mode"
wait_for disabled 10
kill $GUARD
wait $GUARD
[ $? = 10 ] || fail "the guard's exit status"
clean
