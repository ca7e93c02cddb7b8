/* Vocabularies of pieces with scores: against the definition, and what files may say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "make_gguf.h"
#include "token.h"

#define BLANK "\xe2\x96\x81"

enum { UNKNOWN, BOS, EOS, MARK, TOOL, BYTES, FIRST = BYTES + 256, PIECES_MOST = 400 };

/* A vocabulary: five tokens of other kinds, one a byte, and pieces; some keys may be left out or be wrong. */
struct pieces {
	char text[PIECES_MOST][24];
	float score[PIECES_MOST];
	int32_t type[PIECES_MOST];
	size_t count;
	bool no_prefix;
};

static void add(struct pieces *p, const char *text, float score, int32_t type)
{
	assert_true(p->count < PIECES_MOST);
	snprintf(p->text[p->count], sizeof(p->text[0]), "%s", text);
	p->score[p->count] = score;
	p->type[p->count++] = type;
}

static void begin(struct pieces *p)
{
	char text[8];

	memset(p, 0, sizeof(*p));
	add(p, "<unk>", 0, 2);
	add(p, "<s>", 0, 3);
	add(p, "</s>", 0, 3);
	add(p, "<start_of_turn>", 0, 4);
	add(p, "<tool>", 0, 4);
	for (unsigned b = 0; b < 256; b++) {
		snprintf(text, sizeof(text), "<0x%02X>", b);
		add(p, text, 0, 6);
	}
}

struct made {
	void *data;
	struct gguf *g;
	struct vocab *v;
	int code;
	struct err e;
};

/* Without the key `but`. */
static void make(struct made *d, const struct pieces *p, const char *but)
{
	struct make_gguf *m = make_gguf_new();
	const char *texts[PIECES_MOST];
	size_t size;

	for (size_t i = 0; i < p->count; i++)
		texts[i] = p->text[i];
	make_gguf_string(m, "tokenizer.ggml.model", "llama");
	make_gguf_strings(m, "tokenizer.ggml.tokens", texts, p->count);
	if (strcmp(but, "scores") != 0)
		make_gguf_f32s(m, "tokenizer.ggml.scores", p->score, p->count - (strcmp(but, "last") == 0));
	if (strcmp(but, "token_type") != 0)
		make_gguf_i32s(m, "tokenizer.ggml.token_type", p->type, p->count);
	if (p->no_prefix)
		make_gguf_bool(m, "tokenizer.ggml.add_space_prefix", false);
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

static void expect(const struct vocab *v, const char *text, size_t len, bool special, const int32_t *id, size_t count)
{
	struct tokens t = { 0 };

	assert_int_equal(vocab_encode(v, text, len, special, &t, NULL), 0);
	if (t.count != count || (count && memcmp(t.id, id, count * sizeof(*id)) != 0)) {
		for (size_t i = 0; i < t.count; i++)
			print_message(" %d", t.id[i]);
		fail_msg("\"%s\" gives %zu other tokens", text, t.count);
	}
	tokens_release(&t);
}

#define EXPECT(v, text, special, ...)                                                                                  \
	expect(v, text, sizeof(text) - 1, special, (const int32_t[]){ __VA_ARGS__ },                                   \
	       sizeof((int32_t[]){ __VA_ARGS__ }) / 4)

static void few(struct pieces *p)
{
	begin(p);
	add(p, BLANK, -1, 1);	   /* FIRST */
	add(p, "a", -2, 1);	   /* 1 */
	add(p, "b", -3, 1);	   /* 2 */
	add(p, "ab", -10, 1);	   /* 3 */
	add(p, BLANK "a", -9, 1);  /* 4 */
	add(p, "\xc3\xa9", -4, 1); /* 5: e with an acute accent */
	add(p, BLANK BLANK, 0, 4); /* 6 */
	add(p, "\n", 0, 4);	   /* 7 */
}

static void the_best_pair_is_joined_first(void **state)
{
	struct pieces p;
	struct made d;

	(void)state;
	few(&p);
	make(&d, &p, "");
	assert_int_equal(d.code, 0);
	EXPECT(d.v, "ab", false, FIRST + 4, FIRST + 2); /* the blank in front takes the a, by its better score */
	EXPECT(d.v, "b", false, FIRST, FIRST + 2);
	EXPECT(d.v, "bab", false, FIRST, FIRST + 2, FIRST + 3);
	EXPECT(d.v, "b a", false, FIRST, FIRST + 2, FIRST + 4);
	EXPECT(d.v, "b" BLANK "a", false, FIRST, FIRST + 2, FIRST + 4);
	expect(d.v, "", 0, false, NULL, 0);
	assert_true(vocab_adds_blank(d.v) && vocab_adds_bos(d.v));
	assert_int_equal(vocab_bos(d.v), BOS);
	assert_int_equal(vocab_eos(d.v), EOS);
	release(&d);
	p.no_prefix = true;
	make(&d, &p, "");
	EXPECT(d.v, "ab", false, FIRST + 3);
	assert_false(vocab_adds_blank(d.v));
	release(&d);
}

static void what_is_no_piece_goes_by_its_bytes(void **state)
{
	struct pieces p;
	struct made d;

	(void)state;
	few(&p);
	p.no_prefix = true;
	make(&d, &p, "");
	EXPECT(d.v, "a\xc3\xa9z", false, FIRST + 1, FIRST + 5, BYTES + 'z');
	EXPECT(d.v, "\xe2\x82\xac", false, BYTES + 0xe2, BYTES + 0x82, BYTES + 0xac);
	EXPECT(d.v, "a\xff\xc3", false, FIRST + 1, BYTES + 0xff, BYTES + 0xc3);
	EXPECT(d.v, "a\0b", false, FIRST + 1, BYTES, FIRST + 2);
	assert_int_equal(vocab_piece(d.v, BYTES + 0xe2, false).len, 1);
	assert_int_equal((uint8_t)vocab_piece(d.v, BYTES + 0xe2, false).at[0], 0xe2);
	assert_int_equal(vocab_piece(d.v, FIRST + 4, false).len, 2);
	assert_memory_equal(vocab_piece(d.v, FIRST + 4, false).at, " a", 2);
	release(&d);
	for (int b = 0; b < 256; b++)
		p.type[BYTES + b] = 5; /* without bytes: unknown, once a character */
	make(&d, &p, "");
	EXPECT(d.v,
	       "a\xe2\x82\xac"
	       "b",
	       false, FIRST + 1, UNKNOWN, FIRST + 2);
	release(&d);
}

static void marks_are_cut_out_first(void **state)
{
	struct pieces p;
	struct made d;

	(void)state;
	few(&p);
	make(&d, &p, "");
	EXPECT(d.v, "a<tool>b", false, FIRST + 4, TOOL, FIRST, FIRST + 2);
	EXPECT(d.v, "<start_of_turn>a", true, MARK, FIRST + 4);
	EXPECT(d.v, "</s>", true, EOS);
	EXPECT(d.v, "a  \nb", false, FIRST + 4, FIRST + 6, FIRST + 7, FIRST, FIRST + 2);
	assert_true(vocab_is_control(d.v, MARK) && vocab_is_control(d.v, UNKNOWN) && !vocab_is_control(d.v, TOOL));
	assert_true(vocab_is_end(d.v, EOS));
	release(&d);
	p.no_prefix = true;
	make(&d, &p, "");
	EXPECT(d.v, "<s>", false, BYTES + '<', BYTES + 's', BYTES + '>');
	EXPECT(d.v, "<0x41>", false, BYTES + '<', BYTES + '0', BYTES + 'x', BYTES + '4', BYTES + '1', BYTES + '>');
	release(&d);
}

static void expect_text(const struct vocab *v, const int32_t *id, size_t count, bool front, const char *text)
{
	char is[64] = "";

	for (size_t i = 0; i < count; i++) {
		const struct gguf_str s = vocab_next_piece(v, id[i], true, &front);

		strncat(is, s.at, s.len);
	}
	assert_string_equal(is, text);
}

#define EXPECT_TEXT(v, front, text, ...)                                                                               \
	expect_text(v, (const int32_t[]){ __VA_ARGS__ }, sizeof((int32_t[]){ __VA_ARGS__ }) / 4, front, text)

/* The blank that the tokenizer puts in front of a text is not of the text: what comes back has it no more. */
static void the_blank_in_front_is_taken_away(void **state)
{
	static const char *const texts[] = { "ab", " ab", "  b", "b a", "<tool>b", "a<tool> b<s>ab", "a  \nb", "" };
	struct pieces p;
	struct made d;

	(void)state;
	few(&p);
	for (int prefix = 0; prefix < 2; prefix++) {
		p.no_prefix = !prefix;
		make(&d, &p, "");
		for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
			struct tokens t = { 0 };

			assert_int_equal(vocab_encode(d.v, texts[i], strlen(texts[i]), true, &t, NULL), 0);
			expect_text(d.v, t.id, t.count, true, texts[i]);
			tokens_release(&t);
		}
		EXPECT_TEXT(d.v, true, prefix ? "a" : " a", FIRST + 4);
		EXPECT_TEXT(d.v, true, prefix ? "b a" : " b a", FIRST, FIRST + 2, FIRST + 4);
		EXPECT_TEXT(d.v, true, prefix ? "a a" : " a a", FIRST + 4, FIRST + 4);
		EXPECT_TEXT(d.v, true, prefix ? "<s>a" : "<s> a", BOS, FIRST + 4);
		EXPECT_TEXT(d.v, false, " a", FIRST + 4);	     /* a text that goes on */
		EXPECT_TEXT(d.v, true, "  b", FIRST + 6, FIRST + 2); /* two blanks that are one token */
		release(&d);
	}
}

/* ---- the definition, at random ---- */

static int find(const struct pieces *p, const char *at, size_t len)
{
	for (size_t i = FIRST; i < p->count; i++)
		if (strlen(p->text[i]) == len && memcmp(p->text[i], at, len) == 0)
			return (int)i;
	return -1;
}

/* Joins the neighbours of the best score, the first of equals, until none is a piece. */
static size_t by_hand(const struct pieces *p, const char *text, size_t len, int32_t *id)
{
	size_t end[64], count = len, best;

	for (size_t i = 0; i < len; i++)
		end[i] = i + 1;
	do {
		float most = 0;

		best = count;
		for (size_t i = 0; i + 1 < count; i++) {
			size_t from = i ? end[i - 1] : 0;
			int found = find(p, text + from, end[i + 1] - from);

			if (found >= 0 && (best == count || p->score[found] > most)) {
				best = i;
				most = p->score[found];
			}
		}
		if (best < count) {
			memmove(end + best, end + best + 1, (count - best - 1) * sizeof(end[0]));
			count--;
			best = 0;
		}
	} while (!best && count > 1);
	for (size_t i = 0; i < count; i++) {
		size_t from = i ? end[i - 1] : 0;
		int found = find(p, text + from, end[i] - from);

		id[i] = found >= 0 ? found : BYTES + (uint8_t)text[from];
	}
	return count;
}

static void texts_are_joined_as_by_hand(void **state)
{
	static struct pieces p;
	unsigned dice = 5;

	(void)state;
	for (int round = 0; round < 100; round++) {
		struct made d;

		begin(&p);
		p.no_prefix = true;
		for (int i = 0; i < 60; i++) {
			char text[8] = "";
			size_t len = 1 + (size_t)rand_r(&dice) % 5;

			for (size_t c = 0; c < len; c++)
				text[c] = (char)('a' + rand_r(&dice) % 3);
			if (find(&p, text, len) < 0) /* few scores, so that there are equal ones */
				add(&p, text, (float)(rand_r(&dice) % 12) - 8, 1);
		}
		make(&d, &p, "");
		for (int i = 0; i < 100; i++) {
			size_t len = (size_t)rand_r(&dice) % 60;
			int32_t id[64];
			char text[64];

			for (size_t c = 0; c < len; c++)
				text[c] = (char)('a' + rand_r(&dice) % 4);
			text[len] = '\0';
			expect(d.v, text, len, false, id, by_hand(&p, text, len, id));
		}
		release(&d);
	}
}

/* An algorithm of quadratic time would not come back from this. */
static void long_runs_are_no_trap(void **state)
{
	enum { LONG = 400000 };
	struct pieces p;
	struct made d;
	char *text = malloc(LONG);

	(void)state;
	few(&p);
	make(&d, &p, "");
	assert_non_null(text);
	for (const char *c = "ab \xff"; *c; c++) {
		struct tokens t = { 0 };

		memset(text, *c, LONG);
		assert_int_equal(vocab_encode(d.v, text, LONG, false, &t, NULL), 0);
		assert_true(t.count >= LONG / 2);
		tokens_release(&t);
	}
	free(text);
	release(&d);
}

/* ---- bad files ---- */

static void each_fault_is_named(void **state)
{
	static const struct {
		const char *but, *says;
	} cases[] = {
		{ "scores", "\"tokenizer.ggml.scores\" is missing" },
		{ "last", "\"tokenizer.ggml.scores\" has 268 elements for 269 tokens" },
		{ "token_type", "\"tokenizer.ggml.token_type\" is missing" },
	};
	struct pieces p;
	struct made d;

	(void)state;
	few(&p);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		make(&d, &p, cases[i].but);
		assert_int_equal(d.code, SINK_EFORMAT);
		assert_non_null(strstr(d.e.text, cases[i].says));
		release(&d);
	}
	p.score[FIRST] = (float)strtod("nan", NULL);
	make(&d, &p, "");
	assert_non_null(strstr(d.e.text, "\"tokenizer.ggml.scores\": element 261 is no number"));
	release(&d);
	few(&p);
	snprintf(p.text[BYTES + 3], sizeof(p.text[0]), "<0x3>");
	make(&d, &p, "");
	assert_non_null(strstr(d.e.text, "token 8, \"<0x3>\", is said to be a byte"));
	release(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_best_pair_is_joined_first),
		cmocka_unit_test(what_is_no_piece_goes_by_its_bytes),
		cmocka_unit_test(the_blank_in_front_is_taken_away),
		cmocka_unit_test(marks_are_cut_out_first),
		cmocka_unit_test(texts_are_joined_as_by_hand),
		cmocka_unit_test(long_runs_are_no_trap),
		cmocka_unit_test(each_fault_is_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
