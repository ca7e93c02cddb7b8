/*
 * Owns expressions. Equal ones are kept once, found by a hash of what they consist of; so alternatives that say the
 * same are one, and a set of bytes that a schema uses a hundred times is there once.
 */
#include "grammar.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "grammar_parts.h"

void grammar_byteset_add(struct byteset *s, unsigned least, unsigned most)
{
	for (unsigned b = least; b <= most; b++)
		s->bits[b / 64] |= UINT64_C(1) << b % 64;
}

bool grammar_byteset_has(const struct byteset *s, unsigned byte)
{
	return s->bits[byte / 64] >> byte % 64 & 1;
}

bool grammar_grow(void **at, size_t count, size_t *room, size_t size)
{
	const size_t more = *room ? 2 * *room : 64;
	void *p;

	if (count < *room)
		return true;
	p = realloc(*at, more * size);
	if (!p)
		return false;
	*at = p;
	*room = more;
	return true;
}

static int32_t fail_memory(struct grammar *g)
{
	if (!g->failed.code)
		err_set(&g->failed, SINK_ENOMEM, "There is no memory for a grammar.");
	return EXPR_NEVER;
}

static int32_t fail_size(struct grammar *g)
{
	if (!g->failed.code)
		err_set(&g->failed, SINK_EINVAL, "It is too large.");
	return EXPR_NEVER;
}

const void *grammar_content(const struct grammar *g, const struct expr *x)
{
	return g->pool + x->at;
}

static uint64_t hash(const struct expr *x, const void *content)
{
	const uint32_t head[] = { x->kind, x->of, x->least, x->most };

	return XXH3_64bits_withSeed(content, x->size, XXH3_64bits(head, sizeof(head)));
}

static bool same(const struct grammar *g, const struct expr *x, const struct expr *y, const void *content)
{
	return x->kind == y->kind && x->of == y->of && x->least == y->least && x->most == y->most &&
	       x->size == y->size && (!x->size || memcmp(grammar_content(g, x), content, x->size) == 0);
}

/* The table is kept at most half full. */
static bool widen(struct grammar *g)
{
	const size_t slots = g->slots ? 2 * g->slots : 256;
	int32_t *slot;

	if (2 * g->exprs < g->slots)
		return true;
	slot = calloc(slots, sizeof(*slot));
	if (!slot)
		return false;
	for (size_t i = 2; i < g->exprs; i++) {
		size_t at = (size_t)hash(&g->expr[i], grammar_content(g, &g->expr[i])) & (slots - 1);

		while (slot[at])
			at = (at + 1) & (slots - 1);
		slot[at] = (int32_t)i;
	}
	free(g->slot);
	g->slot = slot;
	g->slots = slots;
	return true;
}

/* Content behind each other, each at a multiple of eight. */
static bool put(struct grammar *g, const void *content, uint32_t size, uint32_t *at)
{
	const size_t aligned = (size + 7) / 8 * 8;

	while (g->pool_room - g->pooled < aligned) {
		size_t room = g->pool_room ? 2 * g->pool_room : 4096;
		char *more = realloc(g->pool, room);

		if (!more)
			return false;
		g->pool = more;
		g->pool_room = room;
	}
	*at = (uint32_t)g->pooled;
	if (size)
		memcpy(g->pool + g->pooled, content, size);
	g->pooled += aligned;
	return true;
}

/* The number of this expression, which is entered when it is new. */
static int32_t intern(struct grammar *g, struct expr x, const void *content, size_t size)
{
	size_t at;

	if (g->failed.code)
		return EXPR_NEVER;
	if (size > GRAMMAR_BYTES || g->pooled + size > GRAMMAR_BYTES || g->exprs >= GRAMMAR_EXPRS)
		return fail_size(g);
	x.size = (uint32_t)size;
	if (!widen(g) || !grammar_grow((void **)&g->expr, g->exprs, &g->expr_room, sizeof(*g->expr)))
		return fail_memory(g);
	at = (size_t)hash(&x, content) & (g->slots - 1);
	for (; g->slot[at]; at = (at + 1) & (g->slots - 1))
		if (same(g, &g->expr[g->slot[at]], &x, content))
			return g->slot[at];
	if (!put(g, content, x.size, &x.at))
		return fail_memory(g);
	g->slot[at] = (int32_t)g->exprs;
	g->expr[g->exprs] = x;
	return (int32_t)g->exprs++;
}

int grammar_new(struct grammar **ret, struct err *e)
{
	struct grammar *g = calloc(1, sizeof(*g));

	if (!g || !grammar_grow((void **)&g->expr, 0, &g->expr_room, sizeof(*g->expr))) {
		grammar_free(g);
		return err_set(e, SINK_ENOMEM, "There is no memory for a grammar.");
	}
	g->expr[EXPR_NEVER] = (struct expr){ .kind = EXPR_IS_NEVER };
	g->expr[EXPR_EMPTY] = (struct expr){ .kind = EXPR_IS_EMPTY };
	g->exprs = 2;
	*ret = g;
	return 0;
}

void grammar_free(struct grammar *g)
{
	if (!g)
		return;
	free(g->expr);
	free(g->pool);
	free(g->slot);
	free(g->rule);
	free(g->node);
	free(g->set);
	free(g);
}

int32_t grammar_bytes(struct grammar *g, const struct byteset *set)
{
	if (!(set->bits[0] | set->bits[1] | set->bits[2] | set->bits[3]))
		return EXPR_NEVER;
	return intern(g, (struct expr){ .kind = EXPR_IS_BYTES }, set, sizeof(*set));
}

int32_t grammar_text(struct grammar *g, const char *text, size_t len)
{
	if (!len)
		return EXPR_EMPTY;
	return intern(g, (struct expr){ .kind = EXPR_IS_TEXT }, text, len);
}

int32_t grammar_seq(struct grammar *g, const int32_t *part, size_t parts)
{
	int32_t *kept = malloc((parts ? parts : 1) * sizeof(*kept)), r = EXPR_EMPTY;
	size_t count = 0;

	if (!kept)
		return fail_memory(g);
	for (size_t i = 0; i < parts; i++) {
		if (part[i] == EXPR_NEVER) {
			free(kept);
			return EXPR_NEVER;
		}
		if (part[i] != EXPR_EMPTY)
			kept[count++] = part[i];
	}
	if (count == 1)
		r = kept[0];
	else if (count)
		r = intern(g, (struct expr){ .kind = EXPR_IS_SEQ }, kept, count * sizeof(*kept));
	free(kept);
	return r;
}

/* Choices as they are, each once, in the order of their numbers. */
static int32_t choose(struct grammar *g, const int32_t *choice, size_t choices)
{
	if (choices == 0)
		return EXPR_NEVER;
	if (choices == 1)
		return choice[0];
	return intern(g, (struct expr){ .kind = EXPR_IS_ANY }, choice, choices * sizeof(*choice));
}

struct text_choice {
	const char *at;
	size_t len;
};

static int compare_texts(const void *a, const void *b)
{
	const struct text_choice *x = a, *y = b;
	const size_t both = x->len < y->len ? x->len : y->len;
	const int c = memcmp(x->at, y->at, both);

	return c ? c : x->len < y->len ? -1 : x->len > y->len;
}

/* Sorted texts, of which the first `from` bytes were said: what they share is said once. */
static int32_t share(struct grammar *g, const struct text_choice *t, size_t count, size_t from)
{
	const struct text_choice *last = &t[count - 1];
	size_t to = from, choices = 0, begin = 0;
	int32_t choice[257], both[2];

	while (to < t->len && to < last->len && t->at[to] == last->at[to])
		to++;
	if (count == 1)
		to = t->len;
	if (count > 1) {
		if (t->len == to) {
			choice[choices++] = EXPR_EMPTY;
			begin = 1;
		}
		for (size_t i = begin + 1; i <= count; i++) {
			if (i < count && t[i].at[to] == t[begin].at[to])
				continue;
			choice[choices++] = share(g, t + begin, i - begin, to);
			begin = i;
		}
	}
	both[0] = grammar_text(g, t->at + from, to - from);
	both[1] = count > 1 ? choose(g, choice, choices) : EXPR_EMPTY;
	return grammar_seq(g, both, 2);
}

/* Many words are one tree of their letters: else a guide would follow each of them. */
static int32_t choose_texts(struct grammar *g, const int32_t *choice, size_t choices)
{
	struct text_choice *t = malloc(choices * sizeof(*t));
	char *copy = NULL;
	size_t bytes = 0, count = 0;
	int32_t r;

	for (size_t i = 0; i < choices; i++)
		bytes += g->expr[choice[i]].size;
	copy = malloc(bytes ? bytes : 1); /* the pool moves while it grows */
	if (!t || !copy) {
		free(t);
		free(copy);
		return fail_memory(g);
	}
	bytes = 0;
	for (size_t i = 0; i < choices; i++) {
		const struct expr *x = &g->expr[choice[i]];

		memcpy(copy + bytes, grammar_content(g, x), x->size);
		t[count++] = (struct text_choice){ copy + bytes, x->size };
		bytes += x->size;
	}
	qsort(t, count, sizeof(*t), compare_texts);
	r = share(g, t, count, 0);
	free(t);
	free(copy);
	return r;
}

static int compare_numbers(const void *a, const void *b)
{
	const int32_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

int32_t grammar_any(struct grammar *g, const int32_t *choice, size_t choices)
{
	int32_t *kept = malloc(2 * (choices + 1) * sizeof(*kept)), *text, r;
	size_t count = 0, texts = 0, once = 0;

	if (!kept)
		return fail_memory(g);
	text = kept + choices + 1;
	for (size_t i = 0; i < choices; i++)
		kept[count++] = choice[i];
	qsort(kept, count, sizeof(*kept), compare_numbers);
	for (size_t i = 0; i < count; i++) {
		if (kept[i] == EXPR_NEVER || (i && kept[i] == kept[i - 1]))
			continue;
		if (g->expr[kept[i]].kind == EXPR_IS_TEXT)
			text[texts++] = kept[i];
		else
			kept[once++] = kept[i];
	}
	if (texts)
		kept[once++] = choose_texts(g, text, texts);
	r = choose(g, kept, once);
	free(kept);
	return r;
}

int32_t grammar_repeat(struct grammar *g, int32_t of, uint32_t least, uint32_t most)
{
	if (least > GRAMMAR_COUNT || (most > GRAMMAR_COUNT && most != GRAMMAR_MANY))
		return fail_size(g);
	if (most < least || (of == EXPR_NEVER && least))
		return EXPR_NEVER;
	if (most == 0 || of == EXPR_EMPTY || of == EXPR_NEVER)
		return EXPR_EMPTY;
	if (least == 1 && most == 1)
		return of;
	if (least == 0 && most == 1)
		return grammar_any(g, (const int32_t[]){ EXPR_EMPTY, of }, 2);
	return intern(g, (struct expr){ .kind = EXPR_IS_REPEAT, .of = (uint32_t)of, .least = least, .most = most },
		      NULL, 0);
}

int32_t grammar_rule(struct grammar *g)
{
	if (g->failed.code)
		return EXPR_NEVER;
	if (!grammar_grow((void **)&g->rule, g->rules, &g->rule_room, sizeof(*g->rule)))
		return fail_memory(g);
	g->rule[g->rules] = (struct rule){ .body = EXPR_NEVER, .start = -1 };
	return intern(g, (struct expr){ .kind = EXPR_IS_CALL, .of = (uint32_t)g->rules++ }, NULL, 0);
}

void grammar_define(struct grammar *g, int32_t call, int32_t body)
{
	if (!g->failed.code)
		g->rule[g->expr[call].of].body = body;
}
