/*
 * Owns the way from expressions to nodes, and what a node costs. Nodes are made from the end of a rule to its
 * beginning, so that one look at them in their order tells the costs of a rule; rules that call each other are looked
 * at until nothing changes.
 */
#include "grammar_parts.h"

#include <stdlib.h>
#include <string.h>

#include "trie.h"

enum {
	ROUNDS = 64,	/* looks at all rules until costs must be known: far more than rules inside each other need */
	NESTING = 2048, /* expressions inside each other; words that begin each other nest by their letters */
	SETS = 2048,
};

/* ---- nodes ---- */

struct making {
	struct grammar *g;
	int32_t *rule_of; /* by expression: the rule that it is the body of; -1: none yet */
	int32_t *set_of;  /* by expression: the number of the set that it is; likewise */
	struct err *e;
	bool failed;
};

static int32_t fail(struct making *m, int code, const char *text)
{
	if (!m->failed)
		err_set(m->e, code, "%s", text);
	m->failed = true;
	return 0;
}

static int32_t add(struct making *m, struct node n)
{
	struct grammar *g = m->g;

	if (g->nodes >= GRAMMAR_NODES)
		return fail(m, SINK_EINVAL, "It is too large.");
	if (!grammar_grow((void **)&g->node, g->nodes, &g->node_room, sizeof(*g->node)))
		return fail(m, SINK_ENOMEM, "There is no memory for a grammar.");
	g->node[g->nodes] = n;
	return (int32_t)g->nodes++;
}

static int32_t add_set(struct making *m, const struct byteset *set)
{
	struct grammar *g = m->g;

	if (g->sets >= SETS)
		return fail(m, SINK_EINVAL, "It has too many different classes of characters.");
	if (!grammar_grow((void **)&g->set, g->sets, &g->set_room, sizeof(*g->set)))
		return fail(m, SINK_ENOMEM, "There is no memory for a grammar.");
	g->set[g->sets] = *set;
	return (int32_t)g->sets++;
}

/* Equal sets are one expression, and so one set. */
static int32_t set_of(struct making *m, int32_t id)
{
	if (m->set_of[id] < 0)
		m->set_of[id] = add_set(m, grammar_content(m->g, &m->g->expr[id]));
	return m->set_of[id];
}

/* The rule whose body is this expression. */
static int32_t rule_of(struct making *m, int32_t body)
{
	struct grammar *g = m->g;

	if (g->expr[body].kind == EXPR_IS_CALL)
		return (int32_t)g->expr[body].of;
	if (m->rule_of[body] >= 0)
		return m->rule_of[body];
	if (!grammar_grow((void **)&g->rule, g->rules, &g->rule_room, sizeof(*g->rule)))
		return fail(m, SINK_ENOMEM, "There is no memory for a grammar.");
	g->rule[g->rules] = (struct rule){ .body = body, .start = -1 };
	m->rule_of[body] = (int32_t)g->rules;
	return (int32_t)g->rules++;
}

static int32_t emit(struct making *m, int32_t id, int32_t next, int nesting);

static int32_t emit_text(struct making *m, const struct expr *x, int32_t next)
{
	for (size_t i = x->size; i-- > 0 && !m->failed;) {
		const uint8_t byte = (uint8_t)m->g->pool[x->at + i];

		next = add(m, (struct node){ .kind = NODE_BYTES, .next = next, .other = byte });
	}
	return next;
}

static int32_t emit_parts(struct making *m, const struct expr *x, int32_t next, int nesting)
{
	const size_t count = x->size / sizeof(int32_t);
	const int32_t *part = grammar_content(m->g, x);
	int32_t r = next;

	if (x->kind == EXPR_IS_SEQ) {
		for (size_t i = count; i-- > 0 && !m->failed;)
			r = emit(m, part[i], r, nesting);
		return r;
	}
	r = emit(m, part[count - 1], next, nesting);
	for (size_t i = count - 1; i-- > 0 && !m->failed;) {
		const int32_t one = emit(m, part[i], next, nesting);

		r = add(m, (struct node){ .kind = NODE_SPLIT, .next = one, .other = r });
	}
	return r;
}

/* The node that an expression begins with, when `next` follows it. */
static int32_t emit(struct making *m, int32_t id, int32_t next, int nesting)
{
	const struct expr *x = &m->g->expr[id];

	if (m->failed)
		return 0;
	if (nesting > NESTING)
		return fail(m, SINK_EINVAL, "It is nested too deeply.");
	switch (x->kind) {
	case EXPR_IS_NEVER:
		return add(m, (struct node){ .kind = NODE_NEVER });
	case EXPR_IS_EMPTY:
		return next;
	case EXPR_IS_BYTES:
		return add(m, (struct node){ .kind = NODE_BYTES, .next = next, .other = set_of(m, id) });
	case EXPR_IS_TEXT:
		return emit_text(m, x, next);
	case EXPR_IS_SEQ:
	case EXPR_IS_ANY:
		return emit_parts(m, x, next, nesting + 1);
	case EXPR_IS_REPEAT:
		return add(m, (struct node){ .kind = NODE_REPEAT,
					     .next = next,
					     .other = rule_of(m, (int32_t)x->of),
					     .least = x->least,
					     .most = x->most });
	case EXPR_IS_CALL:
		return add(m, (struct node){ .kind = NODE_CALL, .next = next, .other = (int32_t)x->of });
	}
	return 0;
}

/* Rules come up while others are made. Sets 0 .. 255 are those of one byte. */
static void make_nodes(struct making *m, int32_t all)
{
	struct grammar *g = m->g;

	for (unsigned b = 0; b < 256 && !m->failed; b++) {
		struct byteset one = { { 0 } };

		grammar_byteset_add(&one, b, b);
		add_set(m, &one);
	}
	if (m->failed)
		return;
	g->root = rule_of(m, all);
	for (size_t r = 0; r < g->rules && !m->failed; r++) {
		int32_t end = add(m, (struct node){ .kind = NODE_END }), start = emit(m, g->rule[r].body, end, 0);

		g->rule[r].first = end;
		g->rule[r].start = start;
	}
}

/* Bytes that are in the same sets, of those that nodes name, are one class. */
static void classify(struct grammar *g)
{
	bool used[SETS] = { false };

	for (size_t i = 0; i < g->nodes; i++)
		if (g->node[i].kind == NODE_BYTES)
			used[g->node[i].other] = true;
	g->classes = 1;
	for (size_t s = 0; s < g->sets; s++) {
		int split[256]; /* by class: the class of its bytes that are in the set */
		bool outside[256] = { false };

		if (!used[s])
			continue;
		for (int i = 0; i < 256; i++)
			split[i] = -1;
		for (unsigned b = 0; b < 256; b++)
			outside[g->class_of[b]] |= !grammar_byteset_has(&g->set[s], b);
		for (unsigned b = 0; b < 256; b++) {
			const uint8_t c = g->class_of[b];

			if (!grammar_byteset_has(&g->set[s], b) || !outside[c])
				continue;
			if (split[c] < 0)
				split[c] = (int)g->classes++;
			g->class_of[b] = (uint8_t)split[c];
		}
	}
	for (unsigned b = 256; b-- > 0;)
		g->byte_of[g->class_of[b]] = (uint8_t)b;
}

/* ---- costs ---- */

uint32_t grammar_cost_sum(uint32_t a, uint32_t b)
{
	return a >= COST_NEVER || b >= COST_NEVER - a ? COST_NEVER : a + b;
}

static uint32_t cost_times(uint32_t a, uint32_t n)
{
	const uint64_t all = (uint64_t)a * n;

	return all >= COST_NEVER ? COST_NEVER : (uint32_t)all;
}

static uint16_t deeper(uint16_t inside, uint16_t behind)
{
	const uint16_t one = inside < UINT16_MAX ? inside + 1 : inside;

	return one > behind ? one : behind;
}

uint32_t grammar_cost_at(const struct costs *c, const struct grammar *g, int32_t node, uint32_t count)
{
	const struct node *n = &g->node[node];

	if (n->kind != NODE_REPEAT || count == 0)
		return c->node[node];
	return grammar_cost_sum(cost_times(c->rule[n->other], count < n->least ? n->least - count : 0),
				c->node[n->next]);
}

uint32_t grammar_deep_at(const struct costs *c, const struct grammar *g, int32_t node, uint32_t count)
{
	const struct node *n = &g->node[node];

	if (n->kind != NODE_REPEAT || count < n->least)
		return c->node_deep[node];
	return c->node_deep[n->next];
}

/* How far a token of the vocabulary may reach from each node, where bytes follow that are certain; NULL: no memory. */
static uint64_t *reach(const struct grammar *g, const struct trie *t)
{
	uint64_t *r = calloc(g->nodes + 1, sizeof(*r));

	for (size_t i = 0; r && i < g->nodes; i++) {
		const struct node *n = &g->node[i];
		char text[64];
		size_t len = 0;

		for (; len < sizeof(text) && n->kind == NODE_BYTES && n->other < 256; n = &g->node[n->next])
			text[len++] = (char)n->other;
		if (len)
			r[i] = trie_prefixes(t, text, len);
	}
	return r;
}

static bool is_spelled(const struct byteset *s, const struct trie *t)
{
	for (unsigned b = 0; b < 256; b++)
		if (grammar_byteset_has(s, b) && (!t || t->spells[b]))
			return true;
	return false;
}

struct pricing {
	const struct grammar *g;
	struct costs *c;
	uint64_t *reach; /* NULL: without a vocabulary */
	bool *spelled;	 /* by set; NULL likewise */
};

static void price_bytes(struct pricing *p, int32_t i)
{
	const struct node *n = &p->g->node[i];
	struct costs *c = p->c;
	int32_t at = n->next;
	uint64_t reach = p->reach ? p->reach[i] : 0;

	c->node[i] = p->spelled[n->other] ? grammar_cost_sum(1, c->node[at]) : COST_NEVER;
	c->node_deep[i] = c->node_deep[at];
	for (; reach; reach >>= 1) {
		const uint32_t cost = reach & 1 ? grammar_cost_sum(1, c->node[at]) : COST_NEVER;

		if (cost < c->node[i]) {
			c->node[i] = cost;
			c->node_deep[i] = c->node_deep[at];
		}
		at = p->g->node[at].next;
	}
}

static void price(struct pricing *p, int32_t i)
{
	const struct node *n = &p->g->node[i];
	struct costs *c = p->c;
	int32_t cheap;

	switch (n->kind) {
	case NODE_END:
		c->node[i] = 0;
		c->node_deep[i] = 0;
		break;
	case NODE_NEVER:
		c->node[i] = COST_NEVER;
		break;
	case NODE_BYTES:
		price_bytes(p, i);
		break;
	case NODE_SPLIT:
		cheap = c->node[n->other] < c->node[n->next] || (c->node[n->other] == c->node[n->next] &&
								 c->node_deep[n->other] < c->node_deep[n->next])
				? n->other
				: n->next;
		c->node[i] = c->node[cheap];
		c->node_deep[i] = c->node_deep[cheap];
		break;
	case NODE_CALL:
		c->node[i] = grammar_cost_sum(c->rule[n->other], c->node[n->next]);
		c->node_deep[i] = deeper(c->rule_deep[n->other], c->node_deep[n->next]);
		break;
	case NODE_REPEAT:
		c->node[i] = grammar_cost_sum(cost_times(c->rule[n->other], n->least), c->node[n->next]);
		c->node_deep[i] =
			n->least ? deeper(c->rule_deep[n->other], c->node_deep[n->next]) : c->node_deep[n->next];
		break;
	}
	if (c->node[i] >= COST_NEVER)
		c->node_deep[i] = 0;
}

/* Looks at all rules, those that were made last first, since others call them. True: something has changed. */
static bool price_all(struct pricing *p)
{
	bool changed = false;

	for (size_t r = p->g->rules; r-- > 0;) {
		const struct rule *rule = &p->g->rule[r];
		const int32_t last = r + 1 < p->g->rules ? p->g->rule[r + 1].first : (int32_t)p->g->nodes;
		const uint32_t cost = p->c->rule[r];
		const uint16_t deep = p->c->rule_deep[r];

		for (int32_t i = rule->first; i < last; i++)
			price(p, i);
		p->c->rule[r] = p->c->node[rule->start];
		p->c->rule_deep[r] = p->c->node_deep[rule->start];
		changed = changed || p->c->rule[r] != cost || p->c->rule_deep[r] != deep;
	}
	return changed;
}

static int price_rules(struct pricing *p, struct err *e)
{
	int rounds = 0;

	while (price_all(p))
		if (++rounds == ROUNDS)
			return err_set(e, SINK_EINVAL,
				       "Its definitions refer to each other in a circle, or in too many ways.");
	return 0;
}

int grammar_costs_init(struct costs *c, const struct grammar *g, const struct trie *t, struct err *e)
{
	struct pricing p = { .g = g, .c = c };
	int rc = 0;

	*c = (struct costs){ .node = malloc((g->nodes + 1) * sizeof(*c->node)),
			     .rule = malloc((g->rules + 1) * sizeof(*c->rule)),
			     .node_deep = calloc(g->nodes + 1, sizeof(*c->node_deep)),
			     .rule_deep = calloc(g->rules + 1, sizeof(*c->rule_deep)) };
	p.reach = t ? reach(g, t) : NULL;
	p.spelled = calloc(g->sets + 1, sizeof(*p.spelled));
	if (!c->node || !c->rule || !c->node_deep || !c->rule_deep || (t && !p.reach) || !p.spelled)
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a grammar.");
	for (size_t s = 0; s < g->sets && !rc; s++)
		p.spelled[s] = is_spelled(&g->set[s], t);
	for (size_t i = 0; i < g->nodes && !rc; i++)
		c->node[i] = COST_NEVER;
	for (size_t r = 0; r < g->rules && !rc; r++)
		c->rule[r] = COST_NEVER;
	if (!rc)
		rc = price_rules(&p, e);
	free(p.reach);
	free(p.spelled);
	if (rc)
		grammar_costs_release(c);
	return rc;
}

void grammar_costs_release(struct costs *c)
{
	free(c->node);
	free(c->rule);
	free(c->node_deep);
	free(c->rule_deep);
	*c = (struct costs){ 0 };
}

/* ---- rules that call themselves ---- */

enum { UNSEEN, OPEN, CLOSED };

/* The nodes that may follow before any byte: up to two. */
static int before_byte(const struct grammar *g, const struct costs *c, const struct node *n, int32_t to[2])
{
	int count = 0;

	switch (n->kind) {
	case NODE_SPLIT:
		to[count++] = n->next;
		to[count++] = n->other;
		break;
	case NODE_CALL:
		to[count++] = g->rule[n->other].start;
		if (c->rule[n->other] == 0)
			to[count++] = n->next;
		break;
	case NODE_REPEAT:
		to[count++] = g->rule[n->other].start;
		if (n->least == 0 || c->rule[n->other] == 0)
			to[count++] = n->next;
		break;
	default:
		break;
	}
	return count;
}

/* Whether some rule comes back to itself before any byte: a guide would follow it without end. No memory: true. */
static bool goes_round(const struct grammar *g, const struct costs *c)
{
	uint8_t *seen = calloc(g->nodes, 1);
	int32_t *stack = malloc((g->nodes + 1) * sizeof(*stack) * 2);
	bool round = !seen || !stack;

	for (size_t i = 0; i < g->nodes && !round; i++) {
		size_t depth = 0;

		if (seen[i] != UNSEEN)
			continue;
		stack[depth++] = (int32_t)i;
		while (depth && !round) {
			const int32_t at = stack[depth - 1];
			int32_t to[2];
			int count = before_byte(g, c, &g->node[at], to), fresh = 0;

			if (seen[at] != UNSEEN)
				count = 0;
			else
				seen[at] = OPEN;
			for (int k = 0; k < count; k++) {
				round = round || seen[to[k]] == OPEN;
				if (seen[to[k]] == UNSEEN) {
					stack[depth++] = to[k];
					fresh++;
				}
			}
			if (!fresh) {
				seen[at] = CLOSED;
				depth--;
			}
		}
	}
	free(seen);
	free(stack);
	return round;
}

static int check(const struct grammar *g, struct err *e)
{
	struct costs c;
	int rc = grammar_costs_init(&c, g, NULL, e);

	if (rc < 0)
		return rc;
	if (c.rule[g->root] >= COST_NEVER)
		rc = err_set(e, SINK_EINVAL, "Nothing fits it, or nothing of a possible length.");
	else if (c.rule_deep[g->root] > GRAMMAR_DEPTH)
		rc = err_set(e, SINK_EINVAL, "What fits it is nested too deeply.");
	else if (goes_round(g, &c))
		rc = err_set(e, SINK_EINVAL, "A definition refers to itself without anything before it.");
	grammar_costs_release(&c);
	return rc;
}

int grammar_finish(struct grammar *g, int32_t all, struct err *e)
{
	struct making m = { .g = g };
	struct err why = { 0 };
	int rc;

	if (g->failed.code)
		return err_set(e, g->failed.code, "%s", g->failed.text);
	m.e = &why;
	m.rule_of = malloc(2 * g->exprs * sizeof(*m.rule_of));
	if (!m.rule_of)
		return err_set(e, SINK_ENOMEM, "There is no memory for a grammar.");
	m.set_of = m.rule_of + g->exprs;
	for (size_t i = 0; i < 2 * g->exprs; i++)
		m.rule_of[i] = -1;
	make_nodes(&m, all);
	free(m.rule_of);
	if (m.failed)
		return err_set(e, why.code, "%s", why.text);
	classify(g);
	rc = check(g, e);
	free(g->expr);
	free(g->pool);
	free(g->slot);
	g->expr = NULL;
	g->pool = NULL;
	g->slot = NULL;
	return rc;
}
