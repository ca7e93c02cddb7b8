/*
 * The default model's vocabulary and turns, and Gemma 3's vocabulary, against recorded ids; $SINKD_MODEL and
 * $SINKD_GEMMA name the files.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "turn.h"
#include "vectors.h"

static struct gguf *file;
static struct vocab *vocab;
static struct turns *turns;
static char note[240];

static int open_model(void **state)
{
	const char *path = getenv("SINKD_MODEL");
	struct gguf_str name;
	struct err e;

	(void)state;
	if (!path || !*path) {
		print_message("SINKD_MODEL names no model: the golden vectors are not compared\n");
		return 0;
	}
	if (gguf_open(path, &file, &e) || vocab_new(file, &vocab, &e) || turns_new(file, vocab, &turns, note, &e)) {
		print_error("%s\n", e.text);
		return -1;
	}
	if (gguf_string(file, "general.basename", &name, NULL) || name.len != 7 || memcmp(name.at, "smollm2", 7) != 0) {
		print_message("%s is not SmolLM2: the golden vectors are not compared\n", path);
		gguf_close(file);
		file = NULL;
	}
	return 0;
}

static int close_model(void **state)
{
	(void)state;
	turns_free(turns);
	vocab_free(vocab);
	gguf_close(file);
	return 0;
}

static void skip_without_model(void)
{
	if (!file)
		skip();
}

static void expect(const struct vectors *v, const struct tokens *is, const char *list)
{
	static int32_t should[FIELD_BYTES];
	size_t count = vectors_numbers(list, should, FIELD_BYTES);

	if (is->count != count || (count && memcmp(is->id, should, count * sizeof(should[0])) != 0))
		fail_msg("line %zu: the ids differ", v->lines);
}

static void compare_texts(const struct vocab *with, const char *name)
{
	static struct vectors v;
	static char text[FIELD_BYTES];

	vectors_open(&v, name);
	while (vectors_next(&v)) {
		size_t len = vectors_text(v.field[0], text, sizeof(text)), at = 0;
		struct tokens t = { 0 };

		assert_int_equal(vocab_encode(with, text, len, false, &t, NULL), 0);
		expect(&v, &t, v.field[1]);
		for (size_t i = 0; i < t.count; i++) {
			struct gguf_str piece = vocab_piece(with, t.id[i], false);

			assert_true(piece.len <= len - at);
			assert_memory_equal(piece.at, text + at, piece.len);
			at += piece.len;
		}
		assert_int_equal(at, len);
		tokens_release(&t);
	}
	assert_true(v.lines >= 400);
}

static void texts_give_the_recorded_ids_and_come_back(void **state)
{
	(void)state;
	skip_without_model();
	compare_texts(vocab, "tokenizer-smollm2.txt");
}

static void so_do_those_of_gemma(void **state)
{
	const char *path = getenv("SINKD_GEMMA");
	struct gguf *g;
	struct vocab *v;

	(void)state;
	if (!path || !*path)
		skip();
	assert_int_equal(gguf_open(path, &g, NULL), 0);
	assert_int_equal(vocab_new(g, &v, NULL), 0);
	assert_false(vocab_adds_blank(v)); /* so nothing is taken away */
	compare_texts(v, "tokenizer-gemma3.txt");
	vocab_free(v);
	gguf_close(g);
}

static void put_message(enum role r, const char *text, size_t len, struct tokens *t)
{
	const char *system = turns_default_system(turns);

	if (t->count == 0 && r != ROLE_SYSTEM)
		assert_int_equal(turns_message(turns, ROLE_SYSTEM, system, strlen(system), t, NULL), 0);
	assert_int_equal(turns_message(turns, r, text, len, t, NULL), 0);
}

static void turns_give_the_ids_of_the_rendered_template(void **state)
{
	static struct vectors v;
	static char text[FIELD_BYTES];

	(void)state;
	skip_without_model();
	assert_string_equal(turns_name(turns), "chatml");
	assert_string_equal(note, "");
	assert_string_equal(turns_default_system(turns),
			    "You are a helpful AI assistant named SmolLM, trained by Hugging Face");
	vectors_open(&v, "turns-smollm2.txt");
	while (vectors_next(&v)) {
		char *rest = v.field[0], *word;
		struct tokens t = { 0 };

		assert_int_equal(turns_begin(turns, &t, NULL), 0);
		while ((word = strsep(&rest, " "))) {
			enum role r;
			char *hex = strchr(word, ':');

			*hex++ = '\0';
			assert_int_equal(role_find(word, &r, NULL), 0);
			put_message(r, text, vectors_text(hex, text, sizeof(text)), &t);
		}
		assert_int_equal(turns_open_answer(turns, &t, NULL), 0);
		expect(&v, &t, v.field[1]);
		tokens_release(&t);
	}
	assert_true(v.lines >= 6);
}

static void marks_are_tokens_of_their_own(void **state)
{
	struct tokens t = { 0 };

	(void)state;
	skip_without_model();
	assert_int_equal(vocab_size(vocab), 49152);
	assert_int_equal(vocab_bos(vocab), 1);
	assert_int_equal(vocab_eos(vocab), 2);
	assert_false(vocab_adds_bos(vocab));
	assert_true(vocab_is_end(vocab, 0) && vocab_is_end(vocab, 2) && !vocab_is_end(vocab, 1));
	assert_int_equal(vocab_find(vocab, "<|im_end|>"), 2);
	assert_int_equal(vocab_encode(vocab, "<|im_end|>", 10, true, &t, NULL), 0);
	assert_int_equal(t.count, 1);
	assert_int_equal(t.id[0], 2);
	t.count = 0;
	assert_int_equal(vocab_encode(vocab, "<|im_end|>", 10, false, &t, NULL), 0);
	assert_true(t.count > 1);
	tokens_release(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts_give_the_recorded_ids_and_come_back),
		cmocka_unit_test(so_do_those_of_gemma),
		cmocka_unit_test(turns_give_the_ids_of_the_rendered_template),
		cmocka_unit_test(marks_are_tokens_of_their_own),
	};

	return cmocka_run_group_tests(tests, open_model, close_model);
}
