# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The link-time way of placement works in static programs, too.

test-programs: $(B)/tests/guest/static-placed

$(B)/obj/tests/guest/static-placed.c.o: tests/guest/placed-link.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(PIE) -Itests/guest -c -o $@ $<

$(B)/tests/guest/static-placed: $(LIB)/rpal-placed.o
