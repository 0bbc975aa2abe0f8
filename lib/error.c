// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* Sentences about failures. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

/* A constant sentence needs no formatting: refusals can be frequent. */
static TLS const char *sentence = "";
static TLS char buffer[400];

int rpal_fail(int ret, const char *text)
{
	sentence = text;
	return ret;
}

int rpal_failf(int ret, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buffer, sizeof(buffer), fmt, ap);
	va_end(ap);
	sentence = buffer;
	return ret;
}

EXPORT const char *rpal_last_error(void)
{
	return sentence;
}

static const char *code_text(int code)
{
	switch (code) {
	case RPAL_ERR_NONE:
		return "success";
	case RPAL_ERR_BAD_ARG:
		return "the kernel module did not accept an argument";
	case RPAL_ERR_NO_SERVICE:
		return "there is no such service";
	case RPAL_ERR_MAPPED:
		return "the service is linked already";
	case RPAL_ERR_RETRY:
		return "try again";
	case RPAL_ERR_BAD_SERVICE_STATUS:
		return "the service is not in a state that allows this";
	case RPAL_ERR_BAD_THREAD_STATUS:
		return "the thread is not in a state that allows this";
	case RPAL_ERR_REACH_LIMIT:
		return "a limit is reached; 'rpal status' shows the limits";
	case RPAL_ERR_NOMEM:
		return "out of memory";
	case RPAL_ERR_NOMAPPING:
		return "there is no such mapping";
	case RPAL_ERR_INVAL:
		return "the kernel module does not know this value";
	case RPAL_ERR_RPALFILE_OPS:
		return "cannot use " RPAL_DEVICE "; rpal_last_error() says why, and "
		       "'rpal doctor' what to do";
	case RPAL_ERR_RPAL_DISABLED:
		return "this process was not placed at its start; use 'rpal run', "
		       "'rpal mark', or link with rpal-placed";
	case RPAL_ERR_GET_CAP_VERSION:
		return "the rpal module and librpal do not fit together; "
		       "install both from one release";
	case RPAL_KERNEL_API_NOTSUPPORT:
		return "the rpal module does not offer this";
	case RPAL_HARDWARE_NOTSUPPORT:
		return "this machine lacks protection keys or FSGSBASE; 'rpal doctor' says which";
	case RPAL_ERR_SERVICE_KEY:
		return "the service key cannot be had";
	case RPAL_ERR_SENDERS_METADATA:
		return "the table of senders cannot be made";
	case RPAL_ERR_ENABLE_SERVICE:
		return "this process cannot become a service now";
	case RPAL_ERR_SENDER_PAGES:
		return "the thread area cannot be mapped";
	case RPAL_DONT_INITED:
		return "call rpal_init() first";
	case RPAL_ERR_SENDER_INIT:
		return "this thread cannot be a sender";
	case RPAL_ERR_SENDER_REG:
		return "the kernel refuses to register this thread";
	case RPAL_INVALID_ARG:
		return "an argument is out of its range";
	case RPAL_CACHE_FULL:
		return "a queue is full";
	case RPAL_FDE_OUTDATED:
		return "the file descriptor was closed and used again";
	case RPAL_QUEUE_PUT_FAILED:
		return "nothing could be put into the queue";
	case RPAL_ERR_PEER_MEM:
		return "the peer's memory has gone";
	case RPAL_ERR_NOTIFY_RECVER:
		return "the receiver cannot be woken";
	case RPAL_INVAL_THREAD:
		return "the calling thread is not registered for this";
	case RPAL_INVAL_SERVICE:
		return "no service has this id";
	}
	return NULL;
}

static const char *errno_text(int err)
{
	switch (err) {
	case EPERM:
		return "not permitted; was this process forked from the service?";
	case ENOENT:
		return "there is no such service or procedure";
	case ESRCH:
		return "no service of this id was asked for";
	case EINTR:
		return "a signal came; try again";
	case ENXIO:
		return "call rpal_init() first";
	case EAGAIN:
		return "all receivers are busy; try again";
	case ENOMEM:
		return "out of memory";
	case EACCES:
		return "permission denied";
	case EFAULT:
		return "the peer cannot reach this memory";
	case EBUSY:
		return "this thread is in a call already";
	case EEXIST:
		return "exists already";
	case EINVAL:
		return "an argument is out of its range";
	case ENOSPC:
		return "too many threads are registered; 'rpal status' shows the limits";
	case EDQUOT:
		return "this user has as much of it as one may have; the module parameters "
		       "user_* are the limits";
	case EPIPE:
		return "the peer has ended";
	case ELOOP:
		return "calls are nested too deeply";
	case EPROTO:
		return "the other side does not keep to the protocol";
	case ENOTUNIQ:
		return "both services have the same protection key; start them with "
		       "'rpal run --group NAME' and one name";
	case EOPNOTSUPP:
		return "not supported here";
	case EADDRINUSE:
		return "something else is there already";
	case ENOTCONN:
		return "the peer has not asked for this process yet";
	case ETIMEDOUT:
		return "the time is over";
	case ECONNREFUSED:
		return "nobody serves there";
	case ECONNABORTED:
		return "the peer went away in the middle";
	case EALREADY:
		return "this service was asked for before";
	case EREMOTEIO:
		return "the peer has refused";
	}
	return NULL;
}

EXPORT const char *rpal_strerror(int code)
{
	const char *text = code < 0 ? errno_text(-code) : code_text(code);

	return text ? text : "unknown error";
}
