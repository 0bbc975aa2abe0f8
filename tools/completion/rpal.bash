# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
# shellcheck shell=bash
#
# Completion of rpal(1) for bash.

# The words from $1 on are a command of their own: with bash-completion by its rules.
_rpal_program()
{
	if [ "$COMP_CWORD" = "$1" ]; then
		case $2 in
		*/*) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
		*) mapfile -t COMPREPLY < <(compgen -c -- "$2" | sort -u) ;;
		esac
	elif declare -F _comp_command_offset >/dev/null; then
		_comp_command_offset "$1"
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$1"
	else
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$2")
	fi
}

# Where the program of "rpal run" stands, if the cursor is there or behind.
_rpal_run()
{
	local i

	for ((i = 2; i < COMP_CWORD; i++)); do
		case ${COMP_WORDS[i]} in
		--) i=$((i + 1)); break ;;
		-g | --group)
			# Its value comes next; of --group=NAME bash makes three words.
			i=$((i + 1))
			[ "${COMP_WORDS[i]}" != = ] || i=$((i + 1))
			;;
		-*) ;;
		*) break ;;
		esac
	done
	if [ "$i" -gt "$COMP_CWORD" ]; then
		return # a group's name, which nobody knows in advance
	fi
	if [ "$i" = "$COMP_CWORD" ] && [[ $1 = -* ]] && [ "${COMP_WORDS[i - 1]}" != -- ]; then
		mapfile -t COMPREPLY < <(compgen -W '--group --no-pkeys --help' -- "$1")
	else
		_rpal_program "$i" "$1"
	fi
}

_rpal()
{
	local cur=$2 options=--help

	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W \
			'run mark check status ps doctor --help --version' -- "$cur")
		return
	fi
	case ${COMP_WORDS[1]} in
	run) _rpal_run "$cur"; return ;;
	mark) options='--remove --help' ;;
	doctor) options='--json --help' ;;
	check | status | ps) ;;
	*) return ;;
	esac
	if [[ $cur = -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
	elif [ "${COMP_WORDS[1]}" = mark ] || [ "${COMP_WORDS[1]}" = check ]; then
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
	fi
}

complete -F _rpal rpal
