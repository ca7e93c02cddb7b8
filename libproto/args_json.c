/*
 * Arguments from JSON: for callers that are handed a value as text, such as a JSON Schema, and pass it on. The text is
 * read as a whole before anything is added.
 */
#include <string.h>

#include <jansson.h>

#include "reply.h"

/* The nesting of a value, itself included; one more than `most` when it is deeper. */
static int depth_of(json_t *v, int most)
{
	int deepest = 0;
	const char *key;
	json_t *inner;
	size_t i;

	if (most <= 0)
		return 1;
	json_object_foreach(v, key, inner)
	{
		int depth = depth_of(inner, most - 1);

		deepest = depth > deepest ? depth : deepest;
	}
	json_array_foreach(v, i, inner)
	{
		int depth = depth_of(inner, most - 1);

		deepest = depth > deepest ? depth : deepest;
	}
	return (json_is_object(v) || json_is_array(v)) + deepest;
}

/* Recursion ends at MSG_DEPTH, which was looked at before. */
static void add(struct sink_args *a, const char *key, json_t *v)
{
	const char *name;
	json_t *inner;
	size_t i;

	switch (json_typeof(v)) {
	case JSON_OBJECT:
		sink_args_map(a, key);
		json_object_foreach(v, name, inner) add(a, name, inner);
		sink_args_end(a);
		break;
	case JSON_ARRAY:
		sink_args_array(a, key);
		json_array_foreach(v, i, inner) add(a, NULL, inner);
		sink_args_end(a);
		break;
	case JSON_STRING:
		sink_args_strn(a, key, json_string_value(v), json_string_length(v));
		break;
	case JSON_INTEGER:
		sink_args_int(a, key, json_integer_value(v));
		break;
	case JSON_REAL:
		sink_args_float(a, key, json_real_value(v));
		break;
	case JSON_TRUE:
	case JSON_FALSE:
		sink_args_bool(a, key, json_is_true(v));
		break;
	case JSON_NULL:
		sink_args_str(a, key, NULL);
		break;
	}
}

bool sink_args_json(struct sink_args *a, const char *key, const char *json, size_t len)
{
	json_error_t why = { .text = "a NUL byte" };
	json_t *v = NULL;
	bool fits;

	if (!memchr(json, '\0', len)) /* the parser passes over it */
		v = json_loadb(json, len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
	fits = v && depth_of(v, MSG_DEPTH) < MSG_DEPTH; /* the request itself is one */
	memset(err_alone(), 0, sizeof(struct err));
	if (!v)
		err_set(err_alone(), SINK_EINVAL, "This is no JSON: %s.", why.text);
	else if (!fits)
		err_set(err_alone(), SINK_EINVAL, "The JSON is nested too deeply for a request.");
	else
		add(a, key, v);
	json_decref(v);
	return fits;
}
