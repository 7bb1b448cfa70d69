mkdir $CG/a
conf() { printf '[tiers.%s]\ncgroups = ["/a"]\n' "$1" >/tmp/infera.toml; }
conf low
start --policy weighted --stats 1 --config /tmp/infera.toml
seq=$(cat /sys/kernel/sched_ext/enable_seq)
hogs a 1
sleep 3
at_least "$(stat_of low 2)" 0.5 || fail "not in low"
conf background
kill -HUP $SCX
sleep 3
at_least "$(stat_of background 2)" 0.5 || fail "not in background after SIGHUP"
echo 'nonsense = 1' >/tmp/infera.toml
kill -HUP $SCX
sleep 2
grep -q 'configuration not changed: /tmp/infera.toml:1' $LOG || fail "bad file not reported"
at_least "$(stat_of background 2)" 0.5 || fail "a bad file changed something"
[ "$(cat /sys/kernel/sched_ext/enable_seq)" = "$seq" ] || fail "it detached"
stop
