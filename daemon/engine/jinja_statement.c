/* The statements of a template: what stands in {% %}, and the bodies between them. */
#include "jinja_parse.h"

#include <string.h>

/* What ends a body: the next tag has one of these names, which stays unread. */
static struct jinja_node *body(struct jinja_parser *p, const char *const *ends);

static struct jinja_node *body_until(struct jinja_parser *p, const char *end)
{
	struct jinja_node *n = body(p, (const char *const[]){ end, NULL });

	jinja_advance(p);
	jinja_want_end(p);
	return n;
}

static struct jinja_node *targets(struct jinja_parser *p);

/* A name, or names in brackets. */
static struct jinja_node *target(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_NAME);

	if (!jinja_skip_op(p, '(')) {
		n->name = jinja_want_name(p);
		return n;
	}
	jinja_down(p->r);
	n = targets(p);
	jinja_up(p->r);
	jinja_want_op(p, ')');
	return n;
}

/* One target, or some with commas between them. */
static struct jinja_node *targets(struct jinja_parser *p)
{
	struct jinja_node *n = target(p), *m, **last;

	if (!jinja_is_op(p, ','))
		return n;
	m = jinja_node_new(p, JINJA_MAKE_TUPLE);
	m->list = n;
	for (last = &n->next; jinja_skip_op(p, ',') && !jinja_is_op(p, ')') && !jinja_is_op(p, '=') &&
			      !jinja_is_name(p, "in") && p->t.word != JINJA_W_BLOCK_END;
	     last = &(*last)->next)
		*last = target(p);
	return m;
}

/* What is set: targets, or NAME.ATTRIBUTE of a namespace. */
static struct jinja_node *set_target(struct jinja_parser *p)
{
	struct jinja_node *n = targets(p), *m;

	if (n->type != JINJA_NAME || !jinja_skip_op(p, '.'))
		return n;
	m = jinja_node_new(p, JINJA_ATTRIBUTE);
	m->a = n;
	m->name = jinja_want_name(p);
	return m;
}

static struct jinja_node *parse_if(struct jinja_parser *p)
{
	static const char *const ends[] = { "elif", "else", "endif", NULL };
	struct jinja_node *n = jinja_node_new(p, JINJA_IF), *first = n;

	for (;;) {
		n->a = jinja_tuple(p, false, 0);
		jinja_want_end(p);
		n->list = body(p, ends);
		if (!jinja_skip_name(p, "elif"))
			break;
		n->c = jinja_node_new(p, JINJA_IF);
		n = n->c;
	}
	if (jinja_skip_name(p, "else")) {
		jinja_want_end(p);
		n->c = jinja_node_new(p, JINJA_IF); /* without a condition: always */
		n->c->list = body(p, ends + 2);
	}
	jinja_advance(p);
	jinja_want_end(p);
	return first;
}

static struct jinja_node *parse_for(struct jinja_parser *p)
{
	static const char *const ends[] = { "else", "endfor", NULL };
	struct jinja_node *n = jinja_node_new(p, JINJA_FOR);

	n->a = targets(p);
	if (!jinja_skip_name(p, "in"))
		jinja_wanted(p, "\"in\"");
	n->b = jinja_tuple(p, false, 0);
	if (jinja_skip_name(p, "if")) {
		n->value.kind = JINJA_TUPLE; /* stands for: there is a condition, the second of b's */
		n->b->next = jinja_expression(p, true);
	}
	if (jinja_is_name(p, "recursive"))
		jinja_fail(p->r, SINK_EFORMAT, "A recursive loop is outside of what is known here.");
	jinja_want_end(p);
	p->loops++;
	n->list = body(p, ends);
	p->loops--;
	if (jinja_skip_name(p, "else")) {
		jinja_want_end(p);
		n->c = jinja_node_new(p, JINJA_SCOPE);
		n->c->list = body(p, ends + 1);
	}
	jinja_advance(p);
	jinja_want_end(p);
	return n;
}

static struct jinja_node *parse_set(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_SET);

	n->a = set_target(p);
	if (jinja_skip_op(p, '=')) {
		n->b = jinja_tuple(p, true, 0);
		jinja_want_end(p);
		return n;
	}
	n->type = JINJA_SET_BLOCK;
	n->b = jinja_filters(p, NULL);
	jinja_want_end(p);
	n->list = body_until(p, "endset");
	return n;
}

/* (name, name=default), and the end of the tag. */
static void parameters(struct jinja_parser *p, struct jinja_node *n)
{
	struct jinja_node **last = &n->a;

	while (!jinja_skip_op(p, ')')) {
		if (n->a) {
			jinja_want_op(p, ',');
			if (jinja_skip_op(p, ')'))
				break;
		}
		*last = jinja_node_new(p, JINJA_NAME);
		(*last)->name = jinja_want_name(p);
		if (jinja_skip_op(p, '='))
			(*last)->a = jinja_expression(p, true);
		last = &(*last)->next;
	}
}

/* The body of a macro: no loop around it can be left from there. */
static struct jinja_node *macro_body(struct jinja_parser *p, const char *end)
{
	int loops = p->loops;
	struct jinja_node *n;

	p->loops = 0;
	n = body_until(p, end);
	p->loops = loops;
	return n;
}

static struct jinja_node *parse_macro(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_MACRO_DEF);

	n->name = jinja_want_name(p);
	jinja_want_op(p, '(');
	parameters(p, n);
	jinja_want_end(p);
	n->list = macro_body(p, "endmacro");
	return n;
}

static struct jinja_node *parse_call(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_CALL_BLOCK);

	n->b = jinja_node_new(p, JINJA_MACRO_DEF);
	n->b->name = "caller";
	if (jinja_skip_op(p, '('))
		parameters(p, n->b);
	n->a = jinja_expression(p, true);
	if (n->a->type != JINJA_CALL)
		jinja_wanted(p, "A call");
	jinja_want_end(p);
	n->b->list = macro_body(p, "endcall");
	return n;
}

static struct jinja_node *parse_filter(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_FILTER_BLOCK);

	/* The first filter stands without its bar, as if an operator had been read. */
	n->b = jinja_filter_chain(p);
	jinja_want_end(p);
	n->list = body_until(p, "endfilter");
	return n;
}

static struct jinja_node *parse_generation(struct jinja_parser *p)
{
	struct jinja_node *n = jinja_node_new(p, JINJA_SCOPE);

	jinja_want_end(p);
	n->list = body_until(p, "endgeneration");
	return n;
}

static struct jinja_node *parse_leave(struct jinja_parser *p, enum jinja_type type)
{
	struct jinja_node *n = jinja_node_new(p, type);

	if (!p->loops)
		jinja_fail(p->r, SINK_EFORMAT, "There is no loop to be left.");
	jinja_want_end(p);
	return n;
}

static struct jinja_node *parse_break(struct jinja_parser *p)
{
	return parse_leave(p, JINJA_BREAK);
}

static struct jinja_node *parse_continue(struct jinja_parser *p)
{
	return parse_leave(p, JINJA_CONTINUE);
}

static struct jinja_node *statement(struct jinja_parser *p)
{
	static const struct {
		const char *name;
		struct jinja_node *(*parse)(struct jinja_parser *p);
	} statements[] = {
		{ "if", parse_if },	  { "for", parse_for },		  { "set", parse_set },
		{ "macro", parse_macro }, { "call", parse_call },	  { "filter", parse_filter },
		{ "break", parse_break }, { "continue", parse_continue }, { "generation", parse_generation },
	};
	const char *name = jinja_want_name(p);

	for (size_t i = 0; i < sizeof(statements) / sizeof(statements[0]); i++)
		if (strcmp(name, statements[i].name) == 0) {
			struct jinja_node *n;

			jinja_down(p->r);
			n = statements[i].parse(p);
			jinja_up(p->r);
			return n;
		}
	jinja_fail(p->r, SINK_EFORMAT, "The statement \"%.40s\" is outside of what is known here.", name);
}

static bool is_end(const struct jinja_parser *p, const char *const *ends)
{
	for (; ends && *ends; ends++)
		if (jinja_is_name(p, *ends))
			return true;
	return false;
}

static struct jinja_node *body(struct jinja_parser *p, const char *const *ends)
{
	struct jinja_node *first = NULL, **last = &first;

	for (;;) {
		struct jinja_node *n = jinja_node_new(p, JINJA_DATA);

		switch (p->t.word) {
		case JINJA_W_DATA:
			n->value = jinja_string(p->t.text);
			jinja_advance(p);
			break;
		case JINJA_W_PRINT:
			jinja_advance(p);
			n->type = JINJA_PRINT;
			n->a = jinja_tuple(p, true, 0);
			if (p->t.word != JINJA_W_PRINT_END)
				jinja_wanted(p, "\"}}\"");
			jinja_advance(p);
			break;
		case JINJA_W_BLOCK:
			jinja_advance(p);
			if (is_end(p, ends))
				return first;
			n = statement(p);
			break;
		default:
			if (ends)
				jinja_fail(p->r, SINK_EFORMAT, "{%% %s %%} is missing.", *ends);
			return first;
		}
		*last = n;
		last = &n->next;
	}
}

struct jinja_node *jinja_parse(struct jinja_run *r, const char *text, size_t len)
{
	struct jinja_parser p = { .r = r,
				  .lexer = { .r = r, .at = text, .end = text + len, .line = 1, .at_begin = true } };

	jinja_advance(&p);
	return body(&p, NULL);
}
