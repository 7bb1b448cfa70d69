# A node of Kubernetes, as far as cgroups and the agent go. NODE and CONFIG come from outside.
LOG=/tmp/agent.log
FILE=/run/infera/assignment.json
KUBE=$CG/kubepods.slice
: >$LOG
ifconfig eth0 10.0.2.15 netmask 255.255.255.0 up && route add default gw 10.0.2.2 || fail "no network"
mkdir -p $KUBE/kubepods-burstable.slice $KUBE/kubepods-besteffort.slice
echo "$CONFIG" >/tmp/kubeconfig

# agent ARGS...
agent() {
	KUBECONFIG=/tmp/kubeconfig infera-agent --node-name $NODE --listen 127.0.0.1:9100 "$@" >>$LOG 2>&1 &
	AGENT=$!
}
page() { wget -q -O - http://127.0.0.1:9100/$1; }
# A metric with its labels; 0 where it is absent.
metric() { page metrics | awk -v name="$1" '$1 == name { value = $2 } END { print value + 0 }'; }
# "cgroup tier" of every pod.
assigned() { tr '{' '\n' <$FILE | sed -n 's/.*"cgroup":"\([^"]*\)","tier":"\([a-z]*\)".*/\1 \2/p'; }
of_tier() { assigned | sed -n "s/ $1\$//p"; }
# eventually TENTHS WHAT COMMAND...
eventually() {
	tenths=$1 what=$2 n=0
	shift 2
	until "$@"; do
		n=$((n + 1))
		[ $n -gt $tenths ] && fail "$what: not after $tenths tenths of a second"
		usleep 100000
	done
}
pods_are() { [ -f $FILE ] && [ "$(assigned | grep -c .)" = $1 ]; }
violations() { metric "infera_lint_violation{invariant=\"$1\"}"; }

# The scheduler has said that it goes by the assignment in the file.
in_force() { [ "$(metric infera_config_generation)" = "$(grep -o '"generation":[0-9]*' $FILE | cut -d: -f2)" ]; }

# counted TIER CGROUP: what runs in the pod's cgroup is counted in the tier.
counted() {
	mkdir -p $CG$2/cri-main.scope
	eventually 300 "the assignment is in force" in_force
	for tier in critical high normal low background; do
		metric "infera_tier_cpu_seconds_total{tier=\"$tier\"}" >/tmp/before-$tier
	done
	infera-load hogs --cgroup $CG$2/cri-main.scope --count 1 --duration-ms 1000 >/dev/null
	# The agent reads statistics every five seconds.
	sleep 6
	for tier in critical high normal low background; do
		used=$(awk "BEGIN { print $(metric "infera_tier_cpu_seconds_total{tier=\"$tier\"}") - $(cat /tmp/before-$tier) }")
		case $tier in
		$1) at_least $used 0.7 || fail "a second in a $1 pod is $used s in $tier" ;;
		# Whatever no pod has is Normal.
		normal) ;;
		*) at_least 0.3 $used || fail "a second in a $1 pod is $used s in $tier" ;;
		esac
	done
	echo "one second in a pod of infera-$1 is counted in $1"
}

tiers() {
	agent
	wait_for enabled 600
	eventually 300 "five pods" pods_are 5
	for each in critical high normal low background; do counted $each "$(of_tier $each)"; done
	low=$(of_tier low)
	echo "NEED another class"
	eventually 300 "a pod more in high" sh -c "[ \$(grep -o '\"high\"' $FILE | grep -c .) = 2 ]"
	raised=$(of_tier high | grep -v "$(of_tier high | head -1)")
	for cgroup in $(of_tier high); do [ "$cgroup" = "$low" ] && fail "the old pod is still there"; done
	counted high "$raised"
	for invariant in smt_collision protected_fallback open_reserve layer_mismatch; do
		[ "$(violations $invariant)" = 0 ] || fail "$invariant: $(page observe)"
	done
}

safe_mode() {
	# While a CPU is busy the guest's time is instructions; while all idle it follows the host's clock, and the figure with it.
	busy=$CG$(of_tier background)/busy.scope
	mkdir -p $busy
	infera-load hogs --cgroup $busy --count 1 >/dev/null &
	hog=$!
	infera-load await --state disabled --timeout-ms 60000 -- true >/tmp/down &
	awaiting=$!
	sleep 1
	echo "NEED safe mode"
	wait $awaiting
	grep -q '"reached":true' /tmp/down || fail "still attached a minute after the annotation"
	eventually 50 "the log's line" grep -q 'standing down' $LOG
	echo "DOWN $(cat /tmp/down) $(grep 'standing down' $LOG | tail -1)"
	kill $hog
	wait $hog
	eventually 100 "the metric" sh -c "wget -q -O - http://127.0.0.1:9100/metrics | grep -q '^infera_scheduler_attached 0'"
	[ "$(metric 'infera_safe_mode{reason="annotation"}')" = 1 ] || fail "no infera_safe_mode: $(page metrics | grep safe)"
	echo "NEED enforcement"
	wait_for enabled 600
	echo "attached again"
}

# A rule names a cgroup in a pod: the pod's tier is not in force there.
linter() {
	pod=$(of_tier high | head -1)
	mkdir -p /etc/infera $CG$pod/side.scope
	printf '[tiers.background]\ncgroups = ["%s/side.scope"]\n' "$pod" >/etc/infera/infera.toml
	kill $AGENT
	wait $AGENT
	[ "$(state)" = disabled ] || fail "the agent ended and its scheduler stays"
	agent
	wait_for enabled 600
	infera-load idle --cgroup $CG$pod/side.scope --threads 2 --every-ms 100 >/dev/null &
	eventually 1200 "layer_mismatch" sh -c "wget -q -O - http://127.0.0.1:9100/metrics | grep 'infera_lint_violation{invariant=\"layer_mismatch\"}' | grep -qv ' 0'"
	grep 'layer_mismatch' $LOG || fail "no evidence in the log"
	page observe | grep -q 'its pod is high' || fail "no evidence in /observe"
	kill $AGENT
	wait $AGENT
	grep -q orbidden $LOG && fail "something was denied: $(grep orbidden $LOG)"
	[ "$(state)" = disabled ] || fail "the agent ended and its scheduler stays"
	clean
}

overhead() {
	# Twenty threads in each.
	agent
	wait_for enabled 600
	eventually 600 "250 pods" pods_are 250
	for cgroup in $(assigned | cut -d' ' -f1); do
		mkdir -p $CG$cgroup/cri-main.scope
		infera-load idle --cgroup $CG$cgroup/cri-main.scope --threads 19 >/dev/null &
	done
	sleep 30
	own() { page observe | tr -d ' \n' | sed -n 's/.*"own":{\([^}]*\)}.*/\1/p'; }
	field() { echo "$1" | sed -n "s/.*\"$2\":\([0-9.e-]*\).*/\1/p"; }
	threads=0
	for process in /proc/[0-9]*; do
		threads=$((threads + $(sed -n 's/Threads:[^0-9]*//p' $process/status)))
	done 2>/dev/null
	before=$(own) start=$(now)
	sleep 120
	after=$(own) end=$(now)
	spent() { awk "BEGIN { print $(field "$after" $1) - $(field "$before" $1) }"; }
	echo "OVERHEAD {\"pods\":$(assigned | grep -c .),\"threads\":$threads,\"seconds\":$(awk "BEGIN { print ($end - $start) / 100 }"),\"cpu_seconds\":$(spent cpu_seconds),\"lint_cpu_seconds\":$(spent lint_cpu_seconds),\"resident_bytes\":$(field "$after" resident_bytes)}"
	kill $AGENT
	wait $AGENT
	clean
}
