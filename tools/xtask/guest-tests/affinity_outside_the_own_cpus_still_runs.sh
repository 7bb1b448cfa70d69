# Who is bound to CPUs that his tier may not use is served on them all the same: when the fence
# was there first, and when it came while he waited.
TIERS="critical high normal background"
fence() {
	echo "loans = $2"
	echo '[tiers.critical]'
	[ "$1" = none ] || echo "fence_cpus = \"$1\""
}
# Whether one of a tier's bound hogs has got nothing for longer than any task is to wait.
stands() {
	infera-load progress /tmp/$1 --stalled-ms 6000 >/tmp/$1.stalled
	! grep -q '"stalled":0' /tmp/$1.stalled
}
all_run() {
	watching=
	for tier in $TIERS; do
		(stands $tier && echo $tier >>/tmp/standing) &
		watching="$watching $!"
	done
	wait $watching
	[ -e /tmp/standing ] && fail "$1: standing still: $(cat /tmp/standing)"
	return 0
}
for tier in $TIERS; do mkdir $CG/$tier; done
bound() { taskset $2 infera-load hogs --cgroup $CG/$1 --count $3 --progress /tmp/$1 >/dev/null & }

fence 3 false >/tmp/infera.toml
start --policy weighted --config /tmp/infera.toml $(for tier in $TIERS; do echo --tier $tier=/$tier; done)
hogs critical 4
hogs background 8
bound critical 0x1 2
bound high 0x8 2
bound normal 0x8 2
bound background 0x8 2
# On a CPU that Critical wants they start slowly.
n=0
until [ -e /tmp/critical ] && [ -e /tmp/high ] && [ -e /tmp/normal ] && [ -e /tmp/background ]; do
	n=$((n + 1))
	[ $n -gt 20 ] && fail "not all have started after 20 s: $(ls /tmp)"
	sleep 1
done
all_run "bound behind the fence"
fence none false >/tmp/infera.toml
kill -HUP $SCX
sleep 1
all_run "no fence"
fence 1-3 false >/tmp/infera.toml
kill -HUP $SCX
sleep 1
all_run "a fence that came later"
fence 0-2 true >/tmp/infera.toml
kill -HUP $SCX
sleep 1
all_run "another fence, lent"
stop
