# 16 hogs against one sleeper, and against a burst, under several schedulers in one boot.
# Prints "PHASE JSON" lines; compare.rs judges them.
CG=/sys/fs/cgroup
mkdir $CG/load $CG/hogs
burst() { infera-load burst --cgroup $CG/load --duration-ms $MS --seed $SEED; }
wake() { infera-load wake --tour --cgroup $CG/load --duration-ms $MS; }
units() { infera-load progress /tmp/progress | sed 's/.*"units"://; s/[^0-9].*//'; }
both() {
	before=$(units)
	echo "$1 $(wake)"
	echo "$1 $(burst)"
	echo "$1 {\"kind\":\"hogs\",\"units\":$(($(units) - before))}"
}
infera() {
	name=$1; shift
	scx_infera "$@" >/tmp/scx.log 2>&1 &
	scx=$!
	until grep -q ' attached' /tmp/scx.log; do
		kill -0 $scx 2>/dev/null || { cat /tmp/scx.log; exit 1; }
		usleep 200000
	done
	usleep 500000
	echo "$name attached: $(cat /sys/kernel/sched_ext/root/ops)"
	both "$name"
	[ "$(cat /sys/kernel/sched_ext/state)" = enabled ] || { echo "$name is gone"; cat /tmp/scx.log; exit 1; }
	kill -INT $scx
	wait $scx
	usleep 500000
}
echo "idle $(wake)"
echo "idle $(burst)"
infera-load hogs --cgroup $CG/hogs --count 16 --progress /tmp/progress >/dev/null &
sleep 1
both eevdf-equal
echo 1 >$CG/hogs/cpu.idle
echo 10000 >$CG/load/cpu.weight
usleep 500000
both eevdf-idle
echo 0 >$CG/hogs/cpu.idle
echo 100 >$CG/load/cpu.weight
infera critical --policy $POLICY --tier critical=/load --tier background=/hogs
infera high --policy $POLICY --tier high=/load --tier normal=/hogs
