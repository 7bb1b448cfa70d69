expect() {
	want=$1; text=$2; shift 2
	out=$("$@" 2>&1)
	got=$?
	[ $got = $want ] || fail "$*: status $got, not $want: $out"
	echo "$out" | grep -q "$text" || fail "$*: does not say '$text': $out"
	[ "$(echo "$out" | grep -c .)" = 1 ] || fail "$*: more than one sentence: $out"
}
expect 3 "unknown policy 'nonsense'" scx_infera --policy nonsense
expect 3 "unknown tier 'gold'" scx_infera --tier gold=/x
expect 3 "already in tier critical" scx_infera --tier critical=/x --tier high=/x
expect 3 "cannot read /no/such.toml" scx_infera --config /no/such.toml
printf '\nslices = 1\n' >/tmp/bad.toml
expect 3 "/tmp/bad.toml:2: unknown field" scx_infera --config /tmp/bad.toml
printf '[tiers.critical]\nfence_cpus = "1-2"\n[tiers.high]\nfence_cpus = "2-3"\n' >/tmp/bad.toml
expect 3 "/tmp/bad.toml:4: tiers.high.fence_cpus: overlaps the fence of critical at CPU 2" scx_infera --config /tmp/bad.toml
echo 'nobody:x:65534:65534::/:/bin/sh' >/etc/passwd
expect 4 "run this as root" su nobody -c scx_infera
mount -t tmpfs none /sys/kernel/sched_ext
expect 5 "CONFIG_SCHED_CLASS_EXT=y" scx_infera
umount /sys/kernel/sched_ext
[ "$(state)" = disabled ] || fail "something attached"
start --policy fifo
expect 6 "another sched_ext scheduler is attached (infera" scx_infera
[ "$(state)" = enabled ] || fail "the first scheduler is gone"
stop
