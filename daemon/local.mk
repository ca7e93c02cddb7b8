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
	daemon/notify.h \
	daemon/pace.c \
	daemon/pace.h \
	daemon/peer.c \
	daemon/peer.h \
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

# The units name /usr/bin; installed ones name where the program is.
sysusersdir = $(prefix)/lib/sysusers.d
install_unit = $(SED) 's|/usr/bin/sinkd|$(bindir)/sinkd|g'

install-data-local:
	$(MKDIR_P) '$(DESTDIR)$(unitdir)' '$(DESTDIR)$(userunitdir)' '$(DESTDIR)$(sysusersdir)'
	$(install_unit) '$(srcdir)/contrib/sinkd.service' >'$(DESTDIR)$(unitdir)/sinkd.service'
	$(install_unit) '$(srcdir)/contrib/sinkd-user.service' >'$(DESTDIR)$(userunitdir)/sinkd.service'
	$(INSTALL_DATA) '$(srcdir)/contrib/sinkd.socket' '$(DESTDIR)$(unitdir)/sinkd.socket'
	$(INSTALL_DATA) '$(srcdir)/contrib/sinkd-user.socket' '$(DESTDIR)$(userunitdir)/sinkd.socket'
	$(INSTALL_DATA) '$(srcdir)/contrib/sinkd.sysusers' '$(DESTDIR)$(sysusersdir)/sinkd.conf'
	chmod 644 '$(DESTDIR)$(unitdir)/sinkd.service' '$(DESTDIR)$(userunitdir)/sinkd.service'

uninstall-local:
	rm -f '$(DESTDIR)$(unitdir)/sinkd.service' '$(DESTDIR)$(unitdir)/sinkd.socket' \
		'$(DESTDIR)$(userunitdir)/sinkd.service' '$(DESTDIR)$(userunitdir)/sinkd.socket' \
		'$(DESTDIR)$(sysusersdir)/sinkd.conf'

if HAVE_CMOCKA
daemon_tests = \
	tests/unit/test_answer \
	tests/unit/test_conf \
	tests/unit/test_conversation \
	tests/unit/test_notify \
	tests/unit/test_ring \
	tests/unit/test_sched \
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

tests_unit_test_notify_SOURCES = tests/unit/test_notify.c
tests_unit_test_notify_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_notify_LDADD = $(daemon_test_libs)

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

tests_unit_test_settings_SOURCES = tests/unit/test_settings.c
tests_unit_test_settings_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_settings_LDADD = $(daemon_test_libs)

tests_unit_test_stream_SOURCES = tests/unit/test_stream.c
tests_unit_test_stream_CPPFLAGS = $(daemon_test_cppflags)
tests_unit_test_stream_LDADD = $(daemon_test_libs)
endif
