/*
 * Owns the sets of places. A byte leads from a set to another one: from each place that takes it to what comes next,
 * and from there through calls, ends and choices to all places that take a byte. The cheapest way is followed first,
 * so that a limit never cuts the way that the costs promise.
 */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "guide_parts.h"

static uint32_t place_cost(const struct states *s, const struct place *p)
{
	return grammar_cost_sum(grammar_cost_at(s->costs, s->g, (int32_t)p->node, p->count), s->frame[p->stack].cost);
}

/* Whether it can be finished at all, without too many calls inside each other. */
static bool is_possible(const struct states *s, const struct place *p)
{
	return place_cost(s, p) < COST_NEVER &&
	       s->frame[p->stack].depth + grammar_deep_at(s->costs, s->g, (int32_t)p->node, p->count) <= GRAMMAR_DEPTH;
}

/* ---- what is kept once ---- */

static uint64_t hash_places(const struct place *p, size_t count, bool complete)
{
	return XXH3_64bits_withSeed(p, count * sizeof(*p), complete);
}

static bool table_widen(struct table *t, size_t used)
{
	const size_t slots = t->slots ? 4 * t->slots : 256;

	if (2 * (used + 1) < t->slots)
		return true;
	free(t->slot);
	t->slot = calloc(slots, sizeof(*t->slot));
	t->slots = t->slot ? slots : 0;
	return t->slot;
}

static void table_put(struct table *t, uint64_t hash, size_t number)
{
	size_t at = (size_t)hash & (t->slots - 1);

	while (t->slot[at])
		at = (at + 1) & (t->slots - 1);
	t->slot[at] = (uint32_t)number;
}

static bool widen_frames(struct states *s)
{
	const size_t before = s->by_frame.slots;

	if (!table_widen(&s->by_frame, s->frames))
		return false;
	for (size_t i = 1; i < s->frames && s->by_frame.slots != before; i++)
		table_put(&s->by_frame, hash_places(&s->frame[i].back, 1, false), i);
	return true;
}

static bool widen_states(struct states *s)
{
	const size_t before = s->by_state.slots;

	if (!table_widen(&s->by_state, s->count))
		return false;
	for (size_t i = 1; i < s->count && s->by_state.slots != before; i++)
		table_put(&s->by_state,
			  hash_places(s->place + s->state[i].first, s->state[i].places, s->state[i].complete), i);
	return true;
}

static bool same_place(const struct place *a, const struct place *b)
{
	return a->node == b->node && a->count == b->count && a->stack == b->stack;
}

/* The frame that returns there; 0 when there is no memory. */
static uint32_t push(struct states *s, struct place back)
{
	const uint64_t hash = hash_places(&back, 1, false);
	size_t at;

	if (!widen_frames(s) || !grammar_grow((void **)&s->frame, s->frames, &s->frame_room, sizeof(*s->frame))) {
		s->no_memory = true;
		return 0;
	}
	for (at = (size_t)hash & (s->by_frame.slots - 1); s->by_frame.slot[at]; at = (at + 1) & (s->by_frame.slots - 1))
		if (same_place(&s->frame[s->by_frame.slot[at]].back, &back))
			return s->by_frame.slot[at];
	s->by_frame.slot[at] = (uint32_t)s->frames;
	s->frame[s->frames] =
		(struct frame){ .back = back, .cost = place_cost(s, &back), .depth = s->frame[back.stack].depth + 1 };
	return (uint32_t)s->frames++;
}

/* ---- from a byte to the next ---- */

static bool is_new(struct states *s, const struct place *p)
{
	size_t at = (size_t)hash_places(p, 1, false) & (VISITED_SLOTS - 1);

	for (; s->visited[at].turn == s->turn; at = (at + 1) & (VISITED_SLOTS - 1))
		if (same_place(&s->visited[at].place, p))
			return false;
	s->visited[at].place = *p;
	s->visited[at].turn = s->turn;
	s->visits++;
	return true;
}

static void then(struct states *s, struct place p)
{
	if (s->todos < VISITED_SLOTS && is_possible(s, &p))
		s->todo[s->todos++] = p;
}

/* Two ways on: the cheaper one is looked at first, so it goes on the pile last. */
static void then_either(struct states *s, struct place a, struct place b)
{
	if (place_cost(s, &a) <= place_cost(s, &b)) {
		then(s, b);
		then(s, a);
	} else {
		then(s, a);
		then(s, b);
	}
}

static void call(struct states *s, const struct node *n, const struct place *p)
{
	const uint32_t start = (uint32_t)s->g->rule[n->other].start;
	uint32_t stack = p->stack;

	if (s->g->node[n->next].kind != NODE_END) /* else what it returns to only returns */
		stack = push(s, (struct place){ (uint32_t)n->next, 0, p->stack });
	if (!s->no_memory)
		then(s, (struct place){ start, 0, stack });
}

static void repeat(struct states *s, const struct node *n, const struct place *p)
{
	const struct place out = { (uint32_t)n->next, 0, p->stack };
	const uint32_t most = n->most == GRAMMAR_MANY ? n->least : n->most; /* beyond that counts make no difference */
	struct place again = { (uint32_t)s->g->rule[n->other].start, 0, 0 };

	if (n->most == GRAMMAR_MANY || p->count < n->most) {
		const struct place back = { p->node, p->count < most ? p->count + 1 : most, p->stack };

		again.stack = push(s, back);
		if (s->no_memory)
			return;
		if (p->count >= n->least)
			then_either(s, out, again);
		else
			then(s, again);
	} else {
		then(s, out);
	}
}

static void visit(struct states *s, const struct place *p)
{
	const struct node *n = &s->g->node[p->node];

	switch (n->kind) {
	case NODE_BYTES:
		s->found[s->founds++] = *p;
		break;
	case NODE_END:
		if (!p->stack)
			s->completes = true;
		else
			then(s, s->frame[p->stack].back);
		break;
	case NODE_SPLIT:
		then_either(s, (struct place){ (uint32_t)n->next, 0, p->stack },
			    (struct place){ (uint32_t)n->other, 0, p->stack });
		break;
	case NODE_CALL:
		call(s, n, p);
		break;
	case NODE_REPEAT:
		repeat(s, n, p);
		break;
	case NODE_NEVER:
		break;
	}
}

/* All places that take a byte, from those on the pile. */
static void follow(struct states *s)
{
	while (s->todos && s->founds < PLACES_MOST && !s->no_memory) {
		const struct place p = s->todo[--s->todos];

		if (s->visits >= VISITS && (s->founds || s->completes || s->visits >= VISITED_SLOTS / 2))
			break;
		if (is_new(s, &p))
			visit(s, &p);
	}
}

static void begin(struct states *s)
{
	s->todos = s->founds = s->visits = 0;
	s->completes = false;
	s->turn++;
}

static int compare_places(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct place));
}

static bool same_state(const struct states *s, const struct state *t)
{
	return t->places == s->founds && t->complete == s->completes &&
	       memcmp(s->place + t->first, s->found, s->founds * sizeof(*s->found)) == 0;
}

static bool add_state(struct states *s)
{
	struct state t = { .first = (uint32_t)s->places,
			   .places = (uint32_t)s->founds,
			   .least = COST_NEVER,
			   .complete = s->completes };
	const size_t classes = s->g->classes;

	while (s->place_room - s->places < s->founds)
		if (!grammar_grow((void **)&s->place, s->place_room, &s->place_room, sizeof(*s->place)))
			return false;
	while (s->row_room < (s->count + 1) * classes)
		if (!grammar_grow((void **)&s->row, s->row_room, &s->row_room, sizeof(*s->row)))
			return false;
	if (!grammar_grow((void **)&s->state, s->count, &s->state_room, sizeof(*s->state)))
		return false;
	for (size_t i = 0; i < s->founds; i++) {
		const uint32_t cost = place_cost(s, &s->found[i]);

		s->place[s->places++] = s->found[i];
		t.least = cost < t.least ? cost : t.least;
	}
	t.least = s->completes ? 0 : t.least;
	for (size_t i = 0; i < classes; i++)
		s->row[s->count * classes + i] = -1;
	s->state[s->count++] = t;
	return true;
}

/* The state of what was found. */
static int32_t settle(struct states *s)
{
	uint64_t hash;
	size_t at;

	if (s->no_memory || (!s->founds && !s->completes))
		return STATE_DEAD;
	qsort(s->found, s->founds, sizeof(*s->found), compare_places);
	if (!widen_states(s)) {
		s->no_memory = true;
		return STATE_DEAD;
	}
	hash = hash_places(s->found, s->founds, s->completes);
	for (at = (size_t)hash & (s->by_state.slots - 1); s->by_state.slot[at]; at = (at + 1) & (s->by_state.slots - 1))
		if (same_state(s, &s->state[s->by_state.slot[at]]))
			return (int32_t)s->by_state.slot[at];
	if (!add_state(s)) {
		s->no_memory = true;
		return STATE_DEAD;
	}
	s->by_state.slot[at] = (uint32_t)s->count - 1;
	return (int32_t)s->count - 1;
}

int32_t guide_states_begin(struct states *s)
{
	begin(s);
	then(s, (struct place){ (uint32_t)s->g->rule[s->g->root].start, 0, 0 });
	follow(s);
	return settle(s);
}

/* Puts what follows a byte on the pile, the cheapest on top. */
static void take_byte(struct states *s, const struct state *from, uint8_t byte)
{
	uint32_t least = UINT32_MAX;
	size_t cheapest = 0;

	for (uint32_t i = 0; i < from->places; i++) {
		const struct place *p = &s->place[from->first + i];
		const struct node *n = &s->g->node[p->node];
		const struct place next = { (uint32_t)n->next, 0, p->stack };
		const uint32_t cost = place_cost(s, &next);

		if (!grammar_byteset_has(&s->g->set[n->other], byte) || !is_possible(s, &next))
			continue;
		if (cost < least) {
			least = cost;
			cheapest = s->todos;
		}
		s->todo[s->todos++] = next;
	}
	if (s->todos) {
		const struct place top = s->todo[cheapest];

		s->todo[cheapest] = s->todo[s->todos - 1];
		s->todo[s->todos - 1] = top;
	}
}

int32_t guide_states_step(struct states *s, int32_t from, uint8_t byte)
{
	const uint8_t class = s->g->class_of[byte];
	const size_t at = (size_t)from * s->g->classes + class;

	if (from == STATE_DEAD)
		return STATE_DEAD;
	if (s->row[at] < 0) {
		int32_t to;

		begin(s);
		take_byte(s, &s->state[from], s->g->byte_of[class]);
		follow(s);
		to = settle(s);
		if (s->no_memory)
			return STATE_DEAD;
		s->row[at] = to;
	}
	return s->row[at];
}

/* ---- counts ---- */

/* The stack with its counts lowered; *room goes down to the nearest limit. */
static uint32_t calm_stack(struct states *s, uint32_t stack, uint32_t *room)
{
	struct place back;
	const struct node *n;

	if (!stack)
		return 0;
	back = s->frame[stack].back;
	n = &s->g->node[back.node];
	back.stack = calm_stack(s, back.stack, room);
	if (n->kind == NODE_REPEAT && n->most != GRAMMAR_MANY && back.count > n->least && s->costs->rule[n->other]) {
		*room = n->most - back.count < *room ? n->most - back.count : *room;
		back.count = n->least;
	}
	return push(s, back);
}

int32_t guide_states_calm(struct states *s, int32_t state, uint32_t *room)
{
	size_t kept = 0;
	int32_t to;

	if (!s->state[state].calm) {
		*room = UINT32_MAX;
		begin(s);
		s->completes = s->state[state].complete;
		for (uint32_t i = 0; i < s->state[state].places; i++) {
			struct place p = s->place[s->state[state].first + i];

			p.stack = calm_stack(s, p.stack, room);
			s->found[s->founds++] = p;
		}
		qsort(s->found, s->founds, sizeof(*s->found), compare_places);
		for (size_t i = 0; i < s->founds; i++)
			if (!i || !same_place(&s->found[i], &s->found[kept - 1]))
				s->found[kept++] = s->found[i];
		s->founds = kept;
		to = settle(s);
		if (s->no_memory)
			return STATE_DEAD;
		s->state[state].calm = to;
		s->state[state].room = *room;
	}
	*room = s->state[state].room;
	return s->state[state].calm;
}

/* ---- all of it ---- */

size_t guide_states_bytes(const struct states *s)
{
	return s->frames * sizeof(*s->frame) + s->places * sizeof(*s->place) +
	       s->count * (sizeof(*s->state) + s->g->classes * sizeof(*s->row)) +
	       (s->by_frame.slots + s->by_state.slots) * sizeof(uint32_t);
}

int guide_states_new(const struct grammar *g, const struct costs *c, struct states **ret, struct err *e)
{
	struct states *s = calloc(1, sizeof(*s));

	if (s) {
		s->g = g;
		s->costs = c;
		if (grammar_grow((void **)&s->frame, 0, &s->frame_room, sizeof(*s->frame))) {
			s->frame[0] = (struct frame){ .cost = 0 };
			s->frames = 1;
			if (add_state(s)) { /* the dead one */
				*ret = s;
				return 0;
			}
		}
	}
	guide_states_free(s);
	return err_set(e, SINK_ENOMEM, "There is no memory to follow a grammar.");
}

void guide_states_free(struct states *s)
{
	if (!s)
		return;
	free(s->frame);
	free(s->by_frame.slot);
	free(s->place);
	free(s->state);
	free(s->by_state.slot);
	free(s->row);
	free(s);
}

static uint32_t copy_frame(struct states *to, const struct states *from, uint32_t stack)
{
	struct place back;

	if (!stack)
		return 0;
	back = from->frame[stack].back;
	back.stack = copy_frame(to, from, back.stack);
	return push(to, back);
}

int32_t guide_states_copy(struct states *to, const struct states *from, int32_t state)
{
	const struct state *t = &from->state[state];

	if (state == STATE_DEAD)
		return STATE_DEAD;
	begin(to);
	to->completes = t->complete;
	for (uint32_t i = 0; i < t->places; i++) {
		struct place p = from->place[t->first + i];

		p.stack = copy_frame(to, from, p.stack);
		to->found[to->founds++] = p;
	}
	return settle(to);
}
