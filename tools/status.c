// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal status and rpal ps. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "rpal.h"

#define SERVICES "/sys/kernel/debug/rpal/services"
#define HEALTH	 "/sys/kernel/debug/rpal/health"

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

static int no_arguments(int argc, char **argv, const char *help)
{
	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(help, stdout);
		return 0;
	}
	if (argc > 1) {
		fputs(help, stderr);
		return EXIT_USAGE;
	}
	return -1;
}

int cmd_status(int argc, char **argv)
{
	struct rpal_query query = { .size = sizeof(query) };
	int fd, ret;

	ret = no_arguments(argc, argv,
			   "usage: rpal status\n\n"
			   "Show what the module and this machine offer. Exit status: 0, or 1 if\n"
			   "the module is not there or cannot be used.\n");
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

int cmd_ps(int argc, char **argv)
{
	char buf[4096];
	size_t n;
	FILE *f;
	int ret;

	ret = no_arguments(argc, argv,
			   "usage: rpal ps\n\n"
			   "Show the services and placed processes of all users, from\n" SERVICES
			   ". For root only.\n");
	if (ret >= 0)
		return ret;
	f = fopen(SERVICES, "r");
	if (!f) {
		if (errno == ENOENT)
			complain("there is no " SERVICES ": load the module, and mount debugfs "
				 "there");
		else if (errno == EACCES)
			complain("only root can read " SERVICES);
		else
			complain("cannot read " SERVICES ": %s", strerror(errno));
		return 1;
	}
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		fwrite(buf, 1, n, stdout);
	ret = ferror(f);
	fclose(f);
	return ret ? 1 : 0;
}
