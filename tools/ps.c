// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* rpal ps: the services, in columns. */
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rpal.h"

#define SERVICES "/sys/kernel/debug/rpal/services"

#define HELP                                                                   \
	"usage: rpal ps\n\n"                                                   \
	"Show the services and placed processes of all users, from\n" SERVICES \
	". For root only.\n"

/* One for each slot, and the heading. */
#define MAX_ROWS    256
#define MAX_COLUMNS 16

struct row {
	char *line;
	char *field[MAX_COLUMNS];
};

struct table {
	struct row row[MAX_ROWS];
	int nr_rows;
	int nr_columns;
	int width[MAX_COLUMNS];
};

/* The last column is a program's name, which may have spaces. */
static void cut(struct table *t, struct row *row)
{
	char *rest = row->line;
	int i, width;

	rest[strcspn(rest, "\n")] = 0;
	for (i = 0; i < MAX_COLUMNS && rest; i++) {
		if (t->nr_columns && i == t->nr_columns - 1) {
			row->field[i] = rest;
			rest = NULL;
		} else {
			row->field[i] = strsep(&rest, " ");
		}
		width = strlen(row->field[i]);
		if (width > t->width[i])
			t->width[i] = width;
	}
	if (!t->nr_columns)
		t->nr_columns = i; /* it was the heading */
}

static void read_table(FILE *f, struct table *t)
{
	struct row *row = t->row;
	size_t size = 0;

	while (t->nr_rows < MAX_ROWS && getline(&row->line, &size, f) > 0) {
		cut(t, row++);
		t->nr_rows++;
		size = 0;
	}
}

/* Numbers to the right, as they are compared by their last digit. */
static bool is_number(const struct table *t, int column)
{
	int i;

	for (i = 1; i < t->nr_rows; i++)
		if (!t->row[i].field[column] || !isdigit((unsigned char)*t->row[i].field[column]))
			return false;
	return t->nr_rows > 1;
}

static void print_table(const struct table *t)
{
	int r, c, width;

	for (r = 0; r < t->nr_rows; r++) {
		for (c = 0; c < t->nr_columns; c++) {
			width = c == t->nr_columns - 1 ? 0 : t->width[c];
			printf("%s%*s", c ? "  " : "", is_number(t, c) ? width : -width,
			       t->row[r].field[c] ? t->row[r].field[c] : "");
		}
		putchar('\n');
	}
}

int cmd_ps(int argc, char **argv)
{
	static struct table table;
	int ret = no_operands("ps", HELP, argc, argv), i;
	FILE *f;

	if (ret >= 0)
		return ret;
	f = fopen(SERVICES, "re");
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
	read_table(f, &table);
	ret = ferror(f);
	fclose(f);
	if (ret)
		complain("cannot read " SERVICES);
	else
		print_table(&table);
	for (i = 0; i < table.nr_rows; i++)
		free(table.row[i].line);
	return ret ? 1 : 0;
}
