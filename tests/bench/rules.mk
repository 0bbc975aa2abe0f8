# SPDX-License-Identifier: LGPL-2.1-or-later OR MIT
#
# make bench-native: the library's own objects, three times in one program, each
# with variables of its own and with another /dev/rpal.

BENCH		:= $(B)/tests/bench/native
BENCH_OBJ_	:= $(B)/obj/tests/bench
JSON		:= $(shell pkg-config --libs jansson 2>/dev/null)

# copy.c goes into each copy, the rest is there once.
BENCH_OBJ	:= $(patsubst tests/bench/%.c,$(BENCH_OBJ_)/%.c.o, \
			$(filter-out tests/bench/copy.c tests/bench/placed.c,$(wildcard tests/bench/*.c)))
BENCH_COPIES	:= $(foreach n,1 2 3,$(BENCH_OBJ_)/copy-$(n).o)

# ioctl.S is what module.c replaces.
$(BENCH_OBJ_)/copy-%.o: $(filter-out %/ioctl.S.o,$(LIB_OBJ)) $(BENCH_OBJ_)/copy.c.o \
		tests/bench/rules.mk
	$(LD) -r -o $@.tmp $(filter %.o,$^)
	objcopy --keep-global-symbol=copy_$* --redefine-sym copy=copy_$* \
		--redefine-sym rpal_tr_ioctl=module_tr_ioctl \
		$(foreach f,open ioctl mmap munmap aligned_alloc calloc realloc free, \
			--redefine-sym $(f)=module_$(f)) $@.tmp $@
	rm $@.tmp

$(BENCH_OBJ_)/%.c.o: private CPPFLAGS_ += $(if $(URING),-DHAVE_URING)

$(BENCH): $(BENCH_OBJ) $(BENCH_COPIES)
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(JSON) $(URING) $(LDLIBS)

# The same with placed processes, for guests: the library as it is, and the module.
BENCH_PLACED	:= $(B)/tests/guest/bench-placed

$(BENCH_PLACED): $(filter-out %/peer.c.o %/module.c.o,$(BENCH_OBJ)) \
		$(BENCH_OBJ_)/placed.c.o $(BENCH_OBJ_)/copy.c.o $(LIB_A_DEP)
	@mkdir -p $(@D)
	$(LINK) -o $@ $^ $(JSON) $(URING) $(LDLIBS)

# So that they do not rot.
test-programs: $(if $(JSON),$(BENCH) $(BENCH_PLACED))

.PHONY: bench-native
bench-native: $(if $(JSON),$(BENCH))
	@$(if $(JSON),,echo 'as root: apt-get install libjansson-dev' >&2; exit 1)
	@mkdir -p $(B)/bench
	$(BENCH) $(B)/bench/native
	tests/bench/plot $(B)/bench/native
