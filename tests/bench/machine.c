// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Where things run, and on what. */
#include <cpuid.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include "shared.h"

/* For one figure: what hangs is ended. On a busy machine all takes many times as long. */
#define PATIENCE 300

#define CPUID7_OSPKE	 (1U << 4)
#define CPUID_HYPERVISOR 0x40000000

void bench_fail(const char *file, int line, const char *what)
{
	fflush(stdout);
	fprintf(stderr, "%s:%d: %s does not hold: %m\n", file, line, what);
	_exit(1);
}

bool machine_has_two_cpus(void)
{
	return CPU_COUNT(&shared->cpus) > 1;
}

int machine_cpu(int side)
{
	int cpu, first = -1;

	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &shared->cpus))
			continue;
		if (!side || first >= 0)
			return cpu;
		first = cpu;
	}
	return first;
}

bool machine_has_pku(void)
{
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && ecx & CPUID7_OSPKE;
}

bool machine_is_emulated(void)
{
	unsigned int eax, name[3];

	__cpuid(CPUID_HYPERVISOR, eax, name[0], name[1], name[2]);
	return !memcmp(name, "TCGTCGTCGTCG", sizeof(name));
}

void machine_pin(enum pinning place, int side)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(machine_cpu(place == TWO_CPUS && side), &set);
	MUST(!sched_setaffinity(0, sizeof(set), place == FREE ? &shared->cpus : &set));
}

void machine_is_alive(void)
{
	alarm(PATIENCE);
}

void machine_in_child(void (*fn)(void))
{
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	MUST(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		machine_is_alive();
		fn();
		fflush(stdout);
		_exit(0);
	}
	MUST(waitpid(pid, &status, 0) == pid);
	if (status) {
		fprintf(stderr, "a measuring process ended with status %#x\n", status);
		exit(1);
	}
}
