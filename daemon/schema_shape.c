/*
 * Owns the keywords: one table of what is known, what each of them says of a shape, and how several schemas of one
 * place (allOf, a $ref with something beside it, an alternative with what stands around it) become one.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema_parts.h"

enum { MERGED = 32, NAME_BYTES = 256 };

/* ---- one keyword after the other ---- */

static const struct {
	const char *name;
	unsigned type;
} types[] = {
	{ "null", TYPE_NULL },	   { "boolean", TYPE_BOOLEAN }, { "string", TYPE_STRING }, { "integer", TYPE_INTEGER },
	{ "number", TYPE_NUMBER }, { "array", TYPE_ARRAY },	{ "object", TYPE_OBJECT },
};

static unsigned type_named(const struct val *v)
{
	const char *name = val_str(v, NULL);

	for (size_t i = 0; name && i < sizeof(types) / sizeof(types[0]); i++)
		if (strcmp(types[i].name, name) == 0)
			return types[i].type;
	return 0;
}

unsigned schema_types(const struct val *type)
{
	unsigned r = 0;

	if (val_type(type) != VAL_ARRAY)
		return type_named(type);
	for (size_t i = 0; i < val_count(type); i++) {
		const unsigned one = type_named(val_at(type, i));

		if (!one)
			return 0;
		r |= one;
	}
	return r;
}

static void take_type(struct schema *s, struct shape *h, const struct val *v)
{
	unsigned all = schema_types(v), both;

	if (!all)
		schema_fail(s, "\"type\" names no type.");
	both = h->types & all;
	if ((h->types & TYPE_NUMBER && all & TYPE_INTEGER) || (h->types & TYPE_INTEGER && all & TYPE_NUMBER))
		both |= TYPE_INTEGER;
	h->types = both;
}

static void take_count(struct schema *s, const struct val *v, int64_t *field, bool least)
{
	const double x = val_float(v, -1);

	if (!(x >= 0 && x <= 1e15) || floor(x) < x)
		schema_fail(s, "It must be a whole number.");
	else if (*field < 0 || (least ? (int64_t)x > *field : (int64_t)x < *field))
		*field = (int64_t)x;
}

static void take_bound(struct schema *s, struct shape *h, const struct val *v, bool least, bool out)
{
	const double x = val_float(v, NAN);

	if (val_type(v) == VAL_BOOL)
		schema_fail(s, "It must be a number, as of draft 6.");
	else if (!isfinite(x))
		schema_fail(s, "It must be a number.");
	else if (least && (x > h->least || (out && !(x < h->least)))) {
		h->least = x;
		h->least_out = out;
	} else if (!least && (x < h->most || (out && !(x > h->most)))) {
		h->most = x;
		h->most_out = out;
	}
}

/* A keyword that may be there once, or twice with the same value. */
static void take_once(struct schema *s, const struct val **field, const struct val *v)
{
	if (*field && !schema_same(*field, v))
		schema_fail(s, "It is there twice where schemas are merged, with different values.");
	*field = v;
}

static struct property *property_of(struct schema *s, struct shape *h, const char *name, size_t len)
{
	for (size_t i = 0; i < h->properties; i++)
		if (h->property[i].len == len && memcmp(h->property[i].name, name, len) == 0)
			return &h->property[i];
	if (h->properties == PROPERTIES_MOST || len > NAME_BYTES) {
		schema_fail(s, "There are more than %d properties, or one whose name is longer than %d bytes.",
			    PROPERTIES_MOST, NAME_BYTES);
		return NULL;
	}
	h->property[h->properties] = (struct property){ .name = name, .len = len };
	return &h->property[h->properties++];
}

static void take_properties(struct schema *s, struct shape *h, const struct val *v)
{
	if (val_type(v) != VAL_MAP)
		schema_fail(s, "It must be a map.");
	h->describes = true;
	for (size_t i = 0; i < val_count(v) && !s->failed; i++) {
		const char *name;
		size_t len;
		const struct val *one = val_pair(v, i, &name, &len);
		struct property *p = property_of(s, h, name, len);
		const size_t before = schema_into(s, name);

		if (p)
			take_once(s, &p->schema, one);
		schema_back(s, before);
	}
}

static void take_required(struct schema *s, struct shape *h, const struct val *v)
{
	if (val_type(v) != VAL_ARRAY)
		schema_fail(s, "It must be a list.");
	for (size_t i = 0; i < val_count(v) && !s->failed; i++) {
		size_t len;
		const char *name = val_str(val_at(v, i), &len);
		struct property *p = name ? property_of(s, h, name, len) : NULL;

		if (!name)
			schema_fail(s, "It must be a list of names.");
		if (p)
			p->required = true;
	}
}

static void take_list(struct schema *s, const struct val **field, const struct val *v)
{
	if (val_type(v) != VAL_ARRAY)
		schema_fail(s, "It must be a list.");
	take_once(s, field, v);
}

enum keyword {
	IGNORED, /* it says something to people, or holds what others refer to */
	TYPE,
	NULLABLE,
	CONST,
	ENUM,
	PROPERTIES,
	REQUIRED,
	ADDITIONAL,
	ITEMS,
	PREFIX,
	MIN_ITEMS,
	MAX_ITEMS,
	MIN_LENGTH,
	MAX_LENGTH,
	PATTERN,
	FORMAT,
	MINIMUM,
	MAXIMUM,
	OVER,
	UNDER,
	ANY,
	ONE,
	ALL,
	REF,
	UNIQUE,	  /* harmless when false */
	MULTIPLE, /* and when 1, of integers */
};

static const struct {
	const char *name;
	enum keyword keyword;
	unsigned about; /* the types that it says something of */
} keywords[] = {
	{ "type", TYPE, 0 },
	{ "properties", PROPERTIES, TYPE_OBJECT },
	{ "required", REQUIRED, TYPE_OBJECT },
	{ "additionalProperties", ADDITIONAL, TYPE_OBJECT },
	{ "items", ITEMS, TYPE_ARRAY },
	{ "prefixItems", PREFIX, TYPE_ARRAY },
	{ "minItems", MIN_ITEMS, TYPE_ARRAY },
	{ "maxItems", MAX_ITEMS, TYPE_ARRAY },
	{ "uniqueItems", UNIQUE, TYPE_ARRAY },
	{ "minLength", MIN_LENGTH, TYPE_STRING },
	{ "maxLength", MAX_LENGTH, TYPE_STRING },
	{ "pattern", PATTERN, TYPE_STRING },
	{ "format", FORMAT, TYPE_STRING },
	{ "minimum", MINIMUM, TYPE_NUMBER },
	{ "maximum", MAXIMUM, TYPE_NUMBER },
	{ "exclusiveMinimum", OVER, TYPE_NUMBER },
	{ "exclusiveMaximum", UNDER, TYPE_NUMBER },
	{ "multipleOf", MULTIPLE, TYPE_NUMBER },
	{ "enum", ENUM, 0 },
	{ "const", CONST, 0 },
	{ "nullable", NULLABLE, 0 },
	{ "anyOf", ANY, 0 },
	{ "oneOf", ONE, 0 },
	{ "allOf", ALL, 0 },
	{ "$ref", REF, 0 },
	{ "title", IGNORED, 0 },
	{ "description", IGNORED, 0 },
	{ "default", IGNORED, 0 },
	{ "example", IGNORED, 0 },
	{ "examples", IGNORED, 0 },
	{ "deprecated", IGNORED, 0 },
	{ "readOnly", IGNORED, 0 },
	{ "writeOnly", IGNORED, 0 },
	{ "$comment", IGNORED, 0 },
	{ "$schema", IGNORED, 0 },
	{ "$id", IGNORED, 0 },
	{ "$defs", IGNORED, 0 },
	{ "definitions", IGNORED, 0 },
};

enum { KEYWORDS = sizeof(keywords) / sizeof(keywords[0]) };

unsigned schema_about(const struct val *v)
{
	unsigned r = 0;

	for (size_t k = 0; k < KEYWORDS; k++)
		r |= keywords[k].about && val_get(v, keywords[k].name) ? keywords[k].about : 0;
	return r;
}

static void take_scalar(struct schema *s, struct shape *h, enum keyword k, const struct val *v)
{
	switch (k) {
	case MIN_ITEMS:
		take_count(s, v, &h->items_least, true);
		break;
	case MAX_ITEMS:
		take_count(s, v, &h->items_most, false);
		break;
	case MIN_LENGTH:
		take_count(s, v, &h->length_least, true);
		break;
	case MAX_LENGTH:
		take_count(s, v, &h->length_most, false);
		break;
	case MINIMUM:
	case OVER:
		take_bound(s, h, v, true, k == OVER);
		break;
	case MAXIMUM:
	case UNDER:
		take_bound(s, h, v, false, k == UNDER);
		break;
	case UNIQUE:
		if (val_type(v) != VAL_BOOL || val_bool(v, true))
			schema_fail(s, "It is not supported.");
		break;
	case MULTIPLE:
		if (fabs(val_float(v, 0) - 1) > 0)
			schema_fail(s, "It is not supported, but for 1.");
		h->whole = true;
		break;
	case NULLABLE:
		h->nullable = h->nullable || val_bool(v, false);
		break;
	default:
		break;
	}
}

static void take_keyword(struct schema *s, struct shape *h, enum keyword k, const struct val *v)
{
	switch (k) {
	case TYPE:
		take_type(s, h, v);
		break;
	case CONST:
		take_once(s, &h->constant, v);
		break;
	case ENUM:
		take_list(s, &h->list, v);
		break;
	case PROPERTIES:
		take_properties(s, h, v);
		break;
	case REQUIRED:
		take_required(s, h, v);
		break;
	case ADDITIONAL:
		take_once(s, &h->additional, v);
		break;
	case ITEMS:
		take_once(s, &h->items, v);
		break;
	case PREFIX:
		take_list(s, &h->prefix, v);
		break;
	case PATTERN:
		take_once(s, &h->pattern, v);
		break;
	case FORMAT:
		take_once(s, &h->format, v);
		break;
	default:
		take_scalar(s, h, k, v);
	}
}

/* ---- several schemas of one place ---- */

static void gather(struct schema *s, struct shape *h, const struct merge *m, const struct val *v, int depth);

const struct val *schema_target(struct schema *s, const struct val *ref)
{
	const char *path = val_str(ref, NULL);
	const struct val *at = s->root;
	char key[256];

	if (!path || *path != '#' || (path[1] && path[1] != '/')) {
		schema_fail(s, "$ref must begin with #/, such as #/$defs/name.");
		return NULL;
	}
	for (path++; *path && at;) {
		size_t len = 0;

		for (path++; *path && *path != '/' && len < sizeof(key) - 1; path++) {
			const bool escaped = *path == '~' && (path[1] == '0' || path[1] == '1');

			key[len++] = !escaped ? *path : *++path == '0' ? '~' : '/';
		}
		key[len] = '\0';
		at = val_type(at) == VAL_ARRAY ? val_at(at, strtoul(key, NULL, 10)) : val_get(at, key);
	}
	if (!at)
		schema_fail(s, "There is no \"%.60s\".", val_str(ref, NULL));
	return at;
}

const struct val *schema_followed(struct schema *s, const struct val *v)
{
	for (int n = 0; !s->failed && val_get(v, "$ref"); n++) {
		for (size_t i = 0; i < val_count(v); i++) {
			const char *key;
			size_t k = 0;

			val_pair(v, i, &key, NULL);
			while (k < KEYWORDS && strcmp(keywords[k].name, key) != 0)
				k++;
			if (k == KEYWORDS || (keywords[k].keyword != IGNORED && keywords[k].keyword != REF))
				return v;
		}
		if (n == MERGED)
			schema_fail(s, "$ref goes round in a circle.");
		v = schema_target(s, val_get(v, "$ref"));
	}
	return v;
}

static void take_alternatives(struct schema *s, struct shape *h, const struct merge *m, const struct val *v, bool one)
{
	for (size_t i = 0; i < m->choices; i++)
		if (m->chosen[i] == v)
			return;
	if (val_type(v) != VAL_ARRAY || !val_count(v) || val_count(v) > SCHEMA_CHOICES) {
		schema_fail(s, "It must be a list of 1 to %d schemas.", SCHEMA_CHOICES);
		return;
	}
	for (size_t i = 0; one && i < val_count(v); i++)
		for (size_t k = i + 1; k < val_count(v) && !s->failed; k++)
			if (!schema_apart(s, val_at(v, i), val_at(v, k), 0))
				schema_fail(s, "%zu and %zu may both fit one value, which oneOf forbids; use anyOf.", i,
					    k);
	if (!h->any)
		h->any = v;
}

static void gather_pair(struct schema *s, struct shape *h, const struct merge *m, const char *key, const struct val *v,
			int depth)
{
	size_t k = 0;

	while (k < KEYWORDS && strcmp(keywords[k].name, key) != 0)
		k++;
	if (k == KEYWORDS) {
		schema_fail(s, "This keyword is not supported.");
		return;
	}
	h->implied |= keywords[k].about;
	switch (keywords[k].keyword) {
	case IGNORED:
		break;
	case ANY:
	case ONE:
		take_alternatives(s, h, m, v, keywords[k].keyword == ONE);
		break;
	case ALL:
		if (val_type(v) != VAL_ARRAY)
			schema_fail(s, "It must be a list.");
		for (size_t i = 0; i < val_count(v) && !s->failed; i++) {
			const size_t before = schema_into_at(s, i);

			gather(s, h, m, val_at(v, i), depth + 1);
			schema_back(s, before);
		}
		break;
	case REF:
		v = schema_target(s, v);
		if (v)
			gather(s, h, m, v, depth + 1);
		break;
	default:
		take_keyword(s, h, keywords[k].keyword, v);
	}
}

static void gather(struct schema *s, struct shape *h, const struct merge *m, const struct val *v, int depth)
{
	if (s->failed)
		return;
	if (depth > MERGED) {
		schema_fail(s, "Definitions are merged without end.");
		return;
	}
	if (val_type(v) == VAL_BOOL) {
		h->types = val_bool(v, true) ? h->types : 0;
		return;
	}
	if (val_type(v) != VAL_MAP) {
		schema_fail(s, "A schema is a map, true or false.");
		return;
	}
	for (size_t i = 0; i < val_count(v) && !s->failed; i++) {
		const char *key;
		const struct val *one = val_pair(v, i, &key, NULL);
		const size_t before = schema_into(s, key);

		if (val_type(one) != VAL_NIL || strcmp(key, "const") == 0)
			gather_pair(s, h, m, key, one, depth);
		schema_back(s, before);
	}
}

void schema_gather(struct schema *s, struct shape *h, const struct merge *m)
{
	for (size_t i = 0; i < m->parts; i++)
		gather(s, h, m, m->part[i], 0);
}
