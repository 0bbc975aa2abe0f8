/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What two checks of rpal doctor want to know of the module's file. */
#ifndef _TOOLS_DOCTOR_MODULE_H
#define _TOOLS_DOCTOR_MODULE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

/**
 * struct module_file - the module as it is installed for the running kernel
 * @path:	where; empty if it is not
 * @srcversion:	tells builds apart; empty if it has none
 * @is_signed:	it has a signature
 * @signer:	whose
 * @blacklisted: modprobe.d says so
 */
struct module_file {
	char path[PATH_MAX];
	char srcversion[64];
	bool is_signed;
	char signer[128];
	bool blacklisted;
};

/* False if it is not installed for this kernel. */
bool find_module_file(struct module_file *file);

/* The newest version that dkms knows; false if there is none. */
bool find_dkms_version(char *version, size_t size);

#endif /* _TOOLS_DOCTOR_MODULE_H */
