/*
 * What libsink's callers write and read: arguments, paths, JSON, and which daemon they reach. Replies come from the
 * daemon of the tests, which repeats what it was sent.
 */
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_daemon.h"
#include "sink.h"
#include "sink_code.h"

enum { WAIT = 20000 };

static char directory[] = "/tmp/sink-test-XXXXXX";
static char endpoint[100], vacant[100]; /* of the daemon; where there is none */
static struct fake *fake;
static struct sink *sink;

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct sink_reply *echo(struct sink_args *a)
{
	struct sink_reply *r = sink_call(sink, "echo", a, WAIT);

	assert_non_null(r);
	return r;
}

static void paths_lead_to_values(void **state)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	size_t len;

	(void)state;
	sink_args_map(a, "m");
	sink_args_array(a, "list");
	sink_args_str(a, NULL, "zero");
	sink_args_map(a, NULL);
	sink_args_int(a, "n", -5);
	sink_args_str(a, "none", NULL);
	sink_args_end(a);
	sink_args_end(a);
	sink_args_end(a);
	r = echo(a);
	assert_string_equal(sink_str(r, "request.m.list.0", &len), "zero");
	assert_int_equal(len, 4);
	assert_int_equal(sink_int(r, "request.m.list.1.n", 0), -5);
	assert_true(sink_float(r, "request.m.list.1.n", 0) == -5);
	assert_int_equal(sink_count(r, "request.m.list"), 2);
	assert_int_equal(sink_count(r, "request.m"), 1);
	assert_false(sink_has(r, "request.m.list.1.none"));
	assert_true(sink_has(r, "request.m.list.1"));
	sink_reply_free(r);
}

static void paths_that_lead_nowhere_give_the_default(void **state)
{
	static const char *const nowhere[] = { "",
					       ".",
					       "request.",
					       "request..op",
					       "nothing",
					       "request.op.x",
					       "request.list.-1",
					       "request.list.1",
					       "request.list.x",
					       "request.list.00000000000000000000000",
					       "request.list." };
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;

	(void)state;
	sink_args_array(a, "list");
	sink_args_int(a, NULL, 1);
	sink_args_end(a);
	r = echo(a);
	for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		assert_int_equal(sink_int(r, nowhere[i], 77), 77);
		assert_false(sink_has(r, nowhere[i]));
		assert_null(sink_str(r, nowhere[i], NULL));
		assert_int_equal(sink_count(r, nowhere[i]), 0);
	}
	assert_int_equal(sink_int(NULL, "request", 77), 77);
	sink_reply_free(r);
	sink_reply_free(NULL);
}

/* The JSON of {request: {KEY: …, op: "echo", id: N}} up to `op`. */
static void expect_json(struct sink_args *a, const char *wanted)
{
	struct sink_reply *r = echo(a);
	char *json = sink_json(r), *end;

	assert_non_null(json);
	end = strstr(json, ",\"op\":\"echo\",\"id\":");
	assert_non_null(end);
	*end = '\0';
	assert_int_equal(strncmp(json, "{\"request\":{", 12), 0);
	assert_string_equal(json + 12, wanted);
	free(json);
	sink_reply_free(r);
}

static void every_type_has_its_json(void **state)
{
	struct sink_args *a = sink_args_new();

	(void)state;
	sink_args_str(a, "s", "a\"b\\c\n\t\r\b\f\x01\x1f/\x7f \xe2\x82\xac");
	sink_args_strn(a, "z", "a\0b", 3);
	sink_args_int(a, "i", INT64_MIN);
	sink_args_bool(a, "t", true);
	sink_args_bool(a, "f", false);
	sink_args_str(a, "n", NULL);
	sink_args_map(a, "empty");
	sink_args_end(a);
	sink_args_array(a, "list");
	sink_args_end(a);
	expect_json(a, "\"s\":\"a\\\"b\\\\c\\n\\t\\r\\b\\f\\u0001\\u001f/\x7f \xe2\x82\xac\",\"z\":\"a\\u0000b\","
		       "\"i\":-9223372036854775808,\"t\":true,\"f\":false,\"n\":null,\"empty\":{},\"list\":[]");
}

/* What comes out again is what went in, keys in their order. */
static void json_text_becomes_a_value(void **state)
{
	static const char *const same[] = {
		"{\"b\":1,\"a\":[true,false,null,-5,2.5,\"x\\u0000y\"],\"\":{}}",
		"[]",
		"\"word\"",
		"7",
		"-0.125",
		"[[[[[[[[[[[[1]]]]]]]]]]]]",
	};
	struct sink_args *a;
	char wanted[200];

	(void)state;
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		a = sink_args_new();
		assert_true(sink_args_json(a, "v", same[i], strlen(same[i])));
		snprintf(wanted, sizeof(wanted), "\"v\":%s", same[i]);
		expect_json(a, wanted);
	}
}

static void text_that_is_no_json_adds_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		"{",
		"{\"a\":1,}",
		"{\"a\":1} x",
		"{\"a\":1,\"a\":2}",
		"nul",
		"\"\xff\"",
		"1e999",
		"99999999999999999999",
		"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]",
		"{\"a\\u0000\":1}",
	};
	struct sink_args *a = sink_args_new();

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(sink_args_json(a, "v", bad[i], strlen(bad[i])));
		assert_int_equal(sink_error(NULL), SINK_EINVAL);
	}
	assert_false(sink_args_json(a, "v", "1\0", 2));
	assert_true(sink_args_json(a, "v", "1x", 1));
	assert_int_equal(sink_error(NULL), 0);
	expect_json(a, "\"v\":1");
}

static void bytes_come_back_as_they_were(void **state)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	const char *bytes;
	char *json;
	size_t size = 77;

	(void)state;
	sink_args_bin(a, "data", "\xff\0\x80z", 4);
	sink_args_bin(a, "none", NULL, 0);
	sink_args_str(a, "text", "z");
	r = echo(a);
	bytes = sink_bin(r, "request.data", &size);
	assert_int_equal(size, 4);
	assert_memory_equal(bytes, "\xff\0\x80z", 4);
	assert_non_null(sink_bin(r, "request.none", &size));
	assert_int_equal(size, 0);
	assert_null(sink_bin(r, "request.text", NULL));
	assert_null(sink_bin(r, "request.nothing", NULL));
	json = sink_json(r);
	assert_non_null(strstr(json, "\"data\":\"/wCAeg==\",\"none\":\"\""));
	free(json);
	sink_reply_free(r);
}

static void numbers_read_back_as_they_were(void **state)
{
	static const double numbers[] = { 0.1,	1.0 / 3, 1e300, 5e-324, 1.7976931348623157e308, -2.5, 123456789.123,
					  1e15, 1e16,	 0.0,	3 };
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	char *json, *at;

	(void)state;
	sink_args_array(a, "x");
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sink_args_float(a, NULL, numbers[i]);
	sink_args_end(a);
	r = echo(a);
	json = sink_json(r);
	at = strchr(json, '[');
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		assert_true(strtod(at + 1, &at) == numbers[i]);
	assert_int_equal(*at, ']');
	assert_non_null(strstr(json, "[0.1,"));
	assert_non_null(strstr(json, ",3.0]"));
	free(json);
	sink_reply_free(r);
	a = sink_args_new();
	sink_args_float(a, "nan", NAN);
	sink_args_float(a, "inf", INFINITY);
	expect_json(a, "\"nan\":null,\"inf\":null");
}

static void a_language_changes_no_json(void **state)
{
	static const char *const languages[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "fr_FR" };
	struct sink_args *a;
	bool found = false;

	(void)state;
	for (size_t i = 0; !found && i < sizeof(languages) / sizeof(languages[0]); i++)
		found = setlocale(LC_ALL, languages[i]) != NULL;
	if (!found)
		skip();
	a = sink_args_new();
	sink_args_float(a, "x", 0.5);
	expect_json(a, "\"x\":0.5");
	setlocale(LC_ALL, "C");
}

static void expect_endpoint(const char *given, const char *wanted)
{
	char at[200];

	assert_int_equal(sink_endpoint(given, at, sizeof(at)), 0);
	assert_string_equal(at, wanted);
}

static void what_is_given_comes_before_the_environment(void **state)
{
	char wanted[200];

	(void)state;
	setenv("XDG_RUNTIME_DIR", directory, 1);
	snprintf(wanted, sizeof(wanted), "ipc://%s/sinkd/sinkd.sock", directory);
	expect_endpoint(NULL, access("/run/sinkd/sinkd.sock", F_OK) == 0 ? "ipc:///run/sinkd/sinkd.sock" : wanted);
	setenv("SINK_HOST", "tcp://sea:5555", 1);
	expect_endpoint(NULL, "tcp://sea:5555");
	expect_endpoint("", "tcp://sea:5555");
	expect_endpoint("ipc://@abstract", "ipc://@abstract");
	expect_endpoint("/a/sock", "ipc:///a/sock");
	setenv("SINK_HOST", "/b/sock", 1);
	expect_endpoint(NULL, "ipc:///b/sock");
	unsetenv("SINK_HOST");
	unsetenv("XDG_RUNTIME_DIR");
}

static void an_endpoint_that_cannot_be_is_refused(void **state)
{
	char at[300], path[140] = "/";

	(void)state;
	assert_int_equal(sink_endpoint("localhost", at, sizeof(at)), SINK_EINVAL);
	assert_non_null(strstr(sink_error_text(NULL), "localhost"));
	assert_int_equal(sink_endpoint("inproc://x", at, sizeof(at)), SINK_EINVAL);
	assert_int_equal(sink_endpoint("tcp://sea:5555", at, 14), SINK_EINVAL);
	assert_int_equal(sink_endpoint("tcp://sea:5555", at, 15), 0);
	memset(path + 1, 'x', 106);
	assert_int_equal(sink_endpoint(path, at, sizeof(at)), 0);
	path[107] = 'x';
	assert_int_equal(sink_endpoint(path, at, sizeof(at)), SINK_EINVAL);
	assert_non_null(strstr(sink_error_text(NULL), "107"));
}

static void a_call_carries_its_arguments(void **state)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;
	size_t len;

	(void)state;
	sink_args_int(a, "n", INT64_MIN);
	sink_args_map(a, "m");
	sink_args_float(a, "x", 0.5);
	sink_args_array(a, "list");
	sink_args_bool(a, NULL, true);
	sink_args_strn(a, NULL, "a\0b", 3);
	sink_args_end(a);
	sink_args_end(a);
	r = sink_call(sink, "echo", a, WAIT);
	assert_non_null(r);
	assert_string_equal(sink_str(r, "request.op", NULL), "echo");
	assert_true(sink_int(r, "request.n", 0) == INT64_MIN);
	assert_true(sink_float(r, "request.m.x", 0) == 0.5);
	assert_true(sink_bool(r, "request.m.list.0", false));
	assert_memory_equal(sink_str(r, "request.m.list.1", &len), "a\0b", 4);
	assert_int_equal(len, 3);
	sink_reply_free(r);
}

static void an_error_comes_with_code_and_text(void **state)
{

	(void)state;
	assert_null(sink_call(sink, "dance", NULL, WAIT));
	assert_int_equal(sink_error(sink), SINK_EPROTO);
	assert_string_equal(sink_error_text(sink), "There is no such verb.");
	sink_reply_free(sink_call(sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(sink), 0);
}

static void arguments_that_are_wrong_never_leave(void **state)
{
	struct sink_args *a = sink_args_new();
	char *big = calloc(1, 100001);

	(void)state;
	sink_args_map(a, "open");
	assert_null(sink_call(sink, "echo", a, WAIT));
	assert_int_equal(sink_error(sink), SINK_EINVAL);
	a = sink_args_new();
	sink_args_int(a, "id", 7);
	assert_null(sink_call(sink, "echo", a, WAIT));
	assert_int_equal(sink_error(sink), SINK_EINVAL);
	a = sink_args_new();
	sink_args_end(a);
	assert_null(sink_call(sink, "echo", a, WAIT));
	assert_int_equal(sink_error(sink), SINK_EINVAL);
	a = sink_args_new();
	sink_args_strn(a, "text", big, 100001);
	assert_null(sink_call(sink, "echo", a, WAIT));
	assert_int_equal(sink_error(sink), SINK_EINVAL);
	assert_non_null(strstr(sink_error_text(sink), "100000"));
	free(big);
	sink_reply_free(sink_call(sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(sink), 0);
}

static void a_daemon_that_ends_is_not_what_a_call_waits_for(void **state)
{
	int before = fake_knobs(fake)->lists;
	struct sink_reply *ev;

	(void)state;
	fake_knobs(fake)->stopping = true;
	sink_reply_free(sink_call(sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(sink), 0);
	assert_int_equal(fake_knobs(fake)->lists - before, 2);
	ev = sink_event(sink, 0);
	assert_string_equal(sink_str(ev, "ev", NULL), "bye");
	sink_reply_free(ev);
}

static void nobody_there_is_known_at_once(void **state)
{
	int64_t began = now_ms();

	(void)state;
	assert_null(sink_open(vacant, "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_ECONN);
	assert_non_null(strstr(sink_error_text(NULL), "No such file"));
	assert_null(sink_open("tcp://127.0.0.1:1", "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_ECONN);
	assert_true(now_ms() - began < WAIT / 4);
	assert_null(sink_open("http://localhost", "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_EINVAL);
}

static void a_stale_socket_is_nobody(void **state)
{
	struct fake *f = fake_start(vacant);
	char path[120], aside[130];

	(void)state;
	snprintf(path, sizeof(path), "%s", vacant + strlen("ipc://"));
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(rename(path, aside), 0); /* so that the daemon cannot clean it away */
	fake_stop(f);
	assert_int_equal(rename(aside, path), 0);
	assert_null(sink_open(vacant, "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_ECONN);
	assert_non_null(strstr(sink_error_text(NULL), "refused"));
	unlink(path);
}

static void the_small_answers(void **state)
{
	(void)state;
	assert_string_equal(sink_error_name(SINK_EGONE), "egone");
	assert_string_equal(sink_error_name(-99), "unknown");
	assert_non_null(sink_version());
	sink_close(NULL);
	sink_args_free(NULL);
}

static int set_up(void **state)
{
	(void)state;
	fake = fake_start(endpoint);
	sink = sink_open(endpoint, "test", WAIT);
	return sink ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	sink_close(sink);
	fake_stop(fake);
	if (rmdir(directory))
		perror(directory);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_lead_to_values),
		cmocka_unit_test(paths_that_lead_nowhere_give_the_default),
		cmocka_unit_test(every_type_has_its_json),
		cmocka_unit_test(json_text_becomes_a_value),
		cmocka_unit_test(text_that_is_no_json_adds_nothing),
		cmocka_unit_test(bytes_come_back_as_they_were),
		cmocka_unit_test(numbers_read_back_as_they_were),
		cmocka_unit_test(a_language_changes_no_json),
		cmocka_unit_test(what_is_given_comes_before_the_environment),
		cmocka_unit_test(an_endpoint_that_cannot_be_is_refused),
		cmocka_unit_test(a_call_carries_its_arguments),
		cmocka_unit_test(an_error_comes_with_code_and_text),
		cmocka_unit_test(arguments_that_are_wrong_never_leave),
		cmocka_unit_test(a_daemon_that_ends_is_not_what_a_call_waits_for),
		cmocka_unit_test(nobody_there_is_known_at_once),
		cmocka_unit_test(a_stale_socket_is_nobody),
		cmocka_unit_test(the_small_answers),
	};

	if (!mkdtemp(directory))
		return 1;
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/sock", directory);
	snprintf(vacant, sizeof(vacant), "ipc://%s/vacant", directory);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
