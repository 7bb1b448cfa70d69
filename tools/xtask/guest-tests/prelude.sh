# Shared by every guest test: start and stop the scheduler, make load, say what failed.
set -u
STATE=/sys/kernel/sched_ext/state
LOG=/tmp/scx.log
CG=/sys/fs/cgroup

fail() {
	echo "FAILED: $*"
	echo "--- scheduler"; cat $LOG 2>/dev/null | tail -40
	echo "--- kernel"; dmesg | grep -v 'audit' | tail -30
	exit 1
}

state() { cat $STATE; }
# Hundredths of a second since boot.
now() { read -r up _ </proc/uptime; echo "${up%.*}${up#*.}"; }

# wait_for STATE TENTHS
wait_for() {
	n=0
	while [ "$(state)" != "$1" ]; do
		n=$((n + 1))
		[ $n -gt "$2" ] && fail "state is $(state), not $1, after $2 tenths of a second"
		usleep 100000
	done
}

# start ARGS...: attaches the scheduler; its pid is in $SCX.
start() {
	# Here and not by the background shell below, which may be late: an earlier scheduler's
	# "attached" must not be taken for this one's.
	: >$LOG
	scx_infera "$@" >$LOG 2>&1 &
	SCX=$!
	n=0
	until grep -q ' attached' $LOG; do
		n=$((n + 1))
		[ $n -gt 200 ] && fail "not attached after 20 s"
		kill -0 $SCX 2>/dev/null || fail "the scheduler ended while starting"
		usleep 100000
	done
	[ "$(state)" = enabled ] || fail "state is $(state) after attaching"
}

# answered: waits until the guard says how it is.
answered() {
	n=0
	until infera status >/dev/null 2>&1; do
		n=$((n + 1))
		[ $n -gt 100 ] && fail "no status"
		usleep 100000
	done
}

# stop: asks it to leave, and checks that it left well.
stop() {
	kill -INT $SCX
	wait $SCX
	code=$?
	[ $code = 0 ] || fail "exit status $code"
	[ "$(state)" = disabled ] || fail "state is $(state) after leaving"
	clean
}

clean() { dmesg | grep -qE 'stall|runnable task|BUG:|Oops' && fail "the kernel log has a complaint"; return 0; }

# hogs CGROUP COUNT: spins in a cgroup until the guest ends.
hogs() {
	mkdir -p $CG/$1
	infera-load hogs --cgroup $CG/$1 --count $2 >/dev/null 2>&1 &
}

# stat TIER COLUMN: a figure of the last statistics (2 cpus, 3 idle, 4 preempt, 5 queue, 6 user).
stat_of() { grep "^$1 " $LOG | tail -1 | awk "{print \$$2}"; }
# at_least A B
at_least() { awk "BEGIN { exit !($1 >= $2) }"; }

