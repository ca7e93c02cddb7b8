/* Owns the making of the tree: tokens in the order of their bytes, each adding what it does not share with the last. */
#include "trie.h"

#include <stdlib.h>
#include <string.h>

struct sorted {
	struct gguf_str text;
	int32_t id;
};

static int compare(const void *a, const void *b)
{
	const struct sorted *x = a, *y = b;
	const size_t both = x->text.len < y->text.len ? x->text.len : y->text.len;
	const int c = memcmp(x->text.at, y->text.at, both);

	if (c)
		return c;
	if (x->text.len != y->text.len)
		return x->text.len < y->text.len ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static size_t shared(struct gguf_str a, struct gguf_str b)
{
	size_t n = 0;

	while (n < a.len && n < b.len && a.at[n] == b.at[n])
		n++;
	return n;
}

static struct gguf_str text_of(const struct vocab *v, int32_t id)
{
	const struct gguf_str text = vocab_piece(v, id, true), none = { "", 0 };

	return vocab_is_mark(v, id) || text.len > TRIE_BYTES ? none : text;
}

struct gguf_str trie_token(const struct trie *t, int32_t id)
{
	if (id < 0 || (size_t)id >= vocab_size(t->v))
		return (struct gguf_str){ "", 0 };
	return text_of(t->v, id);
}

/* The plain tokens in order; sets how many, and how many nodes they make. */
static struct sorted *sort(const struct vocab *v, size_t *count, size_t *nodes)
{
	struct sorted *s = malloc((vocab_size(v) + 1) * sizeof(*s));

	*count = *nodes = 0;
	if (!s)
		return NULL;
	for (int32_t id = 0; id < (int32_t)vocab_size(v); id++) {
		const struct gguf_str text = text_of(v, id);

		if (text.len)
			s[(*count)++] = (struct sorted){ text, id };
	}
	qsort(s, *count, sizeof(*s), compare);
	for (size_t i = 0; i < *count; i++)
		*nodes += s[i].text.len - (i ? shared(s[i - 1].text, s[i].text) : 0);
	return s;
}

static void fill(struct trie *t, const struct sorted *s, size_t count)
{
	uint32_t open[TRIE_BYTES + 1]; /* the node of each byte of the last token */
	size_t depth = 0;

	for (size_t i = 0; i < count; i++) {
		const struct gguf_str text = s[i].text;
		const size_t from = i ? shared(s[i - 1].text, text) : 0;

		while (depth > from)
			t->node[open[--depth]].skip = (uint32_t)t->nodes;
		for (; depth < text.len; depth++) {
			open[depth] = (uint32_t)t->nodes;
			t->node[t->nodes++] = (struct trie_node){ .first = (uint32_t)t->ids,
								  .byte = (uint8_t)text.at[depth],
								  .depth = (uint8_t)depth };
		}
		for (size_t d = 0; d < depth; d++)
			if (t->node[open[d]].height < text.len)
				t->node[open[d]].height = (uint8_t)text.len;
		t->id[t->ids++] = s[i].id;
		t->depth = text.len > t->depth ? text.len : t->depth;
		if (text.len == 1)
			t->spells[(uint8_t)text.at[0]] = true;
	}
	while (depth)
		t->node[open[--depth]].skip = (uint32_t)t->nodes;
	t->node[t->nodes] = (struct trie_node){ .first = (uint32_t)t->ids, .skip = (uint32_t)t->nodes };
}

static void find_roots(struct trie *t)
{
	uint32_t at = 0;

	for (unsigned b = 0; b < 256; b++) {
		t->root[b] = at;
		if (at < t->nodes && t->node[at].byte == b)
			at = t->node[at].skip;
	}
	t->root[256] = at;
}

int trie_new(const struct vocab *v, struct trie **ret, struct err *e)
{
	struct trie *t = calloc(1, sizeof(*t));
	size_t count = 0, nodes = 0;
	struct sorted *s = t ? sort(v, &count, &nodes) : NULL;

	if (s) {
		t->v = v;
		t->node = malloc((nodes + 1) * sizeof(*t->node));
		t->id = malloc((count + 1) * sizeof(*t->id));
		t->end = malloc((vocab_size(v) + 1) * sizeof(*t->end));
	}
	if (!s || !t->node || !t->id || !t->end) {
		free(s);
		trie_free(t);
		return err_set(e, SINK_ENOMEM, "There is no memory for the tree of tokens.");
	}
	fill(t, s, count);
	free(s);
	find_roots(t);
	for (int32_t id = 0; id < (int32_t)vocab_size(v); id++)
		if (vocab_is_end(v, id))
			t->end[t->ends++] = id;
	*ret = t;
	return 0;
}

void trie_free(struct trie *t)
{
	if (!t)
		return;
	free(t->node);
	free(t->id);
	free(t->end);
	free(t);
}

uint64_t trie_prefixes(const struct trie *t, const char *at, size_t len)
{
	uint32_t i = len ? t->root[(uint8_t)*at] : 0, end = len ? t->root[(uint8_t)*at + 1] : 0;
	uint64_t r = 0;

	for (size_t depth = 0; depth < len && depth < 64; depth++) {
		while (i < end && t->node[i].byte != (uint8_t)at[depth])
			i = t->node[i].skip;
		if (i >= end)
			break;
		if (t->node[i].first < t->node[i + 1].first)
			r |= UINT64_C(1) << depth;
		end = t->node[i].skip;
		i++;
	}
	return r;
}
