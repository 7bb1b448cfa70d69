# Breaks things under load, one row a fault. Prints "ROW JSON" lines; faults.rs judges them.
# ROWS names the rows to run.
set -u
CG=/sys/fs/cgroup
STATE=/sys/kernel/sched_ext/state
for tier in critical normal background; do mkdir $CG/$tier; done

field() { sed -n "s/.*\"$1\":\([^,}]*\).*/\1/p"; }
# cause ARGS...: does something, and times the way to the state "disabled".
cause() {
	answer=$(infera-load await "$@")
	TOOK=$(echo "$answer" | field ms)
	REACHED=$(echo "$answer" | field reached)
}
# wait_state STATE SECONDS
wait_state() {
	n=0
	while [ "$(cat $STATE)" != "$1" ] && [ $n -lt $(($2 * 10)) ]; do
		n=$((n + 1))
		usleep 100000
	done
}
# What there is to know of a guard that does not attach.
hang() {
	cat /tmp/guard.log
	kill -0 $GUARD 2>/dev/null || { wait $GUARD; echo "the guard ended with $?"; }
	dmesg | tail -5
	infera status 2>&1
	for task in /proc/$GUARD/task/* /proc/$(pidof scx_infera | cut -d' ' -f1)/task/*; do
		echo "$(cat $task/comm) $(grep State $task/status) $(cat $task/wchan)"
	done
}
attach() {
	# Here, not by the guard's own redirection: the last row's log must not be read for this one's.
	: >/tmp/guard.log
	infera-guard --back-off-ms 500 $GUARD_ARGS -- scx_infera --policy weighted \
		--tier critical=/critical --tier background=/background $SCX_ARGS >>/tmp/guard.log 2>&1 &
	GUARD=$!
	n=0
	until grep -q 'guard. attached' /tmp/guard.log; do
		n=$((n + 1))
		[ $n -gt 200 ] && { hang; return 1; }
		usleep 100000
	done
	SCX=$(pidof scx_infera)
}
load() {
	infera-load hogs --cgroup $CG/background --count 16 --progress /tmp/progress --gaps /tmp/gaps >/dev/null &
	HOGS=$!
	infera-load wake --cgroup $CG/critical --threads 2 --duration-ms 600000 >/tmp/wake &
	WAKE=$!
	(while :; do usleep 10000; done) &
	FORKS=$!
}
# 6.12 warns about its own account of the fair server's bandwidth when a CPU goes offline while any
# sched_ext scheduler is attached: docs/safety.md.
COMPLAINT='stall|runnable task|BUG:|Oops|WARNING:'
complaints() { dmesg | grep -E "$COMPLAINT" | grep -v 'sched/deadline.c.*inactive_task_timer'; }
row() {
	TOOK=null REACHED=false NOTE= GUARD_ARGS= SCX_ARGS=
	mkdir -p /var/lib/infera
	dmesg -c >/dev/null
	type prepare_$1 >/dev/null 2>&1 && prepare_$1
	attach || { echo "$1 {\"kind\":\"fault\",\"note\":\"did not attach\"}"; return; }
	load
	sleep 1
	fault_$1
	wait_state $2 20
	sleep 1
	stalled=$(infera-load progress /tmp/progress --stalled-ms 1000 | field stalled)
	gap=$(infera-load progress /tmp/gaps | field max)
	kill -INT $WAKE
	wait $WAKE || NOTE="$NOTE the Critical service died;"
	latest=$(field max_us </tmp/wake)
	state=$(cat $STATE)
	complaints=$(complaints | grep -c .)
	[ $complaints -gt 0 ] && dmesg | grep -E -A3 "$COMPLAINT" | head -20
	[ -n "${SHOW:-}" ] && cat /tmp/guard.log
	echo "$1 {\"kind\":\"fault\",\"ms\":$TOOK,\"reached\":$REACHED,\"gap_ns\":${gap:-null},\"wake_us\":${latest:-null},\"stalled\":${stalled:-null},\"state\":\"$state\",\"complaints\":$complaints,\"note\":\"$NOTE\"}"
	kill -TERM $GUARD 2>/dev/null
	wait $GUARD
	kill $HOGS $FORKS 2>/dev/null
	wait $HOGS
	wait_state disabled 10
	killall -q -9 scx_infera
	rm -rf /run/infera/safe-mode /var/lib/infera/safe-mode.json
}
note() { NOTE="$NOTE $*;"; }

fault_sigkill_scheduler() { cause --signal 9 --pid $SCX; }
fault_sigstop_scheduler() { cause --signal 19 --pid $SCX; }
# Rust's own handler lets the first one pass, and a fault would come again at once.
fault_sigsegv_scheduler() { kill -SEGV $SCX; cause --signal 11 --pid $SCX; }
fault_sigkill_guard() { cause --signal 9 --pid $GUARD; }
fault_sigsegv_guard() { kill -SEGV $GUARD; cause --signal 11 --pid $GUARD; }
fault_sigstop_guard() { cause --signal 19 --pid $GUARD; kill -CONT $GUARD; }
fault_sigkill_both() { cause --signal 9 --pid $GUARD --pid $SCX; }
fault_sigstop_both() { cause --signal 19 --pid $GUARD --pid $SCX; kill -CONT $GUARD $SCX; }
fault_sigsegv_both() { kill -SEGV $GUARD $SCX; cause --signal 11 --pid $GUARD --pid $SCX; }

# When a drill strikes is not known outside; the longest wait of the tasks shows how long it took.
drill() {
	n=0
	until grep -q "$1" /tmp/guard.log || [ $n -gt 20 ]; do
		n=$((n + 1))
		usleep 500000
	done
	grep -q "$1" /tmp/guard.log || note "the log does not say '$1'"
}
prepare_policy_panic() { SCX_ARGS="--drill panic@100"; }
fault_policy_panic() { drill "panicked in pick"; }
prepare_policy_unknown() { SCX_ARGS="--drill unknown@100"; }
fault_policy_unknown() { drill "never given to it"; }
prepare_policy_hoard() { SCX_ARGS="--drill hoard@100"; }
fault_policy_hoard() { drill "answered nothing while"; }
prepare_policy_slice() { SCX_ARGS="--drill slice@100"; }
fault_policy_slice() { drill "drill"; }
prepare_policy_slow() { SCX_ARGS="--drill slow@100"; }
fault_policy_slow() { drill "ms for a decision"; }
prepare_policy_loop() { SCX_ARGS="--drill loop@400"; GUARD_ARGS="--ejects 1"; }
fault_policy_loop() { drill "did not look at waiting work"; }
prepare_policy_grow() { SCX_ARGS="--drill grow@400"; GUARD_ARGS="--ejects 1"; }
fault_policy_grow() { drill "ended by signal 6"; }

fault_ten_thousand_threads() {
	infera-load hogs --cgroup $CG/normal --count 10000 --duration-ms 4000 >/dev/null || note "the crowd failed"
}
fault_ring_full() {
	infera-load hogs --cgroup $CG/normal --count 10000 --duration-ms 4000 >/dev/null &
	crowd=$!
	sleep 2
	kill -STOP $SCX; usleep 300000; kill -CONT $SCX
	wait $crowd || note "the crowd failed"
	note "ring full $(grep -o 'ring full [0-9]*' /tmp/guard.log | tail -1)"
}
prepare_ring_full() { SCX_ARGS="--stats 1"; }
fault_fork_bomb() { stress-ng --quiet --fork 16 --timeout 3s >/dev/null 2>&1 || note "stress-ng failed"; }
fault_exec_storm() { stress-ng --quiet --exec 8 --timeout 3s >/dev/null 2>&1 || note "stress-ng failed"; }
fault_cgroup_storm() {
	i=0
	while [ $i -lt 150 ]; do
		i=$((i + 1))
		mkdir $CG/critical/x$i
		infera-load run --cgroup $CG/critical/x$i -- true
		rmdir $CG/critical/x$i || note "rmdir"
	done
}
fault_every_affinity() {
	pids=
	for mask in 1 2 3 4 5 6 7 8 9 a b c d e f; do
		taskset 0x$mask infera-load hogs --cgroup $CG/normal --count 2 --duration-ms 3000 >/dev/null &
		pids="$pids $!"
	done
	for pid in $pids; do wait $pid || note "a hog failed"; done
}
fault_rt_hog() { chrt -f 40 infera-load hogs --count 1 --duration-ms 2500 >/dev/null; }
fault_cpu_hotplug() {
	cpu=/sys/devices/system/cpu/cpu3/online
	cause -- sh -c "echo 0 >$cpu"
	wait_state enabled 20
	echo 1 >$cpu
	usleep 500000
}
fault_oom_kill() {
	echo 1000 >/proc/$SCX/oom_score_adj
	cause -- sh -c 'echo f >/proc/sysrq-trigger'
}
prepare_disk_full() {
	mkdir -p /run/infera
	for dir in /run/infera /var/lib/infera; do
		mount -t tmpfs -o size=64k none $dir
		dd if=/dev/zero of=$dir/full bs=1k count=60 2>/dev/null
	done
}
fault_disk_full() {
	for dir in /run/infera /var/lib/infera; do dd if=/dev/zero of=$dir/fuller bs=1k 2>/dev/null; done
	cause --signal 9 --pid $SCX
	wait_state enabled 20
	infera safe-mode on "the disk is full" >/dev/null || note "safe mode failed"
	wait_state disabled 5
	[ "$(cat $STATE)" = disabled ] || note "safe mode does not hold"
	infera safe-mode off >/dev/null || note "leaving safe mode failed"
	wait_state enabled 20
	umount -l /run/infera /var/lib/infera
}
prepare_hostile_config() {
	printf '[tiers.low]\nslice_us = 3000\n' >/tmp/infera.toml
	SCX_ARGS="--config /tmp/infera.toml"
}
fault_hostile_config() {
	for bad in 'head -c 500000 /dev/urandom' 'printf [tiers.crit' 'head -c 80000000 /dev/zero' \
		'printf [tiers.critical]\nfence_cpus="0-999999999"\n' 'printf [tiers.low]\nslice_us=-1\n' \
		'yes [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[['; do
		$bad 2>/dev/null | head -c 100000000 >/tmp/infera.toml
		kill -HUP $GUARD
		sleep 1
	done
	said=$(grep -c 'configuration not changed' /tmp/guard.log)
	[ $said = 6 ] || note "$said of 6 refused"
}
fault_hostile_socket() {
	infera-load pelt --socket /run/infera/control.sock --count 100 >/dev/null || note "it stopped listening"
	infera status >/dev/null || note "no status"
	ls -l /run/infera /run/scx /var/run/scx 2>/dev/null | grep -q '^.rw.rw.rw\|^.......rw' && note "a world-writable file"
}
fault_two_schedulers() {
	scx_infera >/tmp/second.log 2>&1
	[ $? = 6 ] || note "the second one: $(cat /tmp/second.log)"
}
fault_sysrq_s() {
	cause -- sh -c 'echo S >/proc/sysrq-trigger'
	sleep 2
	infera status | grep -q 'on purpose' || note "no safe mode"
}
fault_link_detach() {
	cause -- infera-load detach
	sleep 2
	infera status | grep -q 'on purpose' || note "no safe mode"
}
fault_clock_jump() {
	date -s '2031-01-01 00:00' >/dev/null; sleep 1
	date -s '2026-01-01 00:00' >/dev/null; sleep 1
}
fault_safe_mode_cli() { cause -- infera safe-mode on drill; infera safe-mode off >/dev/null; }
fault_safe_mode_file() { cause -- sh -c 'echo drill >/run/infera/safe-mode'; rm /run/infera/safe-mode; }
fault_safe_mode_signal() { cause --signal 10 --pid $GUARD; kill -USR2 $GUARD; }

for entry in $ROWS; do row ${entry%=*} ${entry#*=}; done
