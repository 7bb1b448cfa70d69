for tier in critical high normal low background; do mkdir $CG/$tier; done
start --policy weighted --stats 2 --tier critical=/critical --tier high=/high --tier normal=/normal \
	--tier low=/low --tier background=/background
for tier in critical high normal low background; do hogs $tier 1; done
sleep 7
for tier in critical high normal low background; do
	at_least "$(stat_of $tier 2)" 0.01 || fail "nothing ran in $tier"
	at_least "$(($(stat_of $tier 3) + $(stat_of $tier 4) + $(stat_of $tier 5) + $(stat_of $tier 6)))" 1 ||
		fail "no dispatch counted in $tier"
done
stop
