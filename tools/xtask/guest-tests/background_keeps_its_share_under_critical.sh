mkdir $CG/critical $CG/background
start --policy weighted --stats 2 --tier critical=/critical --tier background=/background
hogs critical 8
hogs background 4
sleep 9
share=$(stat_of background 2)
echo "background got $share of 4 CPUs"
# 2 % of four CPUs.
at_least "$share" 0.08 || fail "Background got $share CPUs"
at_least "$(stat_of critical 2)" 3.2 || fail "Critical got only $(stat_of critical 2) CPUs"
stop
