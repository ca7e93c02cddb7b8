/*
 * schema.c and its neighbours: schemas are written here as JSON, and what a guide lets through is compared with what is
 * right under JSON Schema: texts that fit, and texts that do not. Random walks end in texts of the right form; that
 * these are valid, a validator of another house says in tests/live/schema.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "constraint.h"
#include "guide.h"
#include "make_gguf.h"

static void *file;
static struct gguf *gguf;
static struct vocab *vocab;
static struct trie *trie;

static int make_vocabulary(void **state)
{
	struct make_gguf *m = make_gguf_new();
	size_t size;

	(void)state;
	make_tiny_vocab(m);
	file = make_gguf_finish(m, &size);
	assert_int_equal(gguf_parse(file, size, &gguf, NULL), 0);
	assert_int_equal(vocab_new(gguf, &vocab, NULL), 0);
	assert_int_equal(trie_new(vocab, &trie, NULL), 0);
	return 0;
}

static int free_vocabulary(void **state)
{
	(void)state;
	trie_free(trie);
	vocab_free(vocab);
	gguf_close(gguf);
	free(file);
	return 0;
}

/* ---- JSON as the tests write it: with ' for ", and no escapes ---- */

static const char *put(struct out *o, const char *key, const char *at);

static const char *put_members(struct out *o, const char *at)
{
	const char close = *at == '{' ? '}' : ']';

	for (at++; *(at += strspn(at, ", ")) != close;) {
		char key[64];

		if (close == '}') {
			const char *end = strchr(at + 1, '\'');

			snprintf(key, sizeof(key), "%.*s", (int)(end - at - 1), at + 1);
			for (at = end + 1; *at == ':' || *at == ' ';)
				at++;
		}
		at = put(o, close == '}' ? key : NULL, at);
	}
	return at + 1;
}

static const char *put(struct out *o, const char *key, const char *at)
{
	const char *end;
	char *after;

	switch (*at) {
	case '{':
	case '[':
		if (*at == '{')
			out_map(o, key);
		else
			out_array(o, key);
		at = put_members(o, at);
		out_end(o);
		return at;
	case '\'':
		end = strchr(at + 1, '\'');
		out_strn(o, key, at + 1, (size_t)(end - at - 1));
		return end + 1;
	case 't':
	case 'f':
		out_bool(o, key, *at == 't');
		return at + (*at == 't' ? 4 : 5);
	case 'n':
		out_nil(o, key);
		return at + 4;
	default:
		end = at + strspn(at, "-0123456789.e");
		if (memchr(at, '.', (size_t)(end - at)) || memchr(at, 'e', (size_t)(end - at)))
			out_float(o, key, strtod(at, &after));
		else
			out_int(o, key, strtoll(at, &after, 10));
		return end;
	}
}

/* A constraint of a schema, with its grammar, or why there is none. */
static int constrain(const char *schema, struct constraint **ret, const struct grammar **g, struct err *e)
{
	const void *frame;
	struct out *o;
	struct msg *m;
	bool given;
	size_t size;
	int rc;

	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	put(o, "schema", schema);
	out_end(o);
	frame = out_data(o, &size);
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	rc = constraint_read(msg_root(m), ret, &given, e);
	if (rc == 0)
		rc = constraint_grammar(*ret, g, e);
	msg_free(m);
	out_free(o);
	return rc;
}

static bool accepts(const struct grammar *g, const char *text)
{
	struct guide *q;
	bool good = true;

	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	for (; *text && good; text++) {
		const char c = *text == '\'' ? '"' : *text;

		good = guide_take(q, vocab_find(vocab, (const char[]){ c, '\0' }), NULL) == 0;
	}
	good = good && guide_is_complete(q);
	guide_free(q);
	return good;
}

static const struct {
	const char *schema, *good[6], *bad[10];
} cases[] = {
	{ "{'type':'null'}", { "null" }, { "", "nul", "true", " null" } },
	{ "{'type':['boolean','null']}", { "true", "false", "null" }, { "0", "'true'" } },
	{ "{'type':'string'}",
	  { "''", "'a b'", "'\\n\\\\'", "'\xc3\xa9'" },
	  { "'", "'\\q'", "'\n'", "'\xff'", "'a'b" } },
	{ "{'type':'string','minLength':2,'maxLength':3}",
	  { "'ab'", "'abc'", "'\xc3\xa9\\n'" },
	  { "'a'", "'abcd'", "'\xc3\xa9'" } },
	{ "{'type':'string','pattern':'^[A-Z]{2}\\d+$'}", { "'AB1'" }, { "'A1'", "'AB'", "'xAB1'" } },
	{ "{'type':'string','pattern':'a{1,3}','maxLength':3,'minLength':1}", { "'aa'" }, { "'aaaa'" } },
	{ "{'type':'string','format':'date'}",
	  { "'2024-12-31'", "'1999-02-28'" },
	  { "'2024-02-30'", "'2024-13-01'", "'0000-01-01'", "'2024-1-1'" } },
	{ "{'type':'string','format':'time'}",
	  { "'23:59:59Z'", "'00:00:00.5+01:30'" },
	  { "'24:00:00Z'", "'00:00:00'" } },
	{ "{'type':'string','format':'uuid'}",
	  { "'123e4567-e89b-12d3-a456-426614174000'" },
	  { "'123e4567-e89b-12d3-a456-42661417400'" } },
	{ "{'type':'string','format':'ipv4'}", { "'0.0.0.0'", "'255.1.20.199'" }, { "'256.1.1.1'", "'01.1.1.1'" } },
	{ "{'type':'string','format':'email'}", { "'a.b@c-d.org'" }, { "'a'", "'a@b'", "'a b@c.de'" } },
	{ "{'type':'integer'}", { "0", "-17", "123456789012" }, { "01", "1.5", "+1", "1e3", "-" } },
	{ "{'type':'integer','minimum':0,'maximum':120}",
	  { "0", "9", "99", "119", "120" },
	  { "-1", "121", "00", "1000" } },
	{ "{'type':'integer','minimum':-15,'exclusiveMaximum':7}",
	  { "-15", "-9", "-1", "0", "6" },
	  { "-16", "7", "-0", "10", "-100" } },
	{ "{'type':'integer','exclusiveMinimum':99.5}", { "100", "1000", "999999" }, { "99", "0", "-100" } },
	{ "{'type':'integer','minimum':3,'maximum':3}", { "3" }, { "2", "4", "30" } },
	{ "{'type':'number'}", { "0", "-1.5", "2e10", "1.25E-3", "100" }, { ".5", "1.", "01", "1e", "--1" } },
	{ "{'type':'number','minimum':0,'maximum':1}",
	  { "0", "1", "0.5", "0.05", "1.0", "0.999999" },
	  { "1.1", "-0.1", "2", "1.000001", "0.1e1" } },
	{ "{'type':'number','exclusiveMinimum':-0.25,'maximum':2.5}",
	  { "-0.24", "0", "2.5", "2.50", "-0.249999", "1.75" },
	  { "-0.25", "2.51", "-1", "3", "-0.3", "2.500001" } },
	{ "{'enum':['on','off',3,1.5,null,[1,{'a':true}]]}",
	  { "'on'", "'off'", "3", "1.5", "null", "[1, {'a': true}]" },
	  { "'o'", "'onf'", "4", "[1,{'a':true}]", "'on" } },
	{ "{'const':null}", { "null" }, { "0" } },
	{ "{'type':'string','enum':['a',1,'b']}", { "'a'", "'b'" }, { "1" } },
	{ "{'type':'array','items':{'type':'integer'}}",
	  { "[]", "[1]", "[1, -2, 3]" },
	  { "[1,2]", "[1, ]", "[ ]", "[", "['a']" } },
	{ "{'type':'array','items':{'enum':[1]},'minItems':2,'maxItems':3}",
	  { "[1, 1]", "[1, 1, 1]" },
	  { "[]", "[1]", "[1, 1, 1, 1]" } },
	{ "{'type':'array','maxItems':0}", { "[]" }, { "[1]" } },
	{ "{'type':'array','items':false}", { "[]" }, { "[1]" } },
	{ "{'prefixItems':[{'type':'integer'},{'const':'x'}],'minItems':1}",
	  { "[1]", "[1, 'x']" },
	  { "[]", "['x']", "[1, 2]", "[1, 'x', 2]" } },
	{ "{'prefixItems':[{'type':'integer'}],'items':{'const':'y'},'minItems':2,'maxItems':3}",
	  { "[1, 'y']", "[1, 'y', 'y']" },
	  { "[1]", "['y', 'y']", "[1, 'y', 'y', 'y']" } },
	{ "{'type':'object','properties':{'a':{'const':1},'b':{'const':2}},'required':['a','b']}",
	  { "{'a': 1, 'b': 2}" },
	  { "{}", "{'a': 1}", "{'b': 2, 'a': 1}", "{'a':1,'b':2}", "{'a': 1, 'b': 2, 'c': 3}" } },
	{ "{'properties':{'a':{'const':1},'b':{'const':2},'c':{'const':3}},'required':['b']}",
	  { "{'b': 2}", "{'a': 1, 'b': 2}", "{'b': 2, 'c': 3}", "{'a': 1, 'b': 2, 'c': 3}" },
	  { "{}", "{'a': 1}", "{, 'b': 2}", "{'a': 1, 'c': 3}", "{'b': 2, }" } },
	{ "{'type':'object','properties':{'a':{'const':1},'b':{'const':2}}}",
	  { "{}", "{'a': 1}", "{'b': 2}", "{'a': 1, 'b': 2}" },
	  { "{'a': 1, 'a': 1}", "{'c': 1}" } },
	{ "{'type':'object','properties':{'a':{'const':1},'ab':{'const':2}},'additionalProperties':{'const':0}}",
	  { "{}", "{'a': 1, 'x': 0}", "{'x': 0, 'y': 0}", "{'abc': 0}", "{'': 0}", "{'ab': 2, 'b': 0}" },
	  { "{'a': 0}", "{'ab': 0}", "{'x': 1}", "{'x': 0, 'ab': 0}" } },
	{ "{'type':'object','additionalProperties':false}", { "{}" }, { "{'a': 1}" } },
	{ "{'type':'object','additionalProperties':false,'properties':{'a':false,'b':{'const':1}}}",
	  { "{}", "{'b': 1}" },
	  { "{'a': 1}" } },
	{ "{'type':'object'}", { "{}", "{'x': [true, {'y': null}]}" }, { "[]", "{'x'}", "{'x': }" } },
	{ "{'type':'object','required':['k']}", { "{'k': 1}", "{'k': 'x', 'l': 2}" }, { "{}", "{'l': 2}" } },
	{ "true", { "1", "[[], {}]", "'x'", "null" }, { "x", "[1,2]" } },
	{ "{}", { "-0.5", "{'a': {'b': [1]}}" }, { "" } },
	{ "{'anyOf':[{'type':'integer'},{'type':'string'}]}", { "1", "'x'" }, { "1.5", "null" } },
	{ "{'oneOf':[{'type':'integer'},{'type':'string'}],'title':'t','default':3}", { "1", "'x'" }, { "1.5" } },
	{ "{'oneOf':[{'properties':{'k':{'const':'a'},'x':{'const':1}},'required':['k','x']},"
	  "{'properties':{'k':{'const':'b'},'y':{'const':2}},'required':['k','y']}],'type':'object'}",
	  { "{'k': 'a', 'x': 1}", "{'k': 'b', 'y': 2}" },
	  { "{'k': 'a', 'y': 2}", "{'k': 'c'}" } },
	{ "{'type':'object','properties':{'a':{'const':1},'b':{'const':2}},"
	  "'anyOf':[{'required':['a']},{'required':['b']}]}",
	  { "{'a': 1}", "{'b': 2}", "{'a': 1, 'b': 2}" },
	  { "{}" } },
	{ "{'allOf':[{'type':'object','properties':{'a':{'const':1}},'required':['a']},"
	  "{'properties':{'b':{'const':2}},'required':['b']}]}",
	  { "{'a': 1, 'b': 2}" },
	  { "{'a': 1}", "{'b': 2}", "1" } },
	{ "{'allOf':[{'minimum':3},{'maximum':5}],'type':'integer'}", { "3", "4", "5" }, { "2", "6" } },
	{ "{'type':'number','allOf':[{'type':['integer','string']}]}", { "3" }, { "3.5", "'x'" } },
	{ "{'type':'string','nullable':true,'maxLength':1}", { "null", "'a'" }, { "'ab'" } },
	{ "{'$defs':{'n':{'type':'object','properties':{'v':{'const':1},'next':{'anyOf':[{'$ref':'#/$defs/n'},"
	  "{'type':'null'}]}},'required':['v','next'],'additionalProperties':false}},'$ref':'#/$defs/n'}",
	  { "{'v': 1, 'next': null}", "{'v': 1, 'next': {'v': 1, 'next': null}}" },
	  { "{'v': 1}", "{'v': 1, 'next': {}}" } },
	{ "{'type':'array','items':{'$ref':'#'}}", { "[]", "[[], [[]]]" }, { "[1]", "[[]" } },
	{ "{'definitions':{'a/b':{'const':1}},'$ref':'#/definitions/a~1b'}", { "1" }, { "2" } },
};

static void values_fit_as_the_schema_says(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct grammar *g;
		struct constraint *c = NULL;
		struct err e = { 0 };

		if (constrain(cases[i].schema, &c, &g, &e) < 0)
			fail_msg("%s: %s", cases[i].schema, e.text);
		for (size_t k = 0; k < 6 && cases[i].good[k]; k++)
			if (!accepts(g, cases[i].good[k]))
				fail_msg("%s refuses %s", cases[i].schema, cases[i].good[k]);
		for (size_t k = 0; k < 10 && cases[i].bad[k]; k++)
			if (accepts(g, cases[i].bad[k]))
				fail_msg("%s takes %s", cases[i].schema, cases[i].bad[k]);
		constraint_drop(c);
	}
}

static const struct {
	const char *schema, *place; /* what the refusal must name */
} refused[] = {
	{ "{'not':{}}", "/not" },
	{ "{'properties':{'a':{'patternProperties':{}}}}", "/properties/a/patternProperties" },
	{ "{'type':'object','minProperties':1}", "/minProperties" },
	{ "{'type':'array','uniqueItems':true}", "/uniqueItems" },
	{ "{'if':{},'then':{}}", "/if" },
	{ "{'type':'integer','multipleOf':2}", "/multipleOf" },
	{ "{'type':'wrong'}", "/type" },
	{ "{'type':'string','format':'iri'}", "/format" },
	{ "{'items':{'pattern':'(?=a)'}}", "/items/pattern" },
	{ "{'type':'string','pattern':'a*','maxLength':3}", "/pattern" },
	{ "{'type':'string','format':'date','minLength':20}", "/format" },
	{ "{'type':'string','minLength':-1}", "/minLength" },
	{ "{'type':'integer','minimum':'x'}", "/minimum" },
	{ "{'oneOf':[{'type':'integer'},{'type':'number'}]}", "/oneOf" },
	{ "{'oneOf':[{'type':'object'},{'type':'object'}]}", "/oneOf" },
	{ "{'anyOf':[]}", "/anyOf" },
	{ "{'$ref':'#/$defs/x'}", "#/$defs/x" },
	{ "{'$ref':'#'}", "circle" },
	{ "{'$defs':{'a':{'$ref':'#/$defs/b'},'b':{'$ref':'#/$defs/a'}},'$ref':'#/$defs/a'}", "circle" },
	{ "{'anyOf':[{'$ref':'#'},{'type':'null'}]}", "itself" },
	{ "{'type':'array','items':{'$ref':'#'},'minItems':1}", "othing fits" },
	{ "{'enum':[]}", "othing fits" },
	{ "false", "othing fits" },
	{ "{'type':'integer','minimum':3,'maximum':2}", "othing fits" },
	{ "{'type':'string','minLength':3,'maxLength':2}", "othing fits" },
	{ "{'type':'array','minItems':3,'maxItems':2}", "othing fits" },
	{ "{'additionalProperties':false,'required':['a']}", "othing fits" },
	{ "{'allOf':[{'pattern':'a'},{'pattern':'b'}]}", "/pattern" },
	{ "{'type':'integer','enum':[1,2],'minimum':2}", "enum" },
	{ "{'items':[{'type':'integer'}]}", "/items" },
	{ "{'required':'a'}", "/required" },
	{ "{'unheard':1}", "/unheard" },
};

static void what_is_not_supported_is_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		struct constraint *c = NULL;
		const struct grammar *g;
		struct err e = { 0 };

		if (constrain(refused[i].schema, &c, &g, &e) == 0)
			fail_msg("%s is taken", refused[i].schema);
		assert_int_equal(e.code, SINK_EINVAL);
		if (!strstr(e.text, refused[i].place))
			fail_msg("%s: %s", refused[i].schema, e.text);
		constraint_drop(c);
	}
}

/* ---- walks ---- */

static uint32_t roll(uint64_t *seed)
{
	*seed = *seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
	return (uint32_t)(*seed >> 33);
}

/* Picks at random within `left` tokens until the end; the text. */
static void walk(const struct grammar *g, int64_t more, uint64_t seed, char *text, size_t room)
{
	struct guide *q;
	size_t len = 0;
	int64_t left;

	assert_int_equal(guide_new(g, trie, &q, NULL), 0);
	for (left = guide_least(q) + more; left > 0 && !guide_is_closed(q); left--) {
		struct gguf_str piece;
		struct mask m;
		int32_t id = -1;
		size_t nth;

		guide_look(q);
		assert_int_equal(guide_mask(q, left, &m, NULL), 0);
		assert_true(m.count > 0);
		nth = roll(&seed) % m.count;
		do
			id++;
		while (!(m.bits[id / 64] >> id % 64 & 1) || nth--);
		if (vocab_is_end(vocab, id))
			break;
		assert_int_equal(guide_take(q, id, NULL), 0);
		piece = vocab_piece(vocab, id, false);
		assert_true(len + piece.len < room);
		memcpy(text + len, piece.at, piece.len);
		len += piece.len;
	}
	text[len] = '\0';
	assert_true(guide_is_complete(q));
	guide_free(q);
}

static void every_walk_is_a_value(void **state)
{
	static char text[1 << 16];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct grammar *g;
		struct constraint *c;

		assert_int_equal(constrain(cases[i].schema, &c, &g, NULL), 0);
		for (uint64_t seed = 0; seed < 8; seed++) {
			walk(g, (int64_t)seed * 9, seed, text, sizeof(text));
			assert_true(strlen(text) > 0);
		}
		constraint_drop(c);
	}
}

/* ---- limits ---- */

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Text between two others, so many times, %d being the number. */
static char *many(const char *first, const char *each, int count, const char *last)
{
	const size_t room = strlen(first) + (strlen(each) + 32) * (size_t)count + strlen(last) + 1;
	char *r = malloc(room), number[16];
	size_t len = (size_t)snprintf(r, room, "%s", first);

	for (int i = 0; i < count; i++) {
		snprintf(number, sizeof(number), "%d", i);
		for (const char *p = each; *p; p++)
			len += (size_t)snprintf(r + len, room - len, *p == '#' ? "%s" : "%.1s", *p == '#' ? number : p);
	}
	snprintf(r + len, room - len, "%s", last);
	return r;
}

static double slowest_mask(struct guide *q, int tokens)
{
	uint64_t seed = 1;
	double most = 0;

	for (int i = 0; i < tokens && !guide_is_closed(q); i++) {
		const double began = seconds();
		struct mask m;
		int32_t id = -1;
		size_t nth;

		guide_look(q);
		assert_int_equal(guide_mask(q, 20000, &m, NULL), 0);
		most = seconds() - began > most ? seconds() - began : most;
		assert_true(m.count > 0);
		nth = roll(&seed) % m.count;
		do
			id++;
		while (!(m.bits[id / 64] >> id % 64 & 1) || nth--);
		if (vocab_is_end(vocab, id) || guide_take(q, id, NULL) < 0)
			break;
	}
	return most;
}

static void hostile_schemas_end_soon(void **state)
{
	char *const bad[] = {
		many("{'enum':[", "'value number #',", 2500, "0]}"),
		many("{'anyOf':[", "{'type':'object','properties':{'a':{'type':'string'}}},", 64, "true]}"),
		many("{'anyOf':[", "{'type':'array','items':{'$ref':'!'}},", 60, "{'type':'null'}]}"),
		many("{'type':'object','properties':{", "'name #':{'type':'string','maxLength':60000},", 120, "}}"),
		many("{'type':'object','properties':{", "'p#':{'minimum':-1234567.25,'maximum':7654321.5},", 120, "}}"),
		many("{'properties':{", "'#':{'format':'email'},", 120, "},'additionalProperties':true}"),
		many("", "{'properties':{'a':", 13, "true"),
		many("{'type':'string','pattern':'", "(a|b|[c-z]{1,300})*", 600, "'}"),
		many("{'type':'array','minItems':60000,'items':", "", 0, "{'type':'array','minItems':60000}}"),
		many("{'$ref':'#/$defs/d0','$defs':{",
		     "'d#':{'type':'array','items':{'anyOf':[{'$ref':'#/$defs/d1'},"
		     "{'$ref':'#/$defs/d2'},{'type':'null'}]}},",
		     100, "}}"),
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		char *close = malloc(strlen(bad[i]) + 64), *at = close;
		const struct grammar *g;
		struct constraint *c = NULL;
		struct guide *q = NULL;
		struct err e = { 0 };
		double began;
		int rc;

		at += snprintf(close, strlen(bad[i]) + 64, "%s", bad[i]);
		for (int n = 0; i == 6 && n < 26; n++)
			*at++ = '}';
		*at = '\0';
		for (char *p = close; (p = strchr(p, '!'));)
			*p = '#';
		began = seconds();
		rc = constrain(close, &c, &g, &e);
		if (rc == 0)
			rc = guide_new(g, trie, &q, &e);
		if (seconds() - began > 0.5) /* 0.1 where nothing else runs */
			fail_msg("%zu took %.0f ms", i, (seconds() - began) * 1e3);
		if (rc == 0 && slowest_mask(q, 60) > 1)
			fail_msg("%zu: a mask took too long", i);
		guide_free(q);
		constraint_drop(c);
		free(close);
		free(bad[i]);
	}
}

/* A schema of so many lists in each other, around `inner`. */
static char *nested(const char *inner)
{
	char *s = many("", "{'items':", CONSTRAINT_DEPTH, inner);
	size_t len = strlen(s);

	s = realloc(s, len + CONSTRAINT_DEPTH + 1);
	memset(s + len, '}', CONSTRAINT_DEPTH);
	s[len + CONSTRAINT_DEPTH] = '\0';
	return s;
}

static void one_constraint_is_bounded(void **state)
{
	struct constraint *c = NULL;
	const struct grammar *g;
	struct err e = { 0 };
	char *schema = many("{'enum':[", "'a value that is rather long, number #',", 2000, "0]}");

	(void)state;
	assert_int_equal(constrain(schema, &c, &g, &e), SINK_EINVAL);
	assert_non_null(strstr(e.text, "65536"));
	free(schema);
	schema = nested("true");
	assert_int_equal(constrain(schema, &c, &g, &e), 0);
	constraint_drop(c);
	free(schema);
	schema = nested("{}");
	assert_int_equal(constrain(schema, &c, &g, &e), SINK_EINVAL);
	free(schema);
}

/* What is written comes back, and shares are counted. */
static void a_constraint_is_kept_as_it_came(void **state)
{
	struct constraint *c, *again;
	const struct grammar *g;
	const void *frame;
	struct out *o;
	struct msg *m;
	bool given;
	size_t size;

	(void)state;
	assert_int_equal(
		constrain("{'type':'object','properties':{'z':{'const':1},'a':{'const':2}},'required':['z','a']}", &c,
			  &g, NULL),
		0);
	assert_ptr_equal(constraint_hold(c), c);
	constraint_drop(c);
	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	constraint_write(c, o);
	out_end(o);
	frame = out_data(o, &size);
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	assert_int_equal(constraint_read(msg_root(m), &again, &given, NULL), 0);
	assert_true(given);
	constraint_drop(c);
	assert_int_equal(constraint_grammar(again, &g, NULL), 0);
	assert_true(accepts(g, "{'z': 1, 'a': 2}"));
	constraint_drop(again);
	msg_free(m);
	out_free(o);
}

static void read_field(const char *key, const char *value, const char *other, int rc, bool something)
{
	struct constraint *c;
	struct out *o;
	struct msg *m;
	size_t size;
	bool given;
	const void *frame;

	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	put(o, key, value);
	if (other)
		put(o, other, "'x'");
	out_end(o);
	frame = out_data(o, &size);
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	assert_int_equal(constraint_read(msg_root(m), &c, &given, NULL), rc);
	assert_int_equal(!!c, something);
	constraint_drop(c);
	msg_free(m);
	out_free(o);
}

static void fields_have_their_types(void **state)
{
	(void)state;
	read_field("schema", "'x'", NULL, SINK_EINVAL, false);
	read_field("schema", "[1]", NULL, SINK_EINVAL, false);
	read_field("schema", "{}", "regex", SINK_EINVAL, false);
	read_field("regex", "3", NULL, SINK_EINVAL, false);
	read_field("regex", "''", NULL, 0, false);
	read_field("regex", "'a'", NULL, 0, true);
	read_field("regex", "nil", NULL, 0, false);
	read_field("other", "1", NULL, 0, false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_fit_as_the_schema_says), cmocka_unit_test(what_is_not_supported_is_named),
		cmocka_unit_test(every_walk_is_a_value),	 cmocka_unit_test(hostile_schemas_end_soon),
		cmocka_unit_test(one_constraint_is_bounded),	 cmocka_unit_test(a_constraint_is_kept_as_it_came),
		cmocka_unit_test(fields_have_their_types),
	};

	return cmocka_run_group_tests(tests, make_vocabulary, free_vocabulary);
}
