/*
 * What the gateway decides without a connection: paths, ids, keys, bodies, and which conversation a history belongs
 * to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "http_id.h"
#include "http_key.h"
#include "http_match.h"
#include "http_plan.h"
#include "http_route.h"

static void paths_are_found_with_what_stands_in_them(void **state)
{
	static const struct {
		const char *path;
		enum http_path found;
		const char *id;
	} cases[] = {
		{ "/health", HTTP_HEALTH, "" },
		{ "/v1/models", HTTP_MODELS, "" },
		{ "/models", HTTP_MODELS, "" },
		{ "/v1/models/a%2Fb", HTTP_MODEL, "a/b" },
		{ "/v1/models/a%C3%A4", HTTP_MODEL, "a\303\244" },
		{ "/v1/responses/x/cancel", HTTP_RESPONSE_CANCEL, "x" },
		{ "/v1/conversations/two words/items", HTTP_ITEMS, "two words" },
		{ "/v1/models/", HTTP_PATHS, NULL },
		{ "/v1/models/a/b", HTTP_PATHS, NULL },
		{ "/v1/models/%", HTTP_PATHS, NULL },
		{ "/v1/models/%4", HTTP_PATHS, NULL },
		{ "/v1/models/%00", HTTP_PATHS, NULL },
		{ "/v1/models/%ff", HTTP_PATHS, NULL },
		{ "/v1/health", HTTP_PATHS, NULL },
		{ "", HTTP_PATHS, NULL },
	};
	char id[HTTP_ID_MOST];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(http_route_find(cases[i].path, id), cases[i].found);
		if (cases[i].id)
			assert_string_equal(id, cases[i].id);
	}
}

static void a_response_id_holds_all_that_finds_it(void **state)
{
	struct http_response_id id = { .name = "M\303\244rz 1",
				       .stored = true,
				       .message = 12,
				       .seq = 345,
				       .created = 1700000000,
				       .cached = 6 },
				back;
	char text[HTTP_RESPONSE_MOST];

	(void)state;
	http_id_write(&id, text);
	assert_true(strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_") == strlen(text));
	assert_true(http_id_read(text, &back));
	assert_string_equal(back.name, id.name);
	assert_true(back.stored && back.message == 12 && back.seq == 345 && back.created == 1700000000 &&
		    back.cached == 6);
	text[strlen(text) - 1] = '\0';
	assert_false(http_id_read(text, &back));
	assert_false(http_id_read("resp_s1_0_1_1_61", &back)); /* events are numbered from 1 */
	assert_false(http_id_read("resp_s1_1_1_1_00", &back));
	assert_false(http_id_read("resp_s1_1_1_1_", &back));
	assert_false(http_id_read("resp_", &back));
}

static void names_are_made_of_what_clients_call_their_chats(void **state)
{
	char name[HTTP_NAME_MOST], lengthy[200];

	(void)state;
	assert_true(http_id_name("a/b@c=d", name));
	assert_string_equal(name, "a-b-c-d");
	assert_true(http_id_name(" .-x ", name));
	assert_string_equal(name, "x");
	assert_false(http_id_name("-", name));
	memset(lengthy, 'a', sizeof(lengthy));
	memcpy(lengthy + 63, "\303\244", 2);
	lengthy[199] = '\0';
	assert_true(http_id_name(lengthy, name));
	assert_int_equal(strlen(name), 63); /* no half of a character */
	http_id_hidden(true, name);
	assert_true(http_id_is_hidden(name) && http_id_has_system(name));
	assert_false(http_id_is_hidden("http-notes"));
}

static void keys_fit_as_a_whole(void **state)
{
	char path[] = "/tmp/test_http.XXXXXX", cause[200];
	int fd = mkstemp(path);
	struct http_keys k = { 0 };

	(void)state;
	assert_true(fd >= 0);
	assert_false(http_key_load(&k, path, cause, sizeof(cause))); /* none in it */
	assert_int_equal(write(fd, "# c\n\n one \ntwo\n", 15), 15);
	close(fd);
	assert_true(http_key_load(&k, path, cause, sizeof(cause)));
	assert_int_equal(k.count, 2);
	assert_true(http_key_fits(&k, "Bearer one") && http_key_fits(&k, "bearer  two"));
	assert_false(http_key_fits(&k, "Bearer on") || http_key_fits(&k, "Bearer one ") ||
		     http_key_fits(&k, "Bearer ") || http_key_fits(&k, "one") || http_key_fits(&k, NULL) ||
		     http_key_fits(&k, "Basic one"));
	assert_false(http_key_load(&k, "/nonexistent", cause, sizeof(cause)));
	assert_true(http_key_fits(&k, "Bearer one")); /* what was there stays */
	http_key_release(&k);
	unlink(path);
}

static void plan_of(const char *body, struct http_plan *p)
{
	struct http_error e;

	assert_int_equal(http_plan_chat(body, strlen(body), p, &e), 0);
}

static void a_chat_is_read_in_its_many_forms(void **state)
{
	struct http_plan p;

	(void)state;
	plan_of("{\"messages\":[{\"role\":\"system\",\"content\":\"a\"},{\"role\":\"developer\",\"content\":\"b\"},"
		"{\"role\":\"user\",\"content\":"
		"[{\"type\":\"text\",\"text\":\"c\"},{\"type\":\"text\",\"text\":\"d\"}]},"
		"{\"role\":\"tool\",\"content\":\"e\"}],\"max_tokens\":5,\"max_completion_tokens\":7,\"stop\":\"x\"}",
		&p);
	assert_string_equal(p.system.at, "a\n\nb");
	assert_int_equal(p.count, 2);
	assert_string_equal(p.message[0].text.at, "cd");
	assert_string_equal(p.message[1].role, "user");
	assert_string_equal(p.message[1].text.at, "<tool_response>\ne\n</tool_response>");
	assert_int_equal(json_integer_value(json_object_get(p.sampling, "max_tokens")), 7);
	assert_int_equal(json_array_size(json_object_get(p.sampling, "stop")), 1);
	http_plan_release(&p);

	plan_of("{\"messages\":[{\"role\":\"system\",\"content\":\"a\"}]}",
		&p); /* it is said, having nothing behind it */
	assert_true(!p.system.at && p.count == 1);
	http_plan_release(&p);
}

static void errors_name_the_field(void **state)
{
	static const char *const bodies[][2] = {
		{ "{\"messages\":[]}", "messages" },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"stop\":7}", "stop" },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"n\":2}", "n" },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"tools\":[{}]}", "tools" },
		{ "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"response_format\":{\"type\":\"x\"}}",
		  "response_format" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
		struct http_plan p;
		struct http_error e;

		assert_int_equal(http_plan_chat(bodies[i][0], strlen(bodies[i][0]), &p, &e), -1);
		assert_int_equal(e.status, 400);
		assert_string_equal(e.param, bodies[i][1]);
		http_plan_release(&p);
	}
}

/* A chain of messages "a", "b", … */
static void hashes(struct http_hash root, const char *messages, struct http_hash *ret)
{
	for (size_t i = 0; messages[i]; i++)
		ret[i] = root = http_match_next(root, i % 2 ? "assistant" : "user", &messages[i], 1);
}

static struct http_chain *chain_of(struct http_match *m, const char *name, struct http_hash root, const char *messages)
{
	struct http_chain *c = http_match_add(m, name, root, NULL, 0);
	struct http_hash h[8];

	assert_non_null(c);
	hashes(root, messages, h);
	for (size_t i = 0; messages[i]; i++)
		http_match_push(c, h[i]);
	c->made = true;
	return c;
}

static void the_longest_common_history_wins(void **state)
{
	struct http_hash root = http_match_root(NULL, 0), other = http_match_root("s", 1), want[8];
	struct http_match m;
	struct http_chain *ab, *abcd, *best;
	size_t common;

	(void)state;
	http_match_init(&m);
	abcd = chain_of(&m, "abcd", root, "abcd");
	ab = chain_of(&m, "ab", root, "ab");
	chain_of(&m, "other", other, "abcde");
	hashes(root, "abcde", want);
	best = http_match_best(&m, root, want, 4, &common);
	assert_true(best == abcd && common == 4);
	assert_true(http_match_best(&m, root, want, 2, &common) == ab && common == 2); /* nothing to be forked */
	ab->busy = true;
	http_match_best(&m, root, want, 2, &common);
	assert_int_equal(common, 2);
	abcd->made = false;
	assert_true(http_match_best(&m, root, want, 4, &common) == ab);
	http_match_push(ab, (struct http_hash){ 0 });
	assert_true(http_match_best(&m, root, want, 4, &common) == ab && common == 2);
	hashes(root, "x", want);
	assert_true(http_match_best(&m, root, want, 1, &common) && common == 0); /* the system prompt at least */
	assert_null(http_match_best(&m, http_match_root("t", 1), want, 1, &common));
	http_match_release(&m);
}

static void blanks_around_a_text_do_not_count(void **state)
{
	struct http_hash root = http_match_root(NULL, 0), a = http_match_next(root, "user", "a b", 3);
	struct http_hash b = http_match_next(root, "user", "\n a b ", 6), c = http_match_next(root, "user", "ab", 2);
	struct http_hash d = http_match_next(root, "assistant", "a b", 3);

	(void)state;
	assert_memory_equal(&a, &b, sizeof(a));
	assert_memory_not_equal(&a, &c, sizeof(a));
	assert_memory_not_equal(&a, &d, sizeof(a));
}

static void the_oldest_idle_one_goes(void **state)
{
	struct http_hash root = http_match_root(NULL, 0);
	struct http_match m;
	struct http_chain *first, *second;

	(void)state;
	http_match_init(&m);
	first = chain_of(&m, "1", root, "a");
	second = chain_of(&m, "2", root, "b");
	chain_of(&m, "3", root, "c");
	assert_null(http_match_oldest(&m, 3));
	assert_true(http_match_oldest(&m, 2) == first);
	http_match_use(&m, first);
	assert_true(http_match_oldest(&m, 2) == second);
	second->busy = true; /* it does not count at all */
	assert_null(http_match_oldest(&m, 2));
	first->held = 1;
	assert_true(http_match_oldest(&m, 0) == http_match_named(&m, "3"));
	http_match_release(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paths_are_found_with_what_stands_in_them),
		cmocka_unit_test(a_response_id_holds_all_that_finds_it),
		cmocka_unit_test(names_are_made_of_what_clients_call_their_chats),
		cmocka_unit_test(keys_fit_as_a_whole),
		cmocka_unit_test(a_chat_is_read_in_its_many_forms),
		cmocka_unit_test(errors_name_the_field),
		cmocka_unit_test(the_longest_common_history_wins),
		cmocka_unit_test(blanks_around_a_text_do_not_count),
		cmocka_unit_test(the_oldest_idle_one_goes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
