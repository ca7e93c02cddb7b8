/* The client's pure parts from their manuals: names, numbers for people, JSON cut in pieces, text made harmless,
 * tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <locale.h>
#undef fail /* the client has one of its own */

#include "buf.h"
#include "fail.h"
#include "format.h"
#include "json.h"
#include "nearest.h"
#include "paths.h"
#include "start.h"
#include "target.h"
#include "term.h"
#include "verb.h"

static void a_name_is_exact_or_the_only_beginning(void **state)
{
	static const char *const names[] = { "main", "main-2", "essay", "chat" };

	(void)state;
	assert_int_equal(target_match("main", names, 4), 0);
	assert_int_equal(target_match("main-", names, 4), 1);
	assert_int_equal(target_match("e", names, 4), 2);
	assert_int_equal(target_match("mai", names, 4), -2);
	assert_int_equal(target_match("Main", names, 4), -1);
	assert_int_equal(target_match("chatter", names, 4), -1);
	assert_int_equal(target_match("", names, 4), -2);
	assert_int_equal(target_match("x", names, 0), -1);
}

static void a_message_follows_the_at(void **state)
{
	static const char *const wrong[] = { "main@",	"main@x",  "main@-1",
					     "main@ 1", "main@1x", "main@99999999999999999999" };
	char name[TARGET_SIZE], longer[TARGET_SIZE + 1];
	int64_t message;

	(void)state;
	assert_int_equal(target_split("main@12", name, &message), 0);
	assert_string_equal(name, "main");
	assert_int_equal(message, 12);
	assert_int_equal(target_split("main", name, &message), 0);
	assert_int_equal(message, -1);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_int_equal(target_split(wrong[i], name, &message), FAIL_USAGE);
	memset(longer, 'x', TARGET_SIZE);
	longer[TARGET_SIZE] = '\0';
	assert_int_equal(target_split(longer, name, &message), FAIL_USAGE);
}

static void spans_are_told_in_one_unit(void **state)
{
	static const struct {
		double seconds;
		const char *text;
	} cases[] = { { -5, "now" },   { 0.9, "now" },	      { 1, "1s" },	   { 59.9, "59s" },
		      { 60, "1m" },    { 3599, "59m" },	      { 3600, "1h" },	   { 86399, "23h" },
		      { 86400, "1d" }, { 13 * 86400, "13d" }, { 14 * 86400, "2w" } };
	char text[32];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_string_equal(format_age(cases[i].seconds, text, sizeof(text)), cases[i].text);
}

static void a_moment_is_a_span_ago_or_a_date(void **state)
{
	static const char *const wrong[] = { "", "5", "m", "5y", "-5m", "12:30", "2026-13-01", "2026-01-31 x", "soon" };

	(void)state;
	assert_true(format_moment("90s", 1000) == 910);
	assert_true(format_moment("0.5m", 1000) == 970);
	assert_true(format_moment("3h", 1e6) == 1e6 - 3 * 3600);
	assert_true(format_moment("2d", 1e6) == 1e6 - 2 * 86400);
	assert_true(format_moment("1w", 1e6) == 1e6 - 7 * 86400);
	assert_true(format_moment("2026-01-31 12:30", 0) - format_moment("2026-01-31", 0) == 12.5 * 3600);
	assert_true(format_moment("2026-01-31T12:30:07", 0) - format_moment("2026-01-31 12:30", 0) == 7);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_true(format_moment(wrong[i], 1000) == -1);
}

static void sizes_go_in_steps_of_thousand(void **state)
{
	char text[32];

	(void)state;
	assert_string_equal(format_bytes(0, text, sizeof(text)), "0 B");
	assert_string_equal(format_bytes(999, text, sizeof(text)), "999 B");
	assert_string_equal(format_bytes(1000, text, sizeof(text)), "1.0 kB");
	assert_string_equal(format_bytes(999960, text, sizeof(text)), "1.0 MB");
	assert_string_equal(format_bytes(94371840, text, sizeof(text)), "94.4 MB");
	assert_string_equal(format_bytes(5e15, text, sizeof(text)), "5000.0 TB");
}

static void the_footer_tells_what_was_done(void **state)
{
	struct format_usage u = { .prompt = 31,
				  .generated = 12,
				  .window = 43,
				  .pinned = 4,
				  .capacity = 4096,
				  .per_s = 58.4,
				  .finish = "end" };
	char text[320];

	(void)state;
	assert_string_equal(format_footer(&u, text, sizeof(text)),
			    "31 prompt (0 cached) · 12 new · window 43/4096, 4 pinned, 0 evicted · 58 t/s");
	u = (struct format_usage){ .prompt = 7,
				   .cached = 900,
				   .generated = 40,
				   .window = 947,
				   .pinned = 30,
				   .per_s = 5.25,
				   .kept = 6,
				   .evicted = 12,
				   .finish = "length" };
	assert_string_equal(format_footer(&u, text, sizeof(text)),
			    "7 prompt (900 cached) · 40 new · window 947, 30 pinned, 6 kept, 12 evicted · 5.2 t/s"
			    " · cut at its limit");
	u.finish = "stopped";
	u.per_s = 0;
	assert_non_null(strstr(format_footer(&u, text, sizeof(text)), "12 evicted · stopped"));
}

static void a_policy_tells_the_size_of_its_window(void **state)
{
	(void)state;
	assert_int_equal(format_capacity("sink:4,1020"), 1020);
	assert_int_equal(format_capacity("window:256"), 256);
	assert_int_equal(format_capacity("recompute:256"), 256);
	assert_int_equal(format_capacity("sink:1,1020,token=49151"), 1020);
	assert_int_equal(format_capacity("separator:4,64,252"), 252);
	assert_int_equal(format_capacity("separator:4,all,252"), 252);
	assert_int_equal(format_capacity("anchor:0,32,7"), 7);
	assert_int_equal(format_capacity("dense"), 0);
	assert_int_equal(format_capacity(""), 0);
}

static void a_line_stands_where_the_memory_begins(void **state)
{
	char text[160];

	(void)state;
	assert_string_equal(format_horizon(0, "sink:4,1020", text, sizeof(text)),
			    "── the model's memory begins here ──");
	assert_string_equal(format_horizon(64, "separator:4,64,252", text, sizeof(text)),
			    "── the model's memory begins here (and 64 separators of what is above) ──");
	assert_string_equal(format_horizon(1, "anchor:0,32,7", text, sizeof(text)),
			    "── the model's memory begins here (and 1 anchor of what is above) ──");
}

static struct json whole(const char *text)
{
	return (struct json){ text, strlen(text) };
}

static void assert_piece(struct json piece, const char *text)
{
	assert_int_equal(piece.size, strlen(text));
	assert_memory_equal(piece.text, text, piece.size);
}

static void json_is_cut_where_values_end(void **state)
{
	struct json all = whole("{\"a\":{\"list\":[9]}, \"list\" : [{\"n\":\"x]\\\"},\"},[1,2] , 3,{}],\"z\":null}");
	struct json list, one;
	size_t at = 0;

	(void)state;
	assert_true(json_member(all, "list", &list));
	assert_true(json_next(list, &at, &one));
	assert_piece(one, "{\"n\":\"x]\\\"},\"}");
	assert_true(json_next(list, &at, &one));
	assert_piece(one, "[1,2]");
	assert_true(json_next(list, &at, &one));
	assert_piece(one, "3");
	assert_true(json_next(list, &at, &one));
	assert_piece(one, "{}");
	assert_false(json_next(list, &at, &one));
	assert_true(json_member(all, "z", &one));
	assert_piece(one, "null");
	assert_false(json_member(all, "n", &one));
}

static void damaged_json_gives_no_byte_beyond_it(void **state)
{
	static const char text[] = "{\"a\":[\"b\\\"\",{\"c\":1}],\"d\":2}";

	(void)state;
	for (size_t size = 0; size < sizeof(text); size++) {
		char *copy = malloc(size + 1);
		struct json cut = { copy, size }, list, one;
		size_t at = 0;

		memcpy(copy, text, size);
		if (json_member(cut, "a", &list))
			while (json_next(list, &at, &one))
				assert_true(one.text >= copy && one.text + one.size <= copy + size);
		json_member(cut, "d", &one);
		free(copy);
	}
}

static void quotes_are_escaped(void **state)
{
	struct buf b = { 0 };

	(void)state;
	json_quote(&b, "a\"b\\c\nä");
	assert_string_equal(buf_text(&b), "\"a\\\"b\\\\c\\u000aä\"");
	buf_release(&b);
}

static void json_of_a_file_is_checked(void **state)
{
	static const char *const good[] = { "{}",
					    " [ ] ",
					    "null",
					    "-0.5e+10",
					    "0",
					    "\"\\u00e4\\\"\\\\\\/\\b\"",
					    "{\"a\":[1,true,{\"b\":null}],\"c\":\"\xc3\xa4\"}\n" };
	static const char *const bad[] = { "",	      "{",	     "}",	 "[1,]",  "{\"a\":1,}",
					   "{\"a\"}", "{a:1}",	     "[1 2]",	 "01",	  "1.",
					   "-",	      "1e",	     "tru",	 "\"a",	  "\"\n\"",
					   "\"\\x\"", "\"\\u12g4\"", "\"\xff\"", "{} {}", "[\"a\"}" };
	char deep[200];

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		assert_true(json_valid(whole(good[i])));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_false(json_valid(whole(bad[i])));
	assert_false(json_valid((struct json){ "[1]\0", 4 }));
	memset(deep, '[', 100);
	memset(deep + 100, ']', 100);
	assert_false(json_valid((struct json){ deep, 200 }));
	assert_true(json_valid((struct json){ deep + 40, 120 }));
}

static void assert_string(const char *json, const char *text, size_t len)
{
	struct buf b = { 0 };

	assert_true(json_unquote(whole(json), &b));
	assert_int_equal(b.size, len);
	assert_memory_equal(buf_text(&b), text, len);
	buf_release(&b);
}

static void escapes_of_json_are_resolved(void **state)
{
	static const char damaged[] = "\"a\\u00e4\\ud83d\\ude00\\n\"";
	struct buf b = { 0 };

	(void)state;
	assert_string("\"\"", "", 0);
	assert_string("\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "a\"\\/\b\f\n\r\t", 9);
	assert_string("\"\\u0041\\u00E4\\u20ac\\u0000\"", "A\xc3\xa4\xe2\x82\xac\0", 7);
	assert_string("\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4);
	assert_string("\"\\ud83dx\\ude00\"", "\xef\xbf\xbdx\xef\xbf\xbd", 7);
	assert_string("\"\\ud83d\\u0041\"",
		      "\xef\xbf\xbd"
		      "A",
		      4);
	assert_false(json_unquote(whole("1"), &b));
	assert_false(json_unquote(whole(""), &b));
	for (size_t size = 0; size < sizeof(damaged); size++) {
		char *copy = malloc(size + 1);

		memcpy(copy, damaged, size);
		json_unquote((struct json){ copy, size }, &b); /* reads nothing beyond it */
		free(copy);
	}
	buf_release(&b);
}

static void a_file_is_known_by_its_beginning(void **state)
{
	(void)state;
	assert_int_equal(bundle_kind("{\"name\":1}", 10), BUNDLE_JSON);
	assert_int_equal(bundle_kind("\xef\xbb\xbf\n\t {", 7), BUNDLE_JSON);
	assert_int_equal(bundle_kind("sinkd\0\1", 7), BUNDLE_BYTES);
	assert_int_equal(bundle_kind("\0{", 2), BUNDLE_BYTES);
	assert_int_equal(bundle_kind("# sea\n\n## user\n", 15), BUNDLE_OTHER);
	assert_int_equal(bundle_kind("", 0), BUNDLE_OTHER);
}

static void text_cannot_drive_a_terminal(void **state)
{
	static const char text[] = "a\033[31mb\a\tc\r\nd\x7f\xc2\x9b"
				   "5m\xc3\xa4\0e";
	struct buf b = { 0 };

	(void)state;
	term_filter(&b, text, sizeof(text) - 1);
	assert_string_equal(buf_text(&b), "a^[[31mb^G\tc\nd^?\xef\xbf\xbd"
					  "5m\xc3\xa4^@e");
	buf_release(&b);
}

static void utf8_is_known_from_other_bytes(void **state)
{
	static const struct {
		const char *text;
		size_t good;
	} cases[] = {
		{ "", 0 },
		{ "abc", 3 },
		{ "\xc3\xa4", 2 },
		{ "\xe2\x82\xac", 3 },
		{ "\xf0\x9f\x98\x80", 4 },
		{ "a\xc3", 1 },
		{ "a\x80", 1 },
		{ "\xc0\x80", 0 },
		{ "\xe0\x80\x80", 0 },
		{ "\xed\xa0\x80", 0 },
		{ "\xf4\x90\x80\x80", 0 },
		{ "\xff", 0 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(buf_utf8(cases[i].text, strlen(cases[i].text)), cases[i].good);
}

static void bytes_grow_are_cut_and_dropped(void **state)
{
	struct buf b = { 0 };

	(void)state;
	assert_string_equal(buf_text(&b), "");
	buf_drop(&b, 3);
	buf_cut(&b, 0);
	for (int i = 0; i < 1000; i++)
		buf_addf(&b, "%d,", i);
	assert_int_equal(b.size, 3890);
	buf_cut(&b, 6);
	buf_drop(&b, 2);
	assert_string_equal(buf_text(&b), "1,2,");
	buf_add(&b, "\0x", 2);
	assert_int_equal(b.size, 6);
	assert_false(b.failed);
	buf_release(&b);
}

static void a_mistyped_word_has_a_neighbour(void **state)
{
	static const char *const words[] = { "ask", "attach", "ls", "log", "shutdown" };

	(void)state;
	assert_string_equal(nearest("atach", 5, words, 5), "attach");
	assert_string_equal(nearest("lgo", 3, words, 5), "log");
	assert_string_equal(nearest("shutdwon", 8, words, 5), "shutdown");
	assert_string_equal(nearest("sl", 2, words, 5), "ls");
	assert_null(nearest("model", 5, words, 5));
	assert_null(nearest("", 0, words, 5));
}

static void a_setting_is_read_from_its_line(void **state)
{
	static const char *const none[] = { "models = x", "# model = x", "model", "model =", "[model]", "" };
	char value[20];

	(void)state;
	assert_true(start_setting("  model = /a b/c.gguf \r\n", "model", value, sizeof(value)));
	assert_string_equal(value, "/a b/c.gguf");
	assert_true(start_setting("model=\"x\"\n", "model", value, sizeof(value)));
	assert_string_equal(value, "x");
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		assert_false(start_setting(none[i], "model", value, sizeof(value)));
	assert_false(start_setting("model = 12345678901234567890", "model", value, sizeof(value)));
}

static void directories_fall_back_to_home(void **state)
{
	char path[64];

	(void)state;
	setenv("HOME", "/h", 1);
	setenv("XDG_STATE_HOME", "/s", 1);
	assert_true(paths_get(PATHS_STATE, "f", path, sizeof(path)));
	assert_string_equal(path, "/s/sinkd/f");
	setenv("XDG_STATE_HOME", "relative", 1);
	assert_true(paths_get(PATHS_STATE, "f", path, sizeof(path)));
	assert_string_equal(path, "/h/.local/state/sinkd/f");
	unsetenv("HOME");
	assert_false(paths_get(PATHS_STATE, "f", path, sizeof(path)));
	setenv("HOME", "/a/very/long/home/a/very/long/home/a/very/long/home", 1);
	assert_false(paths_get(PATHS_STATE, "f", path, sizeof(path)));
}

static void each_error_has_its_exit_code(void **state)
{
	const struct fail_row *rows;
	size_t count;

	(void)state;
	assert_int_equal(fail_of("enoent"), FAIL_ABSENT);
	assert_int_equal(fail_of("ebusy"), FAIL_BUSY);
	assert_int_equal(fail_of("einval"), FAIL_USAGE);
	assert_int_equal(fail_of("econn"), FAIL_UNREACHABLE);
	assert_int_equal(fail_of("etimedout"), FAIL_TIMEOUT);
	assert_int_equal(fail_of("eexist"), FAIL_FAILED);
	assert_int_equal(fail_of("enew"), FAIL_FAILED);
	rows = fail_rows(&count);
	for (size_t i = 0; i < count; i++)
		for (size_t j = i + 1; j < count; j++)
			assert_true(rows[i].code != rows[j].code);
}

static void no_verb_takes_a_letter_twice(void **state)
{
	(void)state;
	for (const struct verb *v = verb_rows; v->name; v++) {
		uint64_t options = v->options | OPTION_GLOBAL;

		assert_non_null(v->run);
		assert_non_null(v->summary);
		assert_ptr_equal(verb_find(v->name), v);
		assert_false(v->options & OPTION_GLOBAL);
		for (enum option a = 0; a < OPTION_COUNT; a++)
			for (enum option b = a + 1; b < OPTION_COUNT; b++)
				if ((options & OPTION_BIT(a)) && (options & OPTION_BIT(b)) && option_rows[a].letter)
					assert_true(option_rows[a].letter != option_rows[b].letter);
	}
	assert_null(verb_find("fly"));
}

static void text_fits_its_cells(void **state)
{
	static const struct {
		const char *text;
		size_t cells;
		const char *cut, *padded;
	} rows[] = {
		{ "abc", 5, "abc", "abc  " },
		{ "abc", 3, "abc", "abc" },
		{ "abcd", 3, "ab…", "ab…" },
		{ "abcd", 1, "…", "…" },
		{ "abcd", 0, "", "" },
		{ "", 2, "", "  " },
		{ "日本語", 6, "日本語", "日本語" },
		{ "日本語", 5, "日本…", "日本…" },
		{ "日本語", 4, "日…", "日… " },
		{ "日本語", 2, "…", "… " },
		{ "e\xcc\x81x", 2, "e\xcc\x81x", "e\xcc\x81x" },
		{ "a\nb\033[1m", 7, "a?b?[1m", "a?b?[1m" },
		{ "\xff", 2, "?", "? " },
	};

	(void)state;
	assert_non_null(setlocale(LC_CTYPE, "C.UTF-8"));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct buf b = { 0 };

		term_fit(&b, rows[i].text, rows[i].cells, false);
		assert_string_equal(buf_text(&b), rows[i].cut);
		buf_clear(&b);
		term_fit(&b, rows[i].text, rows[i].cells, true);
		assert_string_equal(buf_text(&b), rows[i].padded);
		buf_release(&b);
	}
	setlocale(LC_CTYPE, "C");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_exact_or_the_only_beginning),
		cmocka_unit_test(text_fits_its_cells),
		cmocka_unit_test(a_message_follows_the_at),
		cmocka_unit_test(spans_are_told_in_one_unit),
		cmocka_unit_test(a_moment_is_a_span_ago_or_a_date),
		cmocka_unit_test(sizes_go_in_steps_of_thousand),
		cmocka_unit_test(the_footer_tells_what_was_done),
		cmocka_unit_test(a_policy_tells_the_size_of_its_window),
		cmocka_unit_test(a_line_stands_where_the_memory_begins),
		cmocka_unit_test(json_is_cut_where_values_end),
		cmocka_unit_test(damaged_json_gives_no_byte_beyond_it),
		cmocka_unit_test(quotes_are_escaped),
		cmocka_unit_test(json_of_a_file_is_checked),
		cmocka_unit_test(escapes_of_json_are_resolved),
		cmocka_unit_test(a_file_is_known_by_its_beginning),
		cmocka_unit_test(text_cannot_drive_a_terminal),
		cmocka_unit_test(utf8_is_known_from_other_bytes),
		cmocka_unit_test(bytes_grow_are_cut_and_dropped),
		cmocka_unit_test(a_mistyped_word_has_a_neighbour),
		cmocka_unit_test(a_setting_is_read_from_its_line),
		cmocka_unit_test(directories_fall_back_to_home),
		cmocka_unit_test(each_error_has_its_exit_code),
		cmocka_unit_test(no_verb_takes_a_letter_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
