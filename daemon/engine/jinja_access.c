/* What a name behind a dot, a key or a slice finds in a value. A name that begins with "_" finds nothing but a key. */
#include "jinja_parts.h"

#include <string.h>

struct jinja_value jinja_length(struct jinja_run *r, struct jinja_value v)
{
	int64_t count = 0;

	switch (v.kind) {
	case JINJA_UNDEFINED:
		return jinja_int(0);
	case JINJA_TEXT:
		jinja_steps(r, v.s.len / 16);
		for (size_t at = 0; at < v.s.len; at += jinja_character(v.s, at))
			count++;
		return jinja_int(count);
	case JINJA_LIST:
	case JINJA_TUPLE:
		if (v.stream)
			jinja_fail(r, SINK_EFORMAT,
				   "What a filter gives has no length; the filter \"list\" makes a list of it.");
		return jinja_int((int64_t)v.list->count);
	case JINJA_DICT:
		return jinja_int((int64_t)v.dict->count);
	default:
		jinja_fail(r, SINK_EFORMAT, "A value of type %s has no length.", jinja_kind_name(v));
	}
}

/* Where a character begins, by its number. */
static size_t place(struct jinja_text s, int64_t character)
{
	size_t at = 0;

	for (; character; character--)
		at += jinja_character(s, at);
	return at;
}

/* The member at a place, counted from the end when it is negative. */
static struct jinja_value member(struct jinja_run *r, struct jinja_value v, int64_t at)
{
	int64_t count = jinja_length(r, v).i;
	size_t byte;

	if (at < 0)
		at += count;
	if (at < 0 || at >= count)
		return jinja_undefined(NULL);
	if (v.kind != JINJA_TEXT)
		return v.list->at[at];
	byte = place(v.s, at);
	return jinja_string(jinja_cut(v.s, byte, byte + jinja_character(v.s, byte)));
}

static struct jinja_value loop_attribute(struct jinja_run *r, struct jinja_loop *l, const char *name)
{
	int64_t at = (int64_t)l->index, count = (int64_t)l->list->count;
	const struct {
		const char *name;
		struct jinja_value value;
	} attributes[] = {
		{ "index", jinja_int(at + 1) },
		{ "index0", jinja_int(at) },
		{ "first", jinja_bool(at == 0) },
		{ "last", jinja_bool(at == count - 1) },
		{ "length", jinja_int(count) },
		{ "revindex", jinja_int(count - at) },
		{ "revindex0", jinja_int(count - at - 1) },
		{ "depth", jinja_int(l->depth) },
		{ "depth0", jinja_int(l->depth - 1) },
		{ "previtem", at ? l->list->at[at - 1] : jinja_undefined("previtem") },
		{ "nextitem", at < count - 1 ? l->list->at[at + 1] : jinja_undefined("nextitem") },
	};

	(void)r;
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		if (strcmp(attributes[i].name, name) == 0)
			return attributes[i].value;
	return jinja_undefined(name);
}

static const struct jinja_function *find_method(struct jinja_value v, const char *name)
{
	switch (v.kind) {
	case JINJA_TEXT:
		return jinja_text_method(name);
	case JINJA_DICT:
		return jinja_dict_method(name);
	case JINJA_LOOP:
		return jinja_loop_method(name);
	default:
		return NULL;
	}
}

static _Noreturn void is_undefined(struct jinja_run *r, struct jinja_value v)
{
	jinja_fail(r, SINK_EFORMAT, "\"%.60s\" is undefined.", v.name ? v.name : "A value");
}

struct jinja_value jinja_attribute(struct jinja_run *r, struct jinja_value v, const char *name)
{
	const struct jinja_function *f = find_method(v, name);
	struct jinja_value *found = NULL;

	if (v.kind == JINJA_UNDEFINED)
		is_undefined(r, v);
	if (f) {
		struct jinja_method *m = jinja_take(r, sizeof(*m));

		*m = (struct jinja_method){ v, f };
		return (struct jinja_value){ .kind = JINJA_METHOD, .method = m };
	}
	if (v.kind == JINJA_LOOP)
		return loop_attribute(r, v.loop, name);
	if (v.kind == JINJA_DICT || v.kind == JINJA_NAMESPACE)
		found = jinja_get_word(r, v.dict, name);
	return found ? *found : jinja_undefined(name);
}

struct jinja_value jinja_item(struct jinja_run *r, struct jinja_value v, struct jinja_value key)
{
	struct jinja_value *found;

	if (v.kind == JINJA_UNDEFINED)
		is_undefined(r, v);
	if (v.kind == JINJA_DICT && (found = jinja_get(r, v.dict, key)))
		return *found;
	if ((jinja_is_sequence(v) || v.kind == JINJA_TEXT) && (key.kind == JINJA_INT || key.kind == JINJA_BOOL))
		return member(r, v, key.kind == JINJA_INT ? key.i : key.b);
	if (key.kind == JINJA_TEXT) {
		char *name = jinja_take(r, key.s.len + 1);

		if (key.s.len)
			memcpy(name, key.s.at, key.s.len);
		return v.kind == JINJA_DICT && !find_method(v, name) ? jinja_undefined(name)
								     : jinja_attribute(r, v, name);
	}
	return jinja_undefined(NULL);
}

/* One end of a slice, as Python brings it into the range of what there is. */
static int64_t bound(struct jinja_run *r, struct jinja_value v, int64_t otherwise, int64_t least, int64_t most)
{
	int64_t at;

	if (v.kind == JINJA_NONE)
		return otherwise;
	at = jinja_want_int(r, v, "The end of a slice");
	if (at < 0)
		at += least < 0 ? most + 1 : most;
	return at < least ? least : at > most ? most : at;
}

struct jinja_value jinja_slice(struct jinja_run *r, struct jinja_value v, const struct jinja_value part[3])
{
	int64_t step = part[2].kind == JINJA_NONE ? 1 : jinja_want_int(r, part[2], "The step of a slice"), begin, end,
		count;
	struct jinja_value to = jinja_list_new(r, jinja_is_sequence(v) ? v.kind : JINJA_LIST);
	struct jinja_buffer b = { 0 };
	struct jinja_list *list;

	if (v.kind == JINJA_UNDEFINED)
		is_undefined(r, v);
	if (v.kind != JINJA_TEXT && !jinja_is_sequence(v))
		return jinja_undefined(NULL);
	if (step == 0)
		jinja_fail(r, SINK_EFORMAT, "The step of a slice is zero.");
	count = jinja_length(r, v).i;
	if (v.kind == JINJA_TEXT && step == 1) {
		begin = bound(r, part[0], 0, 0, count);
		end = bound(r, part[1], count, 0, count);
		return jinja_string(jinja_cut(v.s, place(v.s, begin), place(v.s, begin < end ? end : begin)));
	}
	list = jinja_iterate(r, v);
	begin = step > 0 ? bound(r, part[0], 0, 0, count) : bound(r, part[0], count - 1, -1, count - 1);
	end = step > 0 ? bound(r, part[1], count, 0, count) : bound(r, part[1], -1, -1, count - 1);
	for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
		jinja_steps(r, 1);
		if (v.kind == JINJA_TEXT)
			jinja_write(r, &b, list->at[i].s);
		else
			jinja_push(r, to.list, list->at[i]);
		if ((step > 0 && step > end - i) || (step < 0 && step < end - i))
			break;
	}
	return v.kind == JINJA_TEXT ? jinja_string(jinja_written(&b)) : to;
}
