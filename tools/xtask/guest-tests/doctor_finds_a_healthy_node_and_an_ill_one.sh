# infera doctor on a node that infera schedules, in safe mode, and with a broken configuration.
infera-guard -- scx_infera >$LOG 2>&1 &
GUARD=$!
wait_for enabled 300
answered
infera doctor >/tmp/doctor
code=$?
cat /tmp/doctor
grep -q FAIL /tmp/doctor && fail "something fails"
grep -q 'ok   guard .*infera schedules this node' /tmp/doctor || fail "the guard is not seen"
# A distribution's kernel may lack what is only recommended.
[ $code -le 1 ] || fail "exit status $code"
infera safe-mode on "a test"
wait_for disabled 20
sleep 1
infera doctor >/tmp/doctor
[ $? = 1 ] || fail "safe mode is no warning"
grep -q 'WARN guard .*wanted by operator (a test)' /tmp/doctor || fail "$(cat /tmp/doctor)"
mkdir -p /etc/infera
echo 'loans = 3' >/etc/infera/infera.toml
infera doctor -o json >/tmp/doctor
[ $? = 3 ] || fail "a broken configuration is no failure"
grep -q '"health":"failure","name":"configuration","sentence":"/etc/infera/infera.toml:1:' /tmp/doctor || fail "$(cat /tmp/doctor)"
kill $GUARD
wait $GUARD
clean
