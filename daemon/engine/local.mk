# The model: files, tokens, weights, caches, sampling; and the commands and tests that need nothing above it.

engine_cppflags = $(AM_CPPFLAGS) -I$(srcdir)/daemon/engine -I$(srcdir)/kernels -I$(srcdir)/libproto

jinja_sources = \
	daemon/engine/jinja.c \
	daemon/engine/jinja_access.c \
	daemon/engine/jinja_eval.c \
	daemon/engine/jinja_filter.c \
	daemon/engine/jinja_json.c \
	daemon/engine/jinja_json_read.c \
	daemon/engine/jinja_lex.c \
	daemon/engine/jinja_method.c \
	daemon/engine/jinja_parse.c \
	daemon/engine/jinja_run.c \
	daemon/engine/jinja_statement.c \
	daemon/engine/jinja_test.c \
	daemon/engine/jinja_text.c \
	daemon/engine/jinja_value.c

noinst_LTLIBRARIES += daemon/engine/libengine.la
daemon_engine_libengine_la_SOURCES = \
	daemon/engine/arch/arch.c \
	daemon/engine/arch/arch.h \
	daemon/engine/arch/falcon.c \
	daemon/engine/arch/gemma3.c \
	daemon/engine/arch/gpt_oss.c \
	daemon/engine/arch/gptneox.c \
	daemon/engine/arch/keys.c \
	daemon/engine/arch/keys.h \
	daemon/engine/arch/layer.c \
	daemon/engine/arch/layer.h \
	daemon/engine/arch/llama.c \
	daemon/engine/arch/mpt.c \
	daemon/engine/arch/phi3.c \
	daemon/engine/arch/qwen.c \
	daemon/engine/arch/rotary.c \
	daemon/engine/arch/run.c \
	daemon/engine/arch/shape.c \
	daemon/engine/arch/unserved.c \
	daemon/engine/arena.c \
	daemon/engine/arena.h \
	daemon/engine/arena_file.c \
	daemon/engine/arena_file.h \
	daemon/engine/bpe.c \
	daemon/engine/bpe.h \
	daemon/engine/charset.c \
	daemon/engine/charset.h \
	daemon/engine/draft.c \
	daemon/engine/draft.h \
	daemon/engine/gguf.c \
	daemon/engine/gguf.h \
	daemon/engine/gguf_file.h \
	daemon/engine/gguf_read.c \
	daemon/engine/grammar.c \
	daemon/engine/grammar.h \
	daemon/engine/grammar_nodes.c \
	daemon/engine/grammar_parts.h \
	daemon/engine/guide.c \
	daemon/engine/guide.h \
	daemon/engine/guide_parts.h \
	daemon/engine/guide_states.c \
	daemon/engine/checkpoint.c \
	daemon/engine/checkpoint.h \
	daemon/engine/jinja.h \
	daemon/engine/jinja_eval.h \
	daemon/engine/jinja_parse.h \
	daemon/engine/jinja_parts.h \
	$(jinja_sources) \
	daemon/engine/kv.c \
	daemon/engine/kv.h \
	daemon/engine/kv_plan.c \
	daemon/engine/marks.c \
	daemon/engine/marks.h \
	daemon/engine/mirror.c \
	daemon/engine/mirror.h \
	daemon/engine/model.c \
	daemon/engine/model_parts.h \
	daemon/engine/model_step.c \
	daemon/engine/model.h \
	daemon/engine/output.c \
	daemon/engine/output.h \
	daemon/engine/parts.c \
	daemon/engine/policy.c \
	daemon/engine/policy.h \
	daemon/engine/pretoken.c \
	daemon/engine/pretoken.h \
	daemon/engine/record.c \
	daemon/engine/record.h \
	daemon/engine/regex.c \
	daemon/engine/regex.h \
	daemon/engine/sample.c \
	daemon/engine/sample.h \
	daemon/engine/seal.c \
	daemon/engine/seal.h \
	daemon/engine/token.c \
	daemon/engine/token.h \
	daemon/engine/token_read.c \
	daemon/engine/trie.c \
	daemon/engine/trie.h \
	daemon/engine/token_list.c \
	daemon/engine/turn.c \
	daemon/engine/turn.h \
	daemon/engine/turn_template.c \
	daemon/engine/turn_template.h \
	daemon/engine/utf8.c \
	daemon/engine/utf8.h \
	daemon/engine/vocab.h \
	daemon/engine/weights.c \
	daemon/engine/weights.h
daemon_engine_libengine_la_CPPFLAGS = $(engine_cppflags) $(PCRE2_CFLAGS) $(XXHASH_CFLAGS)
daemon_engine_libengine_la_LIBADD = $(PCRE2_LIBS) $(XXHASH_LIBS) -lm

engine_libs = \
	daemon/engine/libengine.la \
	kernels/libkernels.la \
	libproto/liberror.la \
	-lm -lpthread

bin_PROGRAMS += sinkd-bench
sinkd_bench_SOURCES = \
	daemon/bench.c \
	daemon/bench.h \
	daemon/bench_bound.c \
	daemon/bench_common.c \
	daemon/bench_machine.c \
	daemon/bench_policy.c \
	daemon/bench_quality.c \
	daemon/bench_random.c \
	daemon/bench_report.c \
	daemon/bench_restore.c \
	daemon/bench_speed.c \
	daemon/bench_stream.c \
	daemon/measured.c \
	daemon/measured.h \
	daemon/ring.c \
	daemon/ring.h
sinkd_bench_CPPFLAGS = $(engine_cppflags) $(INIH_CFLAGS) $(JANSSON_CFLAGS) $(XXHASH_CFLAGS)
sinkd_bench_LDADD = $(engine_libs) $(INIH_LIBS) $(JANSSON_LIBS)
dist_man_MANS += man/sinkd-bench.1

EXTRA_DIST += daemon/engine/README.md $(engine_golden)

engine_golden = \
	tests/golden/make_family.py \
	tests/golden/family-falcon.gguf \
	tests/golden/family-falcon.logits \
	tests/golden/family-falcon40.gguf \
	tests/golden/family-falcon40.logits \
	tests/golden/family-gemma3.gguf \
	tests/golden/family-gemma3.logits \
	tests/golden/family-gpt-oss.gguf \
	tests/golden/family-gpt-oss.logits \
	tests/golden/family-gptneox.gguf \
	tests/golden/family-gptneox.logits \
	tests/golden/family-llama3.gguf \
	tests/golden/family-llama3.logits \
	tests/golden/family-mpt.gguf \
	tests/golden/family-mpt.logits \
	tests/golden/family-phi3-long.gguf \
	tests/golden/family-phi3-long.logits \
	tests/golden/family-phi3.gguf \
	tests/golden/family-phi3.logits \
	tests/golden/family-qwen2.gguf \
	tests/golden/family-qwen2.logits \
	tests/golden/family-qwen3.gguf \
	tests/golden/family-qwen3.logits \
	tests/golden/nll-anchor-0.txt \
	tests/golden/nll-anchor-4.txt \
	tests/golden/nll-dense.txt \
	tests/golden/nll-gemma3.txt \
	tests/golden/nll-recompute-256.txt \
	tests/golden/nll-separator-4-256-252.txt \
	tests/golden/nll-sink-4-252.txt \
	tests/golden/nll-sink-0-512.txt \
	tests/golden/nll-sink-4-508-text.txt \
	tests/golden/persuasion-ids.txt \
	tests/golden/persuasion-ids-gemma3.txt

if HAVE_CMOCKA
engine_tests = \
	tests/unit/test_policy \
	tests/unit/test_apart \
	tests/unit/test_draft \
	tests/unit/test_held \
	tests/unit/test_kv \
	tests/unit/test_literal \
	tests/unit/test_model \
	tests/unit/test_near \
	tests/unit/test_output \
	tests/unit/test_record \
	tests/unit/test_restore \
	tests/unit/test_sample \
	tests/golden/test_family \
	tests/golden/test_family_keys \
	tests/golden/test_nll
check_PROGRAMS += $(engine_tests)
TESTS += $(engine_tests) tests/unit/bench.t
EXTRA_DIST += tests/unit/bench.t
tests/unit/bench.log: sinkd-bench

engine_test_cppflags = $(engine_cppflags) -I$(srcdir)/tests/unit $(CMOCKA_CFLAGS)
engine_test_libs = $(engine_libs) $(CMOCKA_LIBS)

tests_unit_test_policy_SOURCES = tests/unit/test_policy.c
tests_unit_test_policy_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_policy_LDADD = $(engine_test_libs)

tests_unit_test_draft_SOURCES = tests/unit/test_draft.c
tests_unit_test_draft_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_draft_LDADD = $(engine_test_libs)

tests_unit_test_kv_SOURCES = tests/unit/test_kv.c
tests_unit_test_kv_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_kv_LDADD = $(engine_test_libs)

reading = \
	tests/unit/make_gguf.c \
	tests/unit/make_gguf.h \
	tests/unit/make_model.c \
	tests/unit/reading.c \
	tests/unit/reading.h

caching = \
	tests/unit/apart.c \
	tests/unit/apart.h \
	tests/unit/caching.c \
	tests/unit/caching.h \
	$(reading)

tests_unit_test_model_SOURCES = tests/unit/test_model.c $(reading)
tests_unit_test_model_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_model_LDADD = $(engine_test_libs)

tests_unit_test_near_SOURCES = tests/unit/test_near.c $(reading)
tests_unit_test_near_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_near_LDADD = $(engine_test_libs)

tests_unit_test_output_SOURCES = tests/unit/test_output.c
tests_unit_test_output_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_output_LDADD = $(engine_test_libs)
tests_unit_test_apart_SOURCES = tests/unit/test_apart.c $(caching)
tests_unit_test_apart_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_apart_LDADD = $(engine_test_libs)

tests_unit_test_record_SOURCES = tests/unit/test_record.c $(caching)
tests_unit_test_record_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_record_LDADD = $(engine_test_libs)

tests_unit_test_held_SOURCES = tests/unit/test_held.c $(caching)
tests_unit_test_held_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_held_LDADD = $(engine_test_libs)

tests_unit_test_restore_SOURCES = tests/unit/test_restore.c $(caching)
tests_unit_test_restore_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_restore_LDADD = $(engine_test_libs)

tests_unit_test_literal_SOURCES = \
	tests/unit/test_literal.c \
	tests/unit/literal.c \
	tests/unit/literal.h \
	$(reading)
tests_unit_test_literal_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_literal_LDADD = $(engine_test_libs)

tests_unit_test_sample_SOURCES = tests/unit/test_sample.c
tests_unit_test_sample_CPPFLAGS = $(engine_test_cppflags)
tests_unit_test_sample_LDADD = $(engine_test_libs)

tests_golden_test_family_SOURCES = tests/golden/test_family.c $(reading)
tests_golden_test_family_CPPFLAGS = $(engine_test_cppflags)
tests_golden_test_family_LDADD = $(engine_test_libs)

tests_golden_test_family_keys_SOURCES = tests/golden/test_family_keys.c $(reading)
tests_golden_test_family_keys_CPPFLAGS = $(engine_test_cppflags)
tests_golden_test_family_keys_LDADD = $(engine_test_libs)

tests_golden_test_nll_SOURCES = tests/golden/test_nll.c
tests_golden_test_nll_CPPFLAGS = $(engine_test_cppflags)
tests_golden_test_nll_LDADD = $(engine_test_libs)
endif
