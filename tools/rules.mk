# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The tool runs without the library, whose absence rpal doctor is to see; but it asks
# the same question about /dev/rpal.

$(B)/tools/rpal: $(B)/obj/lib/access.c.o
$(B)/tools/rpal: private LINK_LIB :=
