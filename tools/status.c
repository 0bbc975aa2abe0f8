// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal status: what the module and the machine offer. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "rpal.h"

#define HEALTH "/sys/kernel/debug/rpal/health"

#ifndef HWCAP2_FSGSBASE
#define HWCAP2_FSGSBASE (1 << 1)
#endif

static const char *yes(unsigned long long bits)
{
	return bits ? "yes" : "no";
}

/*
 * What the module says about its hooks: "ok", or "broken: " and what. For root only;
 * others know from the query that something is broken.
 */
static void read_health(char *verdict, size_t size)
{
	char line[256];
	FILE *f = fopen(HEALTH, "r");

	verdict[0] = 0;
	if (!f)
		return;
	while (fgets(line, sizeof(line), f))
		snprintf(verdict, size, "%.*s", (int)strcspn(line, "\n"), line);
	fclose(f);
}

static void show_hooks(bool broken)
{
	static const char prefix[] = "broken: ";
	char verdict[200];

	read_health(verdict, sizeof(verdict));
	if (!broken)
		printf("hooks in the kernel:  %s\n", verdict[0] ? verdict : "ok");
	else if (strstr(verdict, "ftrace_enabled"))
		printf("hooks in the kernel:  BROKEN: the function tracer is switched off, so nothing "
		       "can be placed; 'sysctl kernel.ftrace_enabled=1' switches it on\n");
	else if (!strncmp(verdict, prefix, strlen(prefix)))
		printf("hooks in the kernel:  BROKEN: the one on %s is missing, so nothing can be "
		       "placed; a live patch or another module may hold that function, and the "
		       "kernel log says more\n",
		       verdict + strlen(prefix));
	else
		printf("hooks in the kernel:  BROKEN, so nothing can be placed; for root, " HEALTH
		       " says which\n");
}

static void show(const struct rpal_query *q)
{
	printf("interface version:    %u.%u\n", q->abi_major, q->abi_minor);
	printf("new services:         %s\n",
	       q->features & RPAL_FEATURE_OFF ? "NO: switched off by the module parameter enable" :
						"yes");
	show_hooks(q->features & RPAL_FEATURE_BROKEN);
	if (q->features & RPAL_FEATURE_PKEYS)
		printf("protection keys:      yes, %u for services\n", q->nr_keys);
	else
		printf("protection keys:      NO: linked services can overwrite each other; %s\n",
		       q->features & RPAL_FEATURE_NO_PKEYS_OK ?
			       "allowed with 'rpal run --no-pkeys'" :
			       "the module does not allow that");
	printf("FSGSBASE:             %s\n", yes(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE));
	printf("page-table levels:    %s\n", q->features & RPAL_FEATURE_LA57 ? "5" : "4");
	printf("page-table isolation: %s\n", yes(q->features & RPAL_FEATURE_PTI));
	printf("system calls in calls: %s\n", yes(q->features & RPAL_FEATURE_LAZY));
	printf("calls are timed:      %s\n", yes(q->features & RPAL_FEATURE_STAMPS));
	printf("slot:                 %llu GiB\n", (1ULL << q->slot_shift) >> 30);
	printf("services:             up to %u\n", q->max_services);
	printf("links per service:    up to %u\n", q->max_links);
	printf("receivers per service: up to %u\n", q->max_receivers);
	printf("senders per service:  up to %u\n", q->max_senders);
	printf("nested calls:         up to %u\n", q->max_depth);
}

int cmd_status(int argc, char **argv)
{
	struct rpal_query query = { .size = sizeof(query) };
	int fd, ret;

	ret = no_operands("status",
			  "usage: rpal status\n\n"
			  "Show what the module and this machine offer. Exit status: 0, or 1 if\n"
			  "the module is not there or cannot be used. 'rpal doctor' says what is\n"
			  "wrong, and what mends it.\n",
			  argc, argv);
	if (ret >= 0)
		return ret;
	fd = open_device();
	if (fd < 0)
		return 1;
	ret = ask(fd, RPAL_IOC_QUERY, &query);
	close(fd);
	if (ret) {
		complain("the module does not answer: %s", strerror(-ret));
		return 1;
	}
	show(&query);
	if (query.abi_major != RPAL_ABI_MAJOR) {
		complain("this tool was built for version %u: install tool and module from one "
			 "release",
			 RPAL_ABI_MAJOR);
		return 1;
	}
	return query.features & RPAL_FEATURE_BROKEN ? 1 : 0;
}
