// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * native [PREFIX [N]]: what calls and messages cost on this very CPU, without the
 * module, beside what the kernel offers. A table; with PREFIX also PREFIX.json and
 * columns for plotting. native -r [N]: only the library's part, and the table. With
 * one Nth of the samples, for machines that are emulated. bench-placed, for guests,
 * is the same with placed processes and the module.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared.h"

static int write_all(const char *prefix)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s.json", prefix);
	return report_write(path) || report_columns(prefix);
}

int main(int argc, char **argv)
{
	bool only_rpal = argc > 1 && !strcmp(argv[1], "-r");

	if (argc > 1 && argv[1][0] == '-' && !only_rpal) {
		fprintf(stderr, "usage: %s [-r | PREFIX] [N]\n", argv[0]);
		return 1;
	}
	peers_begin(argc, argv);
	shared_init();
	machine_pin(ONE_CPU, 0);
	timer_init();
	shared->timer = timer;
	figures_init(argc > 2 ? atoi(argv[2]) : 1);
	machine_in_child(floor_measure);
	calls_measure();
	messages_measure();
	if (!only_rpal)
		kernel_measure();
	table_print();
	return !only_rpal && argc > 1 && write_all(argv[1]);
}
