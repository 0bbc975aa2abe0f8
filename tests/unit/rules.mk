# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# The header in C++: linked with the shared library, whose symbols it is about.

test-programs: $(B)/tests/unit/cplusplus

$(B)/tests/unit/cplusplus: tests/unit/cplusplus.cc lib/include/rpal/rpal.h $(LIB_DEP)
	@mkdir -p $(@D)
	$(CXX) -std=c++11 -O2 -g -Wall -Wextra -Werror -pedantic -Ilib/include -pie -fPIE \
		-o $@ $< $(LINK_LIB)
