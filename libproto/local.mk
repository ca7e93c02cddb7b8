# The protocol: error codes, messages, and the client's library. The daemon takes the first two as they are.

proto_cppflags = $(AM_CPPFLAGS) -I$(srcdir)/libproto
proto_cflags = $(AM_CFLAGS) $(VISIBILITY_CFLAGS)

noinst_LTLIBRARIES += libproto/liberror.la libproto/libmsg.la
libproto_liberror_la_SOURCES = libproto/error.c libproto/error.h libproto/sink_code.h
libproto_liberror_la_CPPFLAGS = $(proto_cppflags)
libproto_liberror_la_CFLAGS = $(proto_cflags)

libproto_libmsg_la_SOURCES = \
	libproto/board.c \
	libproto/board.h \
	libproto/msg.c \
	libproto/msg.h \
	libproto/out.c \
	libproto/val.c
libproto_libmsg_la_CPPFLAGS = $(proto_cppflags) $(MSGPACK_CFLAGS)
libproto_libmsg_la_CFLAGS = $(proto_cflags)
libproto_libmsg_la_LIBADD = libproto/liberror.la $(MSGPACK_LIBS)

# -version-info current:revision:age: an added function raises current and age, a changed one current alone.
lib_LTLIBRARIES += libproto/libsink.la
libproto_libsink_la_SOURCES = $(sink_sources)
libproto_libsink_la_CPPFLAGS = $(proto_cppflags) $(JANSSON_CFLAGS) $(ZMQ_CFLAGS)
libproto_libsink_la_CFLAGS = $(proto_cflags)
libproto_libsink_la_LDFLAGS = $(AM_LDFLAGS) -version-info 3:0:3 -export-symbols-regex '^sink_'
libproto_libsink_la_LIBADD = libproto/libmsg.la $(JANSSON_LIBS) $(ZMQ_LIBS)
sink_sources = \
	libproto/args_json.c \
	libproto/board_map.c \
	libproto/call.c \
	libproto/call.h \
	libproto/cursor.c \
	libproto/cursor.h \
	libproto/endpoint.c \
	libproto/endpoint.h \
	libproto/json.c \
	libproto/link.c \
	libproto/link.h \
	libproto/reply.c \
	libproto/reply.h \
	libproto/sink.c \
	libproto/sink.h

include_HEADERS += libproto/sink.h libproto/sink_code.h
pkgconfig_DATA += libproto/sink.pc
dist_man_MANS += man/sink-protocol.7 man/libsink.3

EXTRA_DIST += \
	libproto/README.md \
	libproto/sink.pc.in \
	tests/fuzz/corpus-msg
CLEANFILES += libproto/sink.pc

libproto/sink.pc: $(srcdir)/libproto/sink.pc.in config.status
	$(AM_V_GEN)$(MKDIR_P) libproto && $(SED) \
		-e 's|@prefix[@]|$(prefix)|' -e 's|@exec_prefix[@]|$(exec_prefix)|' \
		-e 's|@libdir[@]|$(libdir)|' -e 's|@includedir[@]|$(includedir)|' \
		-e 's|@VERSION[@]|$(PACKAGE_VERSION)|' -e 's|@MSGPACK_LIBS[@]|$(MSGPACK_LIBS)|' $(srcdir)/libproto/sink.pc.in >$@

if HAVE_CMOCKA
proto_tests = \
	tests/unit/test_begin \
	tests/unit/test_board \
	tests/unit/test_error \
	tests/unit/test_link \
	tests/unit/test_msg \
	tests/unit/test_out \
	tests/unit/test_reply
check_PROGRAMS += $(proto_tests)
TESTS += $(proto_tests)

proto_test_cppflags = $(proto_cppflags) $(CMOCKA_CFLAGS)

tests_unit_test_error_SOURCES = tests/unit/test_error.c
tests_unit_test_error_CPPFLAGS = $(proto_test_cppflags)
tests_unit_test_error_LDADD = libproto/liberror.la $(CMOCKA_LIBS)

tests_unit_test_msg_SOURCES = tests/unit/test_msg.c
tests_unit_test_msg_CPPFLAGS = $(proto_test_cppflags)
tests_unit_test_msg_LDADD = libproto/libmsg.la $(CMOCKA_LIBS)

tests_unit_test_out_SOURCES = tests/unit/test_out.c
tests_unit_test_out_CPPFLAGS = $(proto_test_cppflags)
tests_unit_test_out_LDADD = libproto/libmsg.la $(CMOCKA_LIBS)

# The library as a program meets it; the daemon that they test against writes messages, which the library does not export.
fake_daemon = tests/unit/fake_daemon.c tests/unit/fake_daemon.h
fake_daemon_libs = libproto/libsink.la libproto/libmsg.la $(ZMQ_LIBS) $(CMOCKA_LIBS) -lpthread

tests_unit_test_begin_SOURCES = tests/unit/test_begin.c $(fake_daemon)
tests_unit_test_begin_CPPFLAGS = $(proto_test_cppflags) $(ZMQ_CFLAGS)
tests_unit_test_begin_LDADD = $(fake_daemon_libs)

tests_unit_test_board_SOURCES = tests/unit/test_board.c
tests_unit_test_board_CPPFLAGS = $(proto_test_cppflags)
tests_unit_test_board_LDADD = libproto/libmsg.la $(CMOCKA_LIBS) -lpthread

tests_unit_test_link_SOURCES = tests/unit/test_link.c $(fake_daemon)
tests_unit_test_link_CPPFLAGS = $(proto_test_cppflags) $(ZMQ_CFLAGS)
tests_unit_test_link_LDADD = $(fake_daemon_libs)

tests_unit_test_reply_SOURCES = tests/unit/test_reply.c $(fake_daemon)
tests_unit_test_reply_CPPFLAGS = $(proto_test_cppflags) $(ZMQ_CFLAGS)
tests_unit_test_reply_LDADD = $(fake_daemon_libs)
endif

# The fuzz target's function over its corpus, in every build; the fuzzer itself, with all that it watches, when asked for.
check_PROGRAMS += tests/fuzz/replay_msg
TESTS += tests/fuzz/replay_msg
tests_fuzz_replay_msg_SOURCES = tests/fuzz/fuzz_msg.c tests/fuzz/replay.c
tests_fuzz_replay_msg_CPPFLAGS = $(proto_cppflags) -DCORPUS='"tests/fuzz/corpus-msg"'
tests_fuzz_replay_msg_LDADD = libproto/libmsg.la

if FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_msg
tests_fuzz_fuzz_msg_SOURCES = tests/fuzz/fuzz_msg.c $(libproto_liberror_la_SOURCES) $(libproto_libmsg_la_SOURCES)
tests_fuzz_fuzz_msg_CPPFLAGS = $(proto_cppflags) $(MSGPACK_CFLAGS)
tests_fuzz_fuzz_msg_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_msg_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_msg_LDADD = $(MSGPACK_LIBS)
endif
