// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The figures for people. */
#include <stdio.h>

#include "shared.h"

static double ns(double ticks)
{
	return ticks * 1e9 / timer.hz;
}

static void print_ratio(double of, double by)
{
	if (by > 0)
		printf(" %9.2f", of / by);
	else
		printf(" %9s", "-");
}

static void print_line(const struct figure *f)
{
	const struct figure *best = figures_best_kernel(f->place);

	printf("%-30s %7zu %-8s %5u %11.1f %11.1f %11.1f %11.1f %10.1f", f->name, f->size,
	       place_names[f->place], f->batch, f->median, f->p99, f->p999, f->min, ns(f->median));
	print_ratio(f->median, figures_median("floor round trip", ONE_CPU, 0));
	print_ratio(f->median, best ? best->median : 0);
	putchar('\n');
}

static void print_targets(void)
{
	struct target t[NR_TARGETS];
	int i, n = targets_get(t);

	printf("\nTargets%s\n", machine_has_pku() ? "" :
						    " (this CPU shows no protection keys: nor "
						    "has the floor any WRPKRU)");
	for (i = 0; i < n; i++)
		printf("%-58s %10.2f  %s %7.2f  %s\n", t[i].name, t[i].value,
		       t[i].at_least ? ">=" : "<=", t[i].limit,
		       target_met(&t[i]) ? "met" : "NOT met");
}

void table_print(void)
{
	const struct figure *f;
	unsigned int i = 0;

	printf("Cycles are those of the TSC, %.0f MHz, less the %lu that it takes to read it.\n"
	       "Of a batch the mean counts as one sample. Protection keys: %s.\n"
	       "%u messages were looked at, which made %u system calls.\n\n",
	       timer.hz / 1e6, timer.overhead, machine_has_pku() ? "yes" : "no (pku = false)",
	       shared->entered.messages, shared->entered.entered);
	if (machine_is_emulated())
		printf("This CPU is emulated: nothing of it says what a real one needs.\n\n");
	printf("%-30s %7s %-8s %5s %11s %11s %11s %11s %10s %9s %9s\n", "what", "bytes", "where",
	       "batch", "median", "p99", "p99.9", "min", "median ns", "/ floor", "/ kernel");
	while ((f = figures_next(&i)))
		print_line(f);
	if (figures_best_kernel(ONE_CPU) && !machine_is_emulated())
		print_targets();
}
