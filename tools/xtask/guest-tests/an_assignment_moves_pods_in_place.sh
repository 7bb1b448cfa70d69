# Pods' tiers by the agent's file: in place, acknowledged, in front of the rules, cheap in a crowd of pods,
# and gone with the process that started the guard.
KUBE=/kubepods.slice/kubepods-burstable.slice
FILE=/run/infera/assignment.json
mkdir -p /run/infera $CG$KUBE/kubepods-burstable-poda.slice/cri-1.scope $CG/other
pod() { echo "{\"cgroup\":\"$KUBE/kubepods-burstable-pod$1.slice\",\"tier\":\"$2\"}"; }
assign() { printf '{"generation":%s,"pods":[%s]}' "$1" "$2" >$FILE.next; mv $FILE.next $FILE; kill -HUP $GUARD; }
generation() { infera status -o json | sed -n 's/.*"generation": *\([0-9]*\).*/\1/p'; }
acknowledged() {
	n=0
	until [ "$(generation)" = "$1" ]; do
		n=$((n + 1))
		[ $n -gt 50 ] && fail "generation $1 is not in force after 5 s: $(infera status -o json)"
		usleep 100000
	done
}
# Nanoseconds that the thread which follows pods and cgroups has used. The loop's own time is of the
# processes that make the pods.
used() {
	for task in /proc/$SCX/task/*; do
		[ "$(cat $task/comm)" = infera-watch ] && cut -d' ' -f1 $task/schedstat
	done
}

# The agent's part: who dies with all that it started.
cat >/tmp/agent <<AGENT
infera-guard --parent \$\$ -- scx_infera --stats 1 --tier low=$KUBE --assignment $FILE >$LOG 2>&1 &
sleep 1000
AGENT
sh /tmp/agent &
AGENT=$!
wait_for enabled 300
answered
GUARD=$(cat /run/infera/guard.pid)
SCX=$(pidof scx_infera)
seq=$(cat /sys/kernel/sched_ext/enable_seq)
hogs $KUBE/kubepods-burstable-poda.slice/cri-1.scope 1
sleep 3
at_least "$(stat_of low 2)" 0.5 || fail "the rule's tier is not in force"
assign 1 "$(pod a background)"
acknowledged 1
sleep 3
at_least "$(stat_of background 2)" 0.5 || fail "not in background"
echo '{' >$FILE
kill -HUP $GUARD
sleep 1
grep -q 'assignment not changed: /run/infera/assignment.json' $LOG || fail "a bad file is not said"
[ "$(generation)" = 1 ] || fail "a bad file changed something"

# 250 pods in a second: their cgroups come, then two generations that name them.
before=$(used)
all=$(pod a background)
n=0
while [ $n -lt 250 ]; do
	n=$((n + 1))
	mkdir $CG$KUBE/kubepods-burstable-podx$n.slice
	all="$all,$(pod x$n high)"
	[ $n = 125 ] && assign 2 "$all"
done
assign 3 "$all"
acknowledged 3
sleep 1
# In exact time this counts the other CPUs' turns, too: `vm run --cpus 1` shows what it really takes.
echo "250 pods in two generations: $((($(used) - before) / 1000)) us of the scheduler's time"
hogs $KUBE/kubepods-burstable-podx250.slice 1
sleep 3
at_least "$(stat_of high 2)" 0.5 || fail "the last pod is not in high"
[ "$(cat /sys/kernel/sched_ext/enable_seq)" = "$seq" ] || fail "it detached"

kill -9 $AGENT
wait_for disabled 10
n=0
while [ -d /proc/$GUARD ]; do
	n=$((n + 1))
	[ $n -gt 20 ] && fail "the guard outlived its parent"
	usleep 100000
done
clean
