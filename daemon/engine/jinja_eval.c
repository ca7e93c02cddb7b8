/*
 * Running a template: expressions to values, statements to output. A scope belongs to a loop's round, a macro's call or
 * a block; names are looked up from the inside out, in a macro from where it was made.
 */
#include "jinja_eval.h"

#include <string.h>

struct variable {
	const char *name;
	struct jinja_value value;
	struct variable *next;
};

struct jinja_scope {
	struct jinja_scope *parent;
	struct variable *first;
};

enum leave { STAY, LEAVE_ROUND, LEAVE_LOOP };

static struct jinja_value eval(struct jinja_frame *f, const struct jinja_node *n);
static enum leave run(struct jinja_frame *f, const struct jinja_node *n);

/* ---- names ---- */

struct jinja_scope *jinja_scope_new(struct jinja_run *r, struct jinja_scope *parent)
{
	struct jinja_scope *s = jinja_take(r, sizeof(*s));

	s->parent = parent;
	return s;
}

static struct variable *find_in(struct jinja_run *r, const struct jinja_scope *s, const char *name)
{
	struct variable *v = s->first;

	for (; v && strcmp(v->name, name) != 0; v = v->next)
		jinja_steps(r, 1);
	return v;
}

void jinja_define(struct jinja_run *r, struct jinja_scope *s, const char *name, struct jinja_value value)
{
	struct variable *v = find_in(r, s, name);

	if (!v) {
		v = jinja_take(r, sizeof(*v));
		v->name = name;
		v->next = s->first;
		s->first = v;
	}
	v->value = value;
}

static struct jinja_value look_up(struct jinja_run *r, const struct jinja_scope *s, const char *name)
{
	const struct jinja_function *function;

	for (; s; s = s->parent) {
		const struct variable *v = find_in(r, s, name);

		if (v)
			return v->value;
	}
	function = jinja_global(name);
	if (!function || (!r->now && strcmp(name, "strftime_now") == 0))
		return jinja_undefined(name);
	return (struct jinja_value){ .kind = JINJA_FUNCTION, .function = function };
}

static void assign(struct jinja_frame *f, const struct jinja_node *target, struct jinja_value v)
{
	struct jinja_list *members;
	struct jinja_value of;
	size_t i = 0;

	switch (target->type) {
	case JINJA_NAME:
		jinja_define(f->r, f->scope, target->name, v);
		return;
	case JINJA_ATTRIBUTE:
		of = eval(f, target->a);
		if (of.kind != JINJA_NAMESPACE)
			jinja_fail(f->r, SINK_EFORMAT, "\"%.60s\" is set in what is no namespace.", target->name);
		jinja_put(f->r, of.dict, jinja_word(target->name), v);
		return;
	default:
		members = jinja_iterate(f->r, v);
		for (const struct jinja_node *n = target->list; n; n = n->next, i++) {
			if (i == members->count)
				break;
			assign(f, n, members->at[i]);
			if (!n->next && i + 1 == members->count)
				return;
		}
		jinja_fail(f->r, SINK_EFORMAT, "There are not as many values as names.");
	}
}

/* ---- calls ---- */

static void spread(struct jinja_frame *f, const struct jinja_node *n, struct jinja_args *a)
{
	struct jinja_value v = eval(f, n->a);

	if (n->op == 1) {
		const struct jinja_list *l = jinja_iterate(f->r, v);

		for (size_t i = 0; i < l->count; i++)
			jinja_push(f->r, &a->pos, l->at[i]);
		return;
	}
	if (v.kind != JINJA_DICT)
		jinja_fail(f->r, SINK_EFORMAT, "\"**\" takes a dict.");
	for (size_t i = 0; i < v.dict->count; i++) {
		jinja_want_text(f->r, v.dict->at[i].key, "The name of an argument");
		jinja_put(f->r, &a->named, v.dict->at[i].key, v.dict->at[i].value);
	}
}

static struct jinja_args arguments(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_args a = { 0 };

	for (; n; n = n->next) {
		if (n->type == JINJA_KEYWORD)
			jinja_put(f->r, &a.named, jinja_word(n->name), eval(f, n->a));
		else if (n->type == JINJA_SPREAD)
			spread(f, n, &a);
		else
			jinja_push(f->r, &a.pos, eval(f, n));
	}
	return a;
}

/* What statements write, as a text. */
static struct jinja_value written_by(struct jinja_frame *f, const struct jinja_node *list, struct jinja_scope *scope)
{
	struct jinja_buffer b = { 0 };
	struct jinja_frame inner = { f->r, scope, &b, jinja_undefined(NULL) };

	jinja_run_list(&inner, list);
	return jinja_string(jinja_written(&b));
}

static struct jinja_value call_macro(struct jinja_frame *f, const struct jinja_macro *m, const struct jinja_args *a)
{
	struct jinja_scope *scope = jinja_scope_new(f->r, m->scope);
	struct jinja_frame inner = { f->r, scope, NULL, jinja_undefined(NULL) };
	size_t at = 0, named = 0;
	struct jinja_value *v;

	for (const struct jinja_node *n = m->node->a; n; n = n->next, at++) {
		v = jinja_get_word(f->r, &a->named, n->name);
		named += v != NULL;
		if (at < a->pos.count)
			jinja_define(f->r, scope, n->name, a->pos.at[at]);
		else if (v)
			jinja_define(f->r, scope, n->name, *v);
		else
			jinja_define(f->r, scope, n->name, n->a ? eval(&inner, n->a) : jinja_undefined(n->name));
	}
	v = jinja_get_word(f->r, &a->named, "caller");
	if (v)
		jinja_define(f->r, scope, "caller", *v);
	if (a->pos.count > at || a->named.count > named + (v != NULL))
		jinja_fail(f->r, SINK_EFORMAT, "The macro \"%.60s\" has other arguments.", m->node->name);
	return written_by(f, m->node->list, scope);
}

static struct jinja_value call(struct jinja_frame *f, struct jinja_value what, struct jinja_args *a)
{
	switch (what.kind) {
	case JINJA_MACRO:
		return call_macro(f, what.macro, a);
	case JINJA_FUNCTION:
		return what.function->call(f->r, jinja_undefined(NULL), a);
	case JINJA_METHOD:
		return what.method->function->call(f->r, what.method->self, a);
	case JINJA_UNDEFINED:
		jinja_fail(f->r, SINK_EFORMAT, "\"%.60s\" is undefined, or outside of what is known here.",
			   what.name ? what.name : "What is called");
	default:
		jinja_fail(f->r, SINK_EFORMAT, "A value of type %s cannot be called.", jinja_kind_name(what));
	}
}

/* ---- expressions ---- */

static struct jinja_value make_members(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value v = jinja_list_new(f->r, n->type == JINJA_MAKE_LIST ? JINJA_LIST : JINJA_TUPLE);

	for (const struct jinja_node *m = n->list; m; m = m->next)
		jinja_push(f->r, v.list, eval(f, m));
	return v;
}

static struct jinja_value make_dict(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value v = jinja_dict_new(f->r, JINJA_DICT), key;

	for (const struct jinja_node *m = n->list; m; m = m->next->next) {
		key = eval(f, m);
		jinja_put(f->r, v.dict, key, eval(f, m->next));
	}
	return v;
}

static bool holds(struct jinja_run *r, int op, struct jinja_value a, struct jinja_value b)
{
	switch (op) {
	case JINJA_EQ:
		return jinja_equal(r, a, b);
	case JINJA_NE:
		return !jinja_equal(r, a, b);
	case JINJA_LT:
		return jinja_order(r, a, b) < 0;
	case JINJA_LE:
		return jinja_order(r, a, b) <= 0;
	case JINJA_GT:
		return jinja_order(r, a, b) > 0;
	case JINJA_GE:
		return jinja_order(r, a, b) >= 0;
	case JINJA_IN:
		return jinja_contains(r, b, a);
	default:
		return !jinja_contains(r, b, a);
	}
}

static struct jinja_value compare(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value a = eval(f, n->a), b;

	for (; n; n = n->c, a = b) {
		b = eval(f, n->b);
		if (!holds(f->r, n->op, a, b))
			return jinja_bool(false);
	}
	return jinja_bool(true);
}

static struct jinja_value concat(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_buffer b = { 0 };

	for (const struct jinja_node *m = n->list; m; m = m->next)
		jinja_write(f->r, &b, jinja_str(f->r, eval(f, m)));
	return jinja_string(jinja_written(&b));
}

static struct jinja_value slice(struct jinja_frame *f, const struct jinja_node *n)
{
	const struct jinja_node *m = n->list;
	struct jinja_value of = eval(f, n->a), part[3];

	for (int i = 0; i < 3; i++, m = m->next)
		part[i] = eval(f, m);
	return jinja_slice(f->r, of, part);
}

static struct jinja_value apply(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value of = n->a ? eval(f, n->a) : f->block;
	struct jinja_args a = arguments(f, n->list);

	f->r->line = n->line;
	if (!n->function)
		jinja_fail(f->r, SINK_EFORMAT, "The %s \"%.40s\" is outside of what is known here.",
			   n->type == JINJA_TEST ? "test" : "filter", n->name);
	return n->function->call(f->r, of, &a);
}

static struct jinja_value negate(struct jinja_run *r, struct jinja_value v)
{
	return v.kind == JINJA_FLOAT ? jinja_float(-v.d) : jinja_arithmetic(r, '-', jinja_int(0), v);
}

/* What has other expressions in it that may not be evaluated. */
static struct jinja_value choose(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value v;

	if (n->type == JINJA_IF_ELSE) {
		if (jinja_true(eval(f, n->b)))
			return eval(f, n->a);
		return n->c ? eval(f, n->c) : jinja_undefined(NULL);
	}
	v = eval(f, n->a);
	return jinja_true(v) == (n->type == JINJA_OR) ? v : eval(f, n->b);
}

static struct jinja_value operate(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value a, b;
	struct jinja_args args;

	switch (n->type) {
	case JINJA_CALL:
		a = eval(f, n->a);
		args = arguments(f, n->list);
		f->r->line = n->line;
		return call(f, a, &args);
	case JINJA_FILTER:
	case JINJA_TEST:
		return apply(f, n);
	case JINJA_NOT:
		return jinja_bool(!jinja_true(eval(f, n->a)));
	case JINJA_NEGATE:
		return negate(f->r, eval(f, n->a));
	case JINJA_PLUS:
		return jinja_arithmetic(f->r, '+', jinja_int(0), eval(f, n->a));
	case JINJA_COMPARE:
		return compare(f, n);
	case JINJA_CONCAT:
		return concat(f, n);
	case JINJA_BINARY:
		a = eval(f, n->a);
		b = eval(f, n->b);
		f->r->line = n->line;
		return jinja_arithmetic(f->r, (char)n->op, a, b);
	default:
		return choose(f, n);
	}
}

static struct jinja_value eval(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value v, key;

	jinja_steps(f->r, 1);
	jinja_down(f->r);
	f->r->line = n->line;
	switch (n->type) {
	case JINJA_CONST:
		v = n->value;
		break;
	case JINJA_NAME:
		v = look_up(f->r, f->scope, n->name);
		break;
	case JINJA_MAKE_LIST:
	case JINJA_MAKE_TUPLE:
		v = make_members(f, n);
		break;
	case JINJA_MAKE_DICT:
		v = make_dict(f, n);
		break;
	case JINJA_ATTRIBUTE:
		v = jinja_attribute(f->r, eval(f, n->a), n->name);
		break;
	case JINJA_ITEM:
		v = eval(f, n->a);
		key = eval(f, n->b);
		v = jinja_item(f->r, v, key);
		break;
	case JINJA_SLICE:
		v = slice(f, n);
		break;
	default:
		v = operate(f, n);
	}
	jinja_up(f->r);
	return v;
}

/* ---- statements ---- */

static void print(struct jinja_frame *f, struct jinja_value v)
{
	jinja_write(f->r, f->out, jinja_str(f->r, v));
	if (f->out->len > f->r->output_most)
		jinja_fail(f->r, SINK_EBUSY, "It writes more than %zu bytes.", f->r->output_most);
}

/* The members that a loop goes through: those for which its condition holds. */
static const struct jinja_list *members(struct jinja_frame *f, const struct jinja_node *n)
{
	const struct jinja_list *all = jinja_iterate(f->r, eval(f, n->b));
	struct jinja_frame inner = *f;
	struct jinja_list *some;

	if (n->value.kind != JINJA_TUPLE)
		return all;
	some = jinja_list_new(f->r, JINJA_LIST).list;
	for (size_t i = 0; i < all->count; i++) {
		inner.scope = jinja_scope_new(f->r, f->scope);
		assign(&inner, n->a, all->at[i]);
		if (jinja_true(eval(&inner, n->b->next)))
			jinja_push(f->r, some, all->at[i]);
	}
	return some;
}

static void run_for(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_loop *l = jinja_take(f->r, sizeof(*l));
	struct jinja_frame inner = *f;

	l->list = members(f, n);
	l->depth = 1;
	for (; l->index < l->list->count; l->index++) {
		inner.scope = jinja_scope_new(f->r, f->scope);
		jinja_define(f->r, inner.scope, "loop", (struct jinja_value){ .kind = JINJA_LOOP, .loop = l });
		assign(&inner, n->a, l->list->at[l->index]);
		if (run(&inner, n->list) == LEAVE_LOOP)
			break;
	}
	if (!l->list->count && n->c)
		run(f, n->c);
}

static enum leave run_if(struct jinja_frame *f, const struct jinja_node *n)
{
	while (n && n->a && !jinja_true(eval(f, n->a)))
		n = n->c;
	return n ? run(f, n->list) : STAY;
}

static struct jinja_value make_macro(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_macro *m = jinja_take(f->r, sizeof(*m));

	*m = (struct jinja_macro){ n, f->scope };
	return (struct jinja_value){ .kind = JINJA_MACRO, .macro = m };
}

static void run_call(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_value what = eval(f, n->a->a);
	struct jinja_args a = arguments(f, n->a->list);

	jinja_put(f->r, &a.named, jinja_word("caller"), make_macro(f, n->b));
	print(f, call(f, what, &a));
}

/* A block that is a value: its text, through the filters of the tag. */
static struct jinja_value block_value(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_frame inner = *f;

	inner.block = written_by(f, n->list, jinja_scope_new(f->r, f->scope));
	return n->b ? eval(&inner, n->b) : inner.block;
}

static enum leave run_one(struct jinja_frame *f, const struct jinja_node *n)
{
	struct jinja_frame inner = *f;

	f->r->line = n->line;
	switch (n->type) {
	case JINJA_DATA:
		print(f, n->value);
		break;
	case JINJA_PRINT:
		print(f, eval(f, n->a));
		break;
	case JINJA_IF:
		return run_if(f, n);
	case JINJA_FOR:
		run_for(f, n);
		break;
	case JINJA_SET:
		assign(f, n->a, eval(f, n->b));
		break;
	case JINJA_SET_BLOCK:
		assign(f, n->a, block_value(f, n));
		break;
	case JINJA_MACRO_DEF:
		jinja_define(f->r, f->scope, n->name, make_macro(f, n));
		break;
	case JINJA_CALL_BLOCK:
		run_call(f, n);
		break;
	case JINJA_FILTER_BLOCK:
		print(f, block_value(f, n));
		break;
	case JINJA_SCOPE:
		inner.scope = jinja_scope_new(f->r, f->scope);
		return run(&inner, n->list);
	default:
		return n->type == JINJA_BREAK ? LEAVE_LOOP : LEAVE_ROUND;
	}
	return STAY;
}

static enum leave run(struct jinja_frame *f, const struct jinja_node *n)
{
	enum leave leave = STAY;

	jinja_down(f->r);
	for (; n && leave == STAY; n = n->next) {
		jinja_steps(f->r, 1);
		leave = run_one(f, n);
	}
	jinja_up(f->r);
	return leave;
}

void jinja_run_list(struct jinja_frame *f, const struct jinja_node *n)
{
	run(f, n);
}
