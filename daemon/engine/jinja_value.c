/* Values: lists and dicts, what is true, equal, less or part of another, and what an attribute or a key finds. */
#include "jinja_parts.h"

#include <math.h>
#include <string.h>

const char *jinja_kind_name(struct jinja_value v)
{
	static const char *const names[] = {
		[JINJA_UNDEFINED] = "undefined", [JINJA_NONE] = "None",
		[JINJA_BOOL] = "bool",		 [JINJA_INT] = "int",
		[JINJA_FLOAT] = "float",	 [JINJA_TEXT] = "str",
		[JINJA_LIST] = "list",		 [JINJA_TUPLE] = "tuple",
		[JINJA_DICT] = "dict",		 [JINJA_NAMESPACE] = "namespace",
		[JINJA_MACRO] = "macro",	 [JINJA_FUNCTION] = "function",
		[JINJA_METHOD] = "method",	 [JINJA_LOOP] = "loop",
	};

	return names[v.kind];
}

bool jinja_is_sequence(struct jinja_value v)
{
	return v.kind == JINJA_LIST || v.kind == JINJA_TUPLE;
}

/* ---- lists and dicts ---- */

struct jinja_value jinja_list_new(struct jinja_run *r, enum jinja_kind kind)
{
	return (struct jinja_value){ .kind = kind, .list = jinja_take(r, sizeof(struct jinja_list)) };
}

/* Room for one more; the arena keeps what was before. */
static void *grown(struct jinja_run *r, void *at, size_t count, size_t *room, size_t size)
{
	void *more;

	if (count < *room)
		return at;
	*room = *room ? 2 * *room : 4;
	more = jinja_take(r, *room * size);
	if (count)
		memcpy(more, at, count * size);
	return more;
}

void jinja_push(struct jinja_run *r, struct jinja_list *l, struct jinja_value v)
{
	l->at = grown(r, l->at, l->count, &l->room, sizeof(*l->at));
	l->at[l->count++] = v;
}

struct jinja_value jinja_dict_new(struct jinja_run *r, enum jinja_kind kind)
{
	return (struct jinja_value){ .kind = kind, .dict = jinja_take(r, sizeof(struct jinja_dict)) };
}

struct jinja_value *jinja_get(struct jinja_run *r, const struct jinja_dict *d, struct jinja_value key)
{
	jinja_steps(r, 1 + d->count / 4);
	for (size_t i = 0; i < d->count; i++)
		if (jinja_equal(r, d->at[i].key, key))
			return &d->at[i].value;
	return NULL;
}

struct jinja_value *jinja_get_word(struct jinja_run *r, const struct jinja_dict *d, const char *key)
{
	return jinja_get(r, d, jinja_word(key));
}

void jinja_put(struct jinja_run *r, struct jinja_dict *d, struct jinja_value key, struct jinja_value v)
{
	struct jinja_value *old = jinja_get(r, d, key);

	if (old) {
		*old = v;
		return;
	}
	if (key.kind == JINJA_LIST || key.kind == JINJA_DICT)
		jinja_fail(r, SINK_EFORMAT, "A %s cannot be a key.", jinja_kind_name(key));
	d->at = grown(r, d->at, d->count, &d->room, sizeof(*d->at));
	d->at[d->count++] = (struct jinja_pair){ key, v };
}

/* ---- comparing ---- */

bool jinja_true(struct jinja_value v)
{
	switch (v.kind) {
	case JINJA_UNDEFINED:
	case JINJA_NONE:
		return false;
	case JINJA_BOOL:
		return v.b;
	case JINJA_INT:
		return v.i != 0;
	case JINJA_FLOAT:
		return v.d != 0;
	case JINJA_TEXT:
		return v.s.len > 0;
	case JINJA_LIST:
	case JINJA_TUPLE:
		return v.list->count > 0 || v.stream;
	case JINJA_DICT:
		return v.dict->count > 0;
	default:
		return true;
	}
}

static bool is_whole(struct jinja_value v)
{
	return v.kind == JINJA_INT || v.kind == JINJA_BOOL;
}

static bool is_number(struct jinja_value v)
{
	return is_whole(v) || v.kind == JINJA_FLOAT;
}

static int64_t whole(struct jinja_value v)
{
	return v.kind == JINJA_BOOL ? v.b : v.i;
}

static double number(struct jinja_value v)
{
	return v.kind == JINJA_FLOAT ? v.d : (double)whole(v);
}

static bool equal_lists(struct jinja_run *r, const struct jinja_list *a, const struct jinja_list *b)
{
	bool equal = a->count == b->count;

	jinja_down(r);
	for (size_t i = 0; equal && i < a->count; i++)
		equal = jinja_equal(r, a->at[i], b->at[i]);
	jinja_up(r);
	return equal;
}

static bool equal_dicts(struct jinja_run *r, const struct jinja_dict *a, const struct jinja_dict *b)
{
	bool equal = a->count == b->count;

	jinja_down(r);
	for (size_t i = 0; equal && i < a->count; i++) {
		const struct jinja_value *v = jinja_get(r, b, a->at[i].key);

		equal = v && jinja_equal(r, a->at[i].value, *v);
	}
	jinja_up(r);
	return equal;
}

bool jinja_equal(struct jinja_run *r, struct jinja_value a, struct jinja_value b)
{
	jinja_steps(r, 1);
	if (is_number(a) && is_number(b))
		return is_whole(a) && is_whole(b) ? whole(a) == whole(b) : number(a) == number(b);
	if (a.kind != b.kind)
		return false;
	switch (a.kind) {
	case JINJA_UNDEFINED:
	case JINJA_NONE:
		return true;
	case JINJA_TEXT:
		jinja_steps(r, a.s.len == b.s.len ? a.s.len / 32 : 0);
		return jinja_same(a.s, b.s);
	case JINJA_LIST:
	case JINJA_TUPLE:
		return equal_lists(r, a.list, b.list);
	case JINJA_DICT:
		return equal_dicts(r, a.dict, b.dict);
	default:
		return a.dict == b.dict; /* one and the same */
	}
}

static int order_lists(struct jinja_run *r, const struct jinja_list *a, const struct jinja_list *b)
{
	int order = 0;
	size_t i;

	jinja_down(r);
	for (i = 0; i < a->count && i < b->count && !order; i++)
		if (!jinja_equal(r, a->at[i], b->at[i]))
			order = jinja_order(r, a->at[i], b->at[i]);
	jinja_up(r);
	return order ? order : (a->count > b->count) - (a->count < b->count);
}

int jinja_order(struct jinja_run *r, struct jinja_value a, struct jinja_value b)
{
	if (is_whole(a) && is_whole(b))
		return (whole(a) > whole(b)) - (whole(a) < whole(b));
	if (is_number(a) && is_number(b))
		return (number(a) > number(b)) - (number(a) < number(b));
	if (a.kind == JINJA_TEXT && b.kind == JINJA_TEXT) {
		size_t len = a.s.len < b.s.len ? a.s.len : b.s.len;
		int order = len ? memcmp(a.s.at, b.s.at, len) : 0;

		jinja_steps(r, 1 + len / 32);
		return order ? order : (a.s.len > b.s.len) - (a.s.len < b.s.len);
	}
	if (a.kind == b.kind && jinja_is_sequence(a))
		return order_lists(r, a.list, b.list);
	jinja_fail(r, SINK_EFORMAT, "A value of type %s is neither less nor more than one of type %s.",
		   jinja_kind_name(a), jinja_kind_name(b));
}

bool jinja_contains(struct jinja_run *r, struct jinja_value in, struct jinja_value what)
{
	switch (in.kind) {
	case JINJA_UNDEFINED:
		return false;
	case JINJA_TEXT:
		return jinja_find(r, in.s, jinja_want_text(r, what, "What is looked for in a text")) != NULL;
	case JINJA_LIST:
	case JINJA_TUPLE:
		for (size_t i = 0; i < in.list->count; i++)
			if (jinja_equal(r, in.list->at[i], what))
				return true;
		return false;
	case JINJA_DICT:
		return jinja_get(r, in.dict, what) != NULL;
	default:
		jinja_fail(r, SINK_EFORMAT, "Nothing can be in a value of type %s.", jinja_kind_name(in));
	}
}

struct jinja_list *jinja_iterate(struct jinja_run *r, struct jinja_value v)
{
	struct jinja_list *l = jinja_list_new(r, JINJA_LIST).list;

	switch (v.kind) {
	case JINJA_UNDEFINED:
		return l;
	case JINJA_LIST:
	case JINJA_TUPLE:
		return v.list;
	case JINJA_DICT:
		for (size_t i = 0; i < v.dict->count; i++)
			jinja_push(r, l, v.dict->at[i].key);
		return l;
	case JINJA_TEXT:
		for (size_t at = 0, n; at < v.s.len; at += n) {
			n = jinja_character(v.s, at);
			jinja_push(r, l, jinja_string(jinja_cut(v.s, at, at + n)));
		}
		return l;
	default:
		jinja_fail(r, SINK_EFORMAT, "A value of type %s has no members to go through.", jinja_kind_name(v));
	}
}

/* ---- arithmetic ---- */

static int64_t whole_result(struct jinja_run *r, char op, int64_t a, int64_t b)
{
	int64_t to = 0;
	bool over = false;

	switch (op) {
	case '+':
		over = __builtin_add_overflow(a, b, &to);
		break;
	case '-':
		over = __builtin_sub_overflow(a, b, &to);
		break;
	case '*':
		over = __builtin_mul_overflow(a, b, &to);
		break;
	default: /* Python's: the remainder has the sign of the divisor */
		if (b == 0)
			jinja_fail(r, SINK_EFORMAT, "It divides by zero.");
		if (b == -1) {
			over = op == 'f' && __builtin_sub_overflow((int64_t)0, a, &to);
			break;
		}
		to = op == 'f' ? a / b - (a % b && (a < 0) != (b < 0)) : a % b + (a % b && (a < 0) != (b < 0) ? b : 0);
	}
	if (over)
		jinja_fail(r, SINK_EFORMAT, "A number is too large.");
	return to;
}

static double float_result(struct jinja_run *r, char op, double a, double b)
{
	double rest;

	switch (op) {
	case '+':
		return a + b;
	case '-':
		return a - b;
	case '*':
		return a * b;
	default:
		if (b == 0)
			jinja_fail(r, SINK_EFORMAT, "It divides by zero.");
		if (op == '/')
			return a / b;
		rest = fmod(a, b);
		rest += rest != 0 && (rest < 0) != (b < 0) ? b : 0;
		return op == '%' ? rest : floor((a - rest) / b + 0.5);
	}
}

static struct jinja_text escape(struct jinja_run *r, struct jinja_text s)
{
	static const char *const by[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
	static const char what[] = "&<>'\"";
	struct jinja_buffer b = { 0 };

	for (size_t i = 0; i < s.len; i++) {
		const char *c = strchr(what, s.at[i]);

		if (c && *c)
			jinja_write_word(r, &b, by[c - what]);
		else
			jinja_write(r, &b, jinja_cut(s, i, i + 1));
	}
	return jinja_written(&b);
}

static struct jinja_value join(struct jinja_run *r, struct jinja_value a, struct jinja_value b)
{
	struct jinja_buffer to = { 0 };
	struct jinja_value v;

	jinja_write(r, &to, b.markup && !a.markup ? escape(r, a.s) : a.s);
	jinja_write(r, &to, a.markup && !b.markup ? escape(r, b.s) : b.s);
	v = jinja_string(jinja_written(&to));
	v.markup = a.markup || b.markup;
	return v;
}

static struct jinja_value repeat(struct jinja_run *r, struct jinja_value v, int64_t count)
{
	struct jinja_value list = jinja_is_sequence(v) ? jinja_list_new(r, v.kind) : v;
	struct jinja_buffer b = { 0 };

	for (; count > 0; count--) {
		jinja_steps(r, 1);
		if (v.kind == JINJA_TEXT)
			jinja_write(r, &b, v.s);
		for (size_t i = 0; v.kind != JINJA_TEXT && i < v.list->count; i++)
			jinja_push(r, list.list, v.list->at[i]);
	}
	return v.kind == JINJA_TEXT ? jinja_string(jinja_written(&b)) : list;
}

struct jinja_value jinja_arithmetic(struct jinja_run *r, char op, struct jinja_value a, struct jinja_value b)
{
	if (is_whole(a) && is_whole(b) && op != '/')
		return jinja_int(whole_result(r, op, whole(a), whole(b)));
	if (is_number(a) && is_number(b))
		return jinja_float(float_result(r, op, number(a), number(b)));
	if (op == '+' && a.kind == JINJA_TEXT && b.kind == JINJA_TEXT)
		return join(r, a, b);
	if (op == '+' && a.kind == b.kind && jinja_is_sequence(a)) {
		struct jinja_value to = jinja_list_new(r, a.kind);

		for (size_t i = 0; i < a.list->count; i++)
			jinja_push(r, to.list, a.list->at[i]);
		for (size_t i = 0; i < b.list->count; i++)
			jinja_push(r, to.list, b.list->at[i]);
		return to;
	}
	if (op == '*' && (a.kind == JINJA_TEXT || jinja_is_sequence(a)) && is_whole(b))
		return repeat(r, a, whole(b));
	if (op == '*' && (b.kind == JINJA_TEXT || jinja_is_sequence(b)) && is_whole(a))
		return repeat(r, b, whole(a));
	if (a.kind == JINJA_UNDEFINED || b.kind == JINJA_UNDEFINED)
		jinja_fail(r, SINK_EFORMAT, "\"%.60s\" is undefined.",
			   (a.kind == JINJA_UNDEFINED ? a.name : b.name) ? (a.kind == JINJA_UNDEFINED ? a.name : b.name)
									 : "A value");
	jinja_fail(r, SINK_EFORMAT, "The operator \"%s\" does not take values of types %s and %s.",
		   op == 'f' ? "//" : (char[]){ op, '\0' }, jinja_kind_name(a), jinja_kind_name(b));
}
