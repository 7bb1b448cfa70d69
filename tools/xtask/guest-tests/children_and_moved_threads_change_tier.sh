# Two threaded cgroups of one process, so that a single thread can move between them.
mkdir -p $CG/app/low $CG/app/background $CG/high $CG/batch
for leaf in low background; do echo threaded >$CG/app/$leaf/cgroup.type; done
start --policy weighted --stats 1 --tier low=/app/low --tier background=/app/background \
	--tier high=/high --tier background=/batch

lines() { grep -c '^background ' $LOG; }
# Waits for statistics that were not there yet.
next_line() {
	seen=$(lines)
	while [ "$(lines)" = "$seen" ]; do usleep 2000; done
}
# within_100_ms OLD NEW COMMAND...: runs it right after a statistics line. What the next line
# still counts in the old tier, of a thread that never sleeps, is how long the change took.
within_100_ms() {
	old=$1 new=$2
	shift 2
	next_line
	"$@"
	next_line
	echo "$old kept $(stat_of $old 2) CPU seconds after the change to $new"
	at_least 0.1 "$(stat_of $old 2)" || fail "$old still had it for $(stat_of $old 2) s"
	at_least "$(stat_of $new 2)" 0.8 || fail "$new had it for only $(stat_of $new 2) s"
}

# A thread that moves.
infera-load hogs --cgroup $CG/app --count 1 >/dev/null &
hogs=$!
sleep 2
for task in /proc/$hogs/task/*; do
	[ "$(cat $task/comm)" = hog-0 ] && thread=${task##*/}
done
move() { echo $thread >$CG/app/$1/cgroup.threads; }
move low
next_line
within_100_ms low background move background
kill $hogs
wait $hogs

# A child inherits, in a cgroup that appears later and below its parent's.
mkdir $CG/high/child
child() {
	infera-load run --cgroup $CG/high/child -- infera-load hogs --processes --count 1 >/dev/null &
}
next_line
child
next_line
at_least "$(stat_of high 2)" 0.8 || fail "the child does not run in high"

# And with its whole process it moves out of the subtree.
for pid in $(cat $CG/high/child/cgroup.procs); do echo $pid; done >/tmp/pids
all() { while read -r pid; do echo $pid >$CG/batch/cgroup.procs; done </tmp/pids; }
within_100_ms high background all
stop
