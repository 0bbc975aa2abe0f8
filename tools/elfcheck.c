// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Can a program be placed? The kernel module decides; here is found out in
 * advance, or afterwards, what exactly stands against it.
 *
 * The file may hold anything: every offset is checked against its size.
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "elfcheck.h"

struct image {
	const unsigned char *p;
	size_t size;
};

/* len bytes at off, or NULL if the file does not have them. */
static const void *at(const struct image *im, uint64_t off, uint64_t len)
{
	if (off > im->size || len > im->size - off)
		return NULL;
	return im->p + off;
}

/* A string that ends within the file, or NULL. */
static const char *str(const struct image *im, uint64_t off)
{
	if (off >= im->size || !memchr(im->p + off, 0, im->size - off))
		return NULL;
	return (const char *)im->p + off;
}

static enum elf_verdict no(struct elf_info *info, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static enum elf_verdict no(struct elf_info *info, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(info->why, sizeof(info->why), fmt, ap);
	va_end(ap);
	info->verdict = ELF_NO;
	return ELF_NO;
}

/* --- sanitizers: they want fixed addresses outside of any slot */

static const char *sanitizer_of(const char *name)
{
	static const struct {
		const char *prefix, *what;
	} known[] = {
		{ "libasan.so", "AddressSanitizer" },	  { "libtsan.so", "ThreadSanitizer" },
		{ "libhwasan.so", "HWAddressSanitizer" }, { "__asan_init", "AddressSanitizer" },
		{ "__tsan_init", "ThreadSanitizer" },	  { "__msan_init", "MemorySanitizer" },
	};
	size_t i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (!strncmp(name, known[i].prefix, strlen(known[i].prefix)))
			return known[i].what;
	return NULL;
}

static const Elf64_Shdr *section(const struct image *im, const Elf64_Ehdr *eh, unsigned int i)
{
	if (eh->e_shentsize != sizeof(Elf64_Shdr) || i >= eh->e_shnum)
		return NULL;
	return at(im, eh->e_shoff + (uint64_t)i * sizeof(Elf64_Shdr), sizeof(Elf64_Shdr));
}

static const char *in_needed(const struct image *im, const Elf64_Shdr *dyn, uint64_t strings)
{
	const char *what, *name;
	const Elf64_Dyn *d;
	uint64_t i;

	for (i = 0; i < dyn->sh_size / sizeof(*d); i++) {
		d = at(im, dyn->sh_offset + i * sizeof(*d), sizeof(*d));
		if (!d || d->d_tag == DT_NULL)
			break;
		if (d->d_tag != DT_NEEDED)
			continue;
		name = str(im, strings + d->d_un.d_val);
		what = name ? sanitizer_of(name) : NULL;
		if (what)
			return what;
	}
	return NULL;
}

static const char *in_symbols(const struct image *im, const Elf64_Shdr *tab, uint64_t strings)
{
	const char *what, *name;
	const Elf64_Sym *s;
	uint64_t i;

	for (i = 0; i < tab->sh_size / sizeof(*s); i++) {
		s = at(im, tab->sh_offset + i * sizeof(*s), sizeof(*s));
		if (!s)
			break;
		if (!s->st_name)
			continue;
		name = str(im, strings + s->st_name);
		what = name ? sanitizer_of(name) : NULL;
		if (what)
			return what;
	}
	return NULL;
}

static void look_for_sanitizers(const struct image *im, const Elf64_Ehdr *eh, struct elf_info *info)
{
	const Elf64_Shdr *s, *strings;
	const char *what = NULL;
	unsigned int i;

	for (i = 0; i < eh->e_shnum && !what; i++) {
		s = section(im, eh, i);
		if (!s)
			return;
		if (s->sh_type != SHT_DYNAMIC && s->sh_type != SHT_DYNSYM &&
		    s->sh_type != SHT_SYMTAB)
			continue;
		strings = section(im, eh, s->sh_link);
		if (!strings)
			continue;
		what = s->sh_type == SHT_DYNAMIC ? in_needed(im, s, strings->sh_offset) :
						   in_symbols(im, s, strings->sh_offset);
	}
	if (what)
		snprintf(info->warning, sizeof(info->warning),
			 "it is built with %s, which needs "
			 "addresses that a placed program does not have",
			 what);
}

/* --- the checks */

static enum elf_verdict check_script(const struct image *im, struct elf_info *info)
{
	size_t i = 2, n = 0;

	while (i < im->size && (im->p[i] == ' ' || im->p[i] == '\t'))
		i++;
	while (i < im->size && n < sizeof(info->interpreter) - 1 && im->p[i] > ' ')
		info->interpreter[n++] = im->p[i++];
	info->interpreter[n] = '\0';
	info->script = n > 0;
	if (!n)
		return no(info, "it is a script without an interpreter");
	info->verdict = ELF_YES;
	return ELF_YES;
}

enum elf_verdict elf_check_image(const void *p, size_t size, struct elf_info *info)
{
	struct image im = { .p = p, .size = size };
	const Elf64_Ehdr *eh;

	memset(info, 0, sizeof(*info));
	if (size >= 2 && !memcmp(p, "#!", 2))
		return check_script(&im, info);
	if (size < EI_NIDENT || memcmp(p, ELFMAG, SELFMAG))
		return no(info, "it is no ELF program");
	info->marked = !memcmp(im.p + MARK_OFFSET, MARK, MARK_LEN);
	if (im.p[EI_CLASS] != ELFCLASS64)
		return no(info, "it is a 32-bit program");
	eh = at(&im, 0, sizeof(*eh));
	if (!eh || im.p[EI_DATA] != ELFDATA2LSB)
		return no(info, "its ELF header is damaged");
	if (eh->e_machine != EM_X86_64)
		return no(info, "it is a program for another machine than x86-64");
	if (eh->e_type == ET_EXEC)
		return no(info, "it is not position-independent; build it with -fPIE -pie "
				"(Go: -buildmode=pie)");
	if (eh->e_type != ET_DYN)
		return no(info, "it is no program but an object file or a core dump");
	look_for_sanitizers(&im, eh, info);
	info->verdict = ELF_YES;
	return ELF_YES;
}

static enum elf_verdict error(struct elf_info *info, int err)
{
	memset(info, 0, sizeof(*info));
	snprintf(info->why, sizeof(info->why), "%s", strerror(err));
	info->verdict = ELF_ERROR;
	return ELF_ERROR;
}

static enum elf_verdict check_contents(int fd, size_t size, struct elf_info *info)
{
	void *p;

	if (!size)
		return elf_check_image("", 0, info);
	p = mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return error(info, errno);
	elf_check_image(p, size, info);
	munmap(p, size);
	return info->verdict;
}

enum elf_verdict elf_check_file(const char *path, struct elf_info *info)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		error(info, errno);
		if (fd >= 0)
			close(fd);
		return info->verdict;
	}
	if (!S_ISREG(st.st_mode)) {
		close(fd);
		return error(info, S_ISDIR(st.st_mode) ? EISDIR : EINVAL);
	}
	check_contents(fd, st.st_size, info);
	/* The kernel ignores these on scripts. */
	if (info->verdict == ELF_YES && !info->script) {
		if (st.st_mode & S_ISUID)
			no(info, "it is set-user-id, and would lend its rights to its peers");
		else if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
			no(info, "it is set-group-id, and would lend its rights to its peers");
		else if (fgetxattr(fd, "security.capability", NULL, 0) > 0)
			no(info, "it has file capabilities, and would lend them to its peers");
	}
	close(fd);
	return info->verdict;
}
