/* conversation.c: names, the table, states and messages, by the words of the protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "conversation.h"

static struct conversation *make(struct conversations *t, const char *name)
{
	struct conversation *c;

	assert_int_equal(conversation_new(t, name, strlen(name), 1 << 16, &c, NULL), 0);
	assert_int_equal(policy_parse("sink:4,252", &c->keeps.policy, NULL), 0);
	return c;
}

static void clear(struct conversations *t)
{
	struct conversation *c;

	while ((c = TAILQ_FIRST(&t->by_use)))
		conversation_remove(t, c);
	assert_int_equal(t->count, 0);
}

static void names_keep_to_the_rule(void **state)
{
	static const char *const good[] = { "a",
					    "main",
					    "a b",
					    "\xc3\xbcn\xc3\xaf",
					    "1",
					    "x.y",
					    "x-y",
					    "\xf0\x9f\x98\x80",
					    "0123456789012345678901234567890123456789012345678901234567890123" };
	static const char *const bad[] = { "",
					   " ",
					   " a",
					   "a ",
					   ".a",
					   "-a",
					   "a/b",
					   "/",
					   "a@b",
					   "a=b",
					   "a\nb",
					   "a\tb",
					   "\x7f",
					   "\xc2\x85",
					   "\xff",
					   "\xc3",
					   "\xc0\xaf",
					   "\xed\xa0\x80",
					   "01234567890123456789012345678901234567890123456789012345678901234" };

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_int_equal(conversation_check_name(good[i], strlen(good[i]), NULL), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = { 0 };

		assert_int_equal(conversation_check_name(bad[i], strlen(bad[i]), &e), SINK_EINVAL);
		assert_true(strlen(e.text) > 20);
	}
	assert_int_equal(conversation_check_name("a\0b", 3, NULL), SINK_EINVAL);
}

static void a_name_is_taken_once(void **state)
{
	struct conversations t;
	struct conversation *a, *b = NULL;
	struct err e;

	(void)state;
	conversations_init(&t);
	a = make(&t, "one");
	assert_int_equal(conversation_new(&t, "one", 3, 1 << 16, &b, &e), SINK_EEXIST);
	assert_int_equal(conversation_new(&t, "o/e", 3, 1 << 16, &b, &e), SINK_EINVAL);
	assert_null(b);
	b = make(&t, "two");
	assert_int_equal(conversation_rename(&t, a, "two", 3, &e), SINK_EEXIST);
	assert_int_equal(conversation_rename(&t, a, "three", 5, &e), 0);
	assert_ptr_equal(conversation_find(&t, "three", 5, &e), a);
	assert_null(conversation_find(&t, "one", 3, &e));
	assert_int_equal(e.code, SINK_ENOENT);
	assert_non_null(strstr(e.text, "one"));
	assert_int_equal(conversation_rename(&t, b, "one", 3, &e), 0);
	clear(&t);
}

static void many_are_found_and_the_last_used_comes_first(void **state)
{
	char name[STREAM_NAME + 1];
	struct conversations t;
	struct conversation *c;

	(void)state;
	conversations_init(&t);
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "c%d", i);
		make(&t, name);
	}
	assert_int_equal(t.count, 3000);
	for (int i = 0; i < 3000; i += 7) {
		snprintf(name, sizeof(name), "c%d", i);
		c = conversation_find(&t, name, strlen(name), NULL);
		assert_non_null(c);
		assert_string_equal(c->name, name);
	}
	conversation_touch(&t, conversation_find(&t, "c5", 2, NULL));
	assert_string_equal(TAILQ_FIRST(&t.by_use)->name, "c5");
	conversation_invent_name(&t, name);
	assert_null(conversation_find(&t, name, strlen(name), NULL));
	assert_int_equal(conversation_check_name(name, strlen(name), NULL), 0);
	clear(&t);
}

static void states_follow_the_table(void **state)
{
	static const struct {
		enum happening h;
		enum state then;
		bool busy;
	} life[] = {
		{ HAPPENS_PROMPT, STATE_QUEUED, true },	   { HAPPENS_SERVED, STATE_READING, true },
		{ HAPPENS_SERVED, STATE_READING, true },   { HAPPENS_READ, STATE_ANSWERING, true },
		{ HAPPENS_SERVED, STATE_ANSWERING, true }, { HAPPENS_END, STATE_IDLE, false },
		{ HAPPENS_PROMPT, STATE_QUEUED, true },	   { HAPPENS_END, STATE_IDLE, false },
		{ HAPPENS_PROMPT, STATE_QUEUED, true },	   { HAPPENS_FAILURE, STATE_FAILED, false },
		{ HAPPENS_PROMPT, STATE_QUEUED, true },	   { HAPPENS_SERVED, STATE_READING, true },
		{ HAPPENS_END, STATE_IDLE, false },
	};
	struct conversations t;
	struct conversation *c;

	(void)state;
	conversations_init(&t);
	c = make(&t, "c");
	assert_false(conversation_can(c, HAPPENS_END));
	assert_false(conversation_can(c, HAPPENS_READ));
	for (size_t i = 0; i < sizeof(life) / sizeof(life[0]); i++) {
		assert_true(conversation_can(c, life[i].h));
		conversation_happens(c, life[i].h);
		assert_int_equal(c->state, life[i].then);
		assert_int_equal(conversation_busy(c), life[i].busy);
		assert_int_equal(conversation_can(c, HAPPENS_PROMPT), !life[i].busy);
	}
	clear(&t);
}

static void messages_are_cut_from_the_end(void **state)
{
	static const int32_t ids[10] = { 0 };
	struct conversations t;
	struct conversation *c;

	(void)state;
	conversations_init(&t);
	c = make(&t, "c");
	for (int i = 0; i < 20; i++) {
		assert_int_equal(conversation_add(c, ROLE_USER, "text\0more", 9, NULL), 0);
		assert_int_equal(c->message[i].first_token, 10 * i);
		assert_int_equal(c->message[i].text.len, 9);
		assert_int_equal(tokens_append(&c->log, ids, 10, NULL), 0);
	}
	assert_int_equal(conversation_waiting(c), 200);
	c->seen.tokens = 150;
	assert_int_equal(conversation_waiting(c), 50);
	conversation_cut(c, 5, c->message[5].first_token);
	assert_int_equal(c->messages, 5);
	assert_int_equal(c->log.count, 50);
	conversation_cut(c, 9, 90); /* nothing to cut */
	assert_int_equal(c->messages, 5);
	assert_int_equal(c->log.count, 50);
	clear(&t);
}

/* Nothing has left the window while it begins where the pinned start ends, though all may be kept that did. */
static void the_window_begins_where_tokens_have_left_it(void **state)
{
	static const struct {
		struct kv_info seen;
		int64_t end;
	} cases[] = {
		{ { 0 }, 0 },
		{ { .tokens = 3, .pinned = 3, .evicted_end = 3 }, 0 },
		{ { .tokens = 256, .pinned = 4, .window = 252, .evicted_end = 4 }, 0 },
		{ { .tokens = 257, .pinned = 4, .window = 252, .evicted = 1, .evicted_end = 5 }, 5 },
		{ { .tokens = 257, .pinned = 4, .window = 252, .kept = 1, .evicted_end = 5 }, 5 },
		{ { .tokens = 9, .kept = 1, .evicted = 8, .evicted_end = 9 }, 9 },
	};
	struct conversations t;
	struct conversation *c;

	(void)state;
	conversations_init(&t);
	c = make(&t, "c");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		c->seen = cases[i].seen;
		assert_int_equal(conversation_evicted_end(c), cases[i].end);
	}
	clear(&t);
}

static void info_has_what_the_protocol_says(void **state)
{
	static const char *const keys[] = { "name",    "state",	 "messages", "tokens",	    "waiting",	   "policy",
					    "pinned",  "window", "evicted",  "evicted_end", "cache_bytes", "clients",
					    "created", "used",	 "seq",	     "first_seq",   "sampling",	   "kept" };
	struct conversations t;
	struct conversation *c;
	const struct val *info;
	const void *frame;
	struct out *o;
	struct msg *m;
	size_t size;

	(void)state;
	conversations_init(&t);
	c = make(&t, "c");
	assert_int_equal(out_new(&o, NULL), 0);
	out_map(o, NULL);
	conversation_info(c, o, "conversation");
	out_end(o);
	frame = out_data(o, &size);
	assert_non_null(frame);
	assert_int_equal(msg_parse(frame, size, &m, NULL), 0);
	info = val_get(msg_root(m), "conversation");
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!val_get(info, keys[i]))
			fail_msg("%s is missing", keys[i]);
	assert_string_equal(val_str(val_get(info, "state"), NULL), "idle");
	assert_string_equal(val_str(val_get(info, "policy"), NULL), "sink:4,252");
	assert_int_equal(val_int(val_get(info, "seq"), 0), 1);
	assert_null(val_get(info, "answer"));
	msg_free(m);
	out_free(o);
	clear(&t);
}

static void states_are_counted(void **state)
{
	struct conversations t;
	struct conversation *a, *b;

	(void)state;
	conversations_init(&t);
	a = make(&t, "a");
	b = make(&t, "b");
	assert_int_equal(t.in[STATE_IDLE], 2);
	conversation_happens(a, HAPPENS_PROMPT);
	conversation_set_state(b, STATE_FAILED);
	assert_int_equal(t.happened, 2);
	conversation_set_state(b, STATE_FAILED);
	assert_int_equal(t.happened, 2);
	assert_int_equal(t.in[STATE_IDLE], 0);
	assert_int_equal(t.in[STATE_QUEUED], 1);
	assert_int_equal(t.in[STATE_FAILED], 1);
	conversation_happens(a, HAPPENS_SERVED);
	conversation_happens(a, HAPPENS_READ);
	assert_int_equal(t.in[STATE_ANSWERING], 1);
	clear(&t);
	for (int s = 0; s < STATES; s++)
		assert_int_equal(t.in[s], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_keep_to_the_rule),
		cmocka_unit_test(a_name_is_taken_once),
		cmocka_unit_test(many_are_found_and_the_last_used_comes_first),
		cmocka_unit_test(states_follow_the_table),
		cmocka_unit_test(messages_are_cut_from_the_end),
		cmocka_unit_test(the_window_begins_where_tokens_have_left_it),
		cmocka_unit_test(info_has_what_the_protocol_says),
		cmocka_unit_test(states_are_counted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
