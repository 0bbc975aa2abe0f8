# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash disable=SC2154
#
# For scripts that check one thing after the other. The script sets log, the file that
# all output goes to; what the last step has printed is in $log.last.

passed=0
failed=0

# step NAME COMMAND...: its output is shown only if it fails.
step() {
	local name=$1 rc start=$SECONDS

	shift
	"$@" >"$log.new" 2>&1 </dev/null
	rc=$?
	mv "$log.new" "$log.last"
	{ echo "== $name"; cat "$log.last"; } >>"$log"
	if [ $rc = 0 ]; then
		passed=$((passed + 1))
		echo "ok - $name ($((SECONDS - start)) s)"
	else
		failed=$((failed + 1))
		echo "not ok - $name (status $rc)"
		tail -n 40 "$log.last" | sed 's/^/# /'
	fi
	return $rc
}

# nothing COMMAND...: it succeeds and prints nothing; what it prints is shown.
nothing() {
	local out

	out=$("$@") || return
	[ -z "$out" ] || { echo "$out"; return 1; }
}

finish() {
	echo "$passed passed, $failed failed"
	[ $failed = 0 ] && [ $passed != 0 ]
	exit
}

# no_initramfs ROOT: nobody boots it, and an initramfs takes as long as a module.
no_initramfs() {
	mkdir -p "$1/etc/initramfs-tools"
	echo update_initramfs=no >"$1/etc/initramfs-tools/update-initramfs.conf"
}
