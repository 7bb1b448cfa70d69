mkdir $CG/critical $CG/background
start --policy weighted --stats 1 --tier critical=/critical --tier background=/background
hogs background 16
sleep 2
infera-load wake --cgroup $CG/critical --duration-ms 3000 || fail "the probe failed"
preempted=$(grep '^critical ' $LOG | awk '{n += $4} END {print n}')
queued=$(grep '^critical ' $LOG | awk '{n += $5} END {print n}')
echo "preempted $preempted queued $queued"
at_least "$preempted" 100 || fail "Critical preempted only $preempted times"
at_least "$preempted" "$((queued * 10))" || fail "Critical waited in its queue $queued times"
stop
