/*
 * libsink's calls that nobody waits for: sink_begin() against the small daemon of the tests. There is one reply for
 * each number, in its place among the events, whatever happens to the connection.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_daemon.h"
#include "sink.h"
#include "sink_code.h"

enum { WAIT = 20000 }; /* ms; long, since a test machine may be busy */

static char directory[] = "/tmp/sink-test-XXXXXX";
static char endpoint[100];

struct scene {
	struct fake *daemon;
	struct fake_knobs *knobs;
	struct sink *sink;
};

static int open_scene(void **state)
{
	struct scene *t = calloc(1, sizeof(*t));

	if (!t)
		return -1;
	t->daemon = fake_start(endpoint);
	t->knobs = fake_knobs(t->daemon);
	t->sink = sink_open(endpoint, "test", WAIT);
	*state = t;
	return t->sink ? 0 : -1;
}

static int close_scene(void **state)
{
	struct scene *t = *state;

	sink_close(t->sink);
	fake_stop(t->daemon);
	free(t);
	return 0;
}

static int64_t begin(struct sink *s, const char *op)
{
	int64_t number = sink_begin(s, op, NULL, WAIT);

	assert_true(number > 0);
	return number;
}

static int64_t begin_say(struct sink *s)
{
	struct sink_args *a = sink_args_new();
	int64_t number;

	sink_args_str(a, "conversation", "sea");
	sink_args_bool(a, "attach", true);
	sink_args_int(a, "from", 1); /* the fake daemon's way to say where */
	number = sink_begin(s, "say", a, WAIT);
	assert_true(number > 0);
	return number;
}

/* The next thing is the reply to `number`, with this code. The caller frees it. */
static struct sink_reply *expect_reply(struct sink *s, int64_t number, int code)
{
	struct sink_reply *r = sink_event(s, WAIT);

	assert_non_null(r);
	assert_int_equal(sink_error(s), 0);
	assert_int_equal(sink_reply_request(r), number);
	assert_int_equal(sink_reply_error(r, NULL), code);
	return r;
}

static void expect_done(struct sink *s, int64_t number, int code)
{
	sink_reply_free(expect_reply(s, number, code));
}

static void expect_events(struct sink *s, int first, int last)
{
	for (int seq = first; seq <= last; seq++) {
		struct sink_reply *ev = sink_event(s, WAIT);

		assert_non_null(ev);
		assert_int_equal(sink_reply_request(ev), 0);
		assert_int_equal(sink_int(ev, "seq", -1), seq);
		sink_reply_free(ev);
	}
}

static void expect_nothing(struct sink *s)
{
	assert_null(sink_event(s, 50));
	assert_int_equal(sink_error(s), 0);
}

static void go_away(struct scene *t)
{
	t->knobs->away = true;
	t->knobs->hang_up = true;
	while (sink_connected(t->sink))
		assert_null(sink_event(t->sink, 5));
}

static void replies_find_their_requests(void **state)
{
	struct scene *t = *state;
	int64_t later = begin(t->sink, "later"), echo, list;
	struct sink_reply *r;

	expect_nothing(t->sink);
	echo = begin(t->sink, "echo");
	list = begin(t->sink, "list");
	assert_true(later != echo && echo != list && later != list);
	expect_done(t->sink, later, 0);
	r = expect_reply(t->sink, echo, 0);
	assert_string_equal(sink_str(r, "request.op", NULL), "echo");
	sink_reply_free(r);
	expect_done(t->sink, list, 0);
	expect_nothing(t->sink);
	assert_int_equal(sink_reply_request(NULL), 0);
	assert_int_equal(sink_reply_error(NULL, NULL), 0);
}

static void a_refusal_is_a_reply(void **state)
{
	struct scene *t = *state;
	struct sink_reply *r = expect_reply(t->sink, begin(t->sink, "nonsense"), SINK_EPROTO);
	const char *text;
	char *json;

	sink_reply_error(r, &text);
	assert_string_equal(text, "There is no such verb.");
	json = sink_json(r);
	assert_string_equal(json, "null");
	free(json);
	sink_reply_free(r);
}

static void what_can_never_be_sent_is_told_at_once(void **state)
{
	struct scene *t = *state;
	struct sink_args *a = sink_args_new();
	char *big = calloc(1, 200001);

	sink_args_array(a, "open");
	assert_int_equal(sink_begin(t->sink, "echo", a, WAIT), SINK_EINVAL);
	assert_int_equal(sink_error(t->sink), SINK_EINVAL);
	memset(big, 'x', 200000);
	a = sink_args_new();
	sink_args_str(a, "text", big);
	free(big);
	assert_int_equal(sink_begin(t->sink, "echo", a, WAIT), SINK_EINVAL);
	assert_non_null(strstr(sink_error_text(t->sink), "100000"));
	expect_nothing(t->sink);
}

static void a_call_between_leaves_others_alone(void **state)
{
	struct scene *t = *state;
	int64_t never = sink_begin(t->sink, "never", NULL, -1), later = begin(t->sink, "later");

	for (int i = 0; i < 3; i++) {
		sink_reply_free(sink_call(t->sink, "echo", NULL, WAIT));
		assert_int_equal(sink_error(t->sink), 0);
	}
	assert_true(never > 0);
	expect_done(t->sink, later, 0);
	expect_nothing(t->sink); /* the other is under way when the connection is closed */
}

static void time_that_is_over_wakes(void **state)
{
	struct scene *t = *state;
	struct pollfd p = { .fd = sink_fd(t->sink), .events = POLLIN };
	int64_t slow = sink_begin(t->sink, "never", NULL, 60), quick = sink_begin(t->sink, "never", NULL, 20);

	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(poll(&p, 1, WAIT), 1);
	expect_done(t->sink, quick, SINK_ETIMEDOUT);
	expect_done(t->sink, slow, SINK_ETIMEDOUT); /* the wait itself ends in time */
	assert_null(sink_event(t->sink, 0));
	assert_int_equal(poll(&p, 1, 0), 0);
	go_away(t);
	expect_done(t->sink, sink_begin(t->sink, "list", NULL, 20), SINK_ECONN);
	expect_done(t->sink, sink_begin(t->sink, "list", NULL, 0), SINK_ECONN);
}

static void a_reply_comes_before_its_attachment(void **state)
{
	struct scene *t = *state;
	struct sink_args *a = sink_args_new();
	int64_t number;

	t->knobs->early = true;
	expect_done(t->sink, begin_say(t->sink), 0);
	expect_events(t->sink, 1, 3);
	sink_args_str(a, "conversation", "sea");
	sink_args_int(a, "from", 2);
	t->knobs->early = false; /* no daemon does that to an attachment that moves */
	number = sink_begin(t->sink, "attach", a, WAIT);
	expect_done(t->sink, number, 0);
	expect_events(t->sink, 2, 3);
	expect_nothing(t->sink);
	t->knobs->hang_up = true;
	t->knobs->last = 9;
	expect_events(t->sink, 4, 9);
}

static void a_detach_ends_what_the_library_knows(void **state)
{
	struct scene *t = *state;
	struct sink_args *a = sink_args_new();
	struct sink_reply *r = expect_reply(t->sink, begin_say(t->sink), 0);

	expect_events(t->sink, 1, 3);
	sink_args_int(a, "attachment", sink_int(r, "attachment", 0));
	sink_reply_free(r);
	expect_done(t->sink, sink_begin(t->sink, "detach", a, WAIT), 0);
	assert_int_equal(sink_detach(t->sink, "sea"), SINK_ENOENT);
}

static void what_was_lost_is_sent_again_once(void **state)
{
	struct scene *t = *state;
	int64_t list, say;

	fake_die_on(t->daemon, "list");
	list = begin(t->sink, "list");
	expect_done(t->sink, list, 0);
	assert_int_equal(t->knobs->lists, 2);
	for (int done_once = 0; done_once < 2; done_once++) {
		int replies = 0, seq = 3 * done_once;

		t->knobs->done_once = done_once;
		fake_die_on(t->daemon, "say");
		say = begin_say(t->sink);
		while (!replies || seq < 3 * done_once + 3) { /* what it caused may come first */
			struct sink_reply *r = sink_event(t->sink, WAIT);

			assert_non_null(r);
			assert_int_equal(sink_reply_error(r, NULL), 0);
			if (sink_reply_request(r) == say)
				replies++;
			else
				assert_int_equal(sink_int(r, "seq", 0), ++seq);
			sink_reply_free(r);
		}
	}
	assert_int_equal(t->knobs->says, 2);
	assert_int_equal(t->knobs->again, 1);
	expect_nothing(t->sink);
}

static void what_may_not_be_sent_again_is_told(void **state)
{
	struct scene *t = *state;
	int64_t shutdown, list;
	struct sink_reply *r;
	const char *text;

	fake_die_on(t->daemon, "shutdown");
	shutdown = begin(t->sink, "shutdown");
	list = begin(t->sink, "list");
	r = expect_reply(t->sink, shutdown, SINK_ECONN);
	sink_reply_error(r, &text);
	assert_non_null(strstr(text, "may have been carried out"));
	sink_reply_free(r);
	expect_done(t->sink, list, 0);
}

static void what_is_begun_while_away_is_sent_in_order(void **state)
{
	struct scene *t = *state;
	int64_t numbers[20];

	go_away(t);
	for (int i = 0; i < 20; i++)
		numbers[i] = begin(t->sink, i % 2 ? "list" : "echo");
	expect_nothing(t->sink);
	t->knobs->away = false;
	for (int i = 0; i < 20; i++)
		expect_done(t->sink, numbers[i], 0);
	assert_int_equal(t->knobs->lists, 10);
}

static void after_bye_it_waits_for_the_next_daemon(void **state)
{
	struct scene *t = *state;
	struct sink_reply *bye;
	int64_t list;

	t->knobs->bye = true;
	bye = sink_event(t->sink, WAIT);
	assert_string_equal(sink_str(bye, "ev", NULL), "bye");
	assert_int_equal(sink_reply_request(bye), 0);
	sink_reply_free(bye);
	list = begin(t->sink, "list");
	expect_nothing(t->sink);
	assert_int_equal(t->knobs->lists, 0);
	t->knobs->hang_up = true;
	expect_done(t->sink, list, 0);
}

static void a_connection_of_no_use_answers_all(void **state)
{
	struct scene *t = *state;
	int64_t one = sink_begin(t->sink, "never", NULL, -1), two = sink_begin(t->sink, "never", NULL, -1);

	t->knobs->garbage = true;
	expect_done(t->sink, one, SINK_EFORMAT);
	expect_done(t->sink, two, SINK_EFORMAT);
	assert_null(sink_event(t->sink, WAIT));
	assert_int_equal(sink_error(t->sink), SINK_EFORMAT);
	assert_int_equal(sink_begin(t->sink, "list", NULL, WAIT), SINK_EFORMAT);
}

#define scene_test(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(replies_find_their_requests),
		scene_test(a_refusal_is_a_reply),
		scene_test(what_can_never_be_sent_is_told_at_once),
		scene_test(a_call_between_leaves_others_alone),
		scene_test(time_that_is_over_wakes),
		scene_test(a_reply_comes_before_its_attachment),
		scene_test(a_detach_ends_what_the_library_knows),
		scene_test(what_was_lost_is_sent_again_once),
		scene_test(what_may_not_be_sent_again_is_told),
		scene_test(what_is_begun_while_away_is_sent_in_order),
		scene_test(after_bye_it_waits_for_the_next_daemon),
		scene_test(a_connection_of_no_use_answers_all),
	};
	int failed;

	if (!mkdtemp(directory))
		return 1;
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/sock", directory);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failed;
}
