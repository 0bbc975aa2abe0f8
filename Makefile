# SPDX-License-Identifier: GPL-2.0-only
#
# make help says what there is. Everything is built below build/, so that the
# module can be built for several kernels side by side.

VERSION		:= 0.1.0
SOVERSION	:= 0
# The kernels that the module is tested on: dkms skips others, rpal doctor says so.
KERNEL_LINES	:= 6.1 6.12

KVER		?= $(shell uname -r)
KDIR		?= $(firstword $(wildcard /lib/modules/$(KVER)/build \
			/usr/src/linux-headers-$(KVER)) /lib/modules/$(KVER)/build)

PREFIX		?= /usr/local
DESTDIR		?=
BINDIR		?= $(PREFIX)/bin
LIBDIR		?= $(PREFIX)/lib
INCLUDEDIR	?= $(PREFIX)/include
MANDIR		?= $(PREFIX)/share/man
# Of a package or of the administrator: the system looks in both places.
SYSTEMDIR	:= $(if $(filter /usr,$(PREFIX)),/usr/lib,/etc)
UDEVDIR		?= $(SYSTEMDIR)/udev/rules.d
SYSUSERSDIR	?= $(SYSTEMDIR)/sysusers.d
MODULESLOADDIR	?= $(SYSTEMDIR)/modules-load.d
BASHCOMPDIR	?= $(PREFIX)/share/bash-completion/completions
ZSHCOMPDIR	?= $(PREFIX)/share/zsh/$(if $(filter /usr,$(PREFIX)),vendor-completions,site-functions)
DKMSDIR		?= /usr/src/rpal-$(VERSION)

B		:= build
LIB		:= $(B)/lib

CFLAGS		?= -O2 -g
WARN		:= -Wall -Wextra -Werror
CPPFLAGS_	= -D_GNU_SOURCE -Iinclude/uapi -Ilib/include $(CPPFLAGS)
CFLAGS_		= $(CFLAGS) $(WARN) -pthread -MMD -MP
# Everything but the library is an ordinary position-independent program.
PIE		:= -fPIE
LINK		= $(CC) $(CFLAGS) -pthread -pie $(LDFLAGS)
LINK_STATIC	= $(CC) $(CFLAGS) -pthread -static-pie $(LDFLAGS)

.DELETE_ON_ERROR:
.SUFFIXES:
# Objects are worth keeping although only pattern rules name them.
.SECONDARY:

# What is missing is said in one line before anything is compiled.
.PHONY: all
all:
	@CC='$(CC)' tools/install/requirements build
	+@$(MAKE) --no-print-directory programs

.PHONY: help
help:
	@echo 'all               library, tool and examples'
	@echo 'module            the module for KVER (or KDIR), in $(B)/kmod-KVER/kmod/'
	@echo 'test-programs     the programs of the tests'
	@echo 'demo              two processes call each other in an emulated machine'
	@echo 'check             each test once, on emulated machines with Debian kernels (root)'
	@echo 'check-all         all tests in all boots, longer loops, bare machines, packages, a'
	@echo '                  real Debian: hours, for a release (root); PART=name'
	@echo 'check-debug       the same programs once on a kernel with KASAN and lockdep'
	@echo 'matrix            a few programs on all kernels, booted in all ways; KERNEL='
	@echo 'kselftests        what Linux tests of itself is the same with the module; KERNEL='
	@echo 'stress            long loops; STRESS=name KERNEL=6.12|debug|... N=count'
	@echo 'bench             both of these: tables, and JSON and plots in $(B)/bench/'
	@echo 'bench-native      the fast paths on this CPU, without the module'
	@echo 'bench-vm          with the module, in emulated machines: the same, what ordinary'
	@echo '                  processes pay, how cost grows; KERNEL='
	@echo 'style             checkpatch, sparse, shellcheck, manual pages, clang-format'
	@echo 'format            let clang-format put all but the module in order'
	@echo 'install           all of it, and the module for every kernel through dkms (root);'
	@echo '                  with DESTDIR the files only; PREFIX=$(PREFIX)'
	@echo 'uninstall         undoes that'
	@echo 'modules_install   the module alone, for KVER'
	@echo 'dkms-install      the module alone, through dkms for every kernel with headers'
	@echo 'dkms-uninstall    undoes that'
	@echo 'deb               Debian packages, in $(B)/deb/'
	@echo 'clean, help'

# --- library

# What a program links to be placed at exec is an object of its own, not part
# of the library: nobody gets it without asking.
PLACED_SRC	:= $(wildcard lib/rpal-placed.[cS])
LIB_SRC		:= $(filter-out $(PLACED_SRC),$(wildcard lib/*.c lib/*.S))
LIB_OBJ		:= $(patsubst lib/%,$(B)/obj/lib/%.o,$(LIB_SRC))
LIB_MAP		:= $(wildcard lib/librpal.map)
LIB_SO		:= $(LIB)/librpal.so.$(VERSION)
PLACED_OBJ	:= $(if $(PLACED_SRC),$(LIB)/rpal-placed.o)
PC		:= $(patsubst lib/%.pc.in,$(LIB)/%.pc,$(wildcard lib/*.pc.in))

.PHONY: lib
ifneq ($(LIB_SRC),)
lib: $(LIB)/librpal.so $(LIB)/librpal.a $(PLACED_OBJ) $(PC)
LIB_DEP		:= $(LIB)/librpal.so
LIB_A_DEP	:= $(LIB)/librpal.a
LINK_LIB	:= -L$(LIB) -lrpal
endif

# What a call passes on is written in one way and read in another at once: two words
# that the compiler stores as one vector are not there yet for who loads one of them.
LIB_CFLAGS	:= -fPIC -fvisibility=hidden -fno-tree-slp-vectorize

$(B)/obj/lib/%.c.o: lib/%.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(LIB_CFLAGS) -DRPAL_BUILDING_LIBRARY \
		-DRPAL_LIB_VERSION='"$(VERSION)"' -c -o $@ $<

$(B)/obj/lib/%.S.o: lib/%.S
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) -fPIC -c -o $@ $<

$(LIB)/rpal-placed.o: $(B)/obj/lib/$(notdir $(PLACED_SRC)).o
	@mkdir -p $(@D)
	cp $< $@

$(LIB_SO): $(LIB_OBJ) $(LIB_MAP)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -pthread -shared -Wl,-soname,librpal.so.$(SOVERSION) \
		$(LIB_MAP:%=-Wl,--version-script=%) -Wl,--no-undefined -Wl,-z,relro,-z,now \
		$(LDFLAGS) -o $@ $(LIB_OBJ)

$(LIB)/librpal.so: $(LIB_SO)
	ln -sf $(notdir $(LIB_SO)) $(LIB)/librpal.so.$(SOVERSION)
	ln -sf librpal.so.$(SOVERSION) $@

$(LIB)/librpal.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	rm -f $@
	$(AR) rcs $@ $^

# The directories may differ from one make install to the next.
$(LIB)/%.pc: lib/%.pc.in Makefile FORCE
	@mkdir -p $(@D)
	@sed -e 's|@VERSION@|$(VERSION)|g' -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@prefix@|$(PREFIX)|g' \
		-e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@libdir@|$(LIBDIR)|g' \
		-e 's|@INCLUDEDIR@|$(INCLUDEDIR)|g' -e 's|@includedir@|$(INCLUDEDIR)|g' $< >$@.tmp
	@cmp -s $@.tmp $@ && rm $@.tmp || mv $@.tmp $@

.PHONY: FORCE
FORCE:

# --- programs: the tool, examples, tests

# $(call progs,DIR): one program for each C file in DIR but common*.c, which go
# into every one of them.
progs		= $(patsubst $(1)/%.c,$(B)/$(1)/%,$(filter-out $(1)/common%.c,$(wildcard $(1)/*.c)))
common		= $(patsubst %.c,$(B)/obj/%.c.o,$(wildcard $(1)/common*.c))

TOOL_OBJ	:= $(patsubst %,$(B)/obj/%.o,$(wildcard tools/*.c tools/*.S))
TOOLS		:= $(if $(TOOL_OBJ),$(B)/tools/rpal)
# One of the examples and one of the tests want liburing.
URING		:= $(shell pkg-config --libs liburing 2>/dev/null)
EXAMPLES	:= $(filter-out $(if $(URING),,%uring_server),$(call progs,examples))
UNIT		:= $(call progs,tests/unit)
GUEST		:= $(filter-out $(if $(URING),,%/call-uring),$(call progs,tests/guest))

.PHONY: programs test-programs
programs: lib $(TOOLS) $(EXAMPLES)
test-programs: programs $(UNIT) $(GUEST)

$(B)/obj/tools/%.c.o: private CPPFLAGS_ += -DRPAL_LIB_VERSION='"$(VERSION)"' \
	-DRPAL_KERNEL_LINES='"$(KERNEL_LINES)"'

$(B)/obj/%.c.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(PIE) -I$(<D) -c -o $@ $<

$(B)/obj/%.S.o: %.S
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS_) $(CFLAGS_) $(PIE) -I$(<D) -c -o $@ $<

# A rule of the tree's own may add to LDLIBS of one program, or to its objects:
#	build/tests/guest/foo: build/lib/rpal-placed.o
-include $(wildcard lib/rules.mk tools/rules.mk examples/rules.mk tests/rules.mk \
	tests/unit/rules.mk tests/guest/rules.mk tests/bench/rules.mk)

$(B)/tools/rpal: $(TOOL_OBJ) $(LIB_DEP)
	@mkdir -p $(@D)
	$(LINK) -o $@ $(filter %.o,$^) $(LINK_LIB) $(LDLIBS)

$(B)/examples/%: $(B)/obj/examples/%.c.o $(call common,examples) $(LIB_DEP)
	@mkdir -p $(@D)
	$(LINK) -o $@ $(filter %.o,$^) $(LINK_LIB) $(LDLIBS)

# Check's flags name -pthread and -lsubunit; a unit test may use what the
# library hides, so it gets the archive.
$(B)/tests/unit/%: $(B)/obj/tests/unit/%.c.o $(call common,tests/unit) $(LIB_A_DEP)
	@mkdir -p $(@D)
	$(LINK) -o $@ $(filter %.o,$^) $(LIB_A_DEP) $(shell pkg-config --libs check) $(LDLIBS)

$(B)/tests/guest/static-%: $(B)/obj/tests/guest/static-%.c.o $(call common,tests/guest) $(LIB_A_DEP)
	@mkdir -p $(@D)
	$(LINK_STATIC) -o $@ $(filter %.o,$^) $(LIB_A_DEP) $(LDLIBS)

# placed-NAME.c is a program that asks for its slot at link time.
$(B)/tests/guest/placed-%: $(B)/obj/tests/guest/placed-%.c.o $(call common,tests/guest) $(PLACED_OBJ) $(LIB_DEP)
	@mkdir -p $(@D)
	$(LINK) -o $@ $(filter %.o,$^) $(LINK_LIB) $(LDLIBS)

$(B)/tests/guest/%: $(B)/obj/tests/guest/%.c.o $(call common,tests/guest) $(LIB_DEP)
	@mkdir -p $(@D)
	$(LINK) -o $@ $(filter %.o,$^) $(LINK_LIB) $(LDLIBS)

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

# --- module

# With a KDIR alone, its own release names the directory; with KVER alone, KDIR
# follows from it.
ifeq ($(origin KDIR),command line)
ifneq ($(origin KVER),command line)
# Debian's headers have the right name only in utsrelease.h.
KVER		:= $(shell sed -n 's/.*UTS_RELEASE "\(.*\)"/\1/p' \
			$(KDIR)/include/generated/utsrelease.h 2>/dev/null)
endif
endif

KB		:= $(B)/kmod-$(KVER)
KO		:= $(KB)/kmod/rpal.ko
KMAKE		= $(MAKE) -C $(KDIR) M=$(CURDIR)/$(KB)/kmod

# A copy of the sources for each kernel, with the times kept, so that the
# kernel's make sees what has changed; what is gone in the tree goes there, too
# (offsets.h and *.mod.c are made there).
.PHONY: module-source
module-source:
	@test -e kmod/Kbuild || { echo 'no kmod/Kbuild' >&2; exit 1; }
	@mkdir -p $(KB)/kmod $(KB)/include
	@cp -pr kmod include $(KB)/
	@cd $(KB) && find kmod include -type f \( -name '*.[chS]' ! -name '*.mod.c' ! -name offsets.h -o -name Kbuild \) | \
		while read -r f; do test -e "$(CURDIR)/$$f" || rm -f "$$f"; done

.PHONY: module
module: module-source
	@test -d $(KDIR) || { echo 'no kernel headers in $(KDIR)' >&2; exit 1; }
	+@$(KMAKE) modules

# For tests: a module that is in the way of ours.
.PHONY: test-module
test-module: module-source
	@mkdir -p $(KB)/test-module
	@cp -p tests/module/* $(KB)/test-module/
	+@$(MAKE) -C $(KDIR) M=$(CURDIR)/$(KB)/test-module modules

# Without a key there is nothing to sign with, and the attempt looks like a
# failure.
NO_SIGN		= $(if $(wildcard $(KDIR)/certs/signing_key.*),,CONFIG_MODULE_SIG_ALL=)

.PHONY: modules_install
modules_install: module
	$(KMAKE) modules_install $(NO_SIGN) $(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR))

# --- tests

.PHONY: check check-all check-debug
check:
	tests/vm/prepare
	tests/vm/check

check-all:
	tests/vm/prepare --roots
	tests/all $(PART)

check-debug:
	tests/vm/prepare
	tests/vm/check --all --kernel debug

.PHONY: matrix
matrix:
	tests/vm/prepare $(or $(KERNEL),$$(tests/matrix --list))
	tests/matrix $(if $(KERNEL),--kernel $(KERNEL))
	tests/matrix --table

.PHONY: kselftests
kselftests:
	tests/vm/prepare --kselftests
	tests/kselftests $(if $(KERNEL),--kernel $(KERNEL))

.PHONY: demo
demo:
	tests/vm/prepare --no-tests $(or $(KERNEL),6.12)
	tests/vm/run --no-tests --kernel $(or $(KERNEL),6.12) --timeout 900 -- demo

# One after the other: on a CPU that others use nothing can be timed. bench-native is
# in tests/bench/rules.mk.
.PHONY: bench
bench:
	@$(MAKE) --no-print-directory bench-native
	@$(MAKE) --no-print-directory bench-vm

.PHONY: bench-vm
bench-vm:
	@for k in $(or $(KERNEL),$$(tests/vm/kernel --list)); do tests/bench/vm $$k || exit; done

.PHONY: stress
stress:
	tests/stress $(if $(STRESS),--name $(STRESS)) $(if $(KERNEL),--kernel $(KERNEL)) $(if $(N),--count $(N))

.PHONY: style
style:
	tests/vm/style

.PHONY: format
format:
	tests/vm/style --fix

# --- installing

COMPLETION	:= $(wildcard tools/completion/rpal.bash tools/completion/_rpal)
MAN		:= $(wildcard docs/man/*.[1-9])
RULE		:= $(UDEVDIR)/99-rpal.rules

# Who packages RPAL wants files; who installs it wants it to work.
.PHONY: install
install:
ifeq ($(DESTDIR),)
	@CC='$(CC)' tools/install/requirements install
	+@$(MAKE) --no-print-directory install-files
	+@$(MAKE) --no-print-directory dkms-staged
	@tools/install/finish install $(RULE) $(LIBDIR) $(CURDIR)/$(B)/dkms $(VERSION)
else
	+@$(MAKE) --no-print-directory install-files
endif

.PHONY: install-files
install-files: lib $(TOOLS)
	install -d $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(BINDIR) \
		$(DESTDIR)$(INCLUDEDIR)/rpal $(DESTDIR)$(INCLUDEDIR)/linux \
		$(DESTDIR)$(UDEVDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(MODULESLOADDIR)
	install -m 0644 $(LIB_SO) $(DESTDIR)$(LIBDIR)/
	ln -sf $(notdir $(LIB_SO)) $(DESTDIR)$(LIBDIR)/librpal.so.$(SOVERSION)
	ln -sf librpal.so.$(SOVERSION) $(DESTDIR)$(LIBDIR)/librpal.so
	install -m 0644 $(LIB)/librpal.a $(PLACED_OBJ) $(DESTDIR)$(LIBDIR)/
	install -m 0644 $(PC) $(DESTDIR)$(LIBDIR)/pkgconfig/
	install -m 0644 lib/include/rpal/*.h $(DESTDIR)$(INCLUDEDIR)/rpal/
	install -m 0644 include/uapi/linux/rpal.h $(DESTDIR)$(INCLUDEDIR)/linux/
	install -m 0755 $(TOOLS) $(DESTDIR)$(BINDIR)/
	install -m 0644 udev/99-rpal.rules $(DESTDIR)$(RULE)
	install -m 0644 udev/rpal.sysusers $(DESTDIR)$(SYSUSERSDIR)/rpal.conf
	install -m 0644 udev/rpal.modules-load $(DESTDIR)$(MODULESLOADDIR)/rpal.conf
	$(if $(filter %.bash,$(COMPLETION)),install -D -m 0644 $(filter %.bash,$(COMPLETION)) \
		$(DESTDIR)$(BASHCOMPDIR)/rpal)
	$(if $(filter %/_rpal,$(COMPLETION)),install -D -m 0644 $(filter %/_rpal,$(COMPLETION)) \
		$(DESTDIR)$(ZSHCOMPDIR)/_rpal)
	@for p in $(MAN); do \
		install -D -m 0644 $$p $(DESTDIR)$(MANDIR)/man$${p##*.}/$${p##*/} || exit; done

.PHONY: uninstall
uninstall:
ifeq ($(DESTDIR),)
	@tools/install/requirements uninstall $(PREFIX)
	@tools/install/finish uninstall
	+@$(MAKE) --no-print-directory uninstall-files
	@tools/install/finish uninstalled
else
	+@$(MAKE) --no-print-directory uninstall-files
endif

# A library of an older version may be there, too.
.PHONY: uninstall-files
uninstall-files:
	rm -f $(DESTDIR)$(LIBDIR)/librpal.so $(DESTDIR)$(LIBDIR)/librpal.so.$(SOVERSION) \
		$(DESTDIR)$(LIBDIR)/librpal.so.$(SOVERSION).* $(DESTDIR)$(LIBDIR)/librpal.a \
		$(DESTDIR)$(LIBDIR)/rpal-placed.o \
		$(addprefix $(DESTDIR)$(LIBDIR)/pkgconfig/,$(notdir $(PC))) \
		$(DESTDIR)$(INCLUDEDIR)/linux/rpal.h $(DESTDIR)$(BINDIR)/rpal \
		$(DESTDIR)$(RULE) $(DESTDIR)$(SYSUSERSDIR)/rpal.conf \
		$(DESTDIR)$(MODULESLOADDIR)/rpal.conf $(DESTDIR)$(BASHCOMPDIR)/rpal \
		$(DESTDIR)$(ZSHCOMPDIR)/_rpal
	rm -rf $(DESTDIR)$(INCLUDEDIR)/rpal
	@for p in $(MAN); do \
		rm -f $(DESTDIR)$(MANDIR)/man$${p##*.}/$${p##*/}; done

# What dkms builds is the module and the header it shares with user space. dkms compares
# the version that the module says with its own.
KERNELS_RE	= $(subst $(space),|,$(subst .,[.],$(KERNEL_LINES)))
space		:= $(subst ,, )
.PHONY: dkms-source
dkms-source:
	@grep -q '^MODULE_VERSION("$(VERSION)")' kmod/main.c || \
		{ echo 'kmod/main.c has another version than the Makefile' >&2; exit 1; }
	rm -rf $(DESTDIR)$(DKMSDIR)
	install -d $(DESTDIR)$(DKMSDIR)
	cp -rL kmod include $(DESTDIR)$(DKMSDIR)/
	sed -e 's/@VERSION@/$(VERSION)/' -e 's/@KERNELS@/$(KERNELS_RE)/' \
		dkms.conf >$(DESTDIR)$(DKMSDIR)/dkms.conf

# The same beside the place where dkms looks, so that the two can be compared.
.PHONY: dkms-staged
dkms-staged:
	+@$(MAKE) -s dkms-source DESTDIR= DKMSDIR=$(B)/dkms

.PHONY: dkms-install
dkms-install:
	@tools/install/requirements install
	+@$(MAKE) --no-print-directory dkms-staged
	tools/install/module-build --source $(CURDIR)/$(B)/dkms $(VERSION)

.PHONY: dkms-uninstall
dkms-uninstall:
	@tools/install/requirements dkms-uninstall
	@tools/install/finish uninstall

# Built in a copy, so that the packages are of what is in the tree and nothing else.
DEB		:= $(B)/deb
.PHONY: deb
deb:
	@tools/install/requirements deb
	@test "$$(dpkg-parsechangelog -S Version)" = $(VERSION) || \
		{ echo 'debian/changelog has another version than the Makefile' >&2; exit 1; }
	rm -rf $(DEB)
	install -d $(DEB)/work/rpal
	tar -c --exclude=./$(B) --exclude=./.git . | tar -x -C $(DEB)/work/rpal
	cd $(DEB)/work/rpal && env -u MAKEFLAGS -u MAKELEVEL -u MFLAGS dpkg-buildpackage -b -us -uc
	find $(DEB)/work -maxdepth 1 -name '*.deb' ! -name '*-dbgsym_*' -exec cp {} $(DEB)/ ';'
	@ls $(DEB)/*.deb

.PHONY: clean
clean:
	rm -rf $(filter-out $(B)/cache,$(wildcard $(B)/*))

# For scripts, which have no other way to know.
.PHONY: version
version:
	@echo $(VERSION)
