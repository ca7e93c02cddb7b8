/* The methods of texts, dicts and loops, and the functions that every template knows. None changes a value. */
#include "jinja_parts.h"

#include <stdio.h>
#include <string.h>

/* ---- arguments ---- */

void jinja_arguments(struct jinja_run *r, const struct jinja_args *a, const char *what, const char *const *names,
		     struct jinja_value *ret)
{
	size_t count = 0, i;

	for (; names[count]; count++)
		ret[count] = jinja_undefined(names[count]);
	if (a->pos.count > count)
		jinja_fail(r, SINK_EFORMAT, "%s takes %zu arguments here, not %zu.", what, count, a->pos.count);
	for (i = 0; i < a->pos.count; i++)
		ret[i] = a->pos.at[i];
	for (size_t n = 0; n < a->named.count; n++) {
		for (i = 0; i < count && !jinja_same(jinja_word(names[i]).s, a->named.at[n].key.s); i++)
			;
		if (i == count)
			jinja_fail(r, SINK_EFORMAT, "%s has no argument \"%.*s\" here.", what,
				   (int)a->named.at[n].key.s.len, a->named.at[n].key.s.at);
		ret[i] = a->named.at[n].value;
	}
}

struct jinja_text jinja_want_text(struct jinja_run *r, struct jinja_value v, const char *what)
{
	if (v.kind != JINJA_TEXT)
		jinja_fail(r, SINK_EFORMAT, "%s is of type %s, not str.", what, jinja_kind_name(v));
	return v.s;
}

int64_t jinja_want_int(struct jinja_run *r, struct jinja_value v, const char *what)
{
	if (v.kind != JINJA_INT && v.kind != JINJA_BOOL)
		jinja_fail(r, SINK_EFORMAT, "%s is of type %s, not int.", what, jinja_kind_name(v));
	return v.kind == JINJA_INT ? v.i : v.b;
}

static struct jinja_value one_argument(struct jinja_run *r, const struct jinja_args *a, const char *what)
{
	struct jinja_value arg;

	jinja_arguments(r, a, what, (const char *const[]){ "value", NULL }, &arg);
	return arg;
}

static bool is_given(struct jinja_value v)
{
	return v.kind != JINJA_UNDEFINED && v.kind != JINJA_NONE;
}

/* A text as the value that a method of `self` gives: one that is markup gives markup. */
static struct jinja_value like(struct jinja_value self, struct jinja_text s)
{
	struct jinja_value v = jinja_string(s);

	v.markup = self.markup;
	return v;
}

/* ---- of texts ---- */

static struct jinja_value strip(struct jinja_run *r, struct jinja_value self, struct jinja_args *a, int ends)
{
	struct jinja_value of = one_argument(r, a, "strip()");
	struct jinja_text chars = { 0 };

	if (is_given(of))
		chars = jinja_want_text(r, of, "What is stripped");
	jinja_steps(r, self.s.len / 16 * (1 + chars.len));
	return like(self, jinja_strip(self.s, is_given(of) ? &chars : NULL, ends));
}

static struct jinja_value text_strip(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	return strip(r, self, a, 3);
}

static struct jinja_value text_lstrip(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	return strip(r, self, a, 1);
}

static struct jinja_value text_rstrip(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	return strip(r, self, a, 2);
}

/* Without a separator: words between blanks. */
static void split_words(struct jinja_run *r, struct jinja_value self, int64_t most, struct jinja_list *to)
{
	struct jinja_text s = self.s;

	for (;;) {
		size_t end = 0, n = 0;

		s = jinja_strip(s, NULL, 1);
		if (!s.len)
			return;
		if (most-- == 0) {
			jinja_push(r, to, like(self, jinja_strip(s, NULL, 2)));
			return;
		}
		for (; end < s.len && !jinja_is_space(s, end, n = jinja_character(s, end)); end += n)
			;
		jinja_push(r, to, like(self, jinja_cut(s, 0, end)));
		s = jinja_cut(s, end, s.len);
	}
}

static struct jinja_value text_split(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value arg[2], to = jinja_list_new(r, JINJA_LIST);
	struct jinja_text s = self.s, by;
	const char *next;
	int64_t most;

	jinja_arguments(r, a, "split()", (const char *const[]){ "sep", "maxsplit", NULL }, arg);
	most = is_given(arg[1]) ? jinja_want_int(r, arg[1], "The number of parts") : -1;
	if (!is_given(arg[0])) {
		split_words(r, self, most, to.list);
		return to;
	}
	by = jinja_want_text(r, arg[0], "A separator");
	if (!by.len)
		jinja_fail(r, SINK_EFORMAT, "A separator is empty.");
	while (most-- != 0 && (next = jinja_find(r, s, by))) {
		jinja_push(r, to.list, like(self, jinja_cut(s, 0, (size_t)(next - s.at))));
		s = jinja_cut(s, (size_t)(next - s.at) + by.len, s.len);
	}
	jinja_push(r, to.list, like(self, s));
	return to;
}

static struct jinja_value text_splitlines(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value to = jinja_list_new(r, JINJA_LIST);
	size_t begin = 0;

	one_argument(r, a, "splitlines()");
	for (size_t at = 0; at < self.s.len; at++) {
		size_t end = at;

		if (self.s.at[at] != '\n' && self.s.at[at] != '\r')
			continue;
		if (self.s.at[at] == '\r' && at + 1 < self.s.len && self.s.at[at + 1] == '\n')
			at++;
		jinja_push(r, to.list, like(self, jinja_cut(self.s, begin, end)));
		begin = at + 1;
	}
	if (begin < self.s.len)
		jinja_push(r, to.list, like(self, jinja_cut(self.s, begin, self.s.len)));
	return to;
}

static bool has_end(struct jinja_run *r, struct jinja_text s, struct jinja_value end, bool first)
{
	struct jinja_text e;

	if (end.kind == JINJA_TUPLE) {
		for (size_t i = 0; i < end.list->count; i++)
			if (end.list->at[i].kind == JINJA_TEXT && has_end(r, s, end.list->at[i], first))
				return true;
		return false;
	}
	e = jinja_want_text(r, end, "The end of a text");
	return e.len <= s.len && jinja_same(first ? jinja_cut(s, 0, e.len) : jinja_cut(s, s.len - e.len, s.len), e);
}

static struct jinja_value text_startswith(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	return jinja_bool(has_end(r, self.s, one_argument(r, a, "startswith()"), true));
}

static struct jinja_value text_endswith(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	return jinja_bool(has_end(r, self.s, one_argument(r, a, "endswith()"), false));
}

static struct jinja_value text_replace(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value arg[3];

	jinja_arguments(r, a, "replace()", (const char *const[]){ "old", "new", "count", NULL }, arg);
	return like(self, jinja_replace(r, self.s, jinja_want_text(r, arg[0], "What is replaced"),
					jinja_want_text(r, arg[1], "What replaces"),
					is_given(arg[2]) ? jinja_want_int(r, arg[2], "A count") : -1));
}

static struct jinja_value text_upper(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	one_argument(r, a, "upper()");
	return like(self, jinja_case(r, self.s, 'u'));
}

static struct jinja_value text_lower(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	one_argument(r, a, "lower()");
	return like(self, jinja_case(r, self.s, 'l'));
}

static struct jinja_value text_title(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	one_argument(r, a, "title()");
	return like(self, jinja_case(r, self.s, 't'));
}

static struct jinja_value text_capitalize(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	one_argument(r, a, "capitalize()");
	return like(self, jinja_case(r, self.s, 'c'));
}

static struct jinja_value text_join(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_list *l = jinja_iterate(r, one_argument(r, a, "join()"));
	struct jinja_buffer b = { 0 };

	for (size_t i = 0; i < l->count; i++) {
		if (i)
			jinja_write(r, &b, self.s);
		jinja_write(r, &b, jinja_want_text(r, l->at[i], "A part of a text"));
	}
	return like(self, jinja_written(&b));
}

static struct jinja_value text_find(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	const char *at = jinja_find(r, self.s, jinja_want_text(r, one_argument(r, a, "find()"), "What is looked for"));

	return at ? jinja_length(r, jinja_string(jinja_cut(self.s, 0, (size_t)(at - self.s.at)))) : jinja_int(-1);
}

static struct jinja_value text_count(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_text what = jinja_want_text(r, one_argument(r, a, "count()"), "What is counted"), s = self.s;
	int64_t count = 0;
	const char *at;

	if (!what.len)
		return jinja_int(jinja_length(r, self).i + 1);
	for (; (at = jinja_find(r, s, what)); count++)
		s = jinja_cut(s, (size_t)(at - s.at) + what.len, s.len);
	return jinja_int(count);
}

/* Python's format() with fields that are empty or numbers. */
static struct jinja_value text_format(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_text s = self.s;
	struct jinja_buffer b = { 0 };
	size_t next = 0;

	if (a->named.count)
		jinja_fail(r, SINK_EFORMAT, "format() with names is outside of what is known here.");
	for (size_t at = 0; at < s.len; at++) {
		char c = s.at[at], then = at + 1 < s.len ? s.at[at + 1] : '\0';

		if ((c != '{' && c != '}') || then == c) {
			jinja_write(r, &b, jinja_cut(s, at, at + 1));
			at += then == c && (c == '{' || c == '}');
			continue;
		}
		if (c == '{' && then >= '0' && then <= '9' && at + 2 < s.len && s.at[at + 2] == '}') {
			next = (size_t)(then - '0');
			at++;
		} else if (c != '{' || then != '}') {
			jinja_fail(r, SINK_EFORMAT, "A field of format() is outside of what is known here.");
		}
		if (next >= a->pos.count)
			jinja_fail(r, SINK_EFORMAT, "A field of format() has no value.");
		jinja_write(r, &b, jinja_str(r, a->pos.at[next++]));
		at++;
	}
	return like(self, jinja_written(&b));
}

/* ---- of dicts ---- */

static struct jinja_value dict_get(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value arg[2], *found;

	jinja_arguments(r, a, "get()", (const char *const[]){ "key", "default", NULL }, arg);
	found = jinja_get(r, self.dict, arg[0]);
	if (found)
		return *found;
	return a->pos.count + a->named.count > 1 ? arg[1] : (struct jinja_value){ .kind = JINJA_NONE };
}

static struct jinja_value dict_items(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value to = jinja_list_new(r, JINJA_LIST);

	one_argument(r, a, "items()");
	for (size_t i = 0; i < self.dict->count; i++) {
		struct jinja_value pair = jinja_list_new(r, JINJA_TUPLE);

		jinja_push(r, pair.list, self.dict->at[i].key);
		jinja_push(r, pair.list, self.dict->at[i].value);
		jinja_push(r, to.list, pair);
	}
	return to;
}

static struct jinja_value dict_keys(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	one_argument(r, a, "keys()");
	return (struct jinja_value){ .kind = JINJA_LIST, .list = jinja_iterate(r, self) };
}

static struct jinja_value dict_values(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value to = jinja_list_new(r, JINJA_LIST);

	one_argument(r, a, "values()");
	for (size_t i = 0; i < self.dict->count; i++)
		jinja_push(r, to.list, self.dict->at[i].value);
	return to;
}

/* ---- of loops ---- */

static struct jinja_value loop_cycle(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	if (!a->pos.count)
		jinja_fail(r, SINK_EFORMAT, "cycle() has nothing to go through.");
	return a->pos.at[self.loop->index % a->pos.count];
}

static struct jinja_value loop_changed(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value now = jinja_list_new(r, JINJA_TUPLE);
	bool changed;

	*now.list = a->pos;
	changed = !self.loop->has_last || !jinja_equal(r, self.loop->last, now);
	self.loop->last = now;
	self.loop->has_last = true;
	return jinja_bool(changed);
}

/* ---- functions ---- */

static struct jinja_value call_range(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_value to = jinja_list_new(r, JINJA_LIST);
	int64_t n[3] = { 0, 0, 1 };

	(void)self;
	if (a->pos.count < 1 || a->pos.count > 3 || a->named.count)
		jinja_fail(r, SINK_EFORMAT, "range() takes one to three numbers.");
	for (size_t i = 0; i < a->pos.count; i++)
		n[a->pos.count == 1 ? 1 : i] = jinja_want_int(r, a->pos.at[i], "A number of range()");
	if (n[2] == 0)
		jinja_fail(r, SINK_EFORMAT, "The step of range() is zero.");
	for (int64_t i = n[0]; n[2] > 0 ? i < n[1] : i > n[1];) {
		jinja_steps(r, 1);
		jinja_push(r, to.list, jinja_int(i));
		if (__builtin_add_overflow(i, n[2], &i))
			break;
	}
	return to;
}

static struct jinja_value make_dict(struct jinja_run *r, struct jinja_args *a, enum jinja_kind kind)
{
	struct jinja_value to = jinja_dict_new(r, kind);

	if (a->pos.count > 1 || (a->pos.count && a->pos.at[0].kind != JINJA_DICT))
		jinja_fail(r, SINK_EFORMAT, "A %s is made of names, or of one dict.", jinja_kind_name(to));
	for (size_t i = 0; a->pos.count && i < a->pos.at[0].dict->count; i++)
		jinja_put(r, to.dict, a->pos.at[0].dict->at[i].key, a->pos.at[0].dict->at[i].value);
	for (size_t i = 0; i < a->named.count; i++)
		jinja_put(r, to.dict, a->named.at[i].key, a->named.at[i].value);
	return to;
}

static struct jinja_value call_dict(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	(void)self;
	return make_dict(r, a, JINJA_DICT);
}

static struct jinja_value call_namespace(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	(void)self;
	return make_dict(r, a, JINJA_NAMESPACE);
}

static struct jinja_value call_raise_exception(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_text s = jinja_str(r, one_argument(r, a, "raise_exception()"));

	(void)self;
	jinja_fail(r, SINK_EINVAL, "It refuses the conversation: %.*s", (int)(s.len < 150 ? s.len : 150), s.at);
}

static struct jinja_value call_strftime_now(struct jinja_run *r, struct jinja_value self, struct jinja_args *a)
{
	struct jinja_text s = jinja_want_text(r, one_argument(r, a, "strftime_now()"), "The form of a date");
	char format[100], *to = jinja_take(r, 400);
	size_t len;

	(void)self;
	if (s.len >= sizeof(format) - 1)
		jinja_fail(r, SINK_EFORMAT, "The form of a date is longer than %zu bytes.", sizeof(format) - 2);
	memcpy(format, s.at, s.len);
	memcpy(format + s.len, " ", 2); /* so that an empty date is not taken for a failure */
	len = strftime(to, 400, format, r->now);
	return jinja_string((struct jinja_text){ to, NULL, len ? len - 1 : 0 });
}

/* ---- the tables ---- */

static const struct jinja_function *look_up(const struct jinja_function *f, const char *name)
{
	for (; f->name; f++)
		if (strcmp(f->name, name) == 0)
			return f;
	return NULL;
}

const struct jinja_function *jinja_text_method(const char *name)
{
	static const struct jinja_function methods[] = {
		{ "strip", text_strip },
		{ "lstrip", text_lstrip },
		{ "rstrip", text_rstrip },
		{ "split", text_split },
		{ "splitlines", text_splitlines },
		{ "startswith", text_startswith },
		{ "endswith", text_endswith },
		{ "replace", text_replace },
		{ "upper", text_upper },
		{ "lower", text_lower },
		{ "title", text_title },
		{ "capitalize", text_capitalize },
		{ "join", text_join },
		{ "find", text_find },
		{ "count", text_count },
		{ "format", text_format },
		{ NULL, NULL },
	};

	return look_up(methods, name);
}

const struct jinja_function *jinja_dict_method(const char *name)
{
	static const struct jinja_function methods[] = {
		{ "get", dict_get },	   { "items", dict_items }, { "keys", dict_keys },
		{ "values", dict_values }, { NULL, NULL },
	};

	return look_up(methods, name);
}

const struct jinja_function *jinja_loop_method(const char *name)
{
	static const struct jinja_function methods[] = {
		{ "cycle", loop_cycle },
		{ "changed", loop_changed },
		{ NULL, NULL },
	};

	return look_up(methods, name);
}

const struct jinja_function *jinja_global(const char *name)
{
	static const struct jinja_function functions[] = {
		{ "range", call_range },
		{ "dict", call_dict },
		{ "namespace", call_namespace },
		{ "raise_exception", call_raise_exception },
		{ "strftime_now", call_strftime_now },
		{ NULL, NULL },
	};

	return look_up(functions, name);
}
