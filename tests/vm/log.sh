# shellcheck shell=bash
# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# To be sourced by what boots machines: judges the log of a guest's kernel. Who sources
# it has the log's path in $log, and the functions say and fail.
# shellcheck disable=SC2154 # $log

# What the kernel tells when a limited group of processes runs out of memory, with
# a stack, is their own affair.
without_group_oom() {
	awk '/invoked oom-killer/ { hold = 1; group = 0; text = "" }
		hold && /Memory cgroup stats for/ { group = 1 }
		hold { text = text $0 "\n" }
		hold && /[Oo]ut of memory( and|:)/ { hold = 0; if (group) next; printf "%s", text; next }
		!hold
		END { if (hold) printf "%s", text }'
}

# Kernels since 6.5 tell once an hour, with a stack, that reading through the kernel
# does not make stacks grow any more: of any process, whether or not the module is there.
# Only the line that begins the stack is left out.
without_gup_notice() {
	awk '/GUP no longer grows the stack in / { lines = 8 }
		lines-- > 0 && /Call Trace:/ { lines = 0; $0 = "" }
		1'
}

# Lines of the log that are reports. A program's own general protection fault
# ("traps: ...") is the program's affair. After a time-out the log holds what
# init asked for, so the rest is left out.
reports() {
	# Nor is what the kernel says of failures that stress-failnth has asked for.
	sed -E -e '/(rpal-vm|system-test): time-out/,$d' \
		-e '/ stress-failnth: vmalloc error: /,/ pages reserved/d' "$log" |
		without_group_oom | without_gup_notice | grep -a -n -E \
		-e '\bBUG\b|\bWARNING:|\bOops\b|KASAN:|KFENCE:|UBSAN:|KCSAN:' \
		-e 'possible circular|possible recursive|possible irq|INFO: possible' \
		-e 'suspicious RCU|inconsistent lock state|INFO: (trying|HARDIRQ|SOFTIRQ)' \
		-e 'general protection fault|unable to handle|Kernel panic|kernel panic' \
		-e 'rcu: INFO: .*(stall|self-detected)|rcu.*detected stalls|soft lockup|hard LOCKUP|hung task|blocked for more than' \
		-e 'Corrupted page table|[Bb]ad page|Bad rss-counter|pgtables_bytes|page_table_check' \
		-e 'kmemleak: .*new suspected|unreferenced object' \
		-e 'Unpatched|Call Trace|refcount_t:|list_(add|del) corruption|ODEBUG:|double fault|scheduling while atomic' \
		-e 'sleeping function called from invalid context|Voluntary context switch within RCU' |
		grep -a -v -E 'traps: .* general protection fault ip:' |
		tr -d '\r'
}

# QEMU may run code that another CPU has just replaced: it translates without
# holding the page, so a translation can be older than the write. What the kernel
# then trips over is the INT3 that it puts in front of code while it patches it,
# hit when it is long gone. The log shows that beyond doubt: the trap was an INT3,
# and the byte before the instruction pointer is none. No CPU does that. Or a task
# goes round in such a trap for ever: then it is found standing at the very place
# at the begin of a function that is patched, where nothing stands for long.
stale_int3() {
	tr -d '\r' <"$log" | awk '
		/rcu.*self-detected stall/ { stalled = 60 }
		stalled > 0 && /RIP: 0010:/ {
			if ($0 ~ /RIP: 0010:[A-Za-z0-9_.]+\+0x[04]\//)
				found = 1
			stalled = 0
		}
		{ stalled-- }
		/Oops: int3:/ || /asm_exc_int3/ { armed = 12 }
		armed > 0 && /Code: / {
			if (match($0, /[0-9a-f][0-9a-f] </)) {
				if (substr($0, RSTART, 2) != "cc")
					found = 1
				armed = 0
			}
		}
		{ armed-- }
		END { exit !found }'
}

# After CMPXCHG16B, which kernels allocate memory with, QEMU 7.2 may have an operand of
# an earlier comparison in EFLAGS. An interrupt in that very moment returns with it,
# and faults. The log shows that, too: bit 17, VM, which no CPU has set in 64-bit
# mode, a few bytes after that instruction. Or where the allocator goes from there if
# the exchange has failed: then a register still has that operand.
wild_flags() {
	tr -d '\r' <"$log" | awk '
		/RIP: 0010:/ { armed = 3 }
		/RIP: 0010:(kmem_cache_|__kmalloc|kmalloc|kfree|_*slab_)/ { allocator = 3 }
		armed > 0 && /Code: .*0f c7 [0-9a-f][0-9a-f]( [0-9a-f][0-9a-f])?( [0-9a-f][0-9a-f])?( [0-9a-f][0-9a-f])? </ { after = 1 }
		held > 0 && $0 ~ operand { found = 1 }
		armed > 0 && /EFLAGS: [0-9a-f][0-9a-f][0-9a-f][2367abef]/ {
			if (after)
				found = 1
			# But for the bits that every comparison sets.
			operand = ": [0-9a-f]+" substr($0, index($0, "EFLAGS: ") + 8, 5) "[0-9a-f][0-9a-f][0-9a-f]"
			held = allocator > 0 ? 6 : 0
		}
		{ held--; allocator-- }
		{ if (--armed <= 0) after = 0 }
		END { exit !found }'
}

# judge_log VERDICT: leave with 126 if the log holds a report, with 125 if the emulator
# is to blame for it. VERDICT is what the guest has said about the command.
judge_log() {
	local verdict=$1 found

	found=$(reports)
	[ -n "$found" ] || return 0
	head -n 10 <<<"$found" >&2
	! stale_int3 ||
		fail "the emulator is to blame, it has run stale code, see $log: try again"
	! wild_flags ||
		fail "the emulator is to blame, it has spoilt EFLAGS, see $log: try again"
	say "the kernel log holds a report, see $log (the command: $verdict)"
	exit 126
}
