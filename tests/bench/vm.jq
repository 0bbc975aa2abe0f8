# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Of lines "bench: KEY=VALUE ..." and the table of bench-placed, the figures of
# build/bench/vm-KERNEL.json. For tests/bench/vm.

def number: if test("^-?[0-9.]+$") then tonumber else . end;
# Of MEDIAN/P99.
def median: split("/")[0] | tonumber;

# What is aimed at, and whether it is met.
def aim($name; $value; $limit):
	{ name: $name, value: $value, at_most: $limit, met: ($value <= $limit) };
def busy_limit: if . == "sigsegv" then 1.04 else 1.02 end;

# By how much more interrupts grow than peers that run do. One may not have run all the
# time, so one alone counts where it was seen most.
def flush_growth: (map(select(.running == 1) | .interrupts) | max) as $one |
	map(select(.running > 1) | .interrupts / .running / $one) | max;
def flush_sleeping: map(select(.running == 0) | .interrupts) | max;

[inputs | ltrimstr("bench: ") | split(" ") | map(split("=") | {(.[0]): (.[1] | number)}) | add]
as $all |
def named($name): [$all[] | select(.name == $name)];
(named("calls") | map(select(.cpus == 1))) as [$calls, $counted] |
named("ordinary") as $ordinary |
named("flush") as $flush |
$tables[0] as $table |
{
	call_rtt_ns: ($calls.fast_ns | median),
	lazy_rtt_ns: ($calls.lazy_ns | median),
	uds_epoll_rtt_ns_same_cpu: ($calls.epoll_ns | median),
	counted: ($counted | {call: (.fast_ns | median), lazy: (.lazy_ns | median),
		uds_epoll: (.epoll_ns | median)}),
	ordinary_idle: ($ordinary | map({(.op): .idle_ratio}) | add),
	ordinary_busy: ($ordinary | map({(.op): .busy_ratio}) | add),
	ordinary_noise: ($ordinary | map({(.op): .again_ratio}) | add),
	growth: (named("grow") | map(del(.name, .machine))),
	flush: ($flush | map(del(.name, .machine))),
	threads: (named("threads") | map(del(.name, .machine))),
	receivers: (named("receivers") | map(del(.name, .machine))),
	memory: ((named("memory")[0] + named("thread-memory")[0]) | del(.name, .machine)),
	exec: (named("exec")[0] | del(.name, .machine)),
	teardown: (named("teardown") | map(del(.name, .machine))),
	aims: ([
		aim("lazy call / socket + epoll on one CPU, time"; $calls.lazy_by_epoll; 1),
		aim("lazy call / socket + epoll on one CPU, instructions"; $counted.lazy_by_epoll; 1),
		aim("interrupts of a munmap by peers that sleep"; $flush | flush_sleeping; 0.1),
		aim("the same for each peer that runs / for one alone"; $flush | flush_growth; 1.05)
	] + [
		($ordinary | max_by(.idle_ratio) |
			aim("idle / not loaded, the worst (\(.op))"; .idle_ratio; 1.005)),
		($ordinary[] |
			aim("16 linked services / not loaded, \(.op)"; .busy_ratio; .op | busy_limit))
	]),
	machine: {
		kernel: $release, version: $kernel, project: $commit, emulator: $qemu, host: $host,
		load: $load, accelerator: "TCG, no KVM: only ratios mean anything",
		cpu: $table.machine.cpu, pku: $table.pku, mitigations: $table.machine.mitigations,
		machines: {
			"two-cpus": "2 CPUs, the host's clock; pinning: see each line",
			"four-cpus": "4 CPUs; owner on the first, each peer that runs on its own",
			"counting": "1 CPU, a tick of the TSC and a nanosecond each are one instruction",
			"counting-no-keys": "the same, without protection keys"
		}
	},
	tables: {"two-cpus": $tables[0], counting: $tables[1]},
	lines: $all
}
