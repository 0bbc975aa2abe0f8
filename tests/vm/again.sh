# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# To be sourced by what runs many machines, from the top of the project.

# vm OUTPUT OPTION...: tests/vm/run with its output in a file. What the emulator has
# spoilt, which it says, is done once more, and then once more; nothing else is. That
# comes about once in forty machines, more often while hooks are put in and out.
vm() {
	local out=$1 try rc

	shift
	for try in 1 2 3; do
		tests/vm/run "$@" >"$out" 2>&1 </dev/null
		rc=$?
		if [ $rc != 125 ] || ! grep -a -q 'emulator is to blame' "$out"; then
			break
		fi
		[ $try = 3 ] || echo "# $(grep -a 'emulator is to blame' "$out")" >&2
	done
	return $rc
}
