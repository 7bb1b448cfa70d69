# What a policy keeps with a task comes back with it: without that, all of a tier are equal.
mkdir $CG/nice $CG/plain
start --policy weighted
nice -n 10 infera-load hogs --cgroup $CG/nice --count 6 >/dev/null 2>&1 &
hogs plain 6
used() { awk '/^usage_usec/ { print $2 }' $CG/$1/cpu.stat; }
sleep 3
nice=$(used nice) plain=$(used plain)
sleep 6
nice=$(($(used nice) - nice)) plain=$(($(used plain) - plain))
echo "plain had $plain us, nice 10 had $nice us"
# By nice weights nine times as much; the turns of the tier's least time smooth that.
at_least "$plain" "$((nice * 3))" || fail "nice 10 had $nice us beside $plain us"
stop
