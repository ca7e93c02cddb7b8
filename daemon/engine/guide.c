/*
 * Owns masks. The tree of tokens is walked along the states; a byte that leads nowhere passes over all tokens that go
 * on with it. A mask is kept with the tokens that each of its tokens may need at most, so that it serves as long as so
 * many are left; near the end it is made for what is left.
 *
 * Where repetitions are counted, as the characters of a string with a limit, each count is a state of its own. Far from
 * the limit they allow the same: the mask of the lowest count serves, but for tokens that may come to the limit, and
 * only these are walked to.
 *
 * A walk is bounded, since a hostile pattern may have a state for every text: what was come across, by places and
 * classes, is counted, also what is known already, so that a mask does not depend on what was looked at before. Tokens
 * behind the bound are not allowed, but those of one byte always are.
 */
#include "guide.h"

#include <stdlib.h>
#include <string.h>

#include "guide_parts.h"

enum {
	MASKS = 48,	     /* that are kept */
	WALK_MOST = 1 << 20, /* places times classes of a walk */
	WALK_STATE = 64,     /* what a state counts beside them */
};

struct kept {
	int32_t state; /* STATE_DEAD: free */
	uint64_t used;
	int64_t need; /* it serves when so many tokens are left */
	size_t count;
	int32_t first;
	uint64_t *bits;
};

struct guide {
	const struct grammar *g;
	const struct trie *t;
	struct costs costs;
	struct states *states;
	int32_t at, ahead;
	struct kept mask[MASKS], spare; /* for what is left near the end */
	size_t words;
	uint64_t clock;
	uint32_t walk;
	int32_t path[TRIE_BYTES + 1]; /* states of a walk, by depth */
};

/* ---- masks ---- */

struct walk {
	struct guide *q;
	struct kept *m;
	int64_t left;
	uint32_t room; /* tokens of so many bytes are known */
	size_t spent;
	bool over;
};

static void set(struct walk *w, uint32_t from, uint32_t to, bool allowed)
{
	for (uint32_t i = from; i < to; i++) {
		const int32_t id = w->q->t->id[i];
		const uint64_t bit = UINT64_C(1) << id % 64;

		if (allowed)
			w->m->bits[id / 64] |= bit;
		else
			w->m->bits[id / 64] &= ~bit;
	}
}

/* The tokens that end at this node, where the answer would be at `state`. */
static void allow_node(struct walk *w, const struct trie_node *n, const struct state *state)
{
	const int64_t need = (int64_t)state->least + 1;

	if (n[0].first == n[1].first)
		return;
	if (need <= w->left && need > w->m->need)
		w->m->need = need;
	set(w, n[0].first, n[1].first, need <= w->left);
}

/* Counts a state when the walk comes to it first. */
static void count_state(struct walk *w, struct state *s)
{
	const size_t classes = w->q->g->classes;

	s->walk = w->q->walk;
	w->spent += s->places * (classes > 16 ? classes : 16) + 4 * classes + WALK_STATE;
	w->over = w->over || w->spent > WALK_MOST;
}

/* The node, when it is reached at `to`; returns where to go on. */
static uint32_t come_to(struct walk *w, uint32_t i, int32_t to)
{
	const struct trie_node *node = w->q->t->node, *n = &node[i];
	struct state *s = &w->q->states->state[to];

	if (to == STATE_DEAD) {
		if (w->room)
			set(w, n->first, node[n->skip].first, false);
		return n->skip;
	}
	if (s->walk != w->q->walk)
		count_state(w, s);
	if (n->depth >= w->room)
		allow_node(w, n, s);
	w->q->path[n->depth + 1] = to;
	return i + 1;
}

/* The nodes behind the first bytes. */
static void walk_from(struct walk *w, uint32_t root, int32_t state)
{
	struct guide *q = w->q;
	const struct trie_node *node = q->t->node;
	const uint32_t end = node[root].skip;
	const uint8_t *class_of = q->g->class_of;
	const size_t classes = q->g->classes;

	for (uint32_t i = come_to(w, root, state); i < end && !w->over;) {
		const struct trie_node *n = &node[i];
		const int32_t from = q->path[n->depth];
		int32_t to;

		if (n->height <= w->room) {
			i = n->skip;
			continue;
		}
		to = q->states->row[(size_t)from * classes + class_of[n->byte]];
		if (to < 0)
			to = guide_states_step(q->states, from, n->byte);
		i = come_to(w, i, to);
	}
}

/* Counts the tokens, and finds the first. */
static void finish_mask(const struct guide *q, struct kept *m)
{
	m->count = 0;
	m->first = -1;
	for (size_t i = 0; i < q->words; i++) {
		if (m->first < 0 && m->bits[i])
			m->first = (int32_t)(64 * i) + __builtin_ctzll(m->bits[i]);
		m->count += (size_t)__builtin_popcountll(m->bits[i]);
	}
}

/* The mask of a state; with `base`, which serves up to `room` bytes, what differs from that. */
static void make_mask(struct guide *q, struct kept *m, int32_t state, int64_t left, const struct kept *base,
		      uint32_t room)
{
	const struct trie *t = q->t;
	struct walk w = { .q = q, .m = m, .left = left, .room = base ? room : 0 };

	if (base)
		memcpy(m->bits, base->bits, q->words * sizeof(*m->bits));
	else
		memset(m->bits, 0, q->words * sizeof(*m->bits));
	m->state = state;
	m->need = base ? base->need : 0;
	q->walk++;
	for (unsigned b = 0; b < 256; b++) { /* tokens of one byte, whatever comes then */
		const uint32_t root = t->root[b];
		const int32_t to = root < t->root[b + 1] ? guide_states_step(q->states, state, (uint8_t)b) : STATE_DEAD;

		if (to != STATE_DEAD)
			allow_node(&w, &t->node[root], &q->states->state[to]);
	}
	for (unsigned b = 0; b < 256 && !w.over; b++)
		if (t->root[b] < t->root[b + 1] && t->node[t->root[b]].height > w.room)
			walk_from(&w, t->root[b], guide_states_step(q->states, state, (uint8_t)b));
	for (size_t i = 0; i < t->ends; i++)
		if (q->states->state[state].complete)
			m->bits[t->end[i] / 64] |= UINT64_C(1) << t->end[i] % 64;
	finish_mask(q, m);
}

static bool has_bits(struct guide *q, struct kept *m)
{
	if (!m->bits)
		m->bits = malloc(q->words * sizeof(*m->bits));
	return m->bits;
}

/* The mask of a state, or the place of the one that was used least recently. */
static struct kept *find(struct guide *q, int32_t state)
{
	struct kept *oldest = &q->mask[0];

	for (size_t i = 0; i < MASKS; i++) {
		if (q->mask[i].state == state)
			return &q->mask[i];
		if (q->mask[i].used < oldest->used)
			oldest = &q->mask[i];
	}
	return oldest;
}

/* When much is kept, all is forgotten but where the answer stands, and where it is looked ahead. */
static int forget(struct guide *q, struct err *e)
{
	struct states *fresh;
	int32_t at, ahead;
	int rc;

	if (guide_states_bytes(q->states) < BYTES_USUAL)
		return 0;
	rc = guide_states_new(q->g, &q->costs, &fresh, e);
	if (rc < 0)
		return rc;
	at = guide_states_copy(fresh, q->states, q->at);
	ahead = guide_states_copy(fresh, q->states, q->ahead);
	if (fresh->no_memory) {
		guide_states_free(fresh);
		return err_set(e, SINK_ENOMEM, "There is no memory to follow a grammar.");
	}
	guide_states_free(q->states);
	q->states = fresh;
	q->at = at;
	q->ahead = ahead;
	for (size_t i = 0; i < MASKS; i++)
		q->mask[i].state = STATE_DEAD;
	return 0;
}

/* The mask of a state with all tokens left; NULL: no memory. */
static struct kept *kept_mask(struct guide *q, int32_t state)
{
	struct kept *m = find(q, state), *base = NULL;
	uint32_t room = 0;
	int32_t calm;

	if (m->state == state) {
		m->used = ++q->clock;
		return m;
	}
	calm = guide_states_calm(q->states, state, &room);
	if (calm != state && calm != STATE_DEAD && room > 0) {
		base = kept_mask(q, calm);
		m = find(q, state);
	}
	if (!has_bits(q, m) || q->states->no_memory)
		return NULL;
	make_mask(q, m, state, INT64_MAX, base, room);
	m->used = ++q->clock;
	return m;
}

int guide_mask(struct guide *q, int64_t left, struct mask *ret, struct err *e)
{
	const int rc = forget(q, e);
	struct kept *m;

	if (rc < 0)
		return rc;
	m = kept_mask(q, q->ahead);
	if (m && m->need > left) {
		m = has_bits(q, &q->spare) ? &q->spare : NULL;
		if (m)
			make_mask(q, m, q->ahead, left, NULL, 0);
	}
	if (!m || q->states->no_memory) {
		q->states->no_memory = false;
		for (size_t i = 0; i < MASKS; i++)
			q->mask[i].state = STATE_DEAD;
		return err_set(e, SINK_ENOMEM, "There is no memory for a mask.");
	}
	*ret = (struct mask){ m->bits, m->count, m->first };
	return 0;
}

/* ---- the way ---- */

static int32_t step_token(struct guide *q, int32_t from, int32_t token)
{
	const struct gguf_str text = trie_token(q->t, token);

	for (size_t i = 0; i < text.len && from != STATE_DEAD; i++)
		from = guide_states_step(q->states, from, (uint8_t)text.at[i]);
	return text.len ? from : STATE_DEAD;
}

int guide_new(const struct grammar *g, const struct trie *t, struct guide **ret, struct err *e)
{
	struct guide *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return err_set(e, SINK_ENOMEM, "There is no memory to follow a grammar.");
	q->g = g;
	q->t = t;
	q->words = (vocab_size(t->v) + 63) / 64;
	rc = grammar_costs_init(&q->costs, g, t, e);
	if (rc == 0)
		rc = guide_states_new(g, &q->costs, &q->states, e);
	if (rc == 0) {
		q->at = q->ahead = guide_states_begin(q->states);
		if (q->states->no_memory)
			rc = err_set(e, SINK_ENOMEM, "There is no memory to follow a grammar.");
		else if (q->at == STATE_DEAD)
			rc = err_set(e, SINK_EINVAL, "The tokens of this model cannot write anything that fits.");
	}
	if (rc < 0) {
		guide_free(q);
		return rc;
	}
	*ret = q;
	return 0;
}

void guide_free(struct guide *q)
{
	if (!q)
		return;
	for (size_t i = 0; i < MASKS; i++)
		free(q->mask[i].bits);
	free(q->spare.bits);
	guide_states_free(q->states);
	grammar_costs_release(&q->costs);
	free(q);
}

static bool is_closed(const struct guide *q, int32_t state)
{
	return q->states->state[state].complete && q->states->state[state].places == 0;
}

int64_t guide_least(const struct guide *q)
{
	return q->states->state[q->at].least;
}

bool guide_is_complete(const struct guide *q)
{
	return q->states->state[q->at].complete;
}

bool guide_is_closed(const struct guide *q)
{
	return is_closed(q, q->at);
}

int guide_take(struct guide *q, int32_t token, struct err *e)
{
	int rc = forget(q, e);
	int32_t to;

	if (rc < 0)
		return rc;
	to = step_token(q, q->at, token);
	if (q->states->no_memory) {
		q->states->no_memory = false;
		return err_set(e, SINK_ENOMEM, "There is no memory to follow a grammar.");
	}
	if (to == STATE_DEAD)
		return err_set(e, SINK_EINVAL, "Token %d does not fit what the answer must be.", token);
	q->at = to;
	return 0;
}

void guide_look(struct guide *q)
{
	q->ahead = q->at;
}

bool guide_see(struct guide *q, int32_t token)
{
	const int32_t to = step_token(q, q->ahead, token);

	q->states->no_memory = false;
	if (to != STATE_DEAD)
		q->ahead = to;
	return to != STATE_DEAD;
}

bool guide_sees_end(const struct guide *q)
{
	return is_closed(q, q->ahead);
}

/* The byte that alone may follow; -1: there are none or several, or the answer may end. */
static int only_byte(const struct guide *q, int32_t state)
{
	const struct state *s = &q->states->state[state];
	int only = -1;

	if (s->complete)
		return -1;
	for (uint32_t i = 0; i < s->places; i++) {
		const int32_t set = q->g->node[q->states->place[s->first + i].node].other;

		if (set > 255 || (only >= 0 && set != only)) /* the first sets are those of one byte */
			return -1;
		only = set;
	}
	return only;
}

size_t guide_forced(struct guide *q, char *to, size_t room)
{
	int32_t state = q->ahead;
	size_t len = 0;

	while (len < room) {
		const int byte = only_byte(q, state);

		if (byte < 0)
			break;
		state = guide_states_step(q->states, state, (uint8_t)byte);
		if (state == STATE_DEAD)
			break;
		to[len++] = (char)byte;
	}
	q->states->no_memory = false;
	return len;
}
