/*
 * Byte-pair encoding with a heap. The parts of a piece are a doubly linked list in an array; the heap holds a candidate
 * for each pair of neighbours that may be joined, as one number: rank above, place of the left one below, so that the
 * least number is the next join of the definition. A candidate is not taken back when a neighbour changes; it is
 * checked when it comes up: the pair that stands at its place must still have its rank. (Another pair of that rank at
 * that place is as good: it is one that the definition joins now.)
 */
#include "bpe.h"

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
	struct bpe_part part;
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

bool bpe_merges(const void *arg, const struct bpe_part *left, const struct bpe_part *right, uint32_t *rank,
		int32_t *joined)
{
	const struct bpe *b = arg;
	uint32_t found = *find(b, left->id, right->id);

	if (!found)
		return false;
	*rank = found - 1;
	*joined = b->merge[found - 1].joined;
	return true;
}

/* Whether the node at `left` and the next one may be joined, and how. */
static bool joins(const struct bpe_rule *rule, const struct node *node, uint32_t left, uint32_t *rank, int32_t *joined)
{
	return left != NOWHERE && node[left].after != NOWHERE &&
	       rule->joins(rule->arg, &node[left].part, &node[node[left].after].part, rank, joined);
}

static void propose(const struct bpe_rule *rule, const struct node *node, uint32_t left, struct heap *h)
{
	uint32_t rank;
	int32_t joined;

	if (joins(rule, node, left, &rank, &joined))
		push(h, (uint64_t)rank << 32 | left);
}

static void join(const struct bpe_rule *rule, struct node *node, uint64_t candidate, struct heap *h)
{
	uint32_t left = (uint32_t)candidate, right = node[left].after, rank;
	int32_t joined;

	if (node[left].part.at == NOWHERE || !joins(rule, node, left, &rank, &joined) || rank != candidate >> 32)
		return;
	node[left].part.id = joined;
	node[left].part.end = node[right].part.end;
	node[left].after = node[right].after;
	node[right].part.at = NOWHERE; /* it is no more */
	if (node[right].after != NOWHERE)
		node[node[right].after].before = left;
	propose(rule, node, node[left].before, h);
	propose(rule, node, left, h);
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

int64_t bpe_join(const struct bpe_rule *rule, struct bpe_part *part, size_t count, struct bpe_scratch *s, struct err *e)
{
	struct node *node;
	struct heap h;
	int64_t left = 0;

	if (count < 2)
		return (int64_t)count;
	if (count >= NOWHERE || !reserve(s, count, &node, &h))
		return err_set(e, SINK_ENOMEM, "There is no memory to tokenize a run of %zu characters.", count);
	for (uint32_t i = 0; i < count; i++)
		node[i] = (struct node){ part[i], i ? i - 1 : NOWHERE, i + 1 < count ? i + 1 : NOWHERE };
	for (uint32_t i = 0; i < count; i++)
		propose(rule, node, i, &h);
	while (h.count)
		join(rule, node, pop(&h), &h);
	for (uint32_t i = 0; i != NOWHERE; i = node[i].after)
		part[left++] = node[i].part;
	return left;
}
