// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal doctor: what the CPU offers, and the kernel lets programs use. */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor.h"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

/* CPUID 7 */
#define EBX_FSGSBASE (1U << 0)
#define ECX_PKU	     (1U << 3)
#define ECX_OSPKE    (1U << 4)
/* CPUID 1 */
#define ECX_HYPERVISOR (1U << 31)

#define ARCH_SHSTK_STATUS 0x5005

#define ALLOW "/sys/module/rpal/parameters/allow_no_pkeys"

static bool is_virtual(void)
{
	unsigned int eax, ebx, ecx, edx;

	return __get_cpuid(1, &eax, &ebx, &ecx, &edx) && ecx & ECX_HYPERVISOR;
}

/* Is it allowed to go on without? */
static bool keys_waived(void)
{
	char line[8];

	return read_line(ALLOW, line, sizeof(line)) && line[0] == 'Y';
}

static void check_keys(struct report *r, unsigned int ecx)
{
	if (ecx & ECX_OSPKE) {
		doctor_say(r, "cpu-pkeys", DOCTOR_OK, "the CPU has protection keys");
		return;
	}
	if (keys_waived()) {
		doctor_say(r, "cpu-pkeys", DOCTOR_NOTE,
			   "there are no protection keys, and the module allows to go on "
			   "without: linked processes can overwrite each other");
		doctor_mend(r, "start programs with 'rpal run --no-pkeys', and give rpal_init() "
			       "the flag RPAL_INIT_NO_PKEYS");
		return;
	}
	if (ecx & ECX_PKU) {
		doctor_say(r, "cpu-pkeys", DOCTOR_BAD,
			   "the CPU has protection keys, but the kernel does not use them");
		doctor_mend(r, "take 'nopku' off the kernel command line, and reboot");
		return;
	}
	doctor_say(r, "cpu-pkeys", DOCTOR_BAD,
		   "this CPU has no protection keys (pku)%s; who accepts that linked processes "
		   "can overwrite each other can go on without, with 'rpal run --no-pkeys'",
		   is_virtual() ? "; a virtual machine has them if its CPU model has" : "");
	doctor_mend(r, r->loaded ? "echo 1 >" ALLOW : "modprobe rpal allow_no_pkeys=1");
}

static void check_fsgsbase(struct report *r, unsigned int ebx)
{
	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE) {
		doctor_say(r, "cpu-fsgsbase", DOCTOR_OK,
			   "programs can use FSGSBASE, which calls need");
	} else if (ebx & EBX_FSGSBASE) {
		doctor_say(r, "cpu-fsgsbase", DOCTOR_BAD,
			   "the CPU has FSGSBASE, but the kernel does not let programs use it");
		doctor_mend(r, "take 'nofsgsbase' off the kernel command line, and reboot");
	} else {
		doctor_say(r, "cpu-fsgsbase", DOCTOR_BAD,
			   "this CPU has no FSGSBASE, which calls need%s",
			   is_virtual() ? "; a virtual machine has it if its CPU model has" : "");
	}
}

/* Is a word among the flags of /proc/cpuinfo? Those are what the kernel uses. */
static bool has_flag(const char *flag)
{
	char *line = NULL, *word, *rest;
	size_t size = 0;
	bool found = false;
	FILE *f = fopen("/proc/cpuinfo", "re");

	if (!f)
		return false;
	while (!found && getline(&line, &size, f) > 0) {
		if (strncmp(line, "flags", 5))
			continue;
		rest = line;
		while (!found && (word = strsep(&rest, " \t\n:")))
			found = !strcmp(word, flag);
		break;
	}
	free(line);
	fclose(f);
	return found;
}

/* Both belong to the state of a thread that calls do not pass on. */
static void check_refused_state(struct report *r)
{
	unsigned long long on = 0;

	if (has_flag("user_shstk")) {
		if (syscall(SYS_arch_prctl, ARCH_SHSTK_STATUS, &on))
			on = 0;
		doctor_say(r, "cpu-shadow-stack", DOCTOR_NOTE,
			   "user shadow stacks are there%s: a thread that has them on cannot call "
			   "or be called",
			   on & 1 ? ", and on in this process" : "");
		if (on & 1)
			doctor_mend(r, "start programs with "
				       "GLIBC_TUNABLES=glibc.cpu.hwcaps=-SHSTK");
	}
	if (has_flag("amx_tile"))
		doctor_say(r, "cpu-amx", DOCTOR_NOTE,
			   "AMX is there: a process that has asked for it cannot call or be called");
}

void doctor_cpu(struct report *r)
{
	unsigned int eax, ebx = 0, ecx = 0, edx;

	/* Without sysfs the device is all that shows it. */
	r->loaded = !access("/sys/module/rpal", F_OK) ||
		    (access("/sys/module", F_OK) && !access("/dev/rpal", F_OK));
	if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
		ebx = ecx = 0;
	check_keys(r, ecx);
	check_fsgsbase(r, ebx);
	check_refused_state(r);
}
