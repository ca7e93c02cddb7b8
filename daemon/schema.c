/*
 * Owns the way through a schema. Each place that is used becomes a rule, found again by its address, so definitions may
 * refer to each other and to themselves.
 */
#include "schema.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema_parts.h"

enum { NESTING = 100 /* schemas inside each other, also by $ref */ };

/* ---- places and failures ---- */

int32_t schema_fail(struct schema *s, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (s->failed)
		return EXPR_NEVER;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	err_set(s->e, SINK_EINVAL, "The schema%s%s: %s", *s->path ? " at " : "", s->path, text);
	s->failed = true;
	return EXPR_NEVER;
}

size_t schema_into(struct schema *s, const char *key)
{
	const size_t before = strlen(s->path);

	snprintf(s->path + before, sizeof(s->path) - before, "/%.40s", key);
	return before;
}

size_t schema_into_at(struct schema *s, size_t i)
{
	const size_t before = strlen(s->path);

	snprintf(s->path + before, sizeof(s->path) - before, "/%zu", i);
	return before;
}

void schema_back(struct schema *s, size_t before)
{
	s->path[before] = '\0';
}

/* ---- what fits ---- */

/* The values that are named, as far as their types are allowed; what else is said of them is refused. */
static int32_t named_values(struct schema *s, const struct shape *h)
{
	const size_t count = h->constant ? 1 : val_count(h->list);
	int32_t *choice = malloc((count + 2) * sizeof(*choice)), r;
	size_t n = 0;

	if (!choice)
		return schema_fail(s, "There is no memory for it.");
	for (size_t i = 0; i < count && !s->failed; i++) {
		const struct val *v = h->constant ? h->constant : val_at(h->list, i);
		bool listed = !h->constant || !h->list;

		for (size_t k = 0; !listed && k < val_count(h->list); k++)
			listed = schema_same(v, val_at(h->list, k));
		if (schema_type_of(v) & h->implied)
			schema_fail(s, "Beside enum or const nothing else may be said of its values.");
		if (listed && schema_type_of(v) & (h->types | (h->nullable ? TYPE_NULL : 0)))
			choice[n++] = schema_value(s, v);
	}
	r = grammar_any(s->g, choice, n);
	free(choice);
	return r;
}

static int32_t typed_values(struct schema *s, const struct shape *h)
{
	unsigned types = h->types == TYPES_ALL && h->implied ? h->implied : h->types;
	int32_t choice[8];
	size_t n = 0;

	if (h->types == TYPES_ALL && !h->implied)
		return schema_any_value(s);
	if (h->whole && types & TYPE_NUMBER)
		types = (types & ~(unsigned)TYPE_NUMBER) | TYPE_INTEGER;
	if (types & TYPE_NULL || h->nullable)
		choice[n++] = schema_word(s, "null");
	if (types & TYPE_BOOLEAN)
		choice[n++] = schema_either(s, schema_word(s, "true"), schema_word(s, "false"));
	if (types & TYPE_STRING)
		choice[n++] = schema_string(s, h);
	if (types & TYPE_NUMBER)
		choice[n++] = schema_number(s, h);
	else if (types & TYPE_INTEGER)
		choice[n++] = schema_integer(s, h);
	if (types & TYPE_ARRAY)
		choice[n++] = schema_array(s, h);
	if (types & TYPE_OBJECT)
		choice[n++] = schema_object(s, h);
	return grammar_any(s->g, choice, n);
}

static int32_t build(struct schema *s, struct merge *m);

/* Each alternative, merged with what stands around it. */
static int32_t alternatives(struct schema *s, struct merge *m, const struct val *any)
{
	int32_t choice[SCHEMA_CHOICES];
	size_t n = 0;

	if (m->parts == MERGE_PARTS || m->choices == MERGE_PARTS)
		return schema_fail(s, "Alternatives are nested too deeply.");
	m->chosen[m->choices++] = any;
	for (size_t i = 0; i < val_count(any) && !s->failed; i++) {
		m->part[m->parts++] = val_at(any, i);
		choice[n++] = build(s, m);
		m->parts--;
	}
	m->choices--;
	return grammar_any(s->g, choice, n);
}

static bool says_nothing(const struct shape *h)
{
	return h->types == TYPES_ALL && !h->implied && !h->nullable && !h->constant && !h->list;
}

static int32_t apart_from_others(struct schema *s, const struct val *any)
{
	int32_t choice[SCHEMA_CHOICES];

	for (size_t i = 0; i < val_count(any); i++) {
		const size_t before = schema_into(s, "anyOf"), place = schema_into_at(s, i);

		choice[i] = schema_call(s, val_at(any, i));
		schema_back(s, place);
		schema_back(s, before);
	}
	return grammar_any(s->g, choice, val_count(any));
}

static int32_t build(struct schema *s, struct merge *m)
{
	struct shape h = { .types = TYPES_ALL,
			   .items_least = -1,
			   .items_most = -1,
			   .length_least = -1,
			   .length_most = -1,
			   .least = -INFINITY,
			   .most = INFINITY };
	int32_t r = EXPR_NEVER;

	h.property = malloc(PROPERTIES_MOST * sizeof(*h.property));
	if (!h.property)
		return schema_fail(s, "There is no memory for it.");
	schema_gather(s, &h, m);
	if (s->failed)
		r = EXPR_NEVER;
	else if (h.any && m->parts == 1 && says_nothing(&h))
		r = apart_from_others(s, h.any);
	else if (h.any)
		r = alternatives(s, m, h.any);
	else if (h.constant || h.list)
		r = named_values(s, &h);
	else
		r = typed_values(s, &h);
	free(h.property);
	return r;
}

/* ---- rules ---- */

/* Where the rule of a place is entered, or would be. */
static size_t slot_of(const struct schema *s, const struct val *v)
{
	size_t at = (size_t)((uintptr_t)v / sizeof(void *) * UINT64_C(0x9E3779B97F4A7C15) >> 32) & (s->rooms - 1);

	while (s->known[at].at && s->known[at].at != v)
		at = (at + 1) & (s->rooms - 1);
	return at;
}

/* Room for one more place. */
static bool widen(struct schema *s)
{
	struct schema wide = *s;

	if (2 * (s->knowns + 1) < s->rooms)
		return true;
	wide.rooms = s->rooms ? 2 * s->rooms : 64;
	wide.known = calloc(wide.rooms, sizeof(*wide.known));
	if (!wide.known)
		return false;
	for (size_t i = 0; i < s->rooms; i++)
		if (s->known[i].at)
			wide.known[slot_of(&wide, s->known[i].at)] = s->known[i];
	free(s->known);
	s->known = wide.known;
	s->rooms = wide.rooms;
	return true;
}

int32_t schema_call(struct schema *s, const struct val *v)
{
	struct merge m = { .parts = 1 };
	int32_t call;
	size_t at;

	v = schema_followed(s, v);
	if (s->failed)
		return EXPR_NEVER;
	if (val_type(v) == VAL_BOOL)
		return val_bool(v, true) ? schema_any_value(s) : EXPR_NEVER;
	if (!widen(s))
		return schema_fail(s, "There is no memory for it.");
	at = slot_of(s, v);
	if (s->known[at].at)
		return s->known[at].call;
	if (s->depth == NESTING)
		return schema_fail(s, "It is nested too deeply.");
	call = grammar_rule(s->g);
	s->known[at].at = v;
	s->known[at].call = call;
	s->knowns++;
	s->depth++;
	m.part[0] = v;
	grammar_define(s->g, call, build(s, &m));
	s->depth--;
	return call;
}

int32_t schema_any_value(struct schema *s)
{
	const double none = INFINITY;
	const struct shape any = { .items_least = -1, .items_most = -1, .least = -none, .most = none };

	if (s->any_value != EXPR_NEVER)
		return s->any_value;
	s->any_value = grammar_rule(s->g);
	grammar_define(s->g, s->any_value,
		       schema_either(s, schema_word(s, "null"), schema_word(s, "true"), schema_word(s, "false"),
				     schema_any_string(s), schema_number(s, &any), schema_array(s, &any),
				     schema_object(s, &any)));
	return s->any_value;
}

int schema_read(const struct val *schema, struct grammar *g, int32_t *expr, struct err *e)
{
	struct err why = { 0 };
	struct schema s = { .root = schema, .g = g, .e = &why };

	if (val_type(schema) != VAL_MAP && val_type(schema) != VAL_BOOL)
		return err_set(e, SINK_EINVAL, "A schema must be a map, true or false.");
	*expr = schema_call(&s, schema);
	free(s.known);
	return s.failed ? err_set(e, why.code, "%s", why.text) : 0;
}
