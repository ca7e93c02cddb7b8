# The tests of model files, vocabularies and turns, the programs that make small files for tests, and the fuzz target.

token_engine = \
	daemon/engine/bpe.c \
	daemon/engine/gguf.c \
	daemon/engine/gguf_read.c \
	daemon/engine/pretoken.c \
	daemon/engine/token.c \
	daemon/engine/token_read.c \
	daemon/engine/token_list.c \
	daemon/engine/turn.c \
	daemon/engine/turn_template.c \
	$(jinja_sources) \
	daemon/engine/utf8.c

token_libs = \
	daemon/engine/libengine.la \
	kernels/libkernels.la \
	libproto/liberror.la \
	$(PCRE2_LIBS)
token_cppflags = \
	$(AM_CPPFLAGS) -I$(srcdir)/libproto -I$(srcdir)/kernels -I$(srcdir)/daemon/engine -I$(srcdir)/tests/unit \
	$(PCRE2_CFLAGS) $(XXHASH_CFLAGS)

make_gguf = tests/unit/make_gguf.c tests/unit/make_gguf.h tests/unit/make_model.c

# make_tiny OUT [TYPE [SEED]] writes a small random model; the live tests call it.
check_PROGRAMS += tests/unit/make_tiny
tests_unit_make_tiny_SOURCES = tests/unit/make_tiny.c $(make_gguf)
tests_unit_make_tiny_CPPFLAGS = $(token_cppflags)
tests_unit_make_tiny_LDADD = -lm

# The seeds in tests/fuzz/corpus-gguf come from `make_corpus tests/fuzz/corpus-gguf`.
check_PROGRAMS += tests/fuzz/make_corpus tests/fuzz/replay_gguf
tests_fuzz_make_corpus_SOURCES = tests/fuzz/make_corpus.c tests/unit/bad_gguf.c tests/unit/bad_gguf.h $(make_gguf)
tests_fuzz_make_corpus_CPPFLAGS = $(token_cppflags)
tests_fuzz_make_corpus_LDADD = -lm

TESTS += tests/fuzz/replay_gguf
tests_fuzz_replay_gguf_SOURCES = tests/fuzz/fuzz_gguf.c tests/fuzz/replay.c
tests_fuzz_replay_gguf_CPPFLAGS = $(token_cppflags) -DCORPUS='"tests/fuzz/corpus-gguf"'
tests_fuzz_replay_gguf_LDADD = $(token_libs)

# The target has the files that it fuzzes compiled into it, since the fuzzer is blind to code that it did not instrument.
if FUZZ
check_PROGRAMS += tests/fuzz/fuzz_gguf
tests_fuzz_fuzz_gguf_SOURCES = tests/fuzz/fuzz_gguf.c $(token_engine)
tests_fuzz_fuzz_gguf_CPPFLAGS = $(token_cppflags)
tests_fuzz_fuzz_gguf_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_gguf_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_gguf_LDADD = kernels/libkernels.la libproto/liberror.la $(PCRE2_LIBS)
endif

TESTS += tests/fuzz/replay_jinja
check_PROGRAMS += tests/fuzz/replay_jinja
tests_fuzz_replay_jinja_SOURCES = tests/fuzz/fuzz_jinja.c tests/fuzz/replay.c
tests_fuzz_replay_jinja_CPPFLAGS = $(token_cppflags) -DCORPUS='"tests/fuzz/corpus-jinja"'
tests_fuzz_replay_jinja_LDADD = $(token_libs)

if FUZZ
check_PROGRAMS += tests/fuzz/fuzz_jinja
tests_fuzz_fuzz_jinja_SOURCES = tests/fuzz/fuzz_jinja.c $(jinja_sources) daemon/engine/utf8.c
tests_fuzz_fuzz_jinja_CPPFLAGS = $(token_cppflags)
tests_fuzz_fuzz_jinja_CFLAGS = $(AM_CFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_jinja_LDFLAGS = $(AM_LDFLAGS) $(FUZZ_CFLAGS)
tests_fuzz_fuzz_jinja_LDADD = libproto/liberror.la -lm
endif

EXTRA_DIST += \
	tests/fuzz/corpus-gguf \
	tests/fuzz/corpus-jinja \
	tests/golden/README.md \
	tests/golden/make_templates.py \
	tests/golden/templates \
	tests/golden/make_tokenizer.py \
	tests/golden/pretoken.txt \
	tests/golden/tokenizer-gemma3.txt \
	tests/golden/tokenizer-smollm2.txt \
	tests/golden/turns-smollm2.txt

if HAVE_CMOCKA
token_tests = \
	tests/unit/test_gguf \
	tests/unit/test_pieces \
	tests/unit/test_guide \
	tests/unit/test_regex \
	tests/unit/test_jinja \
	tests/unit/test_token \
	tests/unit/test_turn \
	tests/unit/test_turn_template \
	tests/unit/test_vocab \
	tests/golden/test_templates \
	tests/golden/test_tokenizer
check_PROGRAMS += $(token_tests)
TESTS += $(token_tests)

token_test_cppflags = $(token_cppflags) $(CMOCKA_CFLAGS)
token_test_libs = $(token_libs) $(CMOCKA_LIBS) -lm
vectors = tests/unit/vectors.c tests/unit/vectors.h

tests_unit_test_gguf_SOURCES = tests/unit/test_gguf.c tests/unit/bad_gguf.c tests/unit/bad_gguf.h $(make_gguf)
tests_unit_test_gguf_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_gguf_LDADD = $(token_test_libs)

tests_unit_test_pieces_SOURCES = tests/unit/test_pieces.c $(make_gguf)
tests_unit_test_pieces_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_pieces_LDADD = $(token_test_libs)

guiding = tests/unit/guiding.c tests/unit/guiding.h $(make_gguf)

tests_unit_test_guide_SOURCES = tests/unit/test_guide.c $(guiding)
tests_unit_test_guide_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_guide_LDADD = $(token_test_libs)

tests_unit_test_regex_SOURCES = tests/unit/test_regex.c $(guiding)
tests_unit_test_regex_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_regex_LDADD = $(token_test_libs)

tests_unit_test_jinja_SOURCES = tests/unit/test_jinja.c
tests_unit_test_jinja_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_jinja_LDADD = $(token_test_libs)

tests_golden_test_templates_SOURCES = tests/golden/test_templates.c
tests_golden_test_templates_CPPFLAGS = $(token_test_cppflags)
tests_golden_test_templates_LDADD = $(token_test_libs)

tests_unit_test_token_SOURCES = tests/unit/test_token.c $(vectors)
tests_unit_test_token_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_token_LDADD = $(token_test_libs)

turning = tests/unit/turning.c tests/unit/turning.h $(make_gguf)

tests_unit_test_turn_SOURCES = tests/unit/test_turn.c $(turning)
tests_unit_test_turn_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_turn_LDADD = $(token_test_libs)

tests_unit_test_turn_template_SOURCES = tests/unit/test_turn_template.c $(turning)
tests_unit_test_turn_template_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_turn_template_LDADD = $(token_test_libs)

tests_unit_test_vocab_SOURCES = tests/unit/test_vocab.c $(make_gguf)
tests_unit_test_vocab_CPPFLAGS = $(token_test_cppflags)
tests_unit_test_vocab_LDADD = $(token_test_libs)

tests_golden_test_tokenizer_SOURCES = tests/golden/test_tokenizer.c $(vectors)
tests_golden_test_tokenizer_CPPFLAGS = $(token_test_cppflags)
tests_golden_test_tokenizer_LDADD = $(token_test_libs)
endif
