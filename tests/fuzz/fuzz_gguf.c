/* Fuzz target: a model file, read as the daemon reads it, but for its weights. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "turn.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_turns(const struct turns *t)
{
	static const char text[] = "One <|im_end|> message,\n\n  don't 12 \xc3\xa9 \xff\xf0\x9f";
	struct tokens out = { 0 };

	turns_begin(t, &out, NULL);
	for (int r = 0; r < ROLES; r++)
		turns_message(t, (enum role)r, text, sizeof(text), &out, NULL);
	turns_open_answer(t, &out, NULL);
	turns_close_answer(t, 0, &out, NULL);
	tokens_release(&out);
}

static void use_vocab(const struct vocab *v)
{
	struct tokens out = { 0 };

	for (size_t i = 0; i < vocab_size(v); i++) {
		struct gguf_str piece = vocab_piece(v, (int32_t)i, true);

		if (piece.len < 4096)
			vocab_encode(v, piece.at, piece.len, i % 2, &out, NULL);
		utf8_whole(piece.at, piece.len);
		if (out.count > 1 << 16)
			break;
	}
	for (size_t i = 0; i < out.count; i++)
		if (out.id[i] < 0 || (size_t)out.id[i] >= vocab_size(v))
			abort();
	tokens_release(&out);
}

static void use_file(const struct gguf *g)
{
	struct tensor t;

	for (size_t i = 0; i < gguf_tensors(g); i++) {
		struct gguf_str s = gguf_tensor_name(g, i);
		char name[64];

		if (s.len >= sizeof(name) || memchr(s.at, '\0', s.len))
			continue;
		memcpy(name, s.at, s.len);
		name[s.len] = '\0';
		gguf_tensor(g, name, &t, NULL);
	}
	gguf_fingerprint(g);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct turns *t = NULL;
	struct vocab *v = NULL;
	struct gguf *g = NULL;
	char note[240];
	struct err e;

	if (gguf_parse(data, size, &g, &e))
		return 0;
	use_file(g);
	if (vocab_new(g, &v, &e) == 0) {
		use_vocab(v);
		if (turns_new(g, v, &t, note, &e) == 0)
			use_turns(t);
	}
	turns_free(t);
	vocab_free(v);
	gguf_close(g);
	return 0;
}
