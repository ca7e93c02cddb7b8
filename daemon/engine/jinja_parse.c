/*
 * The tree of a template, by the grammar of jinja2's parser. What a node's children are:
 *
 *	NAME, CONST, DATA		name; value; value
 *	MAKE_LIST, MAKE_TUPLE		list: the members
 *	MAKE_DICT			list: keys and values in turn
 *	ATTRIBUTE, ITEM, SLICE		a: of what; name, or b: the key, or list: three parts, each a CONST none or more
 *	CALL				a: what is called, list: arguments (KEYWORD and SPREAD have theirs in a)
 *	FILTER, TEST			a: of what (NULL: the text of a block), function, list: arguments
 *	COMPARE, BINARY, AND, OR	a and b; a chain of comparisons has the next one in c, with its right side in b
 *	IF_ELSE, IF			a if b else c; if a (NULL: always): list, else the IF c
 *	FOR				a: target, b: of what (its `next` a condition, if value is a tuple), c: else
 *	SET, SET_BLOCK			a: target, b: value or the list's filters
 *	MACRO_DEF			name, a: parameters (NAME, with a default in a), list: body
 *	CALL_BLOCK			a: the call, b: the macro that is its caller
 */
#include "jinja_parse.h"

#include <string.h>

/* ---- words ---- */

void jinja_advance(struct jinja_parser *p)
{
	p->t = jinja_lex(&p->lexer);
	p->r->line = p->t.line;
}

struct jinja_node *jinja_node_new(struct jinja_parser *p, enum jinja_type type)
{
	struct jinja_node *n = jinja_take(p->r, sizeof(*n));

	n->type = type;
	n->line = p->t.line;
	return n;
}

bool jinja_is_op(const struct jinja_parser *p, int op)
{
	return p->t.word == JINJA_W_OPERATOR && p->t.op == op;
}

bool jinja_is_name(const struct jinja_parser *p, const char *name)
{
	return p->t.word == JINJA_W_NAME && strcmp(p->t.text.at, name) == 0;
}

bool jinja_skip_op(struct jinja_parser *p, int op)
{
	if (!jinja_is_op(p, op))
		return false;
	jinja_advance(p);
	return true;
}

bool jinja_skip_name(struct jinja_parser *p, const char *name)
{
	if (!jinja_is_name(p, name))
		return false;
	jinja_advance(p);
	return true;
}

_Noreturn void jinja_wanted(struct jinja_parser *p, const char *what)
{
	jinja_fail(p->r, SINK_EFORMAT, "%s is expected.", what);
}

void jinja_want_op(struct jinja_parser *p, int op)
{
	char what[] = { '"', (char)op, '"', '\0' };

	if (!jinja_skip_op(p, op))
		jinja_wanted(p, what);
}

const char *jinja_want_name(struct jinja_parser *p)
{
	const char *name = p->t.text.at;

	if (p->t.word != JINJA_W_NAME)
		jinja_wanted(p, "A name");
	jinja_advance(p);
	return name;
}

void jinja_want_end(struct jinja_parser *p)
{
	if (p->t.word != JINJA_W_BLOCK_END)
		jinja_wanted(p, "The end of the tag");
	jinja_advance(p);
}

/* ---- primary expressions ---- */

static struct jinja_node *constant(struct jinja_parser *p, struct jinja_value v)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_CONST);

	n->value = v;
	return n;
}

static struct jinja_node *text(struct jinja_parser *p)
{
	struct jinja_buffer b = { 0 };

	for (; p->t.word == JINJA_W_TEXT; jinja_advance(p))
		jinja_write(p->r, &b, p->t.text);
	return constant(p, jinja_string(jinja_written(&b)));
}

static struct jinja_node *named(struct jinja_parser *p)
{
	static const struct {
		const char *name;
		struct jinja_value value;
	} constants[] = {
		{ "true", { .kind = JINJA_BOOL, .b = true } },
		{ "True", { .kind = JINJA_BOOL, .b = true } },
		{ "false", { .kind = JINJA_BOOL, .b = false } },
		{ "False", { .kind = JINJA_BOOL, .b = false } },
		{ "none", { .kind = JINJA_NONE } },
		{ "None", { .kind = JINJA_NONE } },
	};
	const char *name = jinja_want_name(p);
	struct jinja_node *n;

	for (size_t i = 0; i < sizeof(constants) / sizeof(constants[0]); i++)
		if (strcmp(name, constants[i].name) == 0)
			return constant(p, constants[i].value);
	n = jinja_node_new(p, JINJA_NAME);
	n->name = name;
	return n;
}

/* Members up to a bracket, of a list or dict. */
static struct jinja_node *members(struct jinja_parser *p, enum jinja_type type, int close)
{
	struct jinja_node *n = jinja_node_new(p, type), **last = &n->list;

	while (!jinja_skip_op(p, close)) {
		if (n->list) {
			jinja_want_op(p, ',');
			if (jinja_skip_op(p, close))
				break;
		}
		*last = jinja_expression(p, true);
		last = &(*last)->next;
		if (type == JINJA_MAKE_DICT) {
			jinja_want_op(p, ':');
			*last = jinja_expression(p, true);
			last = &(*last)->next;
		}
	}
	return n;
}

/* Expressions with commas between them; one without a comma is itself. `close`: the bracket that may end them, or 0. */
struct jinja_node *jinja_tuple(struct jinja_parser *p, bool with_if, int close)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_MAKE_TUPLE), **last = &n->list;
	bool comma = false;

	while (!(close && jinja_is_op(p, close)) && p->t.word != JINJA_W_BLOCK_END && p->t.word != JINJA_W_PRINT_END &&
	       !jinja_is_name(p, "in") && !jinja_is_name(p, "recursive")) {
		*last = jinja_expression(p, with_if);
		last = &(*last)->next;
		if (!jinja_is_op(p, ','))
			break;
		comma = true;
		jinja_advance(p);
	}
	if (!n->list && !close)
		jinja_wanted(p, "An expression");
	return comma || !n->list ? n : n->list;
}

static struct jinja_node *primary(struct jinja_parser *p)
{
	struct jinja_node *n;

	switch (p->t.word) {
	case JINJA_W_NAME:
		return named(p);
	case JINJA_W_TEXT:
		return text(p);
	case JINJA_W_INT:
		n = constant(p, jinja_int(p->t.i));
		jinja_advance(p);
		return n;
	case JINJA_W_FLOAT:
		n = constant(p, jinja_float(p->t.d));
		jinja_advance(p);
		return n;
	default:
		break;
	}
	if (jinja_skip_op(p, '(')) {
		n = jinja_tuple(p, true, ')');
		jinja_want_op(p, ')');
		return n;
	}
	if (jinja_skip_op(p, '['))
		return members(p, JINJA_MAKE_LIST, ']');
	if (jinja_skip_op(p, '{'))
		return members(p, JINJA_MAKE_DICT, '}');
	jinja_wanted(p, "An expression");
}

/* ---- what comes behind one ---- */

/* Arguments up to the closing bracket; the opening one was read. */
struct jinja_node *jinja_call_arguments(struct jinja_parser *p)
{
	struct jinja_node *first = NULL, **last = &first;

	while (!jinja_skip_op(p, ')')) {
		int stars = jinja_is_op(p, '*') ? 1 : jinja_is_op(p, JINJA_OP_POWER) ? 2 : 0;
		struct jinja_node *n;

		if (first) {
			jinja_want_op(p, ',');
			if (jinja_skip_op(p, ')'))
				break;
			stars = jinja_is_op(p, '*') ? 1 : jinja_is_op(p, JINJA_OP_POWER) ? 2 : 0;
		}
		if (stars) {
			jinja_advance(p);
			n = jinja_node_new(p, JINJA_SPREAD);
			n->op = stars;
			n->a = jinja_expression(p, true);
		} else {
			n = jinja_expression(p, true);
			if (n->type == JINJA_NAME && jinja_skip_op(p, '=')) {
				n->type = JINJA_KEYWORD;
				n->a = jinja_expression(p, true);
			}
		}
		*last = n;
		last = &n->next;
	}
	return first;
}

/* [key], or [from:to:step]. */
static struct jinja_node *subscript(struct jinja_parser *p, struct jinja_node *of)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_ITEM), *part[3] = { NULL, NULL, NULL };
	int i = 0;

	n->a = of;
	while (!jinja_is_op(p, ']')) {
		if (jinja_is_op(p, ':') && i < 2) {
			jinja_advance(p);
			i++;
		} else if (!part[i]) {
			part[i] = i ? jinja_expression(p, true) : jinja_tuple(p, true, ':');
		} else {
			jinja_wanted(p, "\"]\"");
		}
	}
	jinja_want_op(p, ']');
	if (i == 0) {
		if (!part[0])
			jinja_wanted(p, "A key");
		n->b = part[0];
		return n;
	}
	n->type = JINJA_SLICE;
	for (i = 2; i >= 0; i--) {
		if (!part[i])
			part[i] = constant(p, (struct jinja_value){ .kind = JINJA_NONE });
		part[i]->next = n->list;
		n->list = part[i];
	}
	return n;
}

static struct jinja_node *call(struct jinja_parser *p, struct jinja_node *of)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_CALL);

	n->a = of;
	n->list = jinja_call_arguments(p);
	return n;
}

static struct jinja_node *postfix(struct jinja_parser *p, struct jinja_node *n)
{
	struct jinja_node *m;

	for (;;) {
		if (jinja_skip_op(p, '.')) {
			m = jinja_node_new(p, p->t.word == JINJA_W_INT ? JINJA_ITEM : JINJA_ATTRIBUTE);
			m->a = n;
			if (m->type == JINJA_ITEM)
				m->b = primary(p);
			else
				m->name = jinja_want_name(p);
			n = m;
		} else if (jinja_skip_op(p, '[')) {
			n = subscript(p, n);
		} else if (jinja_skip_op(p, '(')) {
			n = call(p, n);
		} else {
			return n;
		}
	}
}

static struct jinja_node *filter(struct jinja_parser *p, struct jinja_node *of)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_FILTER);

	n->a = of;
	n->name = jinja_want_name(p);
	n->function = jinja_filter(n->name);
	if (jinja_skip_op(p, '('))
		n->list = jinja_call_arguments(p);
	return n;
}

/* Whether what follows a test's name is its argument, without brackets. */
static bool begins_argument(const struct jinja_parser *p)
{
	if (p->t.word == JINJA_W_NAME)
		return !jinja_is_name(p, "else") && !jinja_is_name(p, "or") && !jinja_is_name(p, "and");
	return p->t.word == JINJA_W_TEXT || p->t.word == JINJA_W_INT || p->t.word == JINJA_W_FLOAT ||
	       jinja_is_op(p, '[') || jinja_is_op(p, '{');
}

static struct jinja_node *test(struct jinja_parser *p, struct jinja_node *of)
{
	bool negated = jinja_skip_name(p, "not");
	struct jinja_node *n = jinja_node_new(p, JINJA_TEST), *no;

	n->a = of;
	n->name = jinja_want_name(p);
	n->function = jinja_test(n->name);
	if (jinja_skip_op(p, '('))
		n->list = jinja_call_arguments(p);
	else if (jinja_is_name(p, "is"))
		jinja_fail(p->r, SINK_EFORMAT, "A test stands behind a test.");
	else if (begins_argument(p))
		n->list = postfix(p, primary(p));
	if (!negated)
		return n;
	no = jinja_node_new(p, JINJA_NOT);
	no->a = n;
	return no;
}

struct jinja_node *jinja_filter_chain(struct jinja_parser *p)
{
	return jinja_filters(p, filter(p, NULL));
}

struct jinja_node *jinja_filters(struct jinja_parser *p, struct jinja_node *n)
{
	for (;;) {
		if (jinja_skip_op(p, '|'))
			n = filter(p, n);
		else if (jinja_skip_name(p, "is"))
			n = test(p, n);
		else if (jinja_skip_op(p, '('))
			n = call(p, n);
		else
			return n;
	}
}

/* ---- operators, the tightest first ---- */

static struct jinja_node *unary(struct jinja_parser *p, bool with_filters)
{
	struct jinja_node *n;

	jinja_down(p->r);
	if (jinja_is_op(p, '-') || jinja_is_op(p, '+')) {
		n = jinja_node_new(p, jinja_is_op(p, '-') ? JINJA_NEGATE : JINJA_PLUS);
		jinja_advance(p);
		n->a = unary(p, false);
	} else {
		n = primary(p);
	}
	n = postfix(p, n);
	jinja_up(p->r);
	return with_filters ? jinja_filters(p, n) : n;
}

static struct jinja_node *pair(struct jinja_parser *p, enum jinja_type type, int op, struct jinja_node *a)
{
	struct jinja_node *n = jinja_node_new(p, type);

	n->op = op;
	n->a = a;
	return n;
}

static struct jinja_node *product(struct jinja_parser *p)
{
	struct jinja_node *n = unary(p, true);

	for (;;) {
		int op = p->t.word != JINJA_W_OPERATOR ? 0 : p->t.op == JINJA_OP_FLOOR ? 'f' : p->t.op;

		if (op == JINJA_OP_POWER)
			jinja_fail(p->r, SINK_EFORMAT, "The operator \"**\" is outside of what is known here.");
		if (op != '*' && op != '/' && op != 'f' && op != '%')
			return n;
		jinja_advance(p);
		n = pair(p, JINJA_BINARY, op, n);
		n->b = unary(p, true);
	}
}

static struct jinja_node *concat(struct jinja_parser *p)
{
	struct jinja_node *n = product(p), **last, *first;

	if (!jinja_is_op(p, '~'))
		return n;
	first = n;
	n = jinja_node_new(p, JINJA_CONCAT);
	n->list = first;
	for (last = &first->next; jinja_skip_op(p, '~'); last = &(*last)->next)
		*last = product(p);
	return n;
}

static struct jinja_node *sum(struct jinja_parser *p)
{
	struct jinja_node *n = concat(p);

	while (jinja_is_op(p, '+') || jinja_is_op(p, '-')) {
		n = pair(p, JINJA_BINARY, p->t.op, n);
		jinja_advance(p);
		n->b = concat(p);
	}
	return n;
}

/* The operator of comparison that is next, or -1; `not in` is two words. */
static int compare_op(struct jinja_parser *p)
{
	static const int ops[] = { JINJA_OP_EQ, JINJA_OP_NE, '<', JINJA_OP_LE, '>', JINJA_OP_GE };
	struct jinja_parser before;

	if (p->t.word == JINJA_W_OPERATOR)
		for (int i = 0; i < (int)(sizeof(ops) / sizeof(ops[0])); i++)
			if (jinja_skip_op(p, ops[i]))
				return i;
	if (jinja_skip_name(p, "in"))
		return JINJA_IN;
	before = *p;
	if (jinja_skip_name(p, "not")) {
		if (jinja_skip_name(p, "in"))
			return JINJA_NOT_IN;
		*p = before;
	}
	return -1;
}

static struct jinja_node *compare(struct jinja_parser *p)
{
	struct jinja_node *left = sum(p), *first = NULL, **last = &first;
	int op;

	while ((op = compare_op(p)) >= 0) {
		*last = pair(p, JINJA_COMPARE, op, first ? NULL : left);
		(*last)->b = sum(p);
		last = &(*last)->c;
	}
	return first ? first : left;
}

static struct jinja_node *negation(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_NOT);

	if (!jinja_skip_name(p, "not"))
		return compare(p);
	jinja_down(p->r);
	n->a = negation(p);
	jinja_up(p->r);
	return n;
}

static struct jinja_node *conjunction(struct jinja_parser *p)
{
	struct jinja_node *n = negation(p);

	while (jinja_skip_name(p, "and")) {
		n = pair(p, JINJA_AND, 0, n);
		n->b = negation(p);
	}
	return n;
}

static struct jinja_node *disjunction(struct jinja_parser *p)
{
	struct jinja_node *n = conjunction(p);

	while (jinja_skip_name(p, "or")) {
		n = pair(p, JINJA_OR, 0, n);
		n->b = conjunction(p);
	}
	return n;
}

struct jinja_node *jinja_expression(struct jinja_parser *p, bool with_if)
{
	struct jinja_node *n;

	jinja_down(p->r);
	n = disjunction(p);
	while (with_if && jinja_skip_name(p, "if")) {
		n = pair(p, JINJA_IF_ELSE, 0, n);
		n->b = disjunction(p);
		if (jinja_skip_name(p, "else"))
			n->c = jinja_expression(p, true);
	}
	jinja_up(p->r);
	return n;
}
