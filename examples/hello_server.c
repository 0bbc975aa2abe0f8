// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The first program: exports a procedure. Start it with "rpal run". */
#include <errno.h>
#include <stdio.h>
#include <rpal/rpal.h>

/* Runs on the client's CPU, and reads the client's memory: nothing is copied. */
static int64_t count_words(void *arg, size_t len, const struct rpal_caller *caller, void *ctx)
{
	const char *text = arg;
	int64_t words = 0;
	size_t i;

	(void)caller, (void)ctx;
	for (i = 0; i < len; i++)
		words += text[i] != ' ' && (i == 0 || text[i - 1] == ' ');
	return words;
}

static int failed(void)
{
	fprintf(stderr, "hello_server: %s\n", rpal_last_error());
	return 1;
}

int main(void)
{
	if (rpal_init(1, 0, NULL) < 0 || rpal_export(1, count_words, NULL))
		return failed();
	if (rpal_accept(rpal_listen("/tmp/rpal-hello.sock"), -1, NULL) < 0)
		return failed();
	while (rpal_serve(-1, -1) == -EINTR)
		;
	return 0;
}
