/*
 * jinja.c: where the bytes of the output come from, what errors say, and that hostile templates end soon. That the
 * texts are those of jinja2 is tests/golden/test_templates.c's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include <cmocka.h>

#include "jinja.h"

/* Runs a template over one message of a user. The output has '#' for each byte of the message. */
static int run(const char *template, const char *text, char *to, size_t room, struct err *e)
{
	const struct jinja_message m = { "user", text, strlen(text), 1 };
	struct jinja_call c = { .message = &m, .messages = 1, .bos = "<s>", .eos = "</s>" };
	struct jinja *j = NULL;
	struct jinja_output o;
	int code = jinja_new(template, strlen(template), &j, e);

	if (code)
		return code;
	code = jinja_render(j, &c, &o, e);
	for (size_t i = 0; !code && to && i <= o.len && i < room; i++)
		to[i] = i < o.len && o.origin[i] ? '#' : o.at[i];
	if (!code)
		jinja_output_release(&o);
	jinja_free(j);
	return code;
}

static void bytes_know_where_they_come_from(void **state)
{
	static const struct {
		const char *template, *text, *should;
	} cases[] = {
		{ "{{ '<|' + messages[0].role + '|>' + messages[0].content + eos_token }}", "</s>",
		  "<|user|>####</s>" },
		{ "{{ messages[0].content | trim }}.", "  ab ", "##." },
		{ "{{ messages[0].content.strip('x') ~ '|' ~ messages[0]['content'][1:] }}", "xab", "##|##" },
		{ "{{ messages[0].content | upper | replace('A', '<a>') }}", "abab", "<a>#<a>#" },
		{ "{{ ['<b>', messages[0].content] | join(',') }}", "<b>", "<b>,###" },
		{ "{{ messages[0].content.split('</t>')[-1] }}{{ messages[0].content[::-1] }}", "a</t>b", "#######" },
		{ "{{ messages[0].content | tojson }}{{ [messages[0].content] }}", "a\n", "\"###\"['###']" },
		{ "{% set c %}[{{ messages[0].content }}]{% endset %}{{ c }}", "ab", "[##]" },
		{ "{% macro m(x) %}({{ x }}){% endmacro %}{{ m(messages[0].content) * 2 }}", "a", "(#)(#)" },
		{ "{{ messages[0] }}", "a", "{'role': 'user', 'content': '#'}" },
		{ "{{ '%s' if messages[0].content == '%s' }}{{ messages[0].content | length }}", "%s", "%s2" },
		{ "{% for c in messages[0].content %}{{ c }}-{% endfor %}", "\xc3\xa9z", "##-#-" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = { 0 };
		char got[200];

		if (run(cases[i].template, cases[i].text, got, sizeof(got), &e))
			fail_msg("%s: %s", cases[i].template, e.text);
		assert_string_equal(got, cases[i].should);
	}
}

static void errors_say_what_and_where(void **state)
{
	static const struct {
		const char *template;
		int code;
		const char *says;
	} cases[] = {
		{ "\n{% import 'x' as y %}", SINK_EFORMAT,
		  "line 2: The statement \"import\" is outside of what is known" },
		{ "{% include 'x' %}", SINK_EFORMAT, "\"include\"" },
		{ "{{ x | urlencode }}", SINK_EFORMAT, "The filter \"urlencode\" is outside" },
		{ "{{ x is sameas y }}", SINK_EFORMAT, "The test \"sameas\" is outside" },
		{ "{{ lipsum() }}", SINK_EFORMAT, "\"lipsum\" is undefined" },
		{ "{{ 2 ** 3 }}", SINK_EFORMAT, "\"**\" is outside" },
		{ "{% for x in y recursive %}{% endfor %}", SINK_EFORMAT, "recursive loop" },
		{ "{% if x %}", SINK_EFORMAT, "{% elif %} is missing" },
		{ "{% break %}", SINK_EFORMAT, "no loop" },
		{ "{{ 'a", SINK_EFORMAT, "A text has no end" },
		{ "{{ a", SINK_EFORMAT, "A tag has no end" },
		{ "{# a", SINK_EFORMAT, "A comment has no end" },
		{ "{{ ) }}", SINK_EFORMAT, "closes nothing" },
		{ "{{ '\\ud800' }}", SINK_EFORMAT, "no character" },
		{ "{{ a.b.c }}", SINK_EFORMAT, "\"a\" is undefined" },
		{ "{{ 'a' + 1 }}", SINK_EFORMAT, "\"+\" does not take values of types str and int" },
		{ "{{ 1 // 0 }}", SINK_EFORMAT, "divides by zero" },
		{ "{{ 9223372036854775807 + 1 }}", SINK_EFORMAT, "too large" },
		{ "{{ [].append(1) }}", SINK_EFORMAT, "\"append\" is undefined" },
		{ "{{ messages[0].update({}) }}", SINK_EFORMAT, "\"update\" is undefined" },
		{ "{{ raise_exception('no ' ~ 1) }}", SINK_EINVAL, "It refuses the conversation: no 1" },
		{ "{{ strftime_now('%Y') }}", SINK_EFORMAT, "\"strftime_now\" is undefined" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct err e = { 0 };

		assert_int_equal(run(cases[i].template, "x", NULL, 0, &e), cases[i].code);
		if (!strstr(e.text, cases[i].says))
			fail_msg("%s: %s", cases[i].template, e.text);
	}
}

/* ---- hostile templates ---- */

static char *repeated(const char *begin, const char *part, int times, const char *end)
{
	char *s = malloc(strlen(begin) + strlen(part) * (size_t)times + strlen(end) + 1), *to = s;

	to = stpcpy(to, begin);
	while (times-- > 0)
		to = stpcpy(to, part);
	strcpy(to, end);
	return s;
}

static long peak_kb(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return u.ru_maxrss;
}

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Under a sanitizer, whose time and memory are not the template's. */
static bool is_slowed(void)
{
	return getenv("SINKD_SLOW") != NULL;
}

/* Each ends in an error within 100 ms, and all with 16 MiB at most. */
static void expect_end(const char *template)
{
	struct err e = { 0 };
	double begin = seconds(), took;
	int code = run(template, "x", NULL, 0, &e);

	took = seconds() - begin;
	if (!code)
		fail_msg("%.60s... ended without an error", template);
	print_message("%5.1f ms %.60s: %s\n", took * 1e3, template, e.text);
#ifdef __OPTIMIZE__
	assert_true(took < 0.1 || is_slowed());
#endif
}

static void hostile_templates_end(void **state)
{
	static const char *const templates[] = {
		"{% for a in range(1000000000) %}{% endfor %}",
		"{% for a in range(9000) %}{% for b in range(9000) %}{% for c in range(9000) %}{% endfor %}"
		"{% endfor %}{% endfor %}",
		"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
		"{% macro f(n) %}{{ f(n + 1) }}{{ f(n + 1) }}{% endmacro %}{{ f(0) }}",
		"{{ 'x' * 1000000000000 }}",
		"{{ ['x'] * 1000000000000 }}",
		"{{ 'x' * 9223372036854775807 }}",
		"{% set ns = namespace(s='xxxxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}"
		"{% endfor %}",
		"{% set ns = namespace(s='x') %}{% for i in range(900000) %}"
		"{% set ns.s = ns.s ~ 'xxxxxxxxxxxxxxxx' %}{% endfor %}",
		"{% set ns = namespace(l=[]) %}{% for i in range(900000) %}{% set ns.l = [ns.l] %}"
		"{% endfor %}{{ ns.l }}",
		"{% set ns = namespace(l=[]) %}{% for i in range(400) %}{% set ns.l = [ns.l, ns.l] %}"
		"{% endfor %}{{ ns.l }}",
		"{% set ns = namespace(l=[]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}"
		"{% endfor %}{{ ns.l == ns.l }}",
		"{% set ns = namespace(l=1) %}{% for i in range(30) %}{% set ns.l = [ns.l, ns.l] %}"
		"{% endfor %}{{ ns.l | tojson }}",
		"{% for i in range(100000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
		"{% set s = 'a' * 500000 %}{% for i in range(100000) %}{{ 'b' in s }}{% endfor %}",
		"{% set s = 'a' * 500000 %}{% for i in range(100000) %}{{ s | length }}{% endfor %}",
		"{% set s = ' ' * 500000 %}{% for i in range(100000) %}{{ s | trim }}{% endfor %}",
		"{% set s = 'a' * 500000 %}{% for i in range(100000) %}{{ s == s + '' }}{% endfor %}",
		"{% set s = 'a' * 400000 %}{{ s.replace('a', s) }}",
		"{{ ('a' * 500000).replace('', 'bbbbbbbbbbbbbbbbbbbbbbbb') }}",
		"{{ ('a ' * 200000).split() | sort | unique | list | length }}"
		"{{ range(300000) | map('string') | unique | list }}",
		"{{ 1 | tojson(indent=1000000000) }}{{ [1] | tojson(indent=1000000000) }}",
		"{{ 'a' | indent(1000000000, true) }}",
		"{{ ''.__class__.__mro__[1].__subclasses__() }}",
		"{{ messages.__init__.__globals__ }}",
		"{{ raise_exception.__globals__['os'] }}",
		"{{ self._TemplateReference__context }}",
		"{{ range(10 ** 9) }}",
		"{{ '{}'.format() }}{{ '{0.__class__}'.format('') }}",
		"{% set d = namespace(d={}) %}{% for i in range(9000) %}"
		"{% set d.d = dict(d.d, **{i | string: i}) %}{% endfor %}",
	};
	long before = peak_kb();

	(void)state;
	for (size_t i = 0; i < sizeof(templates) / sizeof(templates[0]); i++)
		expect_end(templates[i]);
	print_message("%ld kB more at most\n", peak_kb() - before);
	assert_true(peak_kb() - before <= 16 << 10 || is_slowed());
}

static void deep_templates_end(void **state)
{
	static const struct {
		const char *begin, *part;
		int times;
		const char *end;
	} cases[] = {
		{ "{{ ", "(", 100000, "" },
		{ "{{ ", "[", 100000, "" },
		{ "{{ ", "{1:", 50000, "" },
		{ "{{ ", "-", 100000, "1 }}" },
		{ "{{ ", "not ", 50000, "1 }}" },
		{ "{{ 1", " + 1", 50000, " }}" },
		{ "{{ x", ".a", 100000, " }}" },
		{ "{{ x", "[0]", 80000, " }}" },
		{ "{{ 'x'", " | trim", 30000, " }}" },
		{ "{{ 1", " if 1 else 1", 20000, " }}" },
		{ "{{ x", "()", 100000, " }}" },
		{ "", "{% if 1 %}", 20000, "" },
		{ "", "{% for a in 'x' %}", 10000, "" },
		{ "{% for ", "(", 100000, " %}" },
		{ "", "{{ a }}", 30000, "" },
		{ "{{ ", "a,", 100000, " }}" },
		{ "", "{%- set x = [[[[[[[[[[[[]]]]]]]]]]]] -%}", 6000, "" },
		{ "{{ a(", "b=1,", 50000, ") }}" },
		{ "", "x", 300000, "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *s = repeated(cases[i].begin, cases[i].part, cases[i].times, cases[i].end);

		expect_end(s);
		free(s);
	}
}

static void limits_are_the_callers(void **state)
{
	static const struct jinja_limits few = { .steps = 50 }, small = { .bytes = 20000 }, brief = { .output = 5 };
	const struct jinja_limits *limits[] = { &few, &small, &brief };
	static const char *const says[] = { "more than 50 steps", "more than 20000 bytes of memory",
					    "more than 5 bytes" };
	static const char template[] = "{% for i in range(300) %}{{ 'abc' ~ i }}{% endfor %}";
	struct jinja *j = NULL;

	(void)state;
	assert_int_equal(jinja_new(template, strlen(template), &j, NULL), 0);
	for (int i = 0; i < 3; i++) {
		struct jinja_call c = { .limits = limits[i] };
		struct jinja_output o;
		struct err e;

		assert_int_equal(jinja_render(j, &c, &o, &e), SINK_EBUSY);
		assert_non_null(strstr(e.text, says[i]));
		assert_null(o.at);
	}
	jinja_free(j);
}

static void long_messages_fit(void **state)
{
	size_t len = 3 << 20;
	char *text = malloc(len);
	const struct jinja_message m = { "user", text, len, 1 };
	struct jinja_call c = { .message = &m, .messages = 1 };
	static const char template[] = "{% for m in messages %}{{ '<' + m.content | trim + '>' }}{% endfor %}";
	struct jinja_output o;
	struct jinja *j = NULL;

	(void)state;
	memset(text, 'a', len);
	assert_int_equal(jinja_new(template, strlen(template), &j, NULL), 0);
	assert_int_equal(jinja_render(j, &c, &o, NULL), 0);
	assert_int_equal(o.len, len + 2);
	jinja_output_release(&o);
	jinja_free(j);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hostile_templates_end), /* first, while the process is small */
		cmocka_unit_test(deep_templates_end),	     cmocka_unit_test(bytes_know_where_they_come_from),
		cmocka_unit_test(errors_say_what_and_where), cmocka_unit_test(limits_are_the_callers),
		cmocka_unit_test(long_messages_fit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
