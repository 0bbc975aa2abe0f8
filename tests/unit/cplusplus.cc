// SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
/* The header is one of C++, too, and each of its functions can be linked with. */
#include <rpal/rpal.h>

#include <cstdio>
#include <cstring>

struct function {
	const char *name;
	void (*address)();
};

#define F(name) { #name, reinterpret_cast<void (*)()>(name) }

/* tests/documented sees that none of the library's is missing here. */
static const function functions[] = {
	F(rpal_accept),
	F(rpal_call),
	F(rpal_call_flags),
	F(rpal_call_timeout),
	F(rpal_call_cancel),
	F(rpal_thread_number),
	F(rpal_clean_service_end),
	F(rpal_clean_service_next),
	F(rpal_clean_service_start),
	F(rpal_close),
	F(rpal_connect),
	F(rpal_copy_buffer),
	F(rpal_copy_finish),
	F(rpal_copy_prepare),
	F(rpal_epoll_ctl),
	F(rpal_epoll_pwait),
	F(rpal_epoll_pwait2),
	F(rpal_epoll_wait),
	F(rpal_epoll_wait_user),
	F(rpal_exchange),
	F(rpal_exit),
	F(rpal_export),
	F(rpal_get_peer_rid),
	F(rpal_get_request_service_id),
	F(rpal_get_service_id),
	F(rpal_get_service_key),
	F(rpal_init),
	F(rpal_is_enabled),
	F(rpal_is_enabled_fast),
	F(rpal_last_error),
	F(rpal_listen),
	F(rpal_offered),
	F(rpal_peer_is_service),
	F(rpal_read_access_safety),
	F(rpal_read_gone),
	F(rpal_read_ptrs),
	F(rpal_ready_fd),
	F(rpal_receiver_exit),
	F(rpal_receiver_init),
	F(rpal_recv_buffer),
	F(rpal_release_buffer),
	F(rpal_release_service),
	F(rpal_request_service),
	F(rpal_send_buffer),
	F(rpal_sender_exit),
	F(rpal_sender_init),
	F(rpal_serve),
	F(rpal_serve_stop),
	F(rpal_strerror),
	F(rpal_thread_exit),
	F(rpal_thread_init),
	F(rpal_uds_fdmap),
	F(rpal_uds_fdmap_timeout),
	F(rpal_wait),
	F(rpal_write_ptrs),
	F(rpal_write_ptrs_ex),
};

/* What is no function: structures and numbers, as a program would use them. */
static bool constants()
{
	rpal_buffer buffer = rpal_buffer();
	rpal_delivery_t how = RPAL_QUEUED;
	rpal_error_code_t error = RPAL_ERR_NONE;
	rpal_procedure_fn procedure = nullptr;
	access_fn access = nullptr;
	epoll_event event = epoll_event();

	event.events = EPOLLRPALIN | EPOLLRPALOUT;
	return !buffer.released && how != RPAL_DELIVERED && error == 0 && !procedure && !access &&
	       event.events == 0x60000U && !std::strcmp(rpal_last_error(), "");
}

int main()
{
	std::size_t n = 0;

	for (const function &f : functions)
		n += f.address != nullptr;
	std::printf("%zu functions\n", n);
	return n == sizeof(functions) / sizeof(functions[0]) && constants() ? 0 : 1;
}
