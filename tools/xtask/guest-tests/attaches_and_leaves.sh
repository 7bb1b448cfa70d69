start --policy weighted
case "$(cat /sys/kernel/sched_ext/root/ops)" in infera*) ;; *) fail "ops name" ;; esac
sleep 1
stop
for policy in $(scx_infera --list-policies | awk '{print $1}'); do
	start --policy $policy
	hogs bg 6
	sleep 1
	killall infera-load
	stop
done
