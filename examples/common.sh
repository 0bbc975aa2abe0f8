#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# The scripts of the examples source this file. In the source tree it finds the programs
# that "make" has built; elsewhere they must be on the path. It is executable because
# tests/vm/run brings only executable files into a guest.
here=$(cd "$(dirname "$0")" && pwd)
top=${here%/*}
if [ -d "$top/build/examples" ]; then
	PATH=$top/build/examples:$top/build/tools:$PATH
	LD_LIBRARY_PATH=$top/build/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
	export PATH LD_LIBRARY_PATH
fi

# need PROGRAM...: end with a sentence if one is missing
need()
{
	for program; do
		command -v "$program" >/dev/null && continue
		case $program in
		wget) echo "${0##*/}: wget is not installed: apt-get install wget" ;;
		*) echo "${0##*/}: $program is not there: run 'make' in the source tree" ;;
		esac
		exit 127
	done >&2
}
