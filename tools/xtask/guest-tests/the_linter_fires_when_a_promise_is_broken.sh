# topology: 1,3,2
# The agent believes in a fence that the scheduler, started with another configuration, knows nothing
# of: each invariant about CPUs is broken, and said. With the same configuration nothing is said.
AGENT_LOG=/tmp/agent.log
for tier in critical background; do mkdir $CG/$tier; done
# configuration CORES: five tiers, and a fence of CORES cores that is not lent.
configuration() {
	printf 'loans = false\n[tiers.critical]\ncgroups = ["/critical"]\nfence_cores = %s\n[tiers.background]\ncgroups = ["/background"]\n' $1
}
page() { wget -q -O - http://127.0.0.1:9100/$1; }
violations() { page metrics | awk -v name="infera_lint_violation{invariant=\"$1\"}" '$1 == name { value = $2 } END { print value + 0 }'; }

# run CORES: guard and scheduler with a fence of CORES cores, the agent with a fence of one core.
run() {
	configuration $1 >/tmp/scheduler.toml
	configuration 1 >/tmp/agent.toml
	mkdir -p /run/infera
	infera-agent --standalone --no-scheduler --config /tmp/agent.toml --listen 127.0.0.1:9100 >$AGENT_LOG 2>&1 &
	AGENT=$!
	n=0
	until [ -f /run/infera/assignment.json ]; do
		n=$((n + 1))
		[ $n -gt 100 ] && fail "no assignment: $(cat $AGENT_LOG)"
		usleep 100000
	done
	infera-guard -- scx_infera --config /tmp/scheduler.toml --assignment /run/infera/assignment.json >$LOG 2>&1 &
	GUARD=$!
	wait_for enabled 300
}
# A hog for each CPU, so that each stays where it is: Critical on one thread of the agent's fence,
# Background, where nothing keeps it off, on the other one too.
hogs() {
	taskset 10 infera-load hogs --cgroup $CG/critical --count 1 >/dev/null &
	infera-load hogs --cgroup $CG/background --count 5 >/dev/null &
}
end() {
	killall infera-load
	kill $AGENT $GUARD
	wait $AGENT $GUARD
	wait_for disabled 50
}

# shown INVARIANT: the metric shows a violation within a minute.
shown() {
	n=0
	until [ "$(violations $1)" != 0 ]; do
		n=$((n + 1))
		[ $n -gt 60 ] && fail "$1 is not shown: $(page metrics | grep lint_violation) $(page observe) $(cat $AGENT_LOG)"
		sleep 1
	done
}

run 0
hogs
shown smt_collision
shown open_reserve
grep -q 'shares a core with' $AGENT_LOG || fail "no evidence of smt_collision: $(cat $AGENT_LOG)"
grep -q 'on the fence, which is not lent' $AGENT_LOG || fail "no evidence of open_reserve: $(cat $AGENT_LOG)"
page metrics | grep lint_violation
end
# Critical everywhere but on the fence, and that is empty.
run 0
taskset f infera-load hogs --cgroup $CG/critical --count 2 >/dev/null &
sleep 1
# Free to go anywhere from now on; on its way it is seen outside.
for pid in $(pidof infera-load); do taskset -ap 3f $pid >/dev/null; done
shown protected_fallback
end

run 1
hogs
sleep 60
for invariant in smt_collision protected_fallback open_reserve layer_mismatch; do
	[ "$(violations $invariant)" = 0 ] || fail "$invariant where nothing is wrong: $(cat $AGENT_LOG)"
done
page observe | grep -q '"fence":\[' || fail "nothing is fenced: $(page observe)"
end
clean
