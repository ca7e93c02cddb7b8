/*
 * Inside schema.h: what the keywords of a place come to (schema_shape.c), the way through them (schema.c), and what is
 * made of a place (schema_value.c for strings, lists and objects, schema_number.c for ranges, schema_text.c for values
 * as they are).
 */
#ifndef DAEMON_SCHEMA_PARTS_H
#define DAEMON_SCHEMA_PARTS_H

#include "schema.h"

enum {
	TYPE_NULL = 1,
	TYPE_BOOLEAN = 2,
	TYPE_STRING = 4,
	TYPE_INTEGER = 8,
	TYPE_NUMBER = 16, /* integers among them */
	TYPE_ARRAY = 32,
	TYPE_OBJECT = 64,
	TYPES_ALL = 127,
};

enum {
	PROPERTIES_MOST = 256,
	SCHEMA_CHOICES = 64, /* of anyOf */
	MERGE_PARTS = 16,
	SCHEMA_PATH = 160,
};

struct property {
	const char *name;
	size_t len;
	const struct val *schema; /* NULL: it is required, and not described */
	bool required;
};

/* All keywords of a place, and of what is merged with it. */
struct shape {
	unsigned types;	  /* that are allowed */
	unsigned implied; /* types that keywords are about */
	bool nullable;
	const struct val *constant, *list; /* const, enum */
	struct property *property;	   /* [PROPERTIES_MOST] */
	size_t properties;
	bool describes;			   /* there is `properties` */
	const struct val *additional;	   /* additionalProperties */
	const struct val *items, *prefix;  /* items, prefixItems */
	int64_t items_least, items_most;   /* -1: none */
	int64_t length_least, length_most; /* of a string; -1: none */
	const struct val *pattern, *format;
	double least, most; /* of a number; infinities: none */
	bool least_out, most_out;
	bool whole;	       /* multipleOf: 1 */
	const struct val *any; /* anyOf or oneOf, one that is not dealt with yet */
};

/* The schemas that are one place's, and the alternatives that were chosen from already. */
struct merge {
	const struct val *part[MERGE_PARTS];
	size_t parts;
	const struct val *chosen[MERGE_PARTS];
	size_t choices;
};

struct schema {
	const struct val *root;
	struct grammar *g;
	struct err *e;
	bool failed;
	int depth;
	char path[SCHEMA_PATH]; /* where it reads */
	struct {
		const struct val *at;
		int32_t call;
	} * known; /* the rules of places, [rooms] by a hash of `at` */
	size_t knowns, rooms;
	int32_t any_value, character; /* EXPR_NEVER: not made yet */
};

/* Remembers the first failure; EXPR_NEVER. The place comes first in the sentence. */
int32_t schema_fail(struct schema *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Steps to a place below; schema_back() takes what it returned. */
size_t schema_into(struct schema *s, const char *key);
size_t schema_into_at(struct schema *s, size_t i);
void schema_back(struct schema *s, size_t before);

/* The call of the rule for the schema of a place. */
int32_t schema_call(struct schema *s, const struct val *v);
int32_t schema_any_value(struct schema *s);

/* What fits the shape, by type. */
int32_t schema_object(struct schema *s, const struct shape *h);
int32_t schema_array(struct schema *s, const struct shape *h);
int32_t schema_string(struct schema *s, const struct shape *h);
int32_t schema_integer(struct schema *s, const struct shape *h);
int32_t schema_number(struct schema *s, const struct shape *h);
/* A string that is anything. */
int32_t schema_any_string(struct schema *s);

/* A sequence of a few. */
#define schema_seq(s, ...)                                                                                             \
	grammar_seq((s)->g, (const int32_t[]){ __VA_ARGS__ },                                                          \
		    sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))
#define schema_either(s, ...)                                                                                          \
	grammar_any((s)->g, (const int32_t[]){ __VA_ARGS__ },                                                          \
		    sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))
int32_t schema_word(struct schema *s, const char *text);

/* A value as it is, in the one form in which values are written. */
int32_t schema_value(struct schema *s, const struct val *v);
int32_t schema_key(struct schema *s, const char *name, size_t len); /* with its colon */
bool schema_same(const struct val *a, const struct val *b);
unsigned schema_type_of(const struct val *v);

/* Whether no value can fit both: what oneOf asks of its alternatives. */
bool schema_apart(struct schema *s, const struct val *a, const struct val *b, int depth);
/* Adds what the schemas of a place say to a shape. */
void schema_gather(struct schema *s, struct shape *h, const struct merge *m);
/* The schema itself, or the one that it only refers to. */
const struct val *schema_followed(struct schema *s, const struct val *v);
/* Where a $ref leads; NULL after schema_fail(). */
const struct val *schema_target(struct schema *s, const struct val *ref);
/* The types that the keywords of a schema are about. */
unsigned schema_about(const struct val *v);
/* The types that `type` allows; 0: it is none. */
unsigned schema_types(const struct val *type);

#endif
