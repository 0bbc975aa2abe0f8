/* SPDX-License-Identifier: LGPL-2.1-or-later OR MIT */
/* What the copies of the library use instead of functions of the C library. */
#ifndef BENCH_MODULE_H
#define BENCH_MODULE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/rpal.h>

int module_open(const char *path, int flags, ...);
int module_ioctl(int fd, unsigned long cmd, ...);
void *module_mmap(void *addr, size_t size, int prot, int flags, int fd, off_t offset);
int module_munmap(void *addr, size_t size);
void *module_aligned_alloc(size_t align, size_t size);
void *module_calloc(size_t n, size_t size);
void *module_realloc(void *old, size_t size);
void module_free(void *p);

/* For the assembly in module.c. */
void *module_stack(void);
long module_ioctl_raw(int fd, unsigned long cmd, void *arg);
void module_wait(const struct rpal_wait *w);

#endif /* BENCH_MODULE_H */
