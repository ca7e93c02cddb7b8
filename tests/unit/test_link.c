/*
 * libsink against a small daemon that the test owns: what sink.h and the protocol promise, above all that a reader sees
 * every event once, whatever happens to the connection.
 */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
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

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void wait_until(const atomic_int *what, int least)
{
	for (int i = 0; i < WAIT && *what < least; i++)
		usleep(1000);
	assert_true(*what >= least);
}

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

/* Takes events first..last, each once and in order. */
static void expect_events(struct sink *s, int first, int last)
{
	for (int seq = first; seq <= last; seq++) {
		struct sink_reply *ev = sink_event(s, WAIT);

		if (!ev)
			print_error("event %d: %d %s\n", seq, sink_error(s), sink_error_text(s));
		assert_non_null(ev);
		assert_int_equal(sink_int(ev, "seq", -1), seq);
		sink_reply_free(ev);
	}
}

static void expect_end(struct sink *s, const char *text)
{
	struct sink_reply *ev = sink_event(s, WAIT);
	const char *said;

	assert_string_equal(sink_str(ev, "ev", NULL), "ended");
	assert_string_equal(sink_str(ev, "conversation", NULL), "sea");
	assert_int_equal(sink_reply_error(ev, &said), SINK_EGONE);
	assert_string_equal(said, text);
	sink_reply_free(ev);
}

static void expect_nothing(struct sink *s)
{
	assert_null(sink_event(s, 50));
	assert_int_equal(sink_error(s), 0);
}

static struct sink_reply *say(struct sink *s)
{
	struct sink_args *a = sink_args_new();

	sink_args_str(a, "conversation", "sea");
	sink_args_bool(a, "attach", true);
	sink_args_int(a, "from", 1); /* the fake daemon's way to say where */
	return sink_call(s, "say", a, WAIT);
}

/* ---- opening ---- */

static void hello_is_said_and_kept(void **state)
{
	struct scene *t = *state;

	assert_true(sink_connected(t->sink));
	assert_string_equal(sink_str(sink_hello(t->sink), "greeted", NULL), "test");
	assert_int_equal(sink_int(sink_hello(t->sink), "protocol", 0), 1);
	assert_int_equal(t->knobs->hellos, 1);
}

static void another_version_is_told(void **state)
{
	struct scene *t = *state;

	t->knobs->protocol = 2;
	assert_null(sink_open(endpoint, "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_EPROTO);
	assert_non_null(strstr(sink_error_text(NULL), "version 2"));
	t->knobs->refuse = SINK_EPROTO;
	assert_null(sink_open(endpoint, "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_EPROTO);
	t->knobs->refuse = SINK_EBUSY;
	assert_null(sink_open(endpoint, "test", WAIT));
	assert_int_equal(sink_error(NULL), SINK_EBUSY);
}

static void a_silent_daemon_times_out(void **state)
{
	struct scene *t = *state;

	t->knobs->silent = true;
	assert_null(sink_open(endpoint, "test", 50));
	assert_int_equal(sink_error(NULL), SINK_ETIMEDOUT);
}

/* ---- calls ---- */

static void a_late_reply_is_not_taken_for_another(void **state)
{
	struct scene *t = *state;
	struct sink_reply *r;

	assert_null(sink_call(t->sink, "never", NULL, 20));
	assert_int_equal(sink_error(t->sink), SINK_ETIMEDOUT);
	assert_null(sink_call(t->sink, "later", NULL, 20));
	r = sink_call(t->sink, "echo", NULL, WAIT);
	assert_true(sink_has(r, "request"));
	sink_reply_free(r);
	expect_nothing(t->sink);
	wait_until(&t->knobs->detaches, 1); /* the attachment that nobody waited for any more */
}

static void a_lost_call_that_changes_nothing_is_sent_again(void **state)
{
	struct scene *t = *state;

	fake_die_on(t->daemon, "list");
	sink_reply_free(sink_call(t->sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(t->sink), 0);
	assert_int_equal(t->knobs->lists, 2);
	assert_int_equal(t->knobs->hellos, 2);
}

/* Whether the loss came before the request was carried out or behind it, it is carried out once. */
static void a_lost_call_that_changes_something_is_carried_out_once(void **state)
{
	struct scene *t = *state;
	long long first;

	for (int done_once = 0; done_once < 2; done_once++) {
		struct sink_args *a = sink_args_new();

		t->knobs->done_once = done_once;
		fake_die_on(t->daemon, "say");
		sink_args_str(a, "conversation", "sea");
		t->knobs->away = true;
		t->knobs->last_key = 0;
		assert_null(sink_call(t->sink, "say", a, 30)); /* in time nobody comes back */
		assert_int_equal(sink_error(t->sink), SINK_ECONN);
		first = t->knobs->last_key;
		assert_true(first > 0);
		a = sink_args_new();
		sink_args_str(a, "conversation", "sea");
		sink_args_int(a, "key", first);
		t->knobs->away = false;
		sink_reply_free(sink_call(t->sink, "say", a, WAIT));
		assert_int_equal(sink_error(t->sink), 0);
		assert_true(t->knobs->last_key == first); /* none beside the caller's own */
		assert_int_equal(t->knobs->says, done_once + 1);
		assert_int_equal(t->knobs->again, done_once);
	}
	fake_die_on(t->daemon, "say");
	sink_reply_free(say(t->sink));
	assert_int_equal(sink_error(t->sink), 0);
	assert_int_equal(t->knobs->says, 3);
	assert_int_equal(t->knobs->again, 2);
	assert_true(t->knobs->last_key != first);
}

static void a_call_without_a_key_or_of_this_connection_is_not_sent_again(void **state)
{
	struct scene *t = *state;
	struct sink_args *a = sink_args_new();

	fake_die_on(t->daemon, "say");
	sink_args_str(a, "conversation", "sea");
	sink_args_str(a, "key", NULL);
	assert_null(sink_call(t->sink, "say", a, WAIT));
	assert_int_equal(sink_error(t->sink), SINK_ECONN);
	assert_non_null(strstr(sink_error_text(t->sink), "may have been carried out"));
	fake_die_on(t->daemon, "shutdown");
	assert_null(sink_call(t->sink, "shutdown", NULL, WAIT));
	assert_int_equal(sink_error(t->sink), SINK_ECONN);
	sink_reply_free(sink_call(t->sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(t->sink), 0);
	assert_int_equal(t->knobs->says, 0);
}

static void a_call_while_the_daemon_is_away_waits_for_it(void **state)
{
	struct scene *t = *state;

	t->knobs->away = true;
	t->knobs->hang_up = true;
	while (sink_connected(t->sink))
		assert_null(sink_event(t->sink, 5));
	assert_null(sink_call(t->sink, "echo", NULL, 30));
	assert_int_equal(sink_error(t->sink), SINK_ECONN);
	t->knobs->away = false;
	sink_reply_free(sink_call(t->sink, "echo", NULL, WAIT));
	assert_int_equal(sink_error(t->sink), 0);
	assert_true(sink_connected(t->sink));
}

/* ---- events ---- */

static void events_come_in_order_and_go_on_live(void **state)
{
	struct scene *t = *state;

	t->knobs->last = 500;
	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	expect_events(t->sink, 1, 500);
	expect_nothing(t->sink);
	t->knobs->last = 700;
	expect_events(t->sink, 501, 700);
	assert_int_equal(sink_attach(t->sink, "sea", 650, WAIT), 0); /* again, from elsewhere */
	expect_events(t->sink, 650, 700);
	expect_nothing(t->sink);
	assert_int_equal(sink_attach(t->sink, "pond", -1, WAIT), SINK_ENOENT);
	t->knobs->first = 600;
	assert_int_equal(sink_attach(t->sink, "sea", 599, WAIT), SINK_EGONE);
}

static void the_descriptor_is_level_triggered(void **state)
{
	struct scene *t = *state;
	struct pollfd p = { .fd = sink_fd(t->sink), .events = POLLIN };
	int taken = 0;

	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	assert_null(sink_event(t->sink, 0));
	assert_int_equal(poll(&p, 1, 0), 0);
	for (int round = 1; round <= 50; round++) {
		t->knobs->last = round * 3;
		while (taken < round * 3) {
			struct sink_reply *ev;

			assert_int_equal(poll(&p, 1, WAIT), 1);
			ev = sink_event(t->sink, 0); /* one at a time: the rest must keep it readable */
			if (ev)
				assert_int_equal(sink_int(ev, "seq", 0), ++taken);
			assert_int_equal(sink_error(t->sink), 0);
			sink_reply_free(ev);
		}
		while (sink_event(t->sink, 0))
			fail();
		assert_int_equal(poll(&p, 1, 0), 0);
	}
}

static void the_descriptor_wakes_for_a_reconnect(void **state)
{
	struct scene *t = *state;
	struct pollfd p = { .fd = sink_fd(t->sink), .events = POLLIN };
	int64_t began = now_ms();

	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	t->knobs->hang_up = true;
	wait_until(&t->knobs->attaches, 1);
	t->knobs->last = 5;
	for (int taken = 0; taken < 5 && now_ms() - began < WAIT;) {
		struct sink_reply *ev;

		assert_int_equal(poll(&p, 1, WAIT), 1);
		while ((ev = sink_event(t->sink, 0))) {
			assert_int_equal(sink_int(ev, "seq", 0), ++taken);
			sink_reply_free(ev);
		}
	}
	assert_int_equal(t->knobs->attaches, 2);
}

static void a_reader_sees_neither_gap_nor_duplicate_over_reconnects(void **state)
{
	struct scene *t = *state;
	int seen = 0;

	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	for (int round = 1; round <= 12; round++) {
		t->knobs->last += 40;
		expect_events(t->sink, seen + 1, seen + round); /* some taken, some queued, some never sent */
		seen += round;
		t->knobs->hang_up = true;
	}
	expect_events(t->sink, seen + 1, t->knobs->last);
	for (int i = 0; i < WAIT / 50 && t->knobs->hellos < 2; i++) /* on a busy machine the last may come late */
		expect_nothing(t->sink);
	expect_nothing(t->sink);
	assert_true(t->knobs->hellos > 1);
}

static void a_lost_or_doubled_event_is_mended(void **state)
{
	struct scene *t = *state;

	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	t->knobs->twice = 5;
	t->knobs->skip = 20;
	t->knobs->last = 60;
	expect_events(t->sink, 1, 60);
	expect_nothing(t->sink);
	t->knobs->skip = 61;
	t->knobs->last = 62;
	expect_events(t->sink, 61, 62);
	expect_nothing(t->sink);
}

static void credit_is_granted_as_events_are_taken(void **state)
{
	struct scene *t = *state;
	enum { EVENTS = 3000, BYTES = 1000, WINDOW = 262144 };

	t->knobs->padding = BYTES;
	t->knobs->last = EVENTS;
	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	for (int i = 0; i < 20; i++)
		sink_reply_free(sink_call(t->sink, "list", NULL, WAIT)); /* who does not take is not sent more */
	assert_true(t->knobs->sent <= WINDOW + 2 * BYTES);
	expect_events(t->sink, 1, EVENTS);
	assert_true(t->knobs->sent > (long)EVENTS * BYTES);
	assert_true(t->knobs->granted - t->knobs->sent <= WINDOW);
}

static void say_attaches_in_the_same_step(void **state)
{
	struct scene *t = *state;
	struct sink_reply *r = say(t->sink);

	assert_non_null(r);
	sink_reply_free(r);
	expect_events(t->sink, 1, 3);
	t->knobs->hang_up = true;
	t->knobs->last = 9;
	expect_events(t->sink, 4, 4);
	sink_reply_free(say(t->sink)); /* an attachment stays where it is, with what waits in it */
	expect_events(t->sink, 5, 12);
	assert_int_equal(sink_detach(t->sink, "sea"), 0);
	assert_int_equal(sink_detach(t->sink, "sea"), SINK_ENOENT);
	t->knobs->last = 15;
	expect_nothing(t->sink);
}

/* Its reply names no attachment then: the library attaches at the first event. */
static void a_say_that_was_lost_behind_its_work_attaches_all_the_same(void **state)
{
	struct scene *t = *state;
	struct sink_reply *r;

	t->knobs->done_once = true;
	fake_die_on(t->daemon, "say");
	r = say(t->sink);
	assert_non_null(r);
	assert_false(sink_has(r, "attachment"));
	sink_reply_free(r);
	expect_events(t->sink, 1, 3);
	assert_int_equal(t->knobs->says, 1);
	assert_int_equal(t->knobs->attaches, 1);
	fake_die_on(t->daemon, "say"); /* one that is attached stays at its cursor */
	sink_reply_free(say(t->sink));
	expect_events(t->sink, 4, 6);
	expect_nothing(t->sink);
	t->knobs->last = 9;
	expect_events(t->sink, 7, 9);
	assert_int_equal(sink_detach(t->sink, "sea"), 0);
}

static void events_before_the_reply_are_not_lost(void **state)
{
	struct scene *t = *state;

	t->knobs->early = true;
	sink_reply_free(say(t->sink));
	assert_int_equal(sink_error(t->sink), 0);
	expect_events(t->sink, 1, 3);
	expect_nothing(t->sink);
}

static void a_renamed_conversation_is_found_again(void **state)
{
	struct scene *t = *state;

	t->knobs->renamed_at = 4;
	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	t->knobs->last = 6;
	expect_events(t->sink, 1, 6);
	t->knobs->hang_up = true;
	t->knobs->last = 9;
	expect_events(t->sink, 7, 9);
	assert_int_equal(sink_detach(t->sink, "lake"), 0);
}

static void a_removed_conversation_ends_its_attachment(void **state)
{
	struct scene *t = *state;

	t->knobs->removed_at = 3;
	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	t->knobs->last = 3;
	expect_events(t->sink, 1, 3);
	t->knobs->hang_up = true;
	wait_until(&t->knobs->hellos, 1);
	sink_reply_free(sink_call(t->sink, "list", NULL, WAIT));
	assert_int_equal(t->knobs->attaches, 1);
	assert_int_equal(sink_detach(t->sink, "sea"), SINK_ENOENT);
}

static void a_cursor_that_fell_off_is_told_once(void **state)
{
	struct scene *t = *state;

	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	t->knobs->last = 3;
	expect_events(t->sink, 1, 3);
	t->knobs->last = 0;
	t->knobs->first = 100;
	t->knobs->hang_up = true;
	expect_end(t->sink, "The cursor is before the oldest event.");
	expect_nothing(t->sink);
	t->knobs->last = 100;
	assert_int_equal(sink_attach(t->sink, "sea", 100, WAIT), 0);
	expect_events(t->sink, 100, 100);
}

static void a_reader_that_was_too_slow_is_told(void **state)
{
	struct scene *t = *state;

	t->knobs->last = 3;
	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	expect_events(t->sink, 1, 1);
	t->knobs->too_slow = true;
	expect_events(t->sink, 2, 3); /* what came before it comes before the news */
	expect_end(t->sink, "Too slow.");
	assert_int_equal(sink_detach(t->sink, "sea"), SINK_ENOENT);
}

static void a_daemon_that_lost_events_is_told_once(void **state)
{
	struct scene *t = *state;
	struct sink_reply *ev;

	t->knobs->last = 9;
	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	expect_events(t->sink, 1, 9);
	t->knobs->last = 5;
	t->knobs->hang_up = true;
	ev = sink_event(t->sink, WAIT);
	assert_non_null(ev);
	assert_string_equal(sink_str(ev, "ev", NULL), "error");
	assert_string_equal(sink_str(ev, "code", NULL), "egone");
	assert_string_equal(sink_str(ev, "conversation", NULL), "sea");
	assert_int_equal(sink_int(ev, "seq", 0), 5);
	sink_reply_free(ev);
	expect_nothing(t->sink);
	t->knobs->last = 8;
	expect_events(t->sink, 6, 8);
	assert_int_equal(sink_detach(t->sink, "sea"), 0);
}

static void after_bye_the_next_daemon_is_asked(void **state)
{
	struct scene *t = *state;
	struct sink_reply *ev;

	t->knobs->bye = true;
	ev = sink_event(t->sink, WAIT);
	assert_string_equal(sink_str(ev, "ev", NULL), "bye");
	sink_reply_free(ev);
	assert_null(sink_call(t->sink, "list", NULL, 30));
	assert_int_equal(sink_error(t->sink), SINK_ETIMEDOUT);
	assert_int_equal(t->knobs->lists, 0);
	t->knobs->hang_up = true;
	sink_reply_free(sink_call(t->sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(t->sink), 0);
	assert_int_equal(t->knobs->lists, 1);
}

static void bye_is_an_event_and_the_way_back_goes_on(void **state)
{
	struct scene *t = *state;
	struct sink_reply *ev;

	assert_int_equal(sink_attach(t->sink, "sea", 1, WAIT), 0);
	t->knobs->bye = true;
	ev = sink_event(t->sink, WAIT);
	assert_string_equal(sink_str(ev, "ev", NULL), "bye");
	sink_reply_free(ev);
	t->knobs->hang_up = true;
	t->knobs->last = 2;
	expect_events(t->sink, 1, 2);
}

static void a_damaged_frame_ends_the_use_of_the_connection(void **state)
{
	struct scene *t = *state;

	t->knobs->garbage = true;
	assert_null(sink_event(t->sink, WAIT));
	assert_int_equal(sink_error(t->sink), SINK_EFORMAT);
	assert_null(sink_call(t->sink, "list", NULL, WAIT));
	assert_int_equal(sink_error(t->sink), SINK_EFORMAT);
	assert_false(sink_connected(t->sink));
}

static void another_version_after_a_restart_is_told(void **state)
{
	struct scene *t = *state;

	t->knobs->protocol = 2;
	t->knobs->hang_up = true;
	assert_null(sink_event(t->sink, WAIT));
	assert_int_equal(sink_error(t->sink), SINK_EPROTO);
}

#define scene_test(f) cmocka_unit_test_setup_teardown(f, open_scene, close_scene)

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(hello_is_said_and_kept),
		scene_test(another_version_is_told),
		scene_test(a_silent_daemon_times_out),
		scene_test(a_late_reply_is_not_taken_for_another),
		scene_test(a_lost_call_that_changes_nothing_is_sent_again),
		scene_test(a_lost_call_that_changes_something_is_carried_out_once),
		scene_test(a_call_without_a_key_or_of_this_connection_is_not_sent_again),
		scene_test(a_call_while_the_daemon_is_away_waits_for_it),
		scene_test(events_come_in_order_and_go_on_live),
		scene_test(the_descriptor_is_level_triggered),
		scene_test(the_descriptor_wakes_for_a_reconnect),
		scene_test(a_reader_sees_neither_gap_nor_duplicate_over_reconnects),
		scene_test(a_lost_or_doubled_event_is_mended),
		scene_test(credit_is_granted_as_events_are_taken),
		scene_test(say_attaches_in_the_same_step),
		scene_test(a_say_that_was_lost_behind_its_work_attaches_all_the_same),
		scene_test(events_before_the_reply_are_not_lost),
		scene_test(a_renamed_conversation_is_found_again),
		scene_test(a_removed_conversation_ends_its_attachment),
		scene_test(a_cursor_that_fell_off_is_told_once),
		scene_test(a_reader_that_was_too_slow_is_told),
		scene_test(a_daemon_that_lost_events_is_told_once),
		scene_test(after_bye_the_next_daemon_is_asked),
		scene_test(bye_is_an_event_and_the_way_back_goes_on),
		scene_test(a_damaged_frame_ends_the_use_of_the_connection),
		scene_test(another_version_after_a_restart_is_told),
	};
	int failed;

	if (!mkdtemp(directory))
		return 1;
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/sock", directory);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(directory);
	return failed;
}
