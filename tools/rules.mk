# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The tool runs without the library, whose absence rpal doctor is to see; but both ask
# the same question about /dev/rpal.

$(B)/tools/rpal: $(B)/obj/lib/access.c.o
$(B)/tools/rpal: private LINK_LIB := $(shell pkg-config --libs jansson libkmod)

$(B)/obj/tools/doctor-library.c.o: private CPPFLAGS += -DRPAL_SONAME='"librpal.so.$(SOVERSION)"'
