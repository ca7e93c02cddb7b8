/* Filters and tests, as jinja2 has them; tojson is Hugging Face's. */
#include "jinja_parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- helpers ---- */

static void no_arguments(struct jinja_run *r, const struct jinja_args *a, const char *what)
{
	jinja_arguments(r, a, what, (const char *const[]){ NULL }, NULL);
}

static bool is_given(struct jinja_value v)
{
	return v.kind != JINJA_UNDEFINED && v.kind != JINJA_NONE;
}

static struct jinja_value none(void)
{
	return (struct jinja_value){ .kind = JINJA_NONE };
}

/* A value as text, for filters that take any. */
static struct jinja_value soft(struct jinja_run *r, struct jinja_value v)
{
	struct jinja_value s = jinja_string(jinja_str(r, v));

	s.markup = v.kind == JINJA_TEXT && v.markup;
	return s;
}

/* a.b.0 of a value. */
static struct jinja_value path(struct jinja_run *r, struct jinja_value v, struct jinja_value attribute)
{
	struct jinja_text s, dot = jinja_word(".").s;
	const char *next;

	if (attribute.kind == JINJA_INT)
		return jinja_item(r, v, attribute);
	for (s = jinja_want_text(r, attribute, "The name of an attribute");;
	     s = jinja_cut(s, (size_t)(next + 1 - s.at), s.len)) {
		struct jinja_value key;

		next = jinja_find(r, s, dot);
		key = jinja_string(jinja_cut(s, 0, next ? (size_t)(next - s.at) : s.len));
		if (key.s.len && key.s.len < 9 && strspn(key.s.at, "0123456789") >= key.s.len)
			key = jinja_int(strtol(key.s.at, NULL, 10));
		v = jinja_item(r, v, key);
		if (!next)
			return v;
	}
}

/* A list that is filled as what a filter gives member by member. */
static struct jinja_value stream(struct jinja_run *r)
{
	struct jinja_value v = jinja_list_new(r, JINJA_LIST);

	v.stream = true;
	return v;
}

static struct jinja_value lower(struct jinja_run *r, struct jinja_value v)
{
	return v.kind == JINJA_TEXT ? jinja_string(jinja_case(r, v.s, 'l')) : v;
}

/* ---- filters of texts ---- */

static struct jinja_value filter_trim(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value chars, s = soft(r, v);
	struct jinja_text of = { 0 };

	jinja_arguments(r, a, "trim", (const char *const[]){ "chars", NULL }, &chars);
	if (is_given(chars))
		of = jinja_want_text(r, chars, "What is trimmed");
	jinja_steps(r, s.s.len / 16 * (1 + of.len));
	s.s = jinja_strip(s.s, is_given(chars) ? &of : NULL, 3);
	return s;
}

static struct jinja_value change_case(struct jinja_run *r, struct jinja_value v, struct jinja_args *a, char how)
{
	struct jinja_value s = soft(r, v);

	no_arguments(r, a, "This filter");
	s.s = jinja_case(r, s.s, how);
	return s;
}

static struct jinja_value filter_upper(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return change_case(r, v, a, 'u');
}

static struct jinja_value filter_lower(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return change_case(r, v, a, 'l');
}

static struct jinja_value filter_capitalize(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return change_case(r, v, a, 'c');
}

static struct jinja_value filter_title(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return change_case(r, v, a, 't');
}

static struct jinja_value filter_string(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	no_arguments(r, a, "string");
	return soft(r, v);
}

static struct jinja_value filter_safe(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value s = filter_string(r, v, a);

	s.markup = true;
	return s;
}

static struct jinja_value filter_replace(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value arg[3], s = soft(r, v);

	jinja_arguments(r, a, "replace", (const char *const[]){ "old", "new", "count", NULL }, arg);
	s.s = jinja_replace(r, s.s, jinja_str(r, arg[0]), jinja_str(r, arg[1]),
			    is_given(arg[2]) ? jinja_want_int(r, arg[2], "A count") : -1);
	return s;
}

static struct jinja_value filter_indent(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_text s = jinja_want_text(r, v, "What is indented"), by, line_feed = jinja_word("\n").s;
	struct jinja_buffer b = { 0 };
	struct jinja_value arg[3];
	bool first = true;

	jinja_arguments(r, a, "indent", (const char *const[]){ "width", "first", "blank", NULL }, arg);
	by = arg[0].kind == JINJA_TEXT
		     ? arg[0].s
		     : jinja_arithmetic(r, '*', jinja_word(" "), is_given(arg[0]) ? arg[0] : jinja_int(4)).s;
	for (;; first = false) {
		const char *end = jinja_find(r, s, line_feed);
		struct jinja_text line = jinja_cut(s, 0, end ? (size_t)(end - s.at) : s.len);

		if (first ? jinja_true(arg[1]) : line.len || jinja_true(arg[2]))
			jinja_write(r, &b, by);
		jinja_write(r, &b, line);
		if (!end)
			break;
		jinja_write(r, &b, jinja_cut(s, line.len, line.len + 1));
		s = jinja_cut(s, line.len + 1, s.len);
	}
	return jinja_string(jinja_written(&b));
}

/* ---- filters of numbers ---- */

static struct jinja_value filter_int(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value arg[1];
	char text[32], *end;
	long long i;

	jinja_arguments(r, a, "int", (const char *const[]){ "default", NULL }, arg);
	if (v.kind == JINJA_INT || v.kind == JINJA_BOOL)
		return jinja_int(v.kind == JINJA_INT ? v.i : v.b);
	if (v.kind == JINJA_FLOAT && v.d > -9e15 && v.d < 9e15)
		return jinja_int((int64_t)v.d);
	if (v.kind == JINJA_UNDEFINED)
		jinja_fail(r, SINK_EFORMAT, "\"%.60s\" is undefined.", v.name ? v.name : "A value");
	if (v.kind == JINJA_TEXT) {
		struct jinja_text s = jinja_strip(v.s, NULL, 3);

		snprintf(text, sizeof(text), "%.*s", (int)(s.len < 31 ? s.len : 31), s.at);
		errno = 0;
		i = strtoll(text, &end, 10);
		if (s.len && s.len < 31 && end != text && (!*end || *end == '.') && !errno) {
			double d = strtod(text, &end);

			if (!*end && d - d == 0)
				return jinja_int(i);
		}
	}
	return arg[0].kind == JINJA_UNDEFINED ? jinja_int(0) : arg[0];
}

static struct jinja_value filter_float(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value arg[1];
	char text[64], *end;
	double d;

	jinja_arguments(r, a, "float", (const char *const[]){ "default", NULL }, arg);
	if (v.kind == JINJA_FLOAT)
		return v;
	if (v.kind == JINJA_INT || v.kind == JINJA_BOOL)
		return jinja_float(v.kind == JINJA_INT ? (double)v.i : v.b);
	if (v.kind == JINJA_TEXT) {
		struct jinja_text s = jinja_strip(v.s, NULL, 3);

		snprintf(text, sizeof(text), "%.*s", (int)(s.len < 63 ? s.len : 63), s.at);
		d = strtod(text, &end);
		if (s.len && s.len < 63 && !*end && strspn(text, "+-.0123456789eE") == s.len)
			return jinja_float(d);
	}
	return arg[0].kind == JINJA_UNDEFINED ? jinja_float(0) : arg[0];
}

static struct jinja_value filter_abs(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	no_arguments(r, a, "abs");
	if (v.kind == JINJA_FLOAT)
		return jinja_float(v.d < 0 ? -v.d : v.d);
	return jinja_want_int(r, v, "The number of abs") < 0 ? jinja_arithmetic(r, '-', jinja_int(0), v) : v;
}

/* ---- filters of lists ---- */

static struct jinja_value filter_length(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	no_arguments(r, a, "length");
	return jinja_length(r, v);
}

static struct jinja_value filter_first(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	const struct jinja_list *l = jinja_iterate(r, v);

	no_arguments(r, a, "first");
	return l->count ? l->at[0] : jinja_undefined("The first of an empty list");
}

static struct jinja_value filter_last(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	const struct jinja_list *l = jinja_iterate(r, v);

	no_arguments(r, a, "last");
	return l->count ? l->at[l->count - 1] : jinja_undefined("The last of an empty list");
}

static struct jinja_value filter_list(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	no_arguments(r, a, "list");
	return (struct jinja_value){ .kind = JINJA_LIST, .list = jinja_iterate(r, v) };
}

static struct jinja_value filter_join(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	const struct jinja_list *l = jinja_iterate(r, v);
	struct jinja_buffer b = { 0 };
	struct jinja_value arg[2];

	jinja_arguments(r, a, "join", (const char *const[]){ "d", "attribute", NULL }, arg);
	for (size_t i = 0; i < l->count; i++) {
		struct jinja_value m = is_given(arg[1]) ? path(r, l->at[i], arg[1]) : l->at[i];

		if (i)
			jinja_write(r, &b, jinja_str(r, arg[0]));
		jinja_write(r, &b, jinja_str(r, m));
	}
	return jinja_string(jinja_written(&b));
}

static struct jinja_value filter_default(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value arg[2];

	jinja_arguments(r, a, "default", (const char *const[]){ "default_value", "boolean", NULL }, arg);
	if (v.kind == JINJA_UNDEFINED || (jinja_true(arg[1]) && !jinja_true(v)))
		return a->pos.count + a->named.count ? arg[0] : jinja_word("");
	return v;
}

static struct jinja_value filter_items(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	if (v.kind == JINJA_UNDEFINED)
		return stream(r);
	if (v.kind != JINJA_DICT)
		jinja_fail(r, SINK_EFORMAT, "A value of type %s has no items.", jinja_kind_name(v));
	v = jinja_dict_method("items")->call(r, v, a);
	v.stream = true;
	return v;
}

static struct jinja_value filter_reverse(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value part[3] = { none(), none(), jinja_int(-1) };

	no_arguments(r, a, "reverse");
	if (v.kind == JINJA_TEXT)
		return jinja_slice(r, v, part);
	v = jinja_slice(r, filter_list(r, v, a), part);
	v.stream = true;
	return v;
}

/* Sorts `count` members of `at` by `key`, keeping equal ones in their order; `room` has as many. */
static void merge_sort(struct jinja_run *r, struct jinja_pair *at, struct jinja_pair *room, size_t count, int sign)
{
	size_t half = count / 2, i = 0, k = half;

	if (count < 2)
		return;
	jinja_down(r);
	merge_sort(r, at, room, half, sign);
	merge_sort(r, at + half, room, count - half, sign);
	for (size_t n = 0; n < count; n++) {
		bool left = k == count || (i < half && sign * jinja_order(r, at[i].key, at[k].key) <= 0);

		jinja_steps(r, 1);
		room[n] = left ? at[i++] : at[k++];
	}
	memcpy(at, room, count * sizeof(*at));
	jinja_up(r);
}

static struct jinja_value sorted(struct jinja_run *r, const struct jinja_list *l, struct jinja_value attribute,
				 bool cased, bool reverse)
{
	struct jinja_pair *at = jinja_take(r, (l->count + 1) * sizeof(*at)),
			  *room = jinja_take(r, (l->count + 1) * sizeof(*at));
	struct jinja_value to = jinja_list_new(r, JINJA_LIST);

	for (size_t i = 0; i < l->count; i++) {
		at[i].value = l->at[i];
		at[i].key = is_given(attribute) ? path(r, l->at[i], attribute) : l->at[i];
		if (!cased)
			at[i].key = lower(r, at[i].key);
	}
	merge_sort(r, at, room, l->count, reverse ? -1 : 1);
	for (size_t i = 0; i < l->count; i++)
		jinja_push(r, to.list, at[i].value);
	return to;
}

static struct jinja_value filter_sort(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value arg[3];

	jinja_arguments(r, a, "sort", (const char *const[]){ "reverse", "case_sensitive", "attribute", NULL }, arg);
	return sorted(r, jinja_iterate(r, v), arg[2], jinja_true(arg[1]), jinja_true(arg[0]));
}

static struct jinja_value filter_dictsort(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_args nothing = { 0 };
	struct jinja_value arg[3];
	bool by_value;

	jinja_arguments(r, a, "dictsort", (const char *const[]){ "case_sensitive", "by", "reverse", NULL }, arg);
	by_value = arg[1].kind == JINJA_TEXT && jinja_same(arg[1].s, jinja_word("value").s);
	return sorted(r, filter_items(r, v, &nothing).list, jinja_int(by_value), jinja_true(arg[0]),
		      jinja_true(arg[2]));
}

static struct jinja_value filter_unique(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	struct jinja_value arg[2], to = stream(r), seen = jinja_list_new(r, JINJA_LIST);
	const struct jinja_list *l = jinja_iterate(r, v);

	jinja_arguments(r, a, "unique", (const char *const[]){ "case_sensitive", "attribute", NULL }, arg);
	for (size_t i = 0; i < l->count; i++) {
		struct jinja_value key = is_given(arg[1]) ? path(r, l->at[i], arg[1]) : l->at[i];

		if (!jinja_true(arg[0]))
			key = lower(r, key);
		if (jinja_contains(r, seen, key))
			continue;
		jinja_push(r, seen.list, key);
		jinja_push(r, to.list, l->at[i]);
	}
	return to;
}

static struct jinja_value best(struct jinja_run *r, struct jinja_value v, struct jinja_args *a, int sign)
{
	const struct jinja_list *l = jinja_iterate(r, v);
	struct jinja_value arg[2], to = jinja_undefined("The least or most of an empty list"), key = to;

	jinja_arguments(r, a, "min or max", (const char *const[]){ "case_sensitive", "attribute", NULL }, arg);
	for (size_t i = 0; i < l->count; i++) {
		struct jinja_value k = is_given(arg[1]) ? path(r, l->at[i], arg[1]) : l->at[i];

		if (!jinja_true(arg[0]))
			k = lower(r, k);
		if (i && sign * jinja_order(r, k, key) <= 0)
			continue;
		key = k;
		to = l->at[i];
	}
	return to;
}

static struct jinja_value filter_min(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return best(r, v, a, -1);
}

static struct jinja_value filter_max(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return best(r, v, a, 1);
}

static struct jinja_value filter_sum(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	const struct jinja_list *l = jinja_iterate(r, v);
	struct jinja_value arg[2], to;

	jinja_arguments(r, a, "sum", (const char *const[]){ "attribute", "start", NULL }, arg);
	to = is_given(arg[1]) ? arg[1] : jinja_int(0);
	for (size_t i = 0; i < l->count; i++)
		to = jinja_arithmetic(r, '+', to, is_given(arg[0]) ? path(r, l->at[i], arg[0]) : l->at[i]);
	return to;
}

/* ---- filters that call others ---- */

static const char *name_of(struct jinja_run *r, struct jinja_value v, const char *what)
{
	struct jinja_text s = jinja_want_text(r, v, what);
	char *name = jinja_take(r, s.len + 1);

	if (s.len)
		memcpy(name, s.at, s.len);
	return name;
}

static struct jinja_args rest_of(const struct jinja_args *a, size_t from)
{
	struct jinja_args rest = *a;

	rest.pos.at += from;
	rest.pos.count -= from;
	return rest;
}

static struct jinja_value filter_map(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	const struct jinja_list *l = jinja_true(v) ? jinja_iterate(r, v) : jinja_list_new(r, JINJA_LIST).list;
	struct jinja_value to = stream(r), *attribute = jinja_get_word(r, &a->named, "attribute"),
			   *otherwise = jinja_get_word(r, &a->named, "default");
	const struct jinja_function *f = NULL;
	struct jinja_args rest = { 0 };

	if (!attribute) {
		if (!a->pos.count)
			jinja_fail(r, SINK_EFORMAT, "map has neither a filter nor an attribute.");
		f = jinja_filter(name_of(r, a->pos.at[0], "The name of a filter"));
		rest = rest_of(a, 1);
		if (!f)
			jinja_fail(r, SINK_EFORMAT, "map has a filter that is outside of what is known here.");
	}
	jinja_down(r);
	for (size_t i = 0; i < l->count; i++) {
		struct jinja_value m = f ? f->call(r, l->at[i], &rest) : path(r, l->at[i], *attribute);

		jinja_push(r, to.list, !f && otherwise && m.kind == JINJA_UNDEFINED ? *otherwise : m);
	}
	jinja_up(r);
	return to;
}

static struct jinja_value choose(struct jinja_run *r, struct jinja_value v, struct jinja_args *a, bool by_attribute,
				 bool want)
{
	struct jinja_value to = stream(r);
	const struct jinja_list *l = jinja_true(v) ? jinja_iterate(r, v) : to.list;
	const struct jinja_function *f = NULL;
	struct jinja_args rest = { 0 };
	size_t first = by_attribute;

	if (a->pos.count < first)
		jinja_fail(r, SINK_EFORMAT, "A filter by attribute names none.");
	if (a->pos.count > first) {
		f = jinja_test(name_of(r, a->pos.at[first], "The name of a test"));
		rest = rest_of(a, first + 1);
		if (!f)
			jinja_fail(r, SINK_EFORMAT, "A filter has a test that is outside of what is known here.");
	}
	for (size_t i = 0; i < l->count; i++) {
		struct jinja_value m = by_attribute ? path(r, l->at[i], a->pos.at[0]) : l->at[i];

		if ((f ? f->call(r, m, &rest).b : jinja_true(m)) == want)
			jinja_push(r, to.list, l->at[i]);
	}
	return to;
}

static struct jinja_value filter_select(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return choose(r, v, a, false, true);
}

static struct jinja_value filter_reject(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return choose(r, v, a, false, false);
}

static struct jinja_value filter_selectattr(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return choose(r, v, a, true, true);
}

static struct jinja_value filter_rejectattr(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return choose(r, v, a, true, false);
}

const struct jinja_function *jinja_filter(const char *name)
{
	static const struct jinja_function filters[] = {
		{ "trim", filter_trim },
		{ "tojson", jinja_to_json },
		{ "length", filter_length },
		{ "count", filter_length },
		{ "first", filter_first },
		{ "last", filter_last },
		{ "join", filter_join },
		{ "default", filter_default },
		{ "d", filter_default },
		{ "upper", filter_upper },
		{ "lower", filter_lower },
		{ "capitalize", filter_capitalize },
		{ "title", filter_title },
		{ "map", filter_map },
		{ "select", filter_select },
		{ "reject", filter_reject },
		{ "selectattr", filter_selectattr },
		{ "rejectattr", filter_rejectattr },
		{ "list", filter_list },
		{ "items", filter_items },
		{ "dictsort", filter_dictsort },
		{ "indent", filter_indent },
		{ "string", filter_string },
		{ "safe", filter_safe },
		{ "int", filter_int },
		{ "float", filter_float },
		{ "abs", filter_abs },
		{ "replace", filter_replace },
		{ "reverse", filter_reverse },
		{ "sort", filter_sort },
		{ "unique", filter_unique },
		{ "min", filter_min },
		{ "max", filter_max },
		{ "sum", filter_sum },
	};

	for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++)
		if (strcmp(filters[i].name, name) == 0)
			return &filters[i];
	return NULL;
}
