# The comparison of DESIGN: 16 hogs against one sleeper, and against a burst, in one boot.
# Prints "SCHEDULER LOAD JSON" lines.
CG=/sys/fs/cgroup
MS=${MS:-6000}
mkdir $CG/load $CG/hogs
burst() { infera-load burst --cgroup $CG/load --duration-ms $MS; }
wake() { infera-load wake --cgroup $CG/load --duration-ms $MS; }
units() { infera-load progress /tmp/progress | sed 's/.*"units"://; s/[^0-9].*//'; }
both() {
	a=$(units)
	echo "$1 wake $(wake)"
	b=$(units)
	echo "$1 burst $(burst)"
	c=$(units)
	echo "$1 hogs wake $((b - a)) burst $((c - b))"
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
	echo "$name attached $(cat /sys/kernel/sched_ext/root/ops)"
	both "$name"
	[ "$(cat /sys/kernel/sched_ext/state)" = enabled ] || { echo "$name is gone"; cat /tmp/scx.log; }
	kill -INT $scx
	wait $scx
	usleep 500000
}
echo "idle wake $(wake)"
echo "idle burst $(burst)"
infera-load hogs --cgroup $CG/hogs --count 16 --progress /tmp/progress >/dev/null &
sleep 1
both eevdf-equal
echo 1 >$CG/hogs/cpu.idle
echo 10000 >$CG/load/cpu.weight
usleep 500000
both eevdf-idle
echo 0 >$CG/hogs/cpu.idle
echo 100 >$CG/load/cpu.weight
infera infera-critical-background --policy ${POLICY:-weighted} --tier critical=/load --tier background=/hogs
infera infera-high-normal --policy ${POLICY:-weighted} --tier high=/load --tier normal=/hogs
