/* stream.c: what a reader gets, byte by byte, against a plain list of all events ever appended. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "msg.h"
#include "stream.h"

enum { FRAMES = 4096 };

/* What a peer was sent. */
struct inbox {
	int64_t seq[FRAMES];
	char name[FRAMES][STREAM_NAME + 1];
	char to[FRAMES][STREAM_NAME + 1];
	size_t size[FRAMES];
	size_t count;
	int answer; /* what send() says once `takes` frames were taken */
	size_t takes;
};

static int send_to_inbox(void *arg, void *peer, const void *frame, size_t size)
{
	struct inbox *in = peer;
	const struct val *root;
	struct msg *m;

	assert_null(arg);
	if (in->count >= in->takes)
		return in->answer;
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	root = msg_root(m);
	in->seq[in->count] = val_int(val_get(root, "seq"), -1);
	in->size[in->count] = size;
	snprintf(in->name[in->count], STREAM_NAME + 1, "%s", val_str(val_get(root, "conversation"), NULL));
	if (val_get(root, "to"))
		snprintf(in->to[in->count], STREAM_NAME + 1, "%s", val_str(val_get(root, "to"), NULL));
	in->count++;
	msg_free(m);
	return 0;
}

static struct inbox *inbox(void)
{
	struct inbox *in = calloc(1, sizeof(*in));

	assert_non_null(in);
	in->takes = FRAMES;
	return in;
}

static void append_sized(struct stream *s, size_t bytes, const char *to)
{
	char *text = calloc(1, bytes + 1);
	struct out *o;
	const void *frame;
	size_t size;

	memset(text, 'x', bytes);
	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	out_str(o, "ev", to ? "renamed" : "text");
	out_int(o, "seq", stream_next(s));
	out_str(o, "text", text);
	out_end(o);
	frame = out_data(o, &size);
	assert_int_equal(stream_append(s, frame, size, to, NULL), 0);
	out_free(o);
	free(text);
}

static void append(struct stream *s, int count)
{
	for (int i = 0; i < count; i++)
		append_sized(s, 10, NULL);
}

static struct attachment *attach(struct stream *s, const char *name, int64_t from, int64_t credit, struct inbox *in)
{
	struct attachment *a;

	assert_int_equal(stream_attach(s, name, from, &a, NULL), 0);
	a->peer = in;
	a->credit = credit;
	return a;
}

static void expect(const struct inbox *in, int64_t first, int64_t end)
{
	assert_int_equal(in->count, end - first);
	for (size_t i = 0; i < in->count; i++)
		assert_int_equal(in->seq[i], first + (int64_t)i);
}

static void numbers_begin_at_one_and_have_no_gaps(void **state)
{
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	assert_int_equal(stream_first(s), 1);
	assert_int_equal(stream_next(s), 1);
	append(s, 5);
	assert_int_equal(stream_first(s), 1);
	assert_int_equal(stream_next(s), 6);
	stream_close(s);
}

static void a_replay_goes_live_without_gap_or_duplicate(void **state)
{
	(void)state;
	for (int64_t from = 1; from <= 301; from += 50) {
		struct inbox *in = inbox();
		struct attachment *a;
		struct stream *s;

		assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
		append(s, 300);
		a = attach(s, "c", from, 1 << 20, in);
		assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
		expect(in, from, 301);
		for (int i = 0; i < 500; i++) { /* over several segments */
			append(s, 1);
			assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
		}
		expect(in, from, 801);
		stream_detach(a);
		stream_close(s);
		free(in);
	}
}

static void a_reader_of_an_empty_log_gets_the_first_event(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	a = attach(s, "c", 1, 1000, in);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	append(s, 2);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 3);
	stream_detach(a);
	stream_close(s);
	free(in);
}

static void cursors_outside_the_log_are_refused(void **state)
{
	struct attachment *a = NULL;
	struct stream *s;
	struct err e;

	(void)state;
	assert_int_equal(stream_new(4096, &s, NULL), 0);
	append(s, 1000); /* far more than 4096 bytes: the first are gone */
	assert_true(stream_first(s) > 1);
	assert_int_equal(stream_attach(s, "c", 1, &a, &e), SINK_EGONE);
	assert_int_equal(stream_attach(s, "c", stream_first(s) - 1, &a, &e), SINK_EGONE);
	assert_int_equal(stream_attach(s, "c", -1, &a, &e), SINK_EGONE);
	assert_int_equal(stream_attach(s, "c", stream_next(s) + 1, &a, &e), SINK_EINVAL);
	assert_int_equal(stream_attach(s, "c", INT64_MAX, &a, &e), SINK_EINVAL);
	assert_null(a);
	assert_int_equal(stream_readers(s), 0);
	stream_close(s);
}

static void what_is_kept_is_bounded_and_whole(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(8192, &s, NULL), 0);
	append(s, 2000);
	a = attach(s, "c", stream_first(s), 1 << 20, in);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, stream_first(s), 2001);
	assert_true(in->count > 50 && in->count < 8192 / 20);
	stream_detach(a);
	/* The newest is kept whatever its size. */
	append_sized(s, 100000, NULL);
	assert_int_equal(stream_first(s), 2001);
	assert_int_equal(stream_next(s), 2002);
	append(s, 1);
	assert_int_equal(stream_next(s), 2003);
	stream_close(s);
	free(in);
}

static void credit_is_spent_by_the_bytes_of_a_frame(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	append(s, 10);
	a = attach(s, "c", 1, 0, in);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 1); /* nothing without credit */
	a->credit = 1;
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 2); /* one event when it is positive */
	assert_int_equal(a->credit, 1 - (int64_t)in->size[0]);
	a->credit += 3 * (int64_t)in->size[0];
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 5);
	stream_detach(a);
	stream_close(s);
	free(in);
}

static void a_peer_that_takes_no_more_loses_nothing(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	append(s, 10);
	a = attach(s, "c", 1, 1 << 20, in);
	in->takes = 4;
	in->answer = SINK_EBUSY;
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), SINK_EBUSY);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), SINK_EBUSY);
	in->takes = 7;
	in->answer = SINK_ECONN;
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), SINK_ECONN);
	in->takes = FRAMES;
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 11);
	stream_detach(a);
	stream_close(s);
	free(in);
}

static void a_slow_reader_is_told_and_harms_nobody(void **state)
{
	struct inbox *slow_in = inbox(), *quick_in = inbox(), *idle_in = inbox();
	struct attachment *slow, *quick, *idle;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(4096, &s, NULL), 0);
	idle = attach(s, "c", 1, 0, idle_in);
	append(s, 1);
	slow = attach(s, "c", 1, 1, slow_in);
	quick = attach(s, "c", 1, 1 << 30, quick_in);
	for (int i = 0; i < 1000; i++) {
		append(s, 1);
		assert_int_equal(stream_pump(quick, send_to_inbox, NULL), 0);
	}
	expect(quick_in, 1, 1002);
	assert_int_equal(stream_pump(slow, send_to_inbox, NULL), SINK_EGONE);
	assert_int_equal(stream_pump(idle, send_to_inbox, NULL), SINK_EGONE);
	assert_int_equal(slow_in->count + idle_in->count, 0);
	assert_int_equal(stream_seek(slow, "c", stream_next(s), NULL),
			 0); /* it may come back where there is something */
	append(s, 1);
	slow->credit = 1000;
	assert_int_equal(stream_pump(slow, send_to_inbox, NULL), 0);
	expect(slow_in, 1002, 1003);
	stream_detach(slow);
	stream_detach(quick);
	stream_detach(idle);
	stream_close(s);
	free(slow_in);
	free(quick_in);
	free(idle_in);
}

static void names_are_those_that_the_reader_knows(void **state)
{
	struct inbox *before = inbox(), *after = inbox();
	struct attachment *a, *b;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	append(s, 2);
	a = attach(s, "old", 1, 1 << 20, before);
	append_sized(s, 1, "middle");
	append(s, 1);
	append_sized(s, 1, "a new name that is longer than thirty-one bytes, as it may be");
	b = attach(s, "a new name that is longer than thirty-one bytes, as it may be", 1, 1 << 20, after);
	append(s, 1);
	append_sized(s, 1, "last");
	append(s, 1);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	assert_int_equal(stream_pump(b, send_to_inbox, NULL), 0);
	expect(before, 1, 9);
	expect(after, 1, 9);
	/* One who was there sees each name until it is changed ... */
	assert_string_equal(before->name[2], "old");
	assert_string_equal(before->to[2], "middle");
	assert_string_equal(before->name[3], "middle");
	assert_string_equal(before->name[4], "middle");
	assert_memory_equal(before->name[5], "a new name", 10);
	assert_string_equal(before->name[7], "last");
	/* ... one who came later never sees a name that was gone by then. */
	for (int i = 0; i < 7; i++)
		assert_memory_equal(after->name[i], "a new name", 10);
	assert_string_equal(after->to[2], after->name[0]);
	assert_string_equal(after->to[6], "last");
	assert_string_equal(after->name[7], "last");
	stream_detach(a);
	stream_detach(b);
	stream_close(s);
	free(before);
	free(after);
}

static void a_closed_stream_is_read_to_its_end(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	append(s, 3);
	a = attach(s, "c", 1, 1, in);
	stream_close(s); /* it lives on for its reader */
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	a->credit = 1000;
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), SINK_ENOENT);
	expect(in, 1, 4);
	stream_detach(a);
	free(in);
}

static void nobody_is_sent_what_is_not_safe(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;

	(void)state;
	assert_int_equal(stream_new(1 << 20, &s, NULL), 0);
	stream_keep(s, 1, 1);
	a = attach(s, "c", 1, 1 << 20, in);
	append(s, 10);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	assert_int_equal(in->count, 0);
	assert_true(stream_unsafe(s) > 0);
	stream_publish(s, 8);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 8);
	stream_publish_all(s);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 11);
	stream_publish(s, 8); /* what was sent already is not taken back, and not sent twice */
	append(s, 2);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 11);
	stream_publish(s, 13);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), 0);
	expect(in, 1, 13);
	assert_int_equal(stream_unsafe(s), 0);
	stream_detach(a);
	stream_close(s);
	free(in);
}

/* A reader of the log from its beginning, of which memory holds the end alone. */
static void old_events_are_given_and_go_on_live(void **state)
{
	struct inbox *in = inbox();
	struct attachment *a;
	struct stream *s;
	int64_t given = 0;
	void *all;
	size_t size;
	int rc;

	(void)state;
	assert_int_equal(stream_new(4096, &s, NULL), 0);
	stream_keep(s, 1, 1);
	for (int i = 0; i < 400; i++) {
		append(s, 1);
		stream_publish(s, stream_next(s));
	}
	assert_int_equal(stream_first(s), 1);
	a = attach(s, "c", 1, 1 << 20, in);
	while ((rc = stream_pump(a, send_to_inbox, NULL)) == STREAM_WANTS) {
		struct stream *piece;

		assert_int_equal(a->next, given + 1);
		assert_int_equal(stream_new(1 << 20, &piece, NULL), 0);
		stream_keep(piece, 1, a->next);
		append(piece, 50);
		assert_int_equal(stream_copy(piece, a->next, &all, &size, NULL), 0);
		assert_int_equal(stream_give(a, a->next, all, size - 1, 50, NULL), SINK_EFORMAT);
		assert_int_equal(stream_give(a, a->next, all, size, 49, NULL), SINK_EFORMAT);
		assert_int_equal(stream_give(a, a->next + 1, all, size, 50, NULL), 0); /* it wants that no more */
		assert_int_equal(stream_give(a, a->next, all, size, 50, NULL), 0);
		given += 50;
		free(all);
		stream_close(piece);
	}
	assert_int_equal(rc, 0);
	expect(in, 1, 401);
	assert_true(given >= 50 && given < 400);
	assert_int_equal(stream_seek(a, "c", 1, NULL), 0);
	assert_int_equal(stream_pump(a, send_to_inbox, NULL), STREAM_WANTS);
	stream_kept_from(s, 100);
	assert_int_equal(stream_seek(a, "c", 99, NULL), SINK_EGONE);
	stream_detach(a);
	stream_close(s);
	free(in);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_begin_at_one_and_have_no_gaps),
		cmocka_unit_test(a_replay_goes_live_without_gap_or_duplicate),
		cmocka_unit_test(a_reader_of_an_empty_log_gets_the_first_event),
		cmocka_unit_test(cursors_outside_the_log_are_refused),
		cmocka_unit_test(what_is_kept_is_bounded_and_whole),
		cmocka_unit_test(credit_is_spent_by_the_bytes_of_a_frame),
		cmocka_unit_test(a_peer_that_takes_no_more_loses_nothing),
		cmocka_unit_test(a_slow_reader_is_told_and_harms_nobody),
		cmocka_unit_test(names_are_those_that_the_reader_knows),
		cmocka_unit_test(a_closed_stream_is_read_to_its_end),
		cmocka_unit_test(nobody_is_sent_what_is_not_safe),
		cmocka_unit_test(old_events_are_given_and_go_on_live),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
