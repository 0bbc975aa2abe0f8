// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The first program: calls the server's procedure. Start it with "rpal run". */
#include <stdio.h>
#include <string.h>
#include <rpal/rpal.h>

static int failed(void)
{
	fprintf(stderr, "hello_client: %s\n", rpal_last_error());
	return 1;
}

int main(int argc, char **argv)
{
	char *text = strdup(argc > 1 ? argv[1] : "one process calls into another");
	int64_t words;
	int server;

	if (rpal_init(1, 0, NULL) < 0)
		return failed();
	server = rpal_connect("/tmp/rpal-hello.sock", 5000, NULL);
	if (server < 0)
		return failed();
	if (rpal_call(server, 1, text, strlen(text), &words))
		return failed();
	printf("the server counts %lld words in '%s'\n", (long long)words, text);
	return 0;
}
