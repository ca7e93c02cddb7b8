/*
 * Fuzz target: what an answer must be. The first byte tells a regular expression ('r') from a message with `schema`
 * (anything else); of what is taken, a walk picks tokens by the bytes of the input, and must end in an answer that is
 * complete within its tokens, as guide.h promises.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "constraint.h"
#include "guide.h"
#include "make_gguf.h"
#include "regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TOKENS = 40 }; /* more than the fewest that finish */

static struct vocab *vocab;

static const struct trie *tokens(void)
{
	static struct trie *trie;
	static struct gguf *g;
	static void *file;
	struct make_gguf *m;
	size_t size;

	if (trie)
		return trie;
	m = make_gguf_new();
	make_tiny_vocab(m);
	file = make_gguf_finish(m, &size);
	if (gguf_parse(file, size, &g, NULL) || vocab_new(g, &vocab, NULL) || trie_new(vocab, &trie, NULL))
		abort();
	return trie;
}

/* The token of the mask that comes first from `from` on. */
static int32_t choose(const struct mask *m, uint32_t from)
{
	const int32_t all = (int32_t)vocab_size(vocab);

	for (int32_t i = 0; i < all; i++) {
		const int32_t id = (int32_t)((from + (uint32_t)i) % (uint32_t)all);

		if (m->bits[id / 64] >> id % 64 & 1)
			return id;
	}
	abort();
}

static void walk(struct guide *q, const uint8_t *data, size_t size)
{
	int64_t left = guide_least(q) + TOKENS;
	struct mask m;
	char bytes[64];

	if (left > 300)
		return;
	for (size_t i = 0; left > 0 && !guide_is_closed(q); left--, i++) {
		int32_t id;

		guide_look(q);
		guide_forced(q, bytes, sizeof(bytes));
		if (guide_mask(q, left, &m, NULL) || !m.count || guide_least(q) > left)
			abort();
		id = choose(&m, size ? data[i % size] * 7919U + (uint32_t)i : 0);
		if (vocab_is_end(vocab, id))
			break;
		if (!guide_see(q, id) || guide_take(q, id, NULL))
			abort();
	}
	if (!guide_is_complete(q))
		abort();
}

static void use(const struct grammar *g, const uint8_t *data, size_t size)
{
	struct guide *q;

	if (guide_new(g, tokens(), &q, NULL))
		return;
	walk(q, data, size);
	guide_free(q);
}

static void use_regex(const uint8_t *data, size_t size)
{
	struct grammar *g;
	struct regex r;
	struct err e;

	if (grammar_new(&g, &e))
		return;
	if (regex_parse(g, (const char *)data, size, size % 2 ? FORM_JSON : FORM_PLAIN, &r, &e) == 0 &&
	    grammar_finish(g, r.expr, &e) == 0)
		use(g, data, size);
	grammar_free(g);
}

static void use_schema(const uint8_t *data, size_t size)
{
	const struct grammar *g;
	struct constraint *c;
	struct msg *m;
	struct err e;
	bool given;

	if (msg_parse(data, size, &m, &e))
		return;
	if (constraint_read(msg_root(m), &c, &given, &e) == 0 && c) {
		if (constraint_grammar(c, &g, &e) == 0)
			use(g, data, size);
		constraint_drop(c);
	}
	msg_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	if (*data == 'r')
		use_regex(data + 1, size - 1);
	else
		use_schema(data + 1, size - 1);
	return 0;
}
