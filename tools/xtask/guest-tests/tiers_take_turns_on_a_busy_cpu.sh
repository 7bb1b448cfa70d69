# A crowd of one tier, bound to a CPU that High keeps busy, does not keep a task of another tier
# away from the turns that the wait bounds leave there, nor from those of the run queue.
for tier in high normal background; do mkdir $CG/$tier; done
bound() { taskset 1 infera-load hogs --cgroup $CG/$1 --count $2 --progress /tmp/$3 >/dev/null & }

start --policy weighted $(for tier in high normal background; do echo --tier $tier=/$tier; done)
hogs high 4
hogs background 8
bound background 40 crowd
bound normal 1 one
infera-load hogs --cgroup $CG/normal --count 8 --progress /tmp/free >/dev/null &
n=0
until [ -e /tmp/one ] && [ -e /tmp/crowd ] && [ -e /tmp/free ]; do
	n=$((n + 1))
	[ $n -gt 20 ] && fail "not all have started after 20 s: $(ls /tmp)"
	sleep 1
done
sleep 2
for n in 1 2 3; do
	infera-load progress /tmp/one --stalled-ms 1500 | tee /tmp/stalled
	grep -q '"stalled":0' /tmp/stalled || fail "one Normal task stands still behind a crowd of Background"
done
infera-load progress /tmp/free --stalled-ms 6000 | tee /tmp/stalled
grep -q '"stalled":0' /tmp/stalled || fail "the run queue stands still behind a crowd bound to one CPU"
stop
