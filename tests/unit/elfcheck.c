// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* What the tool says about files: which can be placed, and why others not. */
#include <check.h>
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../tools/elfcheck.c"

static Elf64_Ehdr good(void)
{
	Elf64_Ehdr eh = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB,
			     EV_CURRENT },
		.e_type = ET_DYN,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_ehsize = sizeof(eh),
	};

	return eh;
}

static enum elf_verdict check(const Elf64_Ehdr *eh, struct elf_info *info)
{
	return elf_check_image(eh, sizeof(*eh), info);
}

START_TEST(program)
{
	Elf64_Ehdr eh = good();
	struct elf_info info;

	ck_assert_int_eq(check(&eh, &info), ELF_YES);
	ck_assert(!info.marked && !info.script);
	ck_assert_str_eq(info.why, "");
	ck_assert_str_eq(info.warning, "");
}
END_TEST

START_TEST(marked)
{
	Elf64_Ehdr eh = good();
	struct elf_info info;

	memcpy(eh.e_ident + MARK_OFFSET, MARK, MARK_LEN);
	ck_assert_int_eq(check(&eh, &info), ELF_YES);
	ck_assert(info.marked);
	eh.e_ident[MARK_OFFSET + 3]++;
	ck_assert_int_eq(check(&eh, &info), ELF_YES);
	ck_assert(!info.marked);
}
END_TEST

START_TEST(refused)
{
	struct elf_info info;
	Elf64_Ehdr eh;

	eh = good();
	eh.e_type = ET_EXEC;
	ck_assert_int_eq(check(&eh, &info), ELF_NO);
	ck_assert_ptr_nonnull(strstr(info.why, "-pie"));
	eh = good();
	eh.e_type = ET_REL;
	ck_assert_int_eq(check(&eh, &info), ELF_NO);
	eh = good();
	eh.e_machine = EM_AARCH64;
	ck_assert_int_eq(check(&eh, &info), ELF_NO);
	eh = good();
	eh.e_ident[EI_CLASS] = ELFCLASS32;
	ck_assert_int_eq(check(&eh, &info), ELF_NO);
	ck_assert_ptr_nonnull(strstr(info.why, "32-bit"));
	eh = good();
	eh.e_ident[EI_DATA] = ELFDATA2MSB;
	ck_assert_int_eq(check(&eh, &info), ELF_NO);
	eh = good();
	eh.e_ident[0] = 0;
	ck_assert_int_eq(check(&eh, &info), ELF_NO);
}
END_TEST

START_TEST(script)
{
	static const char text[] = "#! /bin/sh -e\necho\n";
	struct elf_info info;

	ck_assert_int_eq(elf_check_image(text, sizeof(text) - 1, &info), ELF_YES);
	ck_assert(info.script);
	ck_assert_str_eq(info.interpreter, "/bin/sh");
	ck_assert_int_eq(elf_check_image("#!", 2, &info), ELF_NO);
	ck_assert_int_eq(elf_check_image("#!\n", 3, &info), ELF_NO);
}
END_TEST

/* Any part of a header, and headers that point anywhere. */
START_TEST(damaged)
{
	unsigned char buf[4096];
	struct elf_info info;
	Elf64_Ehdr eh = good();
	size_t i, n;

	for (n = 0; n < sizeof(eh); n++) {
		/* Exactly so many bytes, so that a tool for it would see more. */
		void *part = malloc(n ? n : 1);

		memcpy(part, &eh, n);
		ck_assert_int_eq(elf_check_image(part, n, &info), ELF_NO);
		free(part);
	}
	srandom(1);
	for (i = 0; i < 20000; i++) {
		for (n = 0; n < sizeof(buf); n++)
			buf[n] = random();
		eh = good();
		eh.e_shoff = i % 3 ? random() % sizeof(buf) : (uint64_t)random() << 33;
		eh.e_shnum = random();
		eh.e_shentsize = sizeof(Elf64_Shdr);
		memcpy(buf, &eh, sizeof(eh));
		if (i % 2 && eh.e_shoff < sizeof(buf) - sizeof(Elf64_Shdr)) {
			Elf64_Shdr sh = {
				.sh_type = i % 5 ? SHT_DYNSYM : SHT_DYNAMIC,
				.sh_link = 0,
				.sh_offset = random() % (2 * sizeof(buf)),
				.sh_size = i % 7 ? random() % sizeof(buf) : ~0ULL,
			};

			memcpy(buf + eh.e_shoff, &sh, sizeof(sh));
		}
		elf_check_image(buf, sizeof(buf), &info);
	}
}
END_TEST

static void write_file(const char *path, const void *p, size_t n, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(write(fd, p, n), n);
	ck_assert_int_eq(fchmod(fd, mode), 0);
	close(fd);
}

START_TEST(files)
{
	char dir[] = "/tmp/elfcheck.XXXXXX", path[64];
	Elf64_Ehdr eh = good();
	struct elf_info info;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/f", dir);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_ERROR);
	write_file(path, &eh, sizeof(eh), 0755);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_YES);
	write_file(path, &eh, sizeof(eh), 04755);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_NO);
	ck_assert_ptr_nonnull(strstr(info.why, "set-user-id"));
	write_file(path, &eh, sizeof(eh), 02755);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_NO);
	/* Set-group-id without execution by the group means mandatory locks. */
	write_file(path, &eh, sizeof(eh), 02745);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_YES);
	write_file(path, "#!/bin/sh\n", 10, 04755);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_YES);
	write_file(path, "", 0, 0755);
	ck_assert_int_eq(elf_check_file(path, &info), ELF_NO);
	unlink(path);
	ck_assert_int_eq(elf_check_file(dir, &info), ELF_ERROR);
	rmdir(dir);
	ck_assert_int_eq(elf_check_file("/proc/self/exe", &info), ELF_YES);
}
END_TEST

int main(void)
{
	TCase *tc = tcase_create("elfcheck");
	Suite *s = suite_create("elfcheck");
	SRunner *sr;
	int failed;

	suite_add_tcase(s, tc);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, program);
	tcase_add_test(tc, marked);
	tcase_add_test(tc, refused);
	tcase_add_test(tc, script);
	tcase_add_test(tc, damaged);
	tcase_add_test(tc, files);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
