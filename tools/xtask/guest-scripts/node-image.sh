# On a node that systemd has started, with the system extension beside it.
# No carriage returns: what ends the output is read to the byte.
stty -F /dev/hvc0 raw -echo
STATE=/sys/kernel/sched_ext/state
fail() {
	echo "FAILED: $*"
	systemctl status --no-pager --full infera.service
	journalctl --no-pager -b -u infera.service | tail -30
	printf '\036%d\n' 1
	systemctl poweroff --force --force
	exit 1
}
# is STATE TENTHS
is() {
	for ((n = 0; n < $2; n++)); do
		[ "$(cat $STATE)" = "$1" ] && return
		sleep 0.1
	done
	fail "the state is $(cat $STATE), not $1"
}
property() { systemctl show --value -p $1 infera.service; }

[ -e /usr/bin/infera ] && fail "it is there before it is merged"
systemd-sysext merge || fail "systemd-sysext merge"
systemctl daemon-reload
systemd-sysusers infera.conf || fail "sysusers"
systemd-tmpfiles --create infera.conf || fail "tmpfiles"
grep -q '^infera:' /etc/group || fail "no group infera"
scx_infera --dry-run --config /etc/infera/infera.toml || fail "the configuration that comes with it"
systemctl start infera.service || fail "start"
[ "$(property ActiveState)" = active ] || fail "not active"
is enabled 300
infera status | head -3 || fail "status"
[ "$(stat -c %a:%G /run/infera/control.sock)" = 660:infera ] || fail "the socket is $(stat -c %a:%G /run/infera/control.sock)"
echo "started, and attached: $(property StatusText)"

first=$(property MainPID)
systemctl reload infera.service || fail "reload"
systemctl restart infera.service || fail "restart"
is enabled 300
[ "$(property MainPID)" != "$first" ] || fail "it is the same process"
echo "restarted, and attached again"

# systemd's own watchdog: a guard that does not move is replaced.
kill -STOP $(property MainPID)
for ((n = 0; n < 400; n++)); do [ "$(property NRestarts)" -ge 1 ] && break; sleep 0.1; done
[ "$(property NRestarts)" -ge 1 ] || fail "a stopped guard was not replaced"
is enabled 300
echo "a guard that was stopped has been replaced"

infera safe-mode on "a test" || fail "safe mode"
is disabled 20
infera safe-mode off || fail "safe mode off"
is enabled 300

systemctl stop infera.service || fail "stop"
is disabled 20
[ "$(property ActiveState)" = inactive ] || fail "not inactive after stopping"
[ "$(property Result)" = success ] || fail "stopped with $(property Result)"
echo "stopped, clean"

# A wrong configuration is said, and not tried for ever.
echo 'loans = 3' >/etc/infera/infera.toml
systemctl start infera.service && fail "it starts with a wrong configuration"
journalctl --no-pager -u infera.service | grep -q '/etc/infera/infera.toml:1:' || fail "the line is not named"
systemctl reset-failed infera.service

# As on a kernel without sched_ext, for all that the unit can see.
mount -t tmpfs none /sys/kernel/sched_ext
systemctl start infera.service || fail "a kernel without sched_ext is a failure"
[ "$(property ActiveState)" = inactive ] || fail "active without sched_ext"
[ "$(property ConditionResult)" = no ] || fail "the condition holds"
umount /sys/kernel/sched_ext
echo "without sched_ext it is skipped, and nothing has failed: $(systemctl is-failed infera.service)"

systemd-sysext unmerge || fail "unmerge"
[ -e /usr/bin/infera ] && fail "it is there after it is unmerged"
printf '\036%d\n' 0
systemctl poweroff --force --force
