# The tests that belong to no single room: the tree's rules and the live daemon. Unit, kernel and golden tests stand in
# the fragments of the rooms that they test.

tree_tests = \
	tests/tree/docs.t \
	tests/tree/fetch.t \
	tests/tree/includes.t \
	tests/tree/rooms.t \
	tests/tree/scripts.t \
	tests/tree/style.t \
	tests/tree/symbols.t \
	tests/tree/units.t

live_tests = \
	tests/live/harness.py \
	tests/live/acp_client.py \
	tests/live/answers.py \
	tests/live/bridge.py \
	tests/live/command.py \
	tests/live/corrupt.py \
	tests/live/crash.py \
	tests/live/editors.py \
	tests/live/export.py \
	tests/live/faults.py \
	tests/live/gateway.py \
	tests/live/gemma.py \
	tests/live/hostile.py \
	tests/live/long.py \
	tests/live/measured.py \
	tests/live/policies.py \
	tests/live/python_client.py \
	tests/live/python_package.py \
	tests/live/python_protocol.py \
	tests/live/schema.py \
	tests/live/service.py \
	tests/live/shell.py \
	tests/live/silent.py \
	tests/live/speculate.py \
	tests/live/supervised.py \
	tests/live/survive.py \
	tests/live/terminal.py \
	tests/live/top.py

# Those whose daemon is worth watching under valgrind.
valgrind_tests = tests/live/answers.py tests/live/hostile.py tests/live/service.py

TESTS += $(tree_tests) $(live_tests)
EXTRA_DIST += \
	$(tree_tests) \
	$(live_tests) \
	tests/README.md \
	tests/deb/packages.t \
	tests/deb/root.t \
	tests/environment.sh \
	tests/live/gateway_peer.py \
	tests/live/live.py \
	tests/live/notify.py \
	tests/live/requirements.txt \
	tests/live/screen.py \
	tests/live/schemas.py \
	tests/live/supervise.py \
	tests/tap \
	tests/tree/lib.sh

# For faults.py: makes one call of the store fail, by LD_PRELOAD.
check_LTLIBRARIES += tests/live/libfault.la
tests_live_libfault_la_SOURCES = tests/live/fault.c
tests_live_libfault_la_LDFLAGS = -module -avoid-version -shared -rpath /nowhere
tests_live_libfault_la_LIBADD = -ldl

# What they start must be there before they run.
$(live_tests:.py=.log) $(tree_tests:.t=.log): $(bin_PROGRAMS) $(sbin_PROGRAMS) $(lib_LTLIBRARIES) \
	$(check_PROGRAMS) $(check_LTLIBRARIES)

if !HAVE_CMOCKA
check_DATA += tests/cmocka-is-missing
tests/cmocka-is-missing:
	@echo 'make check: cmocka (libcmocka-dev) was not found by configure' >&2; exit 1
endif

# One group of tests.
check-unit check-kernels check-golden check-fuzz check-tree check-live:
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(filter tests/$(@:check-%=%)/%,$(TESTS))'
list-tests:
	@printf '%s\n' $(TESTS)

# For a build of --with-sanitizer: without the tree's rules, which look at a plain build, and with a tiny model where the
# real one would take minutes.
check-sanitizer:
	SINKD_SLOW=4 SINKD_MODEL=/dev/null SINKD_GEMMA= \
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(filter-out tests/tree/% tests/golden/%,$(TESTS))'

# Debian packages, built anew: what is in them; and, for root with a mirror at hand, that they install, run, and go.
check-deb check-deb-root: deb
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='tests/deb/$(if $(filter %-root,$@),root,packages).t'

# The daemon alone runs under valgrind; an error or a definite leak makes it end with 99, which the tests notice. Valgrind
# lets one thread run at a time: without fair scheduling a waiting worker keeps the working one from running.
valgrind_command = $(VALGRIND) -q --fair-sched=yes --error-exitcode=99 --num-callers=20 \
	--leak-check=full --errors-for-leak-kinds=definite --show-leak-kinds=definite
valgrind-live:
	@test -n '$(VALGRIND)' || { echo 'valgrind was not found by configure' >&2; exit 1; }
	SINKD_SLOW=20 SINKD_MODEL=/dev/null SINKD_GEMMA= SINKD_UNDER='$(valgrind_command)' \
	$(MAKE) $(AM_MAKEFLAGS) check TESTS='$(valgrind_tests)'
.PHONY: check-unit check-kernels check-golden check-fuzz check-tree check-live check-sanitizer check-deb check-deb-root \
	list-tests valgrind-live
