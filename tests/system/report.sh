# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# To be sourced by the tests of tests/system, here and in the guest: what they say, and
# how they count. $subject is what each line begins with.

passed=0
failed=0
skipped=0
subject=${subject:-system}
step_started=$SECONDS

# Each line says how long it took since the one before.
said() {
	echo "$1 - $subject: $2 ($((SECONDS - step_started)) s)"
	step_started=$SECONDS
}

ok() {
	passed=$((passed + 1))
	said ok "$*"
}

# not_ok NAME [FILE]: the end of FILE says why
not_ok() {
	failed=$((failed + 1))
	said "not ok" "$1"
	[ -z "${2:-}" ] || tail -n 30 "$2" | sed 's/^/# /'
}

# skip NAME REASON
skip() {
	skipped=$((skipped + 1))
	echo "skipped - $subject: $1: $2"
	step_started=$SECONDS
}

# check NAME COMMAND...: it has to succeed
check() {
	local name=$1 out rc

	shift
	out=$(mktemp)
	"$@" >"$out" 2>&1 </dev/null
	rc=$?
	if [ $rc = 0 ]; then
		ok "$name"
	else
		not_ok "$name (status $rc)" "$out"
	fi
	rm -f "$out"
	return $rc
}

# until_true SECONDS COMMAND...: try until it succeeds
until_true() {
	local end=$((SECONDS + $1))

	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || return 1
		sleep 0.2
	done
}

# count_lines FILE: add what a test in a guest has said there
count_lines() {
	passed=$((passed + $(grep -a -c '^ok - ' "$1")))
	failed=$((failed + $(grep -a -c '^not ok - ' "$1")))
	skipped=$((skipped + $(grep -a -c '^skipped - ' "$1")))
}

# keep_disk FILE TRY: what the first try begins with is what the next ones have
keep_disk() {
	if [ "$2" != 1 ]; then
		rm -f "$1"
		[ ! -e "$1.before" ] || cp --sparse=always "$1.before" "$1"
	elif [ -e "$1" ]; then
		cp --sparse=always "$1" "$1.before"
	fi
}

# machine OPTION... -- COMMAND...: tests/system/run, with the tests' guest scripts along;
# its lines are shown and counted. A machine that the emulator has spoilt, which
# tests/system/run says, is booted once more, with its disk as it was; nothing else is.
machine() {
	local out rc try word disk=

	for word in "$@"; do
		[ "$disk" != next ] || disk=$word
		[ "$word" != --disk ] || disk=next
	done
	out=$(mktemp)
	for try in 1 2 3; do
		[ -z "$disk" ] || keep_disk "$disk" $try
		tests/system/run --file tests/system/guest:/usr/local/lib/system-test \
			--file tests/system/report.sh:/usr/local/lib/system-test/report.sh \
			"$@" 2>&1 </dev/null | tee "$out"
		rc=${PIPESTATUS[0]}
		if [ "$rc" != 125 ] || [ $try = 3 ] ||
			! grep -a -q 'emulator is to blame' "$out"; then
			break
		fi
		echo "# once more"
	done
	[ -z "$disk" ] || rm -f "$disk.before"
	count_lines "$out"
	# The guest's own verdict is in its lines; all else is one more failure.
	if [ "$rc" -ge 124 ] || { [ "$rc" != 0 ] && ! grep -a -q '^not ok - ' "$out"; }; then
		not_ok "the machine's command ends with status $rc"
	elif ! grep -a -q '^ok - ' "$out"; then
		not_ok "the machine has shown nothing"
	fi
	rm -f "$out"
	step_started=$SECONDS
	return "$rc"
}

finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ] && [ $passed != 0 ]
	exit
}

# In the guest only the status counts.
finish_guest() {
	[ $failed = 0 ]
	exit
}
