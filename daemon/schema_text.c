/* Owns values as texts, and what can be told of schemas without making anything: equality, and whether two exclude each
 * other. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "answer.h"
#include "charset.h"
#include "schema_parts.h"
#include "utf8.h"

int32_t schema_word(struct schema *s, const char *text)
{
	return grammar_text(s->g, text, strlen(text));
}

static int add_string(struct text *t, const char *at, size_t len)
{
	int rc = text_add(t, "\"", 1, NULL);

	for (size_t i = 0; i < len && rc == 0;) {
		const int bytes = utf8_character(at + i, len - i);
		char spelled[8];

		rc = text_add(t, spelled, charset_spell(utf8_code(at + i, bytes), FORM_JSON, spelled), NULL);
		i += (size_t)bytes;
	}
	return rc < 0 ? rc : text_add(t, "\"", 1, NULL);
}

/* The shortest digits that are this number again. */
static int add_float(struct text *t, double x)
{
	char digits[40];

	for (int precision = 1; precision <= 17; precision++) {
		double back;

		snprintf(digits, sizeof(digits), "%.*g", precision, x);
		if (sscanf(digits, "%lf", &back) == 1 && fabs(back - x) <= 0)
			break;
	}
	if (!strpbrk(digits, ".e"))
		strncat(digits, ".0", sizeof(digits) - strlen(digits) - 1);
	return text_add(t, digits, strlen(digits), NULL);
}

static int add_word(struct text *t, const char *word)
{
	return text_add(t, word, strlen(word), NULL);
}

static int add_value(struct text *t, const struct val *v);

static int add_members(struct text *t, const struct val *v)
{
	const bool map = val_type(v) == VAL_MAP;
	int rc = add_word(t, map ? "{" : "[");

	for (size_t i = 0; i < val_count(v) && rc == 0; i++) {
		const struct val *one = map ? NULL : val_at(v, i);

		if (i)
			rc = add_word(t, ", ");
		if (map && rc == 0) {
			const char *key;
			size_t len;

			one = val_pair(v, i, &key, &len);
			rc = add_string(t, key, len);
			if (rc == 0)
				rc = add_word(t, ": ");
		}
		if (rc == 0)
			rc = add_value(t, one);
	}
	return rc < 0 ? rc : add_word(t, map ? "}" : "]");
}

static int add_value(struct text *t, const struct val *v)
{
	char digits[32];
	const char *at;
	size_t len;

	switch (val_type(v)) {
	case VAL_BOOL:
		return add_word(t, val_bool(v, false) ? "true" : "false");
	case VAL_INT:
		snprintf(digits, sizeof(digits), "%lld", (long long)val_int(v, 0));
		return add_word(t, digits);
	case VAL_FLOAT:
		return add_float(t, val_float(v, 0));
	case VAL_STR:
		at = val_str(v, &len);
		return add_string(t, at, len);
	case VAL_ARRAY:
	case VAL_MAP:
		return add_members(t, v);
	case VAL_NIL:
	case VAL_BIN:
		break;
	}
	return add_word(t, "null");
}

static int32_t take(struct schema *s, struct text *t, int rc)
{
	const int32_t r = rc < 0 ? EXPR_NEVER : grammar_text(s->g, t->at, t->len);

	text_release(t);
	return rc < 0 ? schema_fail(s, "There is no memory for it.") : r;
}

int32_t schema_value(struct schema *s, const struct val *v)
{
	struct text t = { 0 };

	if (val_type(v) == VAL_BIN)
		return schema_fail(s, "Bytes are no value of JSON.");
	if (val_type(v) == VAL_FLOAT && !isfinite(val_float(v, 0)))
		return schema_fail(s, "A number is not finite.");
	return take(s, &t, add_value(&t, v));
}

int32_t schema_key(struct schema *s, const char *name, size_t len)
{
	struct text t = { 0 };
	int rc = add_string(&t, name, len);

	return take(s, &t, rc < 0 ? rc : add_word(&t, ": "));
}

/* ---- telling apart ---- */

unsigned schema_type_of(const struct val *v)
{
	switch (val_type(v)) {
	case VAL_BOOL:
		return TYPE_BOOLEAN;
	case VAL_INT:
		return TYPE_INTEGER | TYPE_NUMBER;
	case VAL_FLOAT:
		return TYPE_NUMBER;
	case VAL_STR:
		return TYPE_STRING;
	case VAL_ARRAY:
		return TYPE_ARRAY;
	case VAL_MAP:
		return TYPE_OBJECT;
	case VAL_NIL:
	case VAL_BIN:
		break;
	}
	return TYPE_NULL;
}

static bool same_members(const struct val *a, const struct val *b)
{
	if (val_count(a) != val_count(b))
		return false;
	for (size_t i = 0; i < val_count(a); i++) {
		const char *key;

		if (val_type(a) == VAL_ARRAY) {
			if (!schema_same(val_at(a, i), val_at(b, i)))
				return false;
		} else {
			const struct val *one = val_pair(a, i, &key, NULL);

			if (!schema_same(one, val_get(b, key)))
				return false;
		}
	}
	return true;
}

bool schema_same(const struct val *a, const struct val *b)
{
	const unsigned types = schema_type_of(a) & schema_type_of(b);
	const char *x, *y;
	size_t m, n;

	if (!types)
		return false;
	if (types & TYPE_NUMBER)
		return fabs(val_float(a, 0) - val_float(b, 0)) <= 0;
	if (types & TYPE_BOOLEAN)
		return val_bool(a, false) == val_bool(b, false);
	if (types & TYPE_STRING) {
		x = val_str(a, &m);
		y = val_str(b, &n);
		return m == n && memcmp(x, y, m) == 0;
	}
	return types & TYPE_NULL || same_members(a, b);
}

static unsigned types_of(const struct val *v)
{
	const struct val *type = val_get(v, "type");
	unsigned types = type ? schema_types(type) : TYPES_ALL;

	if (val_bool(val_get(v, "nullable"), false))
		types |= TYPE_NULL;
	return types & TYPE_INTEGER ? types | TYPE_NUMBER : types;
}

/* Those of the values that are written under it: without `type` those that it says something of. */
static unsigned types_written(const struct val *v)
{
	return val_get(v, "type") || !schema_about(v) ? types_of(v) : types_of(v) & schema_about(v);
}

/* The values that a schema names, as a list or as one; false: it names none. */
static bool names(const struct val *v, const struct val **list, const struct val **one)
{
	*list = val_get(v, "enum");
	*one = val_get(v, "const");
	return *list || *one;
}

static bool names_it(const struct val *v, const struct val *what)
{
	const struct val *list, *one;

	names(v, &list, &one);
	if (one)
		return schema_same(one, what);
	for (size_t i = 0; i < val_count(list); i++)
		if (schema_same(val_at(list, i), what))
			return true;
	return false;
}

/* Whether all that `a` names is not for `b`. */
static bool named_apart(const struct val *a, const struct val *b)
{
	const struct val *list, *one, *other_list, *other;

	if (!names(a, &list, &one))
		return false;
	for (size_t i = 0; i < (one ? 1 : val_count(list)); i++) {
		const struct val *v = one ? one : val_at(list, i);
		const bool typed = schema_type_of(v) & types_of(b);

		if (typed && (!names(b, &other_list, &other) || names_it(b, v)))
			return false;
	}
	return true;
}

static bool requires(const struct val *v, const char *name)
{
	const struct val *list = val_get(v, "required");

	for (size_t i = 0; i < val_count(list); i++) {
		const char *one = val_str(val_at(list, i), NULL);

		if (one && strcmp(one, name) == 0)
			return true;
	}
	return false;
}

/* Objects: a property that both must have, and cannot agree on; or one that a must have and b must not. */
static bool properties_apart(struct schema *s, const struct val *a, const struct val *b, int depth)
{
	const struct val *mine = val_get(a, "properties"), *others = val_get(b, "properties");
	const struct val *additional = val_get(b, "additionalProperties");

	for (size_t i = 0; i < val_count(mine); i++) {
		const char *name;
		const struct val *one = val_pair(mine, i, &name, NULL), *other = val_get(others, name);

		if (!requires(a, name))
			continue;
		if (other && requires(b, name) && schema_apart(s, one, other, depth + 1))
			return true;
		if (!other && additional && val_type(additional) == VAL_BOOL && !val_bool(additional, true))
			return true;
	}
	return false;
}

bool schema_apart(struct schema *s, const struct val *a, const struct val *b, int depth)
{
	unsigned both;

	for (int i = 0; i < 8 && val_get(a, "$ref") && !s->failed; i++)
		a = schema_target(s, val_get(a, "$ref"));
	for (int i = 0; i < 8 && val_get(b, "$ref") && !s->failed; i++)
		b = schema_target(s, val_get(b, "$ref"));
	if (s->failed || depth > 4 || val_type(a) != VAL_MAP || val_type(b) != VAL_MAP)
		return false;
	both = (types_written(a) & types_of(b)) | (types_written(b) & types_of(a));
	if (!both || named_apart(a, b) || named_apart(b, a))
		return true;
	return both == TYPE_OBJECT && (properties_apart(s, a, b, depth) || properties_apart(s, b, a, depth));
}
