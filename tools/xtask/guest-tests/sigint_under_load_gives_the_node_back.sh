mkdir $CG/critical $CG/background
start --policy weighted --tier critical=/critical --tier background=/background
hogs background 16
sleep 2
chrt -f -p 10 $$ >/dev/null || fail "chrt"
before=$(now)
kill -INT $SCX
while [ "$(state)" != disabled ]; do
	[ $(($(now) - before)) -gt 1000 ] && fail "still $(state) 10 s after SIGINT"
	usleep 2000
done
took=$(($(now) - before))
echo "disabled ${took}0 ms after SIGINT"
[ $took -le 15 ] || fail "disabled ${took}0 ms after SIGINT, not within 150 ms"
clean
