// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The first program: calls the server's procedure. Start it with "rpal run". */
#include <stdio.h>
#include <string.h>
#include <rpal/rpal.h>

int main(int argc, char **argv)
{
	char *text = argc > 1 ? argv[1] : strdup("one process calls into another");
	int server, err;
	int64_t words;

	if (rpal_init(1, 0, NULL) < 0 ||
	    (server = rpal_connect("/tmp/rpal-hello.sock", 5000, NULL)) < 0) {
		fprintf(stderr, "hello_client: %s\n", rpal_last_error());
		return 1;
	}
	err = rpal_call(server, 1, text, strlen(text), &words);
	if (err) {
		fprintf(stderr, "hello_client: %s\n", rpal_last_error());
		return 1;
	}
	printf("service %d counts %lld words in '%s'\n", server, (long long)words, text);
	return 0;
}
