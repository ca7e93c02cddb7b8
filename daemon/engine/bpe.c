/*
 * Byte-pair encoding with a heap. The ids of a piece are a doubly linked list in an array; the heap holds a candidate
 * for each pair of neighbours that has a merge, as one number: rank above, place of the left one below, so that the
 * least number is the next merge of the definition. A candidate is not taken back when a neighbour changes; it is
 * checked when it comes up: the pair that stands at its place must still be the one of its rank.
 */
#include "bpe.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct merge {
	int32_t left, right, joined;
};

struct bpe {
	struct merge *merge; /* by rank */
	uint32_t count;
	uint32_t *slot; /* hash table of ranks + 1; 0: free */
	size_t mask;
};

struct node {
	int32_t id; /* -1: joined to the one before */
	uint32_t before, after;
};

static const uint32_t NOWHERE = UINT32_MAX;

int bpe_new(size_t merges, struct bpe **ret, struct err *e)
{
	struct bpe *b = calloc(1, sizeof(*b));
	size_t slots = 2;

	while (slots < 2 * merges)
		slots *= 2;
	if (b) {
		b->mask = slots - 1;
		b->merge = malloc((merges ? merges : 1) * sizeof(*b->merge));
		b->slot = calloc(slots, sizeof(*b->slot));
	}
	if (!b || !b->merge || !b->slot || merges >= UINT32_MAX) {
		bpe_free(b);
		return err_set(e, SINK_ENOMEM, "There is no memory for the %zu merges of a vocabulary.", merges);
	}
	*ret = b;
	return 0;
}

void bpe_free(struct bpe *b)
{
	if (!b)
		return;
	free(b->merge);
	free(b->slot);
	free(b);
}

/* The slot where the pair's rank is, or would go. */
static uint32_t *find(const struct bpe *b, int32_t left, int32_t right)
{
	uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
	size_t i;

	key *= 0x9e3779b97f4a7c15U;
	for (i = (size_t)(key ^ key >> 32) & b->mask; b->slot[i]; i = (i + 1) & b->mask) {
		const struct merge *m = &b->merge[b->slot[i] - 1];

		if (m->left == left && m->right == right)
			break;
	}
	return &b->slot[i];
}

void bpe_add(struct bpe *b, int32_t left, int32_t right, int32_t joined)
{
	uint32_t *slot = find(b, left, right);

	b->merge[b->count++] = (struct merge){ left, right, joined };
	if (!*slot)
		*slot = b->count;
}

/* ---- the heap: a[0] is the least, a[i] <= a[2i+1], a[2i+2] ---- */

struct heap {
	uint64_t *at;
	size_t count;
};

static void push(struct heap *h, uint64_t n)
{
	size_t i = h->count++;

	for (; i && h->at[(i - 1) / 2] > n; i = (i - 1) / 2)
		h->at[i] = h->at[(i - 1) / 2];
	h->at[i] = n;
}

static uint64_t pop(struct heap *h)
{
	uint64_t least = h->at[0], last = h->at[--h->count];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < h->count) {
		if (child + 1 < h->count && h->at[child + 1] < h->at[child])
			child++;
		if (h->at[child] >= last)
			break;
		h->at[i] = h->at[child];
		i = child;
	}
	h->at[i] = last;
	return least;
}

/* Makes a candidate of the node at `left` and the next one. */
static void propose(const struct bpe *b, const struct node *node, uint32_t left, struct heap *h)
{
	uint32_t rank;

	if (left == NOWHERE || node[left].after == NOWHERE)
		return;
	rank = *find(b, node[left].id, node[node[left].after].id);
	if (rank)
		push(h, (uint64_t)(rank - 1) << 32 | left);
}

static void join(const struct bpe *b, struct node *node, uint64_t candidate, struct heap *h)
{
	const struct merge *m = &b->merge[candidate >> 32];
	uint32_t left = (uint32_t)candidate, right = node[left].after;

	if (node[left].id != m->left || right == NOWHERE || node[right].id != m->right)
		return;
	node[left].id = m->joined;
	node[left].after = node[right].after;
	node[right].id = -1;
	if (node[right].after != NOWHERE)
		node[node[right].after].before = left;
	propose(b, node, node[left].before, h);
	propose(b, node, left, h);
}

/* Room for the nodes and the heap: a candidate for each pair at the start, and two for each of the joins. */
static bool reserve(struct bpe_scratch *s, size_t count, struct node **node, struct heap *h)
{
	size_t bytes = count * (3 * sizeof(uint64_t) + sizeof(struct node));

	if (s->bytes < bytes) {
		bpe_release(s);
		s->memory = malloc(bytes);
		if (!s->memory)
			return false;
		s->bytes = bytes;
	}
	h->at = s->memory;
	h->count = 0;
	*node = (struct node *)(h->at + 3 * count);
	return true;
}

void bpe_release(struct bpe_scratch *s)
{
	free(s->memory);
	*s = (struct bpe_scratch){ 0 };
}

int64_t bpe_join(const struct bpe *b, int32_t *id, size_t count, struct bpe_scratch *s, struct err *e)
{
	struct node *node;
	struct heap h;
	int64_t left = 0;

	if (count < 2)
		return (int64_t)count;
	if (count >= NOWHERE || !reserve(s, count, &node, &h))
		return err_set(e, SINK_ENOMEM, "There is no memory to tokenize a run of %zu bytes.", count);
	for (uint32_t i = 0; i < count; i++)
		node[i] = (struct node){ id[i], i ? i - 1 : NOWHERE, i + 1 < count ? i + 1 : NOWHERE };
	for (uint32_t i = 0; i < count; i++)
		propose(b, node, i, &h);
	while (h.count)
		join(b, node, pop(&h), &h);
	for (uint32_t i = 0; i != NOWHERE; i = node[i].after)
		id[left++] = node[i].id;
	return left;
}
