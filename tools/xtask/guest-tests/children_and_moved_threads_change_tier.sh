mkdir $CG/low $CG/background
start --policy weighted --stats 1 --tier low=/low --tier background=/background
# A child inherits, in a cgroup that appears later and below.
mkdir $CG/low/child
infera-load run --cgroup $CG/low/child -- infera-load hogs --processes --count 1 >/dev/null &
sleep 4
at_least "$(stat_of low 2)" 0.5 || fail "the child does not run in low"
at_least 0.1 "$(stat_of background 2)" || fail "something runs in background"
for pid in $(cat $CG/low/child/cgroup.procs); do echo $pid >$CG/background/cgroup.procs; done
# A whole second after the move counts as its new tier, so the change took well under 0.3 s.
sleep 1.3
seen=$(grep -c '^background ' $LOG)
while [ "$(grep -c '^background ' $LOG)" = "$seen" ]; do usleep 50000; done
at_least "$(stat_of background 2)" 0.5 || fail "the moved process does not run in background"
at_least 0.1 "$(stat_of low 2)" || fail "something still runs in low"
stop
