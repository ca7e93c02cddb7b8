/* The vocabulary of token.c: small ones, made for each rule. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "make_gguf.h"
#include "token.h"

/* A file in memory and its vocabulary. */
struct made {
	void *data;
	struct gguf *g;
	struct vocab *v;
	int code;
	struct err e;
};

static void make(struct made *d, struct make_gguf *m)
{
	size_t size;

	*d = (struct made){ 0 };
	d->data = make_gguf_finish(m, &size);
	assert_int_equal(gguf_parse(d->data, size, &d->g, &d->e), 0);
	d->code = vocab_new(d->g, &d->v, &d->e);
	assert_int_equal(!d->v, !!d->code);
}

static void release(struct made *d)
{
	vocab_free(d->v);
	gguf_close(d->g);
	free(d->data);
}

/* Letters, two words, and one token of each type; with `types`, theirs are written. */
static const char *const letters[] = {
	"a", "b", "c", "ab", "abc", "\xc4\xa0", "<|im_end|>", "<tool>", "<unk>", "<|x|>"
};
static const int32_t letter_types[] = { 1, 1, 1, 1, 5, 1, 3, 4, 2, 4 };
static const char *const letter_merges[] = { "a b", "ab c" };
enum {
	LETTERS = sizeof(letters) / sizeof(letters[0]),
	AB = 3,
	ABC = 4,
	SPACE = 5,
	IM_END = 6,
	TOOL = 7,
	UNK = 8,
	X = 9
};

static struct make_gguf *letters_file(const char *pre, bool types)
{
	struct make_gguf *m = make_gguf_new();

	make_gguf_string(m, "tokenizer.ggml.model", "gpt2");
	make_gguf_string(m, "tokenizer.ggml.pre", pre);
	make_gguf_strings(m, "tokenizer.ggml.tokens", letters, LETTERS);
	make_gguf_strings(m, "tokenizer.ggml.merges", letter_merges, 2);
	if (types)
		make_gguf_i32s(m, "tokenizer.ggml.token_type", letter_types, LETTERS);
	return m;
}

static void expect_ids(const struct vocab *v, const char *text, bool special, const int32_t *id, size_t count)
{
	struct tokens t = { 0 };

	assert_int_equal(vocab_encode(v, text, strlen(text), special, &t, NULL), 0);
	if (t.count != count || (count && memcmp(t.id, id, count * sizeof(*id)) != 0)) {
		for (size_t i = 0; i < t.count; i++)
			print_message(" %d", t.id[i]);
		fail_msg("\"%s\" gives %zu other tokens", text, t.count);
	}
	tokens_release(&t);
}

#define EXPECT(v, text, special, ...)                                                                                  \
	expect_ids(v, text, special, (const int32_t[]){ __VA_ARGS__ }, sizeof((int32_t[]){ __VA_ARGS__ }) / 4)

static void marks_are_read_when_asked_for(void **state)
{
	struct made d;

	(void)state;
	make(&d, letters_file("gpt-2", true));
	EXPECT(d.v, "abc a", false, ABC, SPACE, 0);
	EXPECT(d.v, "a<|im_end|>b", true, 0, IM_END, 1);
	EXPECT(d.v, "a<|im_end|>b", false, 0, 1); /* the vocabulary has no other byte of it */
	EXPECT(d.v, "a<tool>b<tool>", false, 0, TOOL, 1, TOOL);
	EXPECT(d.v, "<unk>ab<|x|>", true, UNK, AB, X);
	EXPECT(d.v, "<unk>ab<|x|>", false, AB);
	expect_ids(d.v, "<|im_end|", true, NULL, 0);
	expect_ids(d.v, "", true, NULL, 0);
	release(&d);
}

static void a_piece_has_the_bytes_of_its_token(void **state)
{
	struct made d;

	(void)state;
	make(&d, letters_file("gpt-2", true));
	assert_int_equal(vocab_size(d.v), LETTERS);
	assert_int_equal(vocab_piece(d.v, SPACE, false).len, 1);
	assert_int_equal(vocab_piece(d.v, SPACE, false).at[0], ' ');
	assert_int_equal(vocab_piece(d.v, ABC, false).len, 3);
	assert_int_equal(vocab_piece(d.v, TOOL, false).len, 6);
	assert_int_equal(vocab_piece(d.v, IM_END, false).len, 0);
	assert_int_equal(vocab_piece(d.v, IM_END, true).len, 10);
	assert_int_equal(vocab_piece(d.v, UNK, false).len, 0);
	assert_int_equal(vocab_find(d.v, "<|im_end|>"), IM_END);
	assert_int_equal(vocab_find(d.v, " "), SPACE);
	assert_int_equal(vocab_find(d.v, "abc"), ABC);
	assert_int_equal(vocab_find(d.v, "abcd"), -1);
	assert_int_equal(vocab_find(d.v, ""), -1);
	release(&d);
}

static void what_looks_like_a_mark_is_control(void **state)
{
	struct made d;

	(void)state;
	make(&d, letters_file("gpt-2", true));
	for (int32_t id = 0; id < LETTERS; id++) {
		assert_int_equal(vocab_is_control(d.v, id), id == IM_END || id == UNK || id == X);
		assert_int_equal(vocab_is_end(d.v, id), id == IM_END);
	}
	assert_int_equal(vocab_bos(d.v), -1);
	assert_int_equal(vocab_eos(d.v), -1);
	assert_false(vocab_adds_bos(d.v));
	release(&d);

	make(&d, letters_file("gpt-2", false)); /* without types, the texts that end answers are still known */
	for (int32_t id = 0; id < LETTERS; id++)
		assert_int_equal(vocab_is_control(d.v, id), id == IM_END);
	release(&d);
}

static void named_ids_are_control_and_end(void **state)
{
	struct make_gguf *m = letters_file("gpt-2", true);
	struct made d;

	(void)state;
	make_gguf_u32(m, "tokenizer.ggml.bos_token_id", TOOL);
	make_gguf_u32(m, "tokenizer.ggml.eos_token_id", X);
	make_gguf_u32(m, "tokenizer.ggml.eot_token_id", UNK);
	make_gguf_bool(m, "tokenizer.ggml.add_bos_token", true);
	make(&d, m);
	assert_int_equal(vocab_bos(d.v), TOOL);
	assert_int_equal(vocab_eos(d.v), X);
	assert_true(vocab_adds_bos(d.v));
	assert_true(vocab_is_end(d.v, X) && vocab_is_end(d.v, UNK) && vocab_is_end(d.v, IM_END));
	assert_true(vocab_is_control(d.v, TOOL) && !vocab_is_end(d.v, TOOL));
	EXPECT(d.v, "a<tool>b", false, 0, 1);
	release(&d);
}

static void tokens_for_filling_in_are_named_by_the_file(void **state)
{
	struct make_gguf *m = letters_file("gpt-2", true);
	int32_t fim[VOCAB_FIM];
	struct made d;

	(void)state;
	make(&d, m);
	assert_false(vocab_fim(d.v, fim));
	release(&d);

	m = letters_file("gpt-2", true);
	make_gguf_u32(m, "tokenizer.ggml.fim_pre_token_id", TOOL);
	make_gguf_u32(m, "tokenizer.ggml.fim_suf_token_id", X);
	make(&d, m);
	assert_false(vocab_fim(d.v, fim)); /* two of them are of no use */
	release(&d);

	m = letters_file("gpt-2", true);
	make_gguf_u32(m, "tokenizer.ggml.fim_pre_token_id", TOOL);
	make_gguf_u32(m, "tokenizer.ggml.fim_suf_token_id", X);
	make_gguf_u32(m, "tokenizer.ggml.fim_mid_token_id", UNK);
	make(&d, m);
	assert_true(vocab_fim(d.v, fim));
	assert_int_equal(fim[VOCAB_FIM_PREFIX], TOOL);
	assert_int_equal(fim[VOCAB_FIM_SUFFIX], X);
	assert_int_equal(fim[VOCAB_FIM_MIDDLE], UNK);
	assert_true(vocab_is_control(d.v, TOOL));
	release(&d);
}

static void a_whole_piece_comes_first_where_the_model_wants_it(void **state)
{
	static const char *const tokens[] = { "a", "b", "ab", "ba", "aba" };
	static const char *const merges[] = { "b a" };
	static const char *const pres[] = { "llama-bpe", "qwen2" };

	(void)state;
	for (int i = 0; i < 2; i++) {
		struct make_gguf *m = make_gguf_new();
		struct made d;

		make_gguf_string(m, "tokenizer.ggml.model", "gpt2");
		make_gguf_string(m, "tokenizer.ggml.pre", pres[i]);
		make_gguf_strings(m, "tokenizer.ggml.tokens", tokens, 5);
		make_gguf_strings(m, "tokenizer.ggml.merges", merges, 1);
		make_gguf_u32(m, "tokenizer.ggml.bos_token_id", 2);
		make(&d, m);
		if (i == 0)
			EXPECT(d.v, "aba", false, 4);
		else
			EXPECT(d.v, "aba", false, 0, 3);
		assert_int_equal(vocab_adds_bos(d.v), i == 0);
		release(&d);
	}
}

/* The bytes of the ids of a text are the text again, for bytes of any kind: every byte has a token here. */
static void any_bytes_come_back(void **state)
{
	static const char *const parts[] = { "the ",	   "\xff", "\xf0\x9f\x99\x82", "\xe2\x82", "\n\n ",
					     "<|im_end|>", "12",   "\xc3\xa9",	       "'ll",	   "\0",
					     "and",	   "\t" };
	struct make_gguf *m = make_gguf_new();
	unsigned dice = 3;
	struct made d;

	(void)state;
	make_tiny_vocab(m);
	make(&d, m);
	for (int round = 0; round < 2000; round++) {
		struct tokens t = { 0 };
		char text[400];
		size_t len = 0, at = 0;

		while (len < 300 && rand_r(&dice) % 20) {
			const char *part = parts[rand_r(&dice) % 12];
			size_t n = *part ? strlen(part) : 1;

			memcpy(text + len, part, n);
			len += n;
			text[len++] = (char)rand_r(&dice);
		}
		assert_int_equal(vocab_encode(d.v, text, len, false, &t, NULL), 0);
		for (size_t i = 0; i < t.count; i++) {
			struct gguf_str piece = vocab_piece(d.v, t.id[i], false);

			assert_true(piece.len && piece.len <= len - at);
			assert_memory_equal(piece.at, text + at, piece.len);
			at += piece.len;
		}
		assert_int_equal(at, len);
		tokens_release(&t);
	}
	release(&d);
}

/* An algorithm of quadratic time would not come back from this. */
static void long_runs_are_no_trap(void **state)
{
	static const char runs[] = { 't', ' ', '\n', '\xff', '7', '.' };
	enum { BYTES = 300000 };
	struct make_gguf *m = make_gguf_new();
	char *text = malloc(BYTES);
	struct made d;

	(void)state;
	make_tiny_vocab(m);
	make(&d, m);
	assert_non_null(text);
	for (size_t i = 0; i < sizeof(runs); i++) {
		struct tokens t = { 0 };

		memset(text, runs[i], BYTES);
		assert_int_equal(vocab_encode(d.v, text, BYTES, true, &t, NULL), 0);
		assert_int_equal(t.count, BYTES);
		tokens_release(&t);
	}
	free(text);
	release(&d);
}

/* ---- bad files ---- */

static const char *const five_texts[] = { "a", "b", "ab", "c", "d" };

/* A good file but for the key that the case names, which it leaves out or writes as it likes. */
struct flaw {
	const char *key;
	const char *says;
	void (*put)(struct make_gguf *m, const char *key); /* NULL: left out */
};

static void put_text(struct make_gguf *m, const char *key)
{
	make_gguf_string(m, key, "bert");
}

static void put_number(struct make_gguf *m, const char *key)
{
	make_gguf_u32(m, key, 5);
}

static void put_none(struct make_gguf *m, const char *key)
{
	make_gguf_strings(m, key, NULL, 0);
}

static void put_few_types(struct make_gguf *m, const char *key)
{
	make_gguf_i32s(m, key, (const int32_t[]){ 1, 1 }, 2);
}

static void put_odd_types(struct make_gguf *m, const char *key)
{
	make_gguf_i32s(m, key, (const int32_t[]){ 1, 1, 1, -1, 1 }, 5);
}

static void put_unknown_merge(struct make_gguf *m, const char *key)
{
	make_gguf_strings(m, key, (const char *const[]){ "a b", "a z" }, 2);
}

static void put_half_merge(struct make_gguf *m, const char *key)
{
	make_gguf_strings(m, key, (const char *const[]){ "a b", "ab" }, 2);
}

static void put_unjoined_merge(struct make_gguf *m, const char *key)
{
	make_gguf_strings(m, key, (const char *const[]){ "a b", "b a" }, 2);
}

static void put_long_token(struct make_gguf *m, const char *key)
{
	static char text[70000];
	const char *tokens[] = { "a", "b", "ab", "c", text };

	memset(text, 'x', sizeof(text) - 1);
	make_gguf_strings(m, key, tokens, 5);
}

static const struct flaw flaws[] = {
	{ "tokenizer.ggml.model", "\"tokenizer.ggml.model\" is missing", NULL },
	{ "tokenizer.ggml.model", "\"bert\"; byte-level BPE (\"gpt2\") and SentencePiece's BPE (\"llama\")", put_text },
	{ "tokenizer.ggml.model", "is of type u32", put_number },
	{ "tokenizer.ggml.pre", "\"tokenizer.ggml.pre\" is missing", NULL },
	{ "tokenizer.ggml.pre", "\"bert\" is not supported; these are: gpt-2", put_text },
	{ "tokenizer.ggml.tokens", "\"tokenizer.ggml.tokens\" is missing", NULL },
	{ "tokenizer.ggml.tokens", "empty", put_none },
	{ "tokenizer.ggml.tokens", "no list of texts", put_number },
	{ "tokenizer.ggml.tokens", "token 4 has 69999 bytes", put_long_token },
	{ "tokenizer.ggml.merges", "\"tokenizer.ggml.merges\" is missing", NULL },
	{ "tokenizer.ggml.merges", "\"tokenizer.ggml.merges\" is missing", put_number },
	{ "tokenizer.ggml.merges", "merge 1, \"a z\", names texts that are no tokens", put_unknown_merge },
	{ "tokenizer.ggml.merges", "merge 1, \"ab\", is not two texts", put_half_merge },
	{ "tokenizer.ggml.merges", "merge 1, \"b a\", names texts", put_unjoined_merge },
	{ "tokenizer.ggml.token_type", "has 2 elements for 5 tokens", put_few_types },
	{ "tokenizer.ggml.token_type", "element 3 is -1", put_odd_types },
	{ "tokenizer.ggml.token_type", "no list of numbers", put_number },
	{ "tokenizer.ggml.bos_token_id", "\"tokenizer.ggml.bos_token_id\" is 5; it must be 0 to 4", put_number },
	{ "tokenizer.ggml.eos_token_id", "\"tokenizer.ggml.eos_token_id\" is 5", put_number },
	{ "tokenizer.ggml.eot_token_id", "\"tokenizer.ggml.eot_token_id\" is 5", put_number },
	{ "tokenizer.ggml.eos_token_id", "is of type string", put_text },
	{ "tokenizer.ggml.add_bos_token", "is of type u32", put_number },
};

static void each_fault_is_named(void **state)
{
	(void)state;
	for (size_t c = 0; c < sizeof(flaws) / sizeof(flaws[0]); c++) {
		const struct flaw *f = &flaws[c];
		struct make_gguf *m = make_gguf_new();
		struct made d;

		if (strcmp(f->key, "tokenizer.ggml.model") != 0)
			make_gguf_string(m, "tokenizer.ggml.model", "gpt2");
		if (strcmp(f->key, "tokenizer.ggml.pre") != 0)
			make_gguf_string(m, "tokenizer.ggml.pre", "qwen2");
		if (strcmp(f->key, "tokenizer.ggml.tokens") != 0)
			make_gguf_strings(m, "tokenizer.ggml.tokens", five_texts, 5);
		if (strcmp(f->key, "tokenizer.ggml.merges") != 0)
			make_gguf_strings(m, "tokenizer.ggml.merges", (const char *const[]){ "a b" }, 1);
		if (f->put)
			f->put(m, f->key);
		make(&d, m);
		assert_int_equal(d.code, SINK_EFORMAT);
		if (!strstr(d.e.text, f->says))
			fail_msg("\"%s\" does not say \"%s\"", d.e.text, f->says);
		release(&d);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(marks_are_read_when_asked_for),
		cmocka_unit_test(a_piece_has_the_bytes_of_its_token),
		cmocka_unit_test(what_looks_like_a_mark_is_control),
		cmocka_unit_test(named_ids_are_control_and_end),
		cmocka_unit_test(tokens_for_filling_in_are_named_by_the_file),
		cmocka_unit_test(a_whole_piece_comes_first_where_the_model_wants_it),
		cmocka_unit_test(any_bytes_come_back),
		cmocka_unit_test(long_runs_are_no_trap),
		cmocka_unit_test(each_fault_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
