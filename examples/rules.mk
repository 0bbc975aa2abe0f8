# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT

$(B)/examples/echo_uring_server: private LDLIBS += $(URING)
