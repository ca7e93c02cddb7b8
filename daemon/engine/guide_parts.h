/* Inside a guide: the places of an answer, and the sets of them (guide_states.c), on which masks stand (guide.c). */
#ifndef ENGINE_GUIDE_PARTS_H
#define ENGINE_GUIDE_PARTS_H

#include "grammar_parts.h"
#include "guide.h"

enum {
	STATE_DEAD = 0,	   /* the set without places: nothing fits any more */
	PLACES_MOST = 512, /* of a set; of more the cheapest are kept, so what is written still fits */
	VISITS = 2048,	   /* nodes looked at between two bytes */
	VISITED_SLOTS = 8192,
	BYTES_USUAL = 4 << 20, /* of what is kept; of more all is forgotten but where the answer stands */
};

/* A node that a byte leads to, how often its repetition was done, and the calls to return to. */
struct place {
	uint32_t node, count, stack;
};

/* A call to return to; equal ones are kept once. 0: none. */
struct frame {
	struct place back; /* its `stack` is the frame below */
	uint32_t cost;	   /* of all that is left behind the return */
	uint32_t depth;
};

struct state {
	uint32_t first, places;
	uint32_t least; /* tokens that finish from here */
	uint32_t walk;	/* the last walk that came here */
	int32_t calm;	/* guide_states_calm(); 0: not known yet */
	uint32_t room;
	bool complete;
};

/* A hash table of numbers from 1 on; 0: free. */
struct table {
	uint32_t *slot;
	size_t slots;
};

struct states {
	const struct grammar *g;
	const struct costs *costs;
	struct frame *frame;
	size_t frames, frame_room;
	struct table by_frame;
	struct place *place;
	size_t places, place_room;
	struct state *state;
	size_t count, state_room;
	struct table by_state;
	int32_t *row; /* [count][classes]: the state behind a byte of the class; -1: not known yet */
	size_t row_room;
	bool no_memory;

	struct place found[PLACES_MOST]; /* of the state that is being found */
	size_t founds;
	bool completes;
	struct place todo[VISITED_SLOTS];
	size_t todos;
	struct {
		struct place place;
		uint32_t turn;
	} visited[VISITED_SLOTS];
	uint32_t turn;
	size_t visits;
};

int guide_states_new(const struct grammar *g, const struct costs *c, struct states **ret, struct err *e);
void guide_states_free(struct states *s);

/* The state at the beginning. */
int32_t guide_states_begin(struct states *s);

/* The state behind a byte. STATE_DEAD also when there is no memory, which is remembered. */
int32_t guide_states_step(struct states *s, int32_t from, uint8_t byte);

/*
 * The state where counts that are far from their limits are as low as they may be: what follows there is the same for
 * texts of up to *room bytes. It may be the state itself; STATE_DEAD when there is no memory.
 */
int32_t guide_states_calm(struct states *s, int32_t state, uint32_t *room);

/* Bytes of memory in use. */
size_t guide_states_bytes(const struct states *s);

/* A state of another guide of the same grammar, in this one. */
int32_t guide_states_copy(struct states *to, const struct states *from, int32_t state);

#endif
