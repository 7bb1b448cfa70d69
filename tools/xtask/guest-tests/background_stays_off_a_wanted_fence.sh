mkdir $CG/critical $CG/background
cat >/tmp/infera.toml <<TOML
[tiers.critical]
cgroups = ["/critical"]
fence_cores = 1
[tiers.background]
cgroups = ["/background"]
TOML
start --policy weighted --stats 1 --config /tmp/infera.toml
grep -q 'CPUs 3 are fenced' $LOG || fail "no fence in the plan"
# Background's threads are called hog-N, the Critical one yes.
hogs background 16
sleep 1
# Lent while idle: Background may use it now.
cd /sys/kernel/tracing
echo 4096 >buffer_size_kb
echo 1 >events/sched/sched_switch/enable
sleep 1
grep -q 'next_comm=hog-' per_cpu/cpu3/trace || fail "the idle fence was not lent"
infera-load run --cgroup $CG/critical -- yes >/dev/null &
sleep 1
echo >trace
sleep 2
echo 0 >tracing_on
if grep -q 'next_comm=hog-' per_cpu/cpu3/trace; then
	grep 'next_comm=hog-' per_cpu/cpu3/trace | head -5
	fail "Background ran on the fence while Critical wanted it"
fi
grep -q 'next_comm=hog-' per_cpu/cpu1/trace || fail "Background does not run elsewhere"
cd /
stop
