/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* Can a program be placed? */
#ifndef _TOOLS_ELFCHECK_H
#define _TOOLS_ELFCHECK_H

#include <stdbool.h>
#include <stddef.h>

/* The marker lies in bytes of e_ident that nobody uses. */
#define MARK_OFFSET 12
#define MARK	    "RPAL"
#define MARK_LEN    4

enum elf_verdict {
	ELF_YES,   /* can be placed */
	ELF_NO,	   /* cannot; why says so */
	ELF_ERROR, /* cannot be read; why says so */
};

/**
 * struct elf_info - what was found out about a program
 * @verdict:	can it be placed?
 * @marked:	does it carry the marker?
 * @script:	is it a script? Then interpreter decides
 * @why:	a clause: "it is ..."; empty if it can be placed
 * @warning:	a clause on why it will not work although it can be placed
 * @interpreter: of a script
 */
struct elf_info {
	enum elf_verdict verdict;
	bool marked;
	bool script;
	char why[200];
	char warning[200];
	char interpreter[256];
};

/* Looks at the contents alone; returns info->verdict. */
enum elf_verdict elf_check_image(const void *image, size_t size, struct elf_info *info);

/* Looks at a file, with its mode and capabilities. */
enum elf_verdict elf_check_file(const char *path, struct elf_info *info);

#endif /* _TOOLS_ELFCHECK_H */
