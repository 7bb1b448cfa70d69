tiers="critical high normal low background"
for tier in $tiers; do mkdir $CG/$tier; done
# Waits for a scheduler, and does not attach one.
scx_infera --monitor 1 >/tmp/early.log 2>&1 &
early=$!
sleep 1
[ "$(state)" = disabled ] || fail "--monitor attached something"
start --policy weighted --stats 1 --tier critical=/critical --tier high=/high --tier normal=/normal \
	--tier low=/low --tier background=/background
grep -q 'no statistics' $LOG && fail "the socket could not be opened"
# Two clients that connect and then hang.
scx_infera --monitor 1 >/dev/null 2>&1 &
hung=$!
scx_infera --monitor 1 >/dev/null 2>&1 &
hung="$hung $!"
sleep 1
kill -STOP $hung
for tier in $tiers; do hogs $tier 1; done
scx_infera --monitor 2 >/tmp/late.log 2>&1 &
late=$!
sleep 7
for log in /tmp/early.log /tmp/late.log; do
	for tier in $tiers; do
		grep -q "^$tier " $log || { cat $log; fail "no row for $tier in $log"; }
	done
done
# Each its own interval: both see a whole hog on four CPUs, none twice or half of one.
for log in $LOG /tmp/early.log /tmp/late.log; do
	cpus=$(grep '^critical ' $log | tail -1 | awk '{print $2}')
	at_least "$cpus" 0.9 && at_least 1.1 "$cpus" || { cat $log; fail "Critical has $cpus CPUs in $log"; }
done
early_rows=$(grep -c '^critical ' /tmp/early.log)
late_rows=$(grep -c '^critical ' /tmp/late.log)
echo "rows: $early_rows of every second, $late_rows of every other"
at_least "$early_rows" 5 || fail "only $early_rows rows in 7 s"
[ "$late_rows" = 3 ] || fail "$late_rows rows of 2 s in 7 s"
at_least "$(grep -c '^critical ' $LOG)" 6 || fail "--stats printed less than once a second"
# The same figures, and who uses them, on one screen.
printf '[tiers.critical]\ncgroups = ["/critical"]\n' >/tmp/top.toml
infera top --once --config /tmp/top.toml >/tmp/top || fail "infera top ends with status $?"
cpus=$(grep '^critical ' /tmp/top | awk '{print $2}')
at_least "$cpus" 0.9 && at_least 1.1 "$cpus" || { cat /tmp/top; fail "Critical has $cpus CPUs in infera top"; }
grep -q ' critical *hog' /tmp/top || { cat /tmp/top; fail "no Critical thread in infera top"; }
infera top --once -o json | grep -q '"stats":{"interval_s":' || fail "no statistics in infera top's JSON"
# Ctrl-C, and through the end of the scheduler.
kill -INT $late
wait $late || fail "--monitor ends with status $? on SIGINT"
stop
sleep 2
kill -0 $early || fail "--monitor ended with the scheduler"
grep -q 'waiting for scx_infera' /tmp/early.log || fail "--monitor does not say that it waits"
seen=$(grep -c '^critical ' /tmp/early.log)
start --policy fifo
sleep 4
at_least "$(grep -c '^critical ' /tmp/early.log)" "$((seen + 2))" || { cat /tmp/early.log; fail "not connected again"; }
kill -KILL $hung $early
stop
