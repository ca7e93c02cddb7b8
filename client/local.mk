# The command `sink`. All but main.c is a library, so that its tests can call it.

client_cppflags = $(AM_CPPFLAGS) -I$(srcdir)/client -I$(srcdir)/libproto $(LIBEDIT_CFLAGS)

noinst_LTLIBRARIES += client/libclient.la
client_libclient_la_SOURCES = \
	client/ask.c \
	client/buf.c \
	client/buf.h \
	client/bundle.c \
	client/change.c \
	client/chat.c \
	client/chat.h \
	client/edit.c \
	client/edit.h \
	client/fail.c \
	client/fail.h \
	client/follow.c \
	client/follow.h \
	client/format.c \
	client/format.h \
	client/grep.c \
	client/input.c \
	client/input.h \
	client/json.c \
	client/json.h \
	client/log.c \
	client/log.h \
	client/nearest.c \
	client/nearest.h \
	client/option.c \
	client/option.h \
	client/paths.c \
	client/paths.h \
	client/render.c \
	client/render.h \
	client/see.c \
	client/slash.c \
	client/spawn.c \
	client/spawn.h \
	client/start.c \
	client/start.h \
	client/target.c \
	client/target.h \
	client/term.c \
	client/term.h \
	client/verb.c \
	client/verb.h
client_libclient_la_CPPFLAGS = $(client_cppflags)
client_libclient_la_LIBTOOLFLAGS = --tag=disable-shared
client_libclient_la_LIBADD = libproto/libsink.la $(LIBEDIT_LIBS)

bin_PROGRAMS += client/sink
client_sink_SOURCES = client/main.c
client_sink_CPPFLAGS = $(client_cppflags)
client_sink_LDADD = client/libclient.la

dist_man_MANS += man/sink.1
EXTRA_DIST += client/README.md

if HAVE_CMOCKA
client_tests = tests/unit/test_client tests/unit/test_option
check_PROGRAMS += $(client_tests)
TESTS += $(client_tests)

client_test_cppflags = $(client_cppflags) $(CMOCKA_CFLAGS)

tests_unit_test_client_SOURCES = tests/unit/test_client.c
tests_unit_test_client_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_client_LDADD = client/libclient.la $(CMOCKA_LIBS)

tests_unit_test_option_SOURCES = tests/unit/test_option.c
tests_unit_test_option_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_option_LDADD = client/libclient.la $(CMOCKA_LIBS)
endif
