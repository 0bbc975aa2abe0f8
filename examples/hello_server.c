// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The first program: exports a procedure. Start it with "rpal run". */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
#include <rpal/rpal.h>

#define SOCKET "/tmp/rpal-hello.sock"

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

/* A thread of its own waits for SIGTERM and Ctrl-C; a call that runs is finished first. */
static void *stop_at_signal(void *signals)
{
	int sig;

	sigwait(signals, &sig);
	rpal_serve_stop();
	return NULL;
}

static int failed(void)
{
	fprintf(stderr, "hello_server: %s\n", rpal_last_error());
	return 1;
}

int main(void)
{
	pthread_t thread;
	sigset_t signals;
	int listener, ret;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	pthread_sigmask(SIG_BLOCK, &signals, NULL);

	if (rpal_init(1, 0, NULL) < 0 || rpal_export(1, count_words, NULL))
		return failed();
	listener = rpal_listen(SOCKET);
	if (listener < 0)
		return failed();
	errno = pthread_create(&thread, NULL, stop_at_signal, &signals);
	if (errno) {
		perror("hello_server");
		return 1;
	}
	do { /* serve those that are linked, until another one wants to be */
		ret = rpal_serve(listener, -1);
		if (ret == RPAL_SERVE_EVENT && rpal_accept(listener, 1000, NULL) < 0)
			failed();
	} while (ret == RPAL_SERVE_EVENT || ret == -EINTR);
	unlink(SOCKET);
	return ret == RPAL_SERVE_STOPPED ? 0 : failed();
}
