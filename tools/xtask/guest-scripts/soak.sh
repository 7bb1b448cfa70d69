# Random load and random changes, decided beforehand by soak.rs, which puts its steps below these
# functions. Ends at the first thing that is not as promised.
CG=/sys/fs/cgroup
STATE=/sys/kernel/sched_ext/state
TIERS="critical high normal low background"
for tier in $TIERS; do mkdir $CG/$tier; done
cd /tmp

fail() {
	sleep 1
	echo "FAILED at $(cut -d' ' -f1 /proc/uptime): $*"
	tail -40 guard.log
	dmesg | tail -30
	exit 1
}
config() { cat >infera.toml; }
reload() { kill -HUP $GUARD; }
hogs() { infera-load hogs --cgroup $CG/$1 --count $2 --duration-ms $3 >/dev/null & }
wake() { infera-load wake --cgroup $CG/$1 --threads $2 --duration-ms $3 >/dev/null & }
burst() { infera-load burst --cgroup $CG/$1 --threads $2 --duration-ms $3 >/dev/null & }
pinned() { taskset $4 infera-load hogs --cgroup $CG/$1 --count $2 --duration-ms $3 >/dev/null & }
forks() { (n=0; while [ $n -lt $1 ]; do n=$((n + 1)); true | cat; done) & }
cgroups() {
	n=0
	while [ $n -lt $2 ]; do
		n=$((n + 1))
		mkdir $CG/$1/soak$n
		infera-load run --cgroup $CG/$1/soak$n -- true
		rmdir $CG/$1/soak$n
	done
}
# Moves whole processes, also ones that end meanwhile.
move() { for pid in $(head -$3 $CG/$1/cgroup.procs); do echo $pid >$CG/$2/cgroup.procs 2>/dev/null; done; }
rss() { sed -n 's/VmRSS:[^0-9]*\([0-9]*\).*/\1/p' /proc/$SCX/status; }
faults() { sed 's/.*) //' /proc/$SCX/stat | cut -d' ' -f10; }
check() {
	[ "$(cat $STATE)" = enabled ] || fail "the state is $(cat $STATE)"
	[ "$(pidof scx_infera)" = "$SCX" ] || fail "the scheduler is another process"
	dmesg | grep -qE 'stall|runnable task|BUG:|Oops|WARNING:' && fail "the kernel complained"
	stalled=$(infera-load progress progress --stalled-ms 3000 | sed 's/.*"stalled":\([0-9]*\).*/\1/')
	[ "$stalled" = 0 ] || fail "$stalled tasks got no CPU for 3 s"
	if [ $LINTER ]; then
		wget -q -O observe http://127.0.0.1:9100/observe || fail "the agent does not answer"
		grep -q '"verdict":"fail"' observe && fail "the linter says: $(cat observe)"
		grep -q '"fence":\[' observe || fail "the linter has nothing to look at: $(cat observe)"
	fi
	gap=$(infera-load progress gaps | sed 's/.*"max":\([0-9]*\).*/\1/')
	up=$(cut -d. -f1 /proc/uptime)
	echo "check {\"kind\":\"soak\",\"virtual_s\":$up,\"rss_kb\":$(rss),\"major_faults\":$(($(faults) - FAULTS)),\"longest_wait_ms\":$((gap / 1000000))}"
	# A slow machine takes longer for the steps than their pauses; an hour is an hour.
	[ $up -lt $END ] || finish
}
finish() {
	kill $GUARD
	wait $GUARD || fail "the guard's exit status is $?"
	exit 0
}

: >infera.toml
: >guard.log
if [ $LINTER ]; then
	printf 'loans = false\n[tiers.critical]\ncgroups = ["/critical"]\nfence_cores = 1\n' >infera.toml
	for tier in high normal low background; do printf '[tiers.%s]\ncgroups = ["/%s"]\n' $tier $tier; done >>infera.toml
	mkdir -p /run/infera
	infera-agent --standalone --no-scheduler --config infera.toml --listen 127.0.0.1:9100 >agent.log 2>&1 &
	n=0
	until [ -f /run/infera/assignment.json ]; do
		n=$((n + 1))
		[ $n -gt 600 ] && fail "no assignment"
		usleep 100000
	done
	SOURCES="--assignment /run/infera/assignment.json"
else
	SOURCES=$(for tier in $TIERS; do echo --tier $tier=/$tier; done)
fi
infera-guard --attach-sec 120 -- scx_infera --policy $POLICY --config infera.toml $SOURCES >guard.log 2>&1 &
GUARD=$!
n=0
until grep -q 'guard. attached' guard.log; do
	n=$((n + 1))
	[ $n -gt 1200 ] && fail "not attached"
	usleep 100000
done
SCX=$(pidof scx_infera)
END=$(($(cut -d. -f1 /proc/uptime) + SECONDS_ASKED))
FAULTS=$(faults)
# Always there, so that there are always threads that could starve.
infera-load hogs --cgroup $CG/background --count 4 --progress progress --gaps gaps >/dev/null &
