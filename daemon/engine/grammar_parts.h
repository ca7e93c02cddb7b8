/* The automaton inside a grammar: for those who make it and those who walk it (grammar.c, grammar_nodes.c, guide.c). */
#ifndef ENGINE_GRAMMAR_PARTS_H
#define ENGINE_GRAMMAR_PARTS_H

#include "grammar.h"

struct trie;

enum expr_kind {
	EXPR_IS_NEVER,
	EXPR_IS_EMPTY,
	EXPR_IS_BYTES,
	EXPR_IS_TEXT,
	EXPR_IS_SEQ,
	EXPR_IS_ANY,
	EXPR_IS_REPEAT,
	EXPR_IS_CALL
};

struct expr {
	enum expr_kind kind;
	uint32_t of;	      /* what is repeated; the rule that is called */
	uint32_t least, most; /* of a repetition */
	uint32_t at, size;    /* in the pool: a set, a text, or the numbers of parts */
};

enum node_kind {
	NODE_END,    /* of its rule */
	NODE_BYTES,  /* a byte of set `other`, then `next` */
	NODE_SPLIT,  /* `next` or `other` */
	NODE_CALL,   /* rule `other`, then `next` */
	NODE_REPEAT, /* rule `other`, `least` to `most` times, then `next` */
	NODE_NEVER,
};

/* The nodes of a rule are in an order in which `next` (and `other` of a split) come first. */
struct node {
	enum node_kind kind;
	int32_t next, other;
	uint32_t least, most;
};

struct rule {
	int32_t body;  /* an expression */
	int32_t start; /* a node */
	int32_t first; /* its nodes are first .. start */
};

struct grammar {
	struct expr *expr;
	size_t exprs, expr_room;
	char *pool;
	size_t pooled, pool_room;
	int32_t *slot; /* hash table of expressions; 0: free */
	size_t slots;
	struct err failed; /* code 0: nothing has */

	struct rule *rule;
	size_t rules, rule_room;
	struct node *node;
	size_t nodes, node_room;
	struct byteset *set;
	size_t sets, set_room;
	int32_t root;	       /* rule */
	uint8_t class_of[256]; /* bytes that no set tells apart are of one class */
	uint8_t byte_of[256];  /* by class: one of them */
	size_t classes;
};

const void *grammar_content(const struct grammar *g, const struct expr *x);
/* Room for one more of a growing list; false: no memory. */
bool grammar_grow(void **at, size_t count, size_t *room, size_t size);

/*
 * What it takes to finish. Costs are tokens, or bytes without a vocabulary: enough for the shortest way on from a node
 * to the end of its rule; COST_NEVER: there is none. `deep` is how many calls that way makes inside each other.
 */
#define COST_NEVER (UINT32_C(1) << 30)
struct costs {
	uint32_t *node, *rule;
	uint16_t *node_deep, *rule_deep;
};
int grammar_costs_init(struct costs *c, const struct grammar *g, const struct trie *t, struct err *e);
void grammar_costs_release(struct costs *c);

/* The same of a node where a repetition has been done `count` times. */
uint32_t grammar_cost_at(const struct costs *c, const struct grammar *g, int32_t node, uint32_t count);
uint32_t grammar_deep_at(const struct costs *c, const struct grammar *g, int32_t node, uint32_t count);
uint32_t grammar_cost_sum(uint32_t a, uint32_t b);

#endif
