# The process `sinkd`. All but main.c is a library, so that its tests can call it.
#
# This room's headers are found by quoted includes alone: sched.h is also the name of one of the system's.

daemon_cppflags = $(AM_CPPFLAGS) -iquote $(srcdir)/daemon -iquote $(srcdir)/daemon/engine -iquote $(srcdir)/kernels \
	-iquote $(srcdir)/libproto

noinst_LTLIBRARIES += daemon/libdaemon.la
daemon_libdaemon_la_SOURCES = \
	daemon/answer.c \
	daemon/answer.h \
	daemon/batch.c \
	daemon/batch.h \
	daemon/check.c \
	daemon/check.h \
	daemon/conf.c \
	daemon/conf.h \
	daemon/conf_load.c \
	daemon/conf_table.h \
	daemon/constraint.c \
	daemon/constraint.h \
	daemon/conversation.c \
	daemon/conversation.h \
	daemon/core.c \
	daemon/core.h \
	daemon/encode.c \
	daemon/bundle.c \
	daemon/bundle.h \
	daemon/bundle_take.c \
	daemon/bundle_take.h \
	daemon/commit.c \
	daemon/commit.h \
	daemon/encode.h \
	daemon/event.c \
	daemon/event.h \
	daemon/fetch.c \
	daemon/fetch.h \
	daemon/keep.c \
	daemon/keep.h \
	daemon/listen.c \
	daemon/listen.h \
	daemon/log.c \
	daemon/log.h \
	daemon/measured.c \
	daemon/measured.h \
	daemon/notify.h \
	daemon/pace.c \
	daemon/pace.h \
	daemon/peer.c \
	daemon/peer.h \
	daemon/publish.c \
	daemon/publish.h \
	daemon/pulse.c \
	daemon/pulse.h \
	daemon/replies.c \
	daemon/replies.h \
	daemon/resume.c \
	daemon/resume.h \
	daemon/retention.c \
	daemon/retention.h \
	daemon/ring.c \
	daemon/ring.h \
	daemon/ring_check.c \
	daemon/sched.c \
	daemon/sched.h \
	daemon/schema.c \
	daemon/schema.h \
	daemon/schema_number.c \
	daemon/schema_parts.h \
	daemon/schema_shape.c \
	daemon/schema_text.c \
	daemon/schema_value.c \
	daemon/score.c \
	daemon/score.h \
	daemon/server.c \
	daemon/server.h \
	daemon/settings.c \
	daemon/settings.h \
	daemon/step.c \
	daemon/step.h \
	daemon/store.c \
	daemon/store.h \
	daemon/store_check.c \
	daemon/store_file.c \
	daemon/store_file.h \
	daemon/store_read.c \
	daemon/stream.c \
	daemon/stream.h \
	daemon/talk.c \
	daemon/talk.h \
	daemon/tier.c \
	daemon/tier.h \
	daemon/tier_back.c \
	daemon/tier_errand.h \
	daemon/tier_save.c \
	daemon/usual.c \
	daemon/usual.h \
	daemon/verb.c \
	daemon/verb.h \
	daemon/verb_again.c \
	daemon/verb_keep.c \
	daemon/verb_see.c \
	daemon/verb_table.h \
	daemon/verb_talk.c \
	daemon/verb_text.c \
	daemon/worker.c \
	daemon/worker.h
if SYSTEMD
daemon_libdaemon_la_SOURCES += daemon/notify.c
else
daemon_libdaemon_la_SOURCES += daemon/notify_socket.c
endif
EXTRA_DIST += daemon/notify.c daemon/notify_socket.c
daemon_libdaemon_la_CPPFLAGS = $(daemon_cppflags) $(ZMQ_CFLAGS) $(INIH_CFLAGS) $(SYSTEMD_CFLAGS) \
	$(SQLITE_CFLAGS) $(XXHASH_CFLAGS)
daemon_libdaemon_la_LIBADD = \
	daemon/engine/libengine.la \
	kernels/libkernels.la \
	libproto/libmsg.la \
	libproto/liberror.la \
	$(ZMQ_LIBS) $(MSGPACK_LIBS) $(INIH_LIBS) $(SQLITE_LIBS) $(SYSTEMD_LIBS) $(PCRE2_LIBS) $(XXHASH_LIBS) -lm -lpthread

bin_PROGRAMS += daemon/sinkd
daemon_sinkd_SOURCES = daemon/accept.c daemon/main.c
daemon_sinkd_CPPFLAGS = $(daemon_cppflags)
daemon_sinkd_LDADD = daemon/libdaemon.la

dist_man_MANS += man/sinkd.8 man/sinkd.conf.5
dist_doc_DATA += contrib/sinkd.conf
EXTRA_DIST += \
	daemon/README.md \
	contrib/sinkd.service \
	contrib/sinkd.socket \
	contrib/sinkd-user.service \
	contrib/sinkd-user.socket \
	contrib/sinkd.sysusers

# The units name /usr/bin; installed ones name where the program is. Other rooms add theirs.
units = sinkd
sysusersdir = $(prefix)/lib/sysusers.d
install_unit = $(SED) 's|/usr/bin/sinkd|$(bindir)/sinkd|g'

install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(unitdir)' '$(DESTDIR)$(userunitdir)' '$(DESTDIR)$(sysusersdir)'
	for unit in $(units); do for kind in service socket; do \
		$(install_unit) "$(srcdir)/contrib/$$unit.$$kind" >'$(DESTDIR)$(unitdir)'/"$$unit.$$kind" && \
		$(install_unit) "$(srcdir)/contrib/$$unit-user.$$kind" >'$(DESTDIR)$(userunitdir)'/"$$unit.$$kind" && \
		chmod 644 '$(DESTDIR)$(unitdir)'/"$$unit.$$kind" '$(DESTDIR)$(userunitdir)'/"$$unit.$$kind" || exit 1; \
	done; done
	$(INSTALL_DATA) '$(srcdir)/contrib/sinkd.sysusers' '$(DESTDIR)$(sysusersdir)/sinkd.conf'

uninstall-local:
	for unit in $(units); do for kind in service socket; do \
		rm -f '$(DESTDIR)$(unitdir)'/"$$unit.$$kind" '$(DESTDIR)$(userunitdir)'/"$$unit.$$kind"; \
	done; done
	rm -f '$(DESTDIR)$(sysusersdir)/sinkd.conf'

# What answers must be: the target over its corpus, and the fuzzer with all that it watches compiled into it.
check_PROGRAMS += tests/fuzz/replay_schema
TESTS += tests/fuzz/replay_schema
tests_fuzz_replay_schema_SOURCES = tests/fuzz/fuzz_schema.c tests/fuzz/replay.c $(make_gguf)
tests_fuzz_replay_schema_CPPFLAGS = $(daemon_cppflags) -I$(srcdir)/tests/unit -DCORPUS='"tests/fuzz/corpus-schema"'
tests_fuzz_replay_schema_LDADD = daemon/libdaemon.la -lm
EXTRA_DIST += tests/fuzz/corpus-schema

if FUZZ
check_PROGRAMS += tests/fuzz/fuzz_schema
tests_fuzz_fuzz_schema_SOURCES = \
	tests/fuzz/fuzz_schema.c \
	daemon/answer.c \
	daemon/constraint.c \
	daemon/schema.c \
	daemon/schema_number.c \
	daemon/schema_shape.c \
	daemon/schema_text.c \
	daemon/schema_value.c \
	daemon/settings.c \
	daemon/engine/charset.c \
	daemon/engine/grammar.c \
	daemon/engine/grammar_nodes.c \
	daemon/engine/guide.c \
	daemon/engine/guide_states.c \
	daemon/engine/regex.c \
	daemon/engine/sample.c \
	daemon/engine/trie.c \
	$(token_engine) $(make_gguf)
tests_fuzz_fuzz_schema_CPPFLAGS = $(daemon_cppflags) -I$(srcdir)/tests/unit $(PCRE2_CFLAGS) $(XXHASH_CFLAGS)
tests_fuzz_fuzz_schema_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_schema_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_schema_LDADD = kernels/libkernels.la libproto/libmsg.la libproto/liberror.la \
	$(MSGPACK_LIBS) $(PCRE2_LIBS) $(XXHASH_LIBS) -lm
endif

if HAVE_CMOCKA
daemon_tests = \
	tests/unit/test_answer \
	tests/unit/test_conf \
	tests/unit/test_conversation \
	tests/unit/test_measured \
	tests/unit/test_notify \
	tests/unit/test_publish \
	tests/unit/test_ring \
	tests/unit/test_sched \
	tests/unit/test_schema \
	tests/unit/test_settings \
	tests/unit/test_store \
	tests/unit/test_store_bad \
	tests/unit/test_stream
check_PROGRAMS += $(daemon_tests)
TESTS += $(daemon_tests)

daemon_test_cppflags = $(daemon_cppflags) $(CMOCKA_CFLAGS)
daemon_test_libs = daemon/libdaemon.la $(CMOCKA_LIBS)

tests_unit_test_answer_SOURCES = tests/unit/test_answer.c
tests_unit_test_answer_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_answer_LDADD = $(daemon_test_libs)

tests_unit_test_conf_SOURCES = tests/unit/test_conf.c
tests_unit_test_conf_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_conf_LDADD = $(daemon_test_libs)

tests_unit_test_conversation_SOURCES = tests/unit/test_conversation.c
tests_unit_test_conversation_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_conversation_LDADD = $(daemon_test_libs)

tests_unit_test_measured_SOURCES = tests/unit/test_measured.c
tests_unit_test_measured_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_measured_LDADD = $(daemon_test_libs)

tests_unit_test_notify_SOURCES = tests/unit/test_notify.c
tests_unit_test_notify_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_notify_LDADD = $(daemon_test_libs)

tests_unit_test_publish_SOURCES = tests/unit/test_publish.c
tests_unit_test_publish_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_publish_LDADD = $(daemon_test_libs)

tests_unit_test_ring_SOURCES = tests/unit/test_ring.c
tests_unit_test_ring_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_ring_LDADD = $(daemon_test_libs)

tests_unit_test_store_SOURCES = tests/unit/test_store.c tests/unit/storing.c tests/unit/storing.h
tests_unit_test_store_CPPFLAGS = $(daemon_test_cppflags) $(SQLITE_CFLAGS) -I$(srcdir)/tests/unit
tests_unit_test_store_LDADD = $(daemon_test_libs)

tests_unit_test_store_bad_SOURCES = tests/unit/test_store_bad.c tests/unit/storing.c tests/unit/storing.h
tests_unit_test_store_bad_CPPFLAGS = $(daemon_test_cppflags) $(SQLITE_CFLAGS) -I$(srcdir)/tests/unit
tests_unit_test_store_bad_LDADD = $(daemon_test_libs)

tests_unit_test_sched_SOURCES = tests/unit/test_sched.c
tests_unit_test_sched_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_sched_LDADD = $(daemon_test_libs)

tests_unit_test_schema_SOURCES = tests/unit/test_schema.c $(make_gguf)
tests_unit_test_schema_CPPFLAGS = $(daemon_test_cppflags) -I$(srcdir)/tests/unit
tests_unit_test_schema_LDADD = $(daemon_test_libs)

tests_unit_test_settings_SOURCES = tests/unit/test_settings.c
tests_unit_test_settings_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_settings_LDADD = $(daemon_test_libs)

tests_unit_test_stream_SOURCES = tests/unit/test_stream.c
tests_unit_test_stream_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_stream_LDADD = $(daemon_test_libs)
endif
