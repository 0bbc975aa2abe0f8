// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * Where mappings of placed processes go: the module's decision, without the module.
 */
#include <check.h>
#include <stdbool.h>
#include <stdlib.h>

#include "../../kmod/where.h"

#define SLOT 5UL
#define BASE (SLOT << RPAL_SLOT_SHIFT)
#define END  (BASE + RPAL_SLOT_SIZE)
#define PAGE 4096UL

static struct rpal_mapping fixed(unsigned long addr, unsigned long len)
{
	return (struct rpal_mapping){ .base = BASE, .addr = addr, .len = len, .fixed = true };
}

static struct rpal_mapping hint(unsigned long addr, unsigned long len)
{
	struct rpal_mapping m = fixed(addr, len);

	m.fixed = false;
	return m;
}

static enum rpal_where where(struct rpal_mapping m)
{
	return rpal_where(&m);
}

START_TEST(in_the_slot)
{
	ck_assert_int_eq(where(fixed(BASE, PAGE)), RPAL_KEEP);
	ck_assert_int_eq(where(fixed(END - PAGE, PAGE)), RPAL_KEEP);
	ck_assert_int_eq(where(fixed(BASE, RPAL_SLOT_SIZE)), RPAL_KEEP);
	ck_assert_int_eq(where(hint(BASE + PAGE, PAGE)), RPAL_KEEP);
}
END_TEST

START_TEST(out_of_the_slot)
{
	ck_assert_int_eq(where(fixed(BASE - PAGE, PAGE)), RPAL_REFUSE);
	ck_assert_int_eq(where(fixed(BASE - PAGE, 2 * PAGE)), RPAL_REFUSE);
	ck_assert_int_eq(where(fixed(END - PAGE, 2 * PAGE)), RPAL_REFUSE);
	ck_assert_int_eq(where(fixed(END, PAGE)), RPAL_REFUSE);
	ck_assert_int_eq(where(fixed(BASE, RPAL_SLOT_SIZE + 1)), RPAL_REFUSE);
	ck_assert_int_eq(where(fixed(~0UL - PAGE + 1, PAGE)), RPAL_REFUSE);
	ck_assert_int_eq(where(fixed(BASE, ~0UL)), RPAL_REFUSE);
	/* A hint is none. */
	ck_assert_int_eq(where(hint(END, PAGE)), RPAL_SEARCH);
	ck_assert_int_eq(where(hint(PAGE, PAGE)), RPAL_SEARCH);
	ck_assert_int_eq(where(hint(END - PAGE, 2 * PAGE)), RPAL_SEARCH);
	ck_assert_int_eq(where(hint(0, RPAL_SLOT_SIZE + 1)), RPAL_REFUSE);
}
END_TEST

START_TEST(below_the_first_slot)
{
	struct rpal_mapping m = hint(0, PAGE);

	ck_assert_int_eq(where(fixed(PAGE, PAGE)), RPAL_LOW);
	ck_assert_int_eq(where(fixed(RPAL_LOW_END - PAGE, PAGE)), RPAL_LOW);
	ck_assert_int_eq(where(fixed(RPAL_LOW_END - PAGE, 2 * PAGE)), RPAL_REFUSE);
	m.low = true;
	ck_assert_int_eq(where(m), RPAL_SEARCH_LOW);
	m.addr = END;
	ck_assert_int_eq(where(m), RPAL_SEARCH_LOW);
	/* The kernel does not heed it with a fixed address. */
	m.fixed = true;
	ck_assert_int_eq(where(m), RPAL_REFUSE);
	m.addr = BASE;
	ck_assert_int_eq(where(m), RPAL_KEEP);
	m.addr = PAGE;
	ck_assert_int_eq(where(m), RPAL_LOW);
	m.compat = true;
	ck_assert_int_eq(where(m), RPAL_REFUSE);
}
END_TEST

START_TEST(exec)
{
	struct rpal_mapping m = fixed(0x555555554000, PAGE);

	m.exec = true;
	/* Memory without bytes in the file: only asked for, so never moved. */
	ck_assert_int_eq(where(m), RPAL_REFUSE);
	m.addr = BASE - 300 * RPAL_GIB;
	ck_assert_int_eq(where(m), RPAL_REFUSE);
	m.addr = 0x10000;
	ck_assert_int_eq(where(m), RPAL_REFUSE);
	m.addr = 0;
	ck_assert_int_eq(where(m), RPAL_LOW);
	m.addr = BASE + RPAL_GIB;
	ck_assert_int_eq(where(m), RPAL_KEEP);

	m.program = true;
	ck_assert_int_eq(where(m), RPAL_MOVE);
	m.addr = 0x555555554000;
	ck_assert_int_eq(where(m), RPAL_MOVE);
	m.len = 500 * RPAL_GIB;
	ck_assert_int_eq(where(m), RPAL_REFUSE);
	/* A static-pie: the kernel asks for any place. */
	m = hint(0, PAGE);
	m.exec = true;
	m.program = true;
	ck_assert_int_eq(where(m), RPAL_SEARCH);
}
END_TEST

START_TEST(growth)
{
	unsigned long top = BASE + 400 * RPAL_GIB;

	ck_assert(rpal_may_grow(BASE, top, top - PAGE));
	ck_assert(rpal_may_grow(BASE, top, BASE));
	ck_assert(!rpal_may_grow(BASE, top, BASE - 1));
	ck_assert(rpal_may_grow(BASE, END, BASE));
	ck_assert(rpal_may_grow(BASE, BASE + PAGE, BASE));
	ck_assert(!rpal_may_grow(BASE, BASE + PAGE, BASE - 8));
	/* Below the first slot there is nothing that it could meet. */
	ck_assert(rpal_may_grow(BASE, RPAL_LOW_END, PAGE));
	ck_assert(!rpal_may_grow(BASE, RPAL_LOW_END + PAGE, PAGE));
	/* The stack that exec begins with: not before it is in the slot. */
	ck_assert(!rpal_may_grow(BASE, 0x7ffffffff000, 0x7fffffffd000));
	ck_assert(!rpal_may_grow(BASE, 0x7ffffffff000, BASE));
	ck_assert(!rpal_may_grow(254UL << RPAL_SLOT_SHIFT, 0x7ffffffff000,
				 (254UL << RPAL_SLOT_SHIFT) + PAGE));
	ck_assert(!rpal_may_grow(BASE, top, top));
}
END_TEST

static unsigned long some_address(void)
{
	unsigned long around[] = { 0, BASE, END, RPAL_LOW_END, 0x7fffffffffff, ~0UL, random() };

	return around[random() % 7] + (random() % 5 - 2) * PAGE +
	       (random() % 3 ? 0 : (unsigned long)random() << 12);
}

/* What is kept or moved is in the slot, what is low is low, whatever was asked for. */
START_TEST(anything)
{
	int i;

	for (i = 0; i < 1000000; i++) {
		struct rpal_mapping m = fixed(some_address(), some_address());
		unsigned long at = m.addr;

		m.fixed = random() & 1;
		m.low = !(random() % 8);
		m.compat = !(random() % 8);
		m.exec = random() & 1;
		m.program = m.exec && random() & 1;
		switch (where(m)) {
		case RPAL_MOVE:
			at = rpal_program_place(BASE, m.addr);
			ck_assert(m.program && m.fixed);
			/* fall through */
		case RPAL_KEEP:
			ck_assert(at >= BASE && at < END && m.len <= END - at);
			break;
		case RPAL_LOW:
			ck_assert(m.fixed && m.addr + m.len <= RPAL_LOW_END &&
				  m.addr + m.len >= m.addr);
			break;
		case RPAL_SEARCH_LOW:
			ck_assert(m.low && !m.fixed);
			break;
		case RPAL_SEARCH:
			ck_assert(!m.fixed && m.len <= RPAL_SLOT_SIZE);
			break;
		case RPAL_REFUSE:
			break;
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("where");
	TCase *t = tcase_create("where");
	SRunner *r;
	int failed;

	tcase_add_test(t, in_the_slot);
	tcase_add_test(t, out_of_the_slot);
	tcase_add_test(t, below_the_first_slot);
	tcase_add_test(t, exec);
	tcase_add_test(t, growth);
	tcase_add_test(t, anything);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_NORMAL);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
