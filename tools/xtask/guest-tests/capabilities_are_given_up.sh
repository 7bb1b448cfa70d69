start --policy weighted --stats 1
sleep 2
for task in /proc/$SCX/task/*; do
	name=$(cat $task/comm)
	effective=$(sed -n 's/^CapEff:[^0-9a-f]*//p' $task/status)
	echo "$name $effective"
	# The thread that only waits for signals is made by a library, before attaching.
	[ "$name" = ctrl-c ] && continue
	# CAP_DAC_READ_SEARCH
	[ "$effective" = 0000000000000004 ] || fail "$name has capabilities $effective"
done
# What was changed for the time of being attached is put back without them.
before=$(cat /proc/sys/vm/compact_unevictable_allowed)
stop
[ "$(cat /proc/sys/vm/compact_unevictable_allowed)" = 1 ] || fail "memory compaction stays $before"
turn=/sys/module/sched_ext/parameters/slice_bypass_us
[ ! -e $turn ] || [ "$(cat $turn)" = 5000 ] || fail "the bypass slice stays $(cat $turn)"
