# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# Programs of tests/guest that are not built like the rest.

GB_		:= $(B)/tests/guest
# Not in those that have no library.
GUEST_LAZY	:= $(B)/obj/tests/guest/common-lazy.c.o
GUEST_COMMON	:= $(filter-out $(GUEST_LAZY),$(call common,tests/guest))

test-programs: $(GB_)/static-placement $(GB_)/tiny $(GB_)/tiny-fixed

# The tests of memory use the kernel's interface alone, so that a fault of the
# library is not taken for one of the module.
GUEST_PLAIN	:= place placement elf-segments probes refusals services sharing pkeys no-pkeys hooks \
		   ordinary health bench-ordinary consent limits holes

$(GUEST_PLAIN:%=$(GB_)/%): $(GB_)/%: $(B)/obj/tests/guest/%.c.o $(GUEST_COMMON)
	@mkdir -p $(@D)
	$(LINK) -o $@ $(filter %.o,$^) $(LDLIBS)

# These start many short processes, which goes faster so.
GUEST_STATIC	:= stress-tlb stress-kill stress-storm

$(GUEST_STATIC:%=$(GB_)/%): $(GB_)/%: $(B)/obj/tests/guest/%.c.o $(GUEST_COMMON)
	@mkdir -p $(@D)
	$(LINK_STATIC) -o $@ $(filter %.o,$^) $(LDLIBS)

# The same, with the library; or with what it does not export.
GUEST_STATIC_LIB := stress-kill-sender stress-kill-receiver call-messages call-deadline \
		   stress-restart stress-recovery call-gone \
		   call-recovery call-arguments bench-teardown stress-file

$(GUEST_STATIC_LIB:%=$(GB_)/%): $(GB_)/%: $(B)/obj/tests/guest/%.c.o \
		$(call common,tests/guest) $(LIB_A_DEP)
	@mkdir -p $(@D)
	$(LINK_STATIC) -o $@ $(filter %.o,$^) $(LIB_A_DEP) $(LDLIBS)

$(B)/obj/tests/guest/static-placement.c.o: tests/guest/placement.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(PIE) -DSTATIC_PIE -Itests/guest -c -o $@ $<

$(GB_)/static-placement: $(B)/obj/tests/guest/static-placement.c.o $(GUEST_COMMON)
	@mkdir -p $(@D)
	$(LINK_STATIC) -o $@ $(filter %.o,$^) $(LDLIBS)

$(GB_)/tiny: tests/guest/tiny.S
	@mkdir -p $(@D)
	$(CC) -nostdlib -static-pie -o $@ $<

$(GB_)/tiny-fixed: tests/guest/tiny.S
	@mkdir -p $(@D)
	$(CC) -nostdlib -static -no-pie -o $@ $<

$(GB_)/call-uring: private LDLIBS += $(URING)

# Of several files, in a directory of its own.
FUZZ_OBJ	:= $(patsubst %,$(B)/obj/%.o,$(wildcard tests/fuzz/*.c tests/fuzz/*.S))

test-programs: $(GB_)/stress-fuzz

$(GB_)/stress-fuzz: $(FUZZ_OBJ) $(GUEST_COMMON) $(LIB_A_DEP)
	@mkdir -p $(@D)
	$(LINK_STATIC) -o $@ $(filter %.o,$^) $(LIB_A_DEP) $(LDLIBS)
