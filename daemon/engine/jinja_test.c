/* Tests: what may stand behind `is`, and what select and its like take by name. */
#include "jinja_parts.h"

#include <string.h>

static struct jinja_value argument(struct jinja_run *r, const struct jinja_args *a)
{
	struct jinja_value arg;

	jinja_arguments(r, a, "This test", (const char *const[]){ "other", NULL }, &arg);
	if (a->pos.count + a->named.count != 1)
		jinja_fail(r, SINK_EFORMAT, "This test has nothing to compare with.");
	return arg;
}

/* Tests without an argument: one function each, so that a table can name them. */
#define TEST(name, condition)                                                                                          \
	static struct jinja_value test_##name(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)         \
	{                                                                                                              \
		jinja_arguments(r, a, "The test " #name, (const char *const[]){ NULL }, NULL);                         \
		return jinja_bool(condition);                                                                          \
	}

TEST(defined, v.kind != JINJA_UNDEFINED)
TEST(undefined, v.kind == JINJA_UNDEFINED)
TEST(none, v.kind == JINJA_NONE)
TEST(string, v.kind == JINJA_TEXT)
TEST(number, v.kind == JINJA_INT || v.kind == JINJA_FLOAT || v.kind == JINJA_BOOL)
TEST(integer, v.kind == JINJA_INT)
TEST(float, v.kind == JINJA_FLOAT)
TEST(boolean, v.kind == JINJA_BOOL)
TEST(true, v.kind == JINJA_BOOL && v.b)
TEST(false, v.kind == JINJA_BOOL && !v.b)
TEST(mapping, v.kind == JINJA_DICT)
TEST(iterable, jinja_is_sequence(v) || v.kind == JINJA_TEXT || v.kind == JINJA_DICT || v.kind == JINJA_UNDEFINED ||
		       v.kind == JINJA_LOOP)
TEST(sequence, jinja_is_sequence(v) || v.kind == JINJA_TEXT || v.kind == JINJA_DICT || v.kind == JINJA_UNDEFINED)
TEST(callable, v.kind == JINJA_MACRO || v.kind == JINJA_FUNCTION || v.kind == JINJA_METHOD || v.kind == JINJA_UNDEFINED)
TEST(odd, jinja_equal(r, jinja_arithmetic(r, '%', v, jinja_int(2)), jinja_int(1)))
TEST(even, jinja_equal(r, jinja_arithmetic(r, '%', v, jinja_int(2)), jinja_int(0)))
TEST(lower, jinja_same(jinja_case(r, jinja_str(r, v), 'l'), jinja_str(r, v)))
TEST(upper, jinja_same(jinja_case(r, jinja_str(r, v), 'u'), jinja_str(r, v)))

static struct jinja_value test_eq(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_equal(r, v, argument(r, a)));
}

static struct jinja_value test_ne(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(!jinja_equal(r, v, argument(r, a)));
}

static struct jinja_value test_lt(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_order(r, v, argument(r, a)) < 0);
}

static struct jinja_value test_le(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_order(r, v, argument(r, a)) <= 0);
}

static struct jinja_value test_gt(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_order(r, v, argument(r, a)) > 0);
}

static struct jinja_value test_ge(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_order(r, v, argument(r, a)) >= 0);
}

static struct jinja_value test_in(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_contains(r, argument(r, a), v));
}

static struct jinja_value test_divisibleby(struct jinja_run *r, struct jinja_value v, struct jinja_args *a)
{
	return jinja_bool(jinja_want_int(r, jinja_arithmetic(r, '%', v, argument(r, a)), "A remainder") == 0);
}

const struct jinja_function *jinja_test(const char *name)
{
	static const struct jinja_function tests[] = {
		{ "defined", test_defined },
		{ "undefined", test_undefined },
		{ "none", test_none },
		{ "string", test_string },
		{ "number", test_number },
		{ "integer", test_integer },
		{ "float", test_float },
		{ "boolean", test_boolean },
		{ "true", test_true },
		{ "false", test_false },
		{ "mapping", test_mapping },
		{ "iterable", test_iterable },
		{ "sequence", test_sequence },
		{ "callable", test_callable },
		{ "odd", test_odd },
		{ "even", test_even },
		{ "lower", test_lower },
		{ "upper", test_upper },
		{ "eq", test_eq },
		{ "equalto", test_eq },
		{ "==", test_eq },
		{ "ne", test_ne },
		{ "!=", test_ne },
		{ "lt", test_lt },
		{ "lessthan", test_lt },
		{ "<", test_lt },
		{ "le", test_le },
		{ "<=", test_le },
		{ "gt", test_gt },
		{ "greaterthan", test_gt },
		{ ">", test_gt },
		{ "ge", test_ge },
		{ ">=", test_ge },
		{ "in", test_in },
		{ "divisibleby", test_divisibleby },
	};

	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		if (strcmp(tests[i].name, name) == 0)
			return &tests[i];
	return NULL;
}
