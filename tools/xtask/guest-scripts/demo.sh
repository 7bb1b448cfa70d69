# One service beside a crowd of batch work, twice in one boot: stock scheduler, scx_infera.
# Prints "PHASE JSON" lines; demo.rs makes the table.
CG=/sys/fs/cgroup
mkdir $CG/service $CG/batch
infera-load run --cgroup $CG/service -- memcached -u root -l 127.0.0.1 -p 11211 -t 2 &
infera-load hogs --cgroup $CG/batch --count 16 --progress /tmp/progress >/dev/null &
sleep 2

units() { infera-load progress /tmp/progress | sed 's/.*"units"://; s/[^0-9].*//'; }
measure() {
	before=$(units)
	infera-load wake --tour --cgroup $CG/service --duration-ms 6000 >/tmp/wake &
	probe=$!
	infera-load memcached --cgroup $CG/service --connect 127.0.0.1:11211 --rate 400 --connections 4 --duration-ms 6000 >/tmp/mc
	wait $probe
	after=$(units)
	echo "$1 $(cat /tmp/wake)"
	echo "$1 $(cat /tmp/mc)"
	echo "$1 {\"kind\":\"batch\",\"units\":$((after - before))}"
}

measure stock
# The two cgroup writes that a node without us can make.
echo 1 >$CG/batch/cpu.idle
echo 10000 >$CG/service/cpu.weight
sleep 1
measure stock+idle
echo 0 >$CG/batch/cpu.idle
echo 100 >$CG/service/cpu.weight
scx_infera --policy weighted --tier critical=/service --tier background=/batch >/tmp/scx.log 2>&1 &
scx=$!
until grep -q ' attached' /tmp/scx.log; do
	kill -0 $scx 2>/dev/null || { cat /tmp/scx.log; exit 1; }
	sleep 1
done
sleep 1
echo "attached $(cat /sys/kernel/sched_ext/root/ops)"
measure infera
[ "$(cat /sys/kernel/sched_ext/state)" = enabled ] || { echo "the scheduler is gone"; cat /tmp/scx.log; exit 1; }
kill -INT $scx
wait $scx
