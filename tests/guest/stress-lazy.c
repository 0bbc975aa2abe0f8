// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/*
 * The lazy switch loses no register: usage: stress-lazy N
 *
 * One thread calls another one, whose procedures enter the kernel in all ways,
 * or spin until something interrupts them, with random values in all registers;
 * both threads get signals all the time.
 */
#include "common-lazy.h"

static int service;

static void *sender(void *unused)
{
	(void)unused;
	lazy_thread(false);
	lazy_timer();
	while (!lazy->stop)
		if (!lazy_call(service, lazy_pick(LAZY_ALL_OPS), lazy_grant(), false) &&
		    LAZY_ADD(lazy->calls) >= lazy->wanted)
			lazy->stop = 1;
	return NULL;
}

static int receiver_role(void)
{
	char name[40];
	pthread_t t;
	int fd;

	lazy_init(0, 1);
	lazy_start(&t, lazy_receiver, NULL);
	lazy_name(name, sizeof(name), "r", 0);
	fd = rpal_listen(name);
	MUST(fd >= 0);
	MUST(rpal_accept(fd, test_patience() * 1000, NULL) > 0);
	lazy_shoot();
	test_recv_u64(TEST_FD_DRIVER);
	return 0;
}

static int sender_role(void)
{
	char name[40];
	pthread_t t;

	lazy_init(1, 1);
	lazy_name(name, sizeof(name), "r", 0);
	service = lazy_connect(name, NULL);
	lazy_start(&t, sender, NULL);
	lazy_shoot();
	pthread_join(t, NULL);
	return 0;
}

static const struct test_role roles[] = { { "receiver", receiver_role },
					  { "sender", sender_role },
					  {} };

int main(int argc, char **argv)
{
	struct test_child receiver, sender;
	struct test_spawn s = { .group = "stress", .role = "receiver" };

	test_init(argc, argv, roles);
	lazy_driver(argc > 1 ? atol(argv[1]) : 1000, &s.shared);
	MUST(!test_spawn(&receiver, &s));
	s.role = "sender";
	MUST(!test_spawn(&sender, &s));
	lazy_watch(&sender, 1, NULL);
	if (!lazy_alive(&receiver))
		lazy_bad("the receiver has ended");
	lazy_need_ops(LAZY_ALL_OPS, 1000);
	lazy_need("receiver_handlers", lazy_handled(0), 1000);
	lazy_need("sender_handlers", lazy_handled(1), 1000);
	lazy_need("receiver_alternate", lazy->alternate[0], 1000);
	lazy_need("sender_alternate", lazy->alternate[1], 1000);
	lazy_need_switches(2000);
	return lazy_end("lazy");
}
