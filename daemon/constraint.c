/* Owns constraints. The source is kept as a message of its own, so that it can be written again as it was. */
#include "constraint.h"

#include <stdlib.h>

#include "regex.h"
#include "schema.h"

struct constraint {
	struct msg *source; /* a map with one of the two keys */
	struct grammar *g;  /* NULL: not made yet */
	int shares;
};

static int depth_of(const struct val *v)
{
	int deepest = 0;

	if (val_type(v) != VAL_MAP && val_type(v) != VAL_ARRAY)
		return 0;
	for (size_t i = 0; i < val_count(v); i++) {
		const char *key;
		const int one = depth_of(val_type(v) == VAL_MAP ? val_pair(v, i, &key, NULL) : val_at(v, i));

		deepest = one > deepest ? one : deepest;
	}
	return 1 + deepest;
}

/* The value under its key, as a message. */
static int copy(const char *key, const struct val *v, struct msg **ret, struct err *e)
{
	const void *frame;
	struct out *o;
	size_t size;
	int rc = out_new(&o, e);

	if (rc < 0)
		return rc;
	out_map(o, NULL);
	out_val(o, key, v);
	out_end(o);
	rc = out_check(o, e);
	frame = rc == 0 ? out_data(o, &size) : NULL;
	if (rc == 0 && size > CONSTRAINT_BYTES)
		rc = err_set(e, SINK_EINVAL, "\"%s\" has %zu bytes; %d are possible.", key, size, CONSTRAINT_BYTES);
	if (rc == 0)
		rc = msg_parse(frame, size, ret, e);
	out_free(o);
	return rc;
}

int constraint_read(const struct val *map, struct constraint **ret, bool *given, struct err *e)
{
	const struct val *schema = val_get(map, "schema"), *regex = val_get(map, "regex");
	struct constraint *c;
	size_t len = 1;
	int rc;

	*given = schema || regex;
	*ret = NULL;
	if (!*given)
		return 0;
	if (schema && regex)
		return err_set(e, SINK_EINVAL, "An answer follows a \"schema\" or a \"regex\", not both.");
	if (schema && val_type(schema) != VAL_MAP && val_type(schema) != VAL_BOOL)
		return err_set(e, SINK_EINVAL, "\"schema\" must be a map, true or false.");
	if (regex && !val_str(regex, &len))
		return err_set(e, SINK_EINVAL, "\"regex\" must be a string.");
	if (!len)
		return 0;
	if (depth_of(schema) > CONSTRAINT_DEPTH)
		return err_set(e, SINK_EINVAL, "\"schema\" nests deeper than %d.", CONSTRAINT_DEPTH);
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, SINK_ENOMEM, "There is no memory for a constraint.");
	c->shares = 1;
	rc = copy(schema ? "schema" : "regex", schema ? schema : regex, &c->source, e);
	if (rc < 0) {
		constraint_drop(c);
		return rc;
	}
	*ret = c;
	return 0;
}

struct constraint *constraint_hold(struct constraint *c)
{
	if (c)
		c->shares++;
	return c;
}

void constraint_drop(struct constraint *c)
{
	if (!c || --c->shares)
		return;
	msg_free(c->source);
	grammar_free(c->g);
	free(c);
}

static int make(struct constraint *c, struct grammar *g, struct err *e)
{
	const struct val *schema = val_get(msg_root(c->source), "schema");
	struct regex r = { .expr = EXPR_NEVER };
	struct err why;
	size_t len;
	const char *pattern = val_str(val_get(msg_root(c->source), "regex"), &len);
	int rc = schema ? schema_read(schema, g, &r.expr, e) : 0;

	if (rc == 0 && pattern) {
		rc = regex_parse(g, pattern, len, FORM_PLAIN, &r, &why);
		if (rc < 0)
			return err_set(e, rc, "\"regex\": %s", why.text);
	}
	if (rc < 0)
		return rc;
	rc = grammar_finish(g, r.expr, &why);
	if (rc < 0)
		return err_set(e, rc, "The %s cannot be used: %s", schema ? "schema" : "regex", why.text);
	return 0;
}

int constraint_grammar(struct constraint *c, const struct grammar **ret, struct err *e)
{
	struct grammar *g;
	int rc = 0;

	if (!c->g) {
		rc = grammar_new(&g, e);
		if (rc < 0)
			return rc;
		rc = make(c, g, e);
		if (rc < 0)
			grammar_free(g);
		else
			c->g = g;
	}
	*ret = c->g;
	return rc;
}

void constraint_write(const struct constraint *c, struct out *o)
{
	const struct val *map = c ? msg_root(c->source) : NULL, *schema = val_get(map, "schema");

	if (schema)
		out_val(o, "schema", schema);
	else if (map)
		out_val(o, "regex", val_get(map, "regex"));
}
