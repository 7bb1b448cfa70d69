# The policy decides on a woken Normal thread at once, and it need not wait for a slice to end.
mkdir $CG/normal $CG/background
start --policy weighted --stats 1 --tier normal=/normal --tier background=/background
hogs background 16
sleep 2
infera-load wake --cgroup $CG/normal --duration-ms 3000 >/tmp/wake || fail "the probe failed"
cat /tmp/wake
p99=$(sed 's/.*"p99_us":\([0-9]*\).*/\1/' /tmp/wake)
# A slice of Background is 5 ms, and without preemption the p99 is at least as much.
at_least 4000 "$p99" || fail "Normal woke $p99 us late beside Background"
stop
