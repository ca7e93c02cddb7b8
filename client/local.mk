# The command `sink`. All but main.c is a library, so that its tests can call it.

# This room's headers are found by quoted includes alone: term.h is also the name of one of the system's.
client_cppflags = $(AM_CPPFLAGS) -iquote $(srcdir)/client -iquote $(srcdir)/libproto $(INIH_CFLAGS) \
	$(JANSSON_CFLAGS) $(LIBEDIT_CFLAGS) $(TINFO_CFLAGS) -DTEMPLATE_DIR='"$(templatedir)"'

templatedir = $(pkgdatadir)/templates

noinst_LTLIBRARIES += client/libclient.la
client_libclient_la_SOURCES = \
	client/acp.c \
	client/acp.h \
	client/acp_open.c \
	client/acp_session.c \
	client/ask.c \
	client/bridge.c \
	client/bridge.h \
	client/buf.c \
	client/buf.h \
	client/bundle.c \
	client/change.c \
	client/chat.c \
	client/chat.h \
	client/completion.c \
	client/compose.c \
	client/edit.c \
	client/edit.h \
	client/edit_inner.h \
	client/edit_key.c \
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
	client/markdown.c \
	client/markdown.h \
	client/nearest.c \
	client/nearest.h \
	client/option.c \
	client/option.h \
	client/paths.c \
	client/paths.h \
	client/program.c \
	client/program.h \
	client/render.c \
	client/render.h \
	client/rpc.c \
	client/rpc.h \
	client/screen.c \
	client/screen.h \
	client/see.c \
	client/slash.c \
	client/spawn.c \
	client/spawn.h \
	client/start.c \
	client/start.h \
	client/stdio.c \
	client/target.c \
	client/target.h \
	client/template.c \
	client/template.h \
	client/term.c \
	client/term.h \
	client/top.c \
	client/top.h \
	client/top_view.c \
	client/verb.c \
	client/verb.h
client_libclient_la_CPPFLAGS = $(client_cppflags)
client_libclient_la_LIBTOOLFLAGS = --tag=disable-shared
client_libclient_la_LIBADD = libproto/libsink.la $(INIH_LIBS) $(JANSSON_LIBS) $(LIBEDIT_LIBS) $(TINFO_LIBS)

bin_PROGRAMS += client/sink
client_sink_SOURCES = client/main.c
client_sink_CPPFLAGS = $(client_cppflags)
client_sink_LDADD = client/libclient.la

# What the program says of itself to the shells; where it cannot be run here, it is asked at the first Tab instead.
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
fishcompletiondir = $(datadir)/fish/vendor_completions.d
nodist_bashcompletion_DATA = client/completions/sink
nodist_zshcompletion_DATA = client/completions/_sink
nodist_fishcompletion_DATA = client/completions/sink.fish
client_completions = $(nodist_bashcompletion_DATA) $(nodist_zshcompletion_DATA) $(nodist_fishcompletion_DATA)
CLEANFILES += $(client_completions)
$(client_completions): client/sink$(EXEEXT)

client/completions/sink:
	$(AM_V_GEN)$(MKDIR_P) client/completions && { client/sink$(EXEEXT) completion bash 2>/dev/null || \
		echo 'eval "$$(sink completion bash)"'; } >$@.tmp && mv $@.tmp $@
client/completions/_sink:
	$(AM_V_GEN)$(MKDIR_P) client/completions && { client/sink$(EXEEXT) completion zsh 2>/dev/null || \
		printf '%s\n' '#compdef sink' 'eval "$$(sink completion zsh)"' '_sink "$$@"'; } >$@.tmp && mv $@.tmp $@
client/completions/sink.fish:
	$(AM_V_GEN)$(MKDIR_P) client/completions && { client/sink$(EXEEXT) completion fish 2>/dev/null || \
		echo 'sink completion fish | source'; } >$@.tmp && mv $@.tmp $@

# Templates that everybody finds; one's own of the same name comes first.
dist_template_DATA = \
	contrib/templates/brief.ini \
	contrib/templates/journal.ini \
	contrib/templates/review.ini

dist_man_MANS += man/sink.1 man/sink-stdio.7
EXTRA_DIST += client/README.md tests/fuzz/corpus-rpc

if HAVE_CMOCKA
client_tests = tests/unit/test_client tests/unit/test_markdown tests/unit/test_option tests/unit/test_template
check_PROGRAMS += $(client_tests)
TESTS += $(client_tests)

client_test_cppflags = $(client_cppflags) $(CMOCKA_CFLAGS)

tests_unit_test_client_SOURCES = tests/unit/test_client.c
tests_unit_test_client_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_client_LDADD = client/libclient.la $(CMOCKA_LIBS)

tests_unit_test_markdown_SOURCES = tests/unit/test_markdown.c
tests_unit_test_markdown_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_markdown_LDADD = client/libclient.la $(CMOCKA_LIBS)

tests_unit_test_option_SOURCES = tests/unit/test_option.c
tests_unit_test_option_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_option_LDADD = client/libclient.la $(CMOCKA_LIBS)

tests_unit_test_template_SOURCES = tests/unit/test_template.c
tests_unit_test_template_CPPFLAGS = $(client_test_cppflags)
tests_unit_test_template_LDADD = client/libclient.la $(CMOCKA_LIBS)
endif

check_PROGRAMS += tests/fuzz/replay_rpc
TESTS += tests/fuzz/replay_rpc
tests_fuzz_replay_rpc_SOURCES = tests/fuzz/fuzz_rpc.c tests/fuzz/replay.c
tests_fuzz_replay_rpc_CPPFLAGS = $(client_cppflags) -DCORPUS='"tests/fuzz/corpus-rpc"'
tests_fuzz_replay_rpc_LDADD = client/libclient.la $(JANSSON_LIBS)

if FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_rpc
tests_fuzz_fuzz_rpc_SOURCES = tests/fuzz/fuzz_rpc.c client/buf.c client/rpc.c
tests_fuzz_fuzz_rpc_CPPFLAGS = $(client_cppflags)
tests_fuzz_fuzz_rpc_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_rpc_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_rpc_LDADD = $(JANSSON_LIBS)
endif

# The gateway sinkd-http, an ordinary client. What needs no socket is a library, for its tests and the fuzz target.
http_pure = \
	client/buf.c \
	client/buf.h \
	client/http_error.c \
	client/http_error.h \
	client/http_id.c \
	client/http_id.h \
	client/http_key.c \
	client/http_key.h \
	client/http_logprob.c \
	client/http_logprob.h \
	client/http_match.c \
	client/http_match.h \
	client/http_plan.c \
	client/http_plan.h \
	client/http_plan_chat.c \
	client/http_plan_text.c \
	client/http_route.c \
	client/http_route.h
http_sources = \
	client/http.h \
	client/http_answer.c \
	client/http_answer.h \
	client/http_api.c \
	client/http_api.h \
	client/http_chat.c \
	client/http_complete.c \
	client/http_conf.c \
	client/http_conf.h \
	client/http_count.c \
	client/http_count.h \
	client/http_daemon.c \
	client/http_daemon.h \
	client/http_feed.c \
	client/http_feed.h \
	client/http_listen.c \
	client/http_listen.h \
	client/http_main.c \
	client/http_manager.c \
	client/http_manager.h \
	client/http_request.h \
	client/http_respond.c \
	client/http_response.c \
	client/http_response.h \
	client/http_say.c \
	client/http_say.h \
	client/http_see.c \
	client/http_serve.c \
	client/http_serve.h \
	client/http_store.c \
	client/http_store.h \
	client/http_talk.c
http_cppflags = $(client_cppflags) $(JANSSON_CFLAGS) $(XXHASH_CFLAGS)
http_libs = $(JANSSON_LIBS) $(XXHASH_LIBS)
EXTRA_DIST += $(http_sources)

noinst_LTLIBRARIES += client/libhttp.la
client_libhttp_la_SOURCES = $(http_pure)
client_libhttp_la_CPPFLAGS = $(http_cppflags)
client_libhttp_la_LIBTOOLFLAGS = --tag=disable-shared
client_libhttp_la_LIBADD = libproto/libsink.la $(http_libs)

if HTTP
bin_PROGRAMS += client/sinkd-http
client_sinkd_http_SOURCES = $(http_sources)
client_sinkd_http_CPPFLAGS = $(http_cppflags) $(MICROHTTPD_CFLAGS)
client_sinkd_http_LDADD = client/libhttp.la $(MICROHTTPD_LIBS)
units += sinkd-http
man_MANS += man/sinkd-http.8
endif
EXTRA_DIST += \
	contrib/sinkd-http-user.service \
	contrib/sinkd-http-user.socket \
	contrib/sinkd-http.service \
	contrib/sinkd-http.socket \
	man/sinkd-http.8

if HAVE_CMOCKA
check_PROGRAMS += tests/unit/test_http
TESTS += tests/unit/test_http
tests_unit_test_http_SOURCES = tests/unit/test_http.c
tests_unit_test_http_CPPFLAGS = $(http_cppflags) $(CMOCKA_CFLAGS)
tests_unit_test_http_LDADD = client/libhttp.la $(CMOCKA_LIBS)
endif

# What hostile bytes meet first: paths, ids, keys and bodies.
check_PROGRAMS += tests/fuzz/replay_http
TESTS += tests/fuzz/replay_http
EXTRA_DIST += tests/fuzz/corpus-http
tests_fuzz_replay_http_SOURCES = tests/fuzz/fuzz_http.c tests/fuzz/replay.c
tests_fuzz_replay_http_CPPFLAGS = $(http_cppflags) -DCORPUS='"tests/fuzz/corpus-http"'
tests_fuzz_replay_http_LDADD = client/libhttp.la

if FUZZ
noinst_PROGRAMS += tests/fuzz/fuzz_http
tests_fuzz_fuzz_http_SOURCES = tests/fuzz/fuzz_http.c $(http_pure)
tests_fuzz_fuzz_http_CPPFLAGS = $(http_cppflags)
tests_fuzz_fuzz_http_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_http_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_http_LDADD = libproto/libsink.la $(http_libs)
endif
