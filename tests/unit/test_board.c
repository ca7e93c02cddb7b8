/*
 * board.c from its manual: that the layout is the one that the manuals tell, that a reader never sees half a writing,
 * and that nothing a segment says of itself makes a reader leave it.
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
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "board.h"

enum { WRITINGS = 20000 };

static const char *type_of(const struct board_field *f)
{
	static const char *const names[] = {
		[BOARD_U32] = "u32", [BOARD_I64] = "i64",   [BOARD_F32] = "f32",
		[BOARD_F64] = "f64", [BOARD_BOOL] = "bool", [BOARD_WORD] = "word",
	};
	static char text[32];

	if (f->type == BOARD_TEXT)
		snprintf(text, sizeof(text), "text %u", f->size);
	else if (f->type == BOARD_COUNTS)
		snprintf(text, sizeof(text), "u64 x %u", f->size / 8);
	else
		snprintf(text, sizeof(text), "%s", names[f->type]);
	return text;
}

static char *read_file(const char *name)
{
	const char *top = getenv("top_srcdir");
	char path[4096], *text;
	FILE *from;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", top ? top : ".", name);
	from = fopen(path, "r");
	if (!from)
		fail_msg("%s cannot be read", path);
	text = calloc(1, 1 << 20);
	n = fread(text, 1, (1 << 20) - 1, from);
	assert_in_range(n, 1, (1 << 20) - 2);
	fclose(from);
	return text;
}

static size_t count(const char *text, const char *what)
{
	size_t n = 0;

	for (; (text = strstr(text, what)); text++)
		n++;
	return n;
}

static void each_field_is_where_the_manuals_say(void **state)
{
	static const struct board_field *const all[] = { board_header_fields, board_state_fields, board_row_fields };
	char *page = read_file("libproto/README.md"), *manual = read_file("man/sink-protocol.7"), line[128];
	size_t fields = 0;

	(void)state;
	for (size_t i = 0; i < 3; i++)
		for (const struct board_field *f = all[i]; f->name; f++, fields++) {
			const char *name = f->name + (*f->name == '.');

			snprintf(line, sizeof(line), "\n| %u | %s | `%s` |", f->offset, type_of(f), name);
			if (count(page, line) != 1)
				fail_msg("libproto/README.md has no \"%s\"", line + 1);
			snprintf(line, sizeof(line), "\n.It %s Ta %u Ta %s Ta ", name, f->offset, type_of(f));
			if (count(manual, line) != 1)
				fail_msg("sink-protocol(7) has no \"%s\"", line + 1);
		}
	assert_int_equal(count(manual, " Ta "), 3 * fields);
	free(page);
	free(manual);
}

static void fields_do_not_overlap(void **state)
{
	static const struct {
		const struct board_field *f;
		size_t size;
	} all[] = { { board_header_fields, sizeof(struct board_header) },
		    { board_state_fields, sizeof(struct board_state) },
		    { board_row_fields, sizeof(struct board_row) } };

	(void)state;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		size_t end = 0;

		for (const struct board_field *f = all[i].f; f->name; f++) {
			assert_true(f->offset >= end);
			assert_int_equal(f->offset % (f->type == BOARD_TEXT || f->size < 8 ? 4 : 8), 0);
			end = f->offset + f->size;
		}
		assert_true(end <= all[i].size);
	}
}

static void a_name_comes_from_the_endpoint(void **state)
{
	char canonical[BOARD_ENDPOINT], name[BOARD_NAME], other[BOARD_NAME], folder[] = "/tmp/test-board-XXXXXX";
	char link[64], endpoint[128], longest[400];

	(void)state;
	/* FNV-1a of "a" is af63dc4c8601ec8c, as its authors' test vectors have it. */
	assert_int_equal(board_name("a", canonical, name, NULL), 0);
	assert_string_equal(name, "/sinkd-af63dc4c8601ec8c");
	assert_int_equal(board_name("tcp://127.0.0.1:7777", canonical, name, NULL), 0);
	assert_string_equal(canonical, "tcp://127.0.0.1:7777");

	assert_non_null(mkdtemp(folder));
	snprintf(link, sizeof(link), "%s.link", folder);
	assert_int_equal(symlink(folder, link), 0);
	snprintf(endpoint, sizeof(endpoint), "ipc://%s/x.sock", folder);
	assert_int_equal(board_name(endpoint, canonical, name, NULL), 0);
	assert_string_equal(canonical, endpoint);
	snprintf(endpoint, sizeof(endpoint), "ipc://%s//x.sock", link);
	assert_int_equal(board_name(endpoint, canonical, other, NULL), 0);
	assert_string_equal(name, other);
	assert_int_equal(board_name("ipc:///nowhere/at/all/x", canonical, name, NULL), 0);
	assert_string_equal(canonical, "ipc:///nowhere/at/all/x");
	assert_int_equal(board_name("ipc:///x.sock", canonical, name, NULL), 0);
	assert_string_equal(canonical, "ipc:///x.sock");
	unlink(link);
	rmdir(folder);

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(board_name(longest, canonical, name, NULL), SINK_EINVAL);
}

/* A segment, as memory that is not shared. */
struct scene {
	void *segment;
	struct board_header header;
	struct board_state state;
	struct board_row row[BOARD_ROWS];
	atomic_bool over;
};

static struct scene *scene_new(void)
{
	struct scene *s = calloc(1, sizeof(*s));

	s->segment = aligned_alloc(64, (board_size() + 63) / 64 * 64);
	memset(s->segment, 0, board_size());
	return s;
}

static void scene_free(struct scene *s)
{
	free(s->segment);
	free(s);
}

static int read_scene(struct scene *s, struct board_state *state, struct board_row *row)
{
	struct board_header h;

	return board_read(s->segment, board_size(), &h, state, row, NULL);
}

static void what_is_not_written_yet_is_no_segment(void **state)
{
	struct scene *s = scene_new();

	(void)state;
	assert_int_equal(read_scene(s, &s->state, s->row), SINK_EFORMAT);
	board_begin(s->segment, &s->header);
	assert_int_equal(read_scene(s, &s->state, s->row), SINK_EFORMAT);
	s->state.rows = 0;
	board_write(s->segment, &s->state, s->row);
	assert_int_equal(read_scene(s, &s->state, s->row), 0);
	assert_int_equal(board_read(s->segment, 100, &s->header, &s->state, s->row, NULL), SINK_EFORMAT);
	scene_free(s);
}

/* Writing number `n`, of which every number is made. */
static void compose(struct scene *s, int64_t n)
{
	s->state.rows = (uint32_t)(n % (BOARD_ROWS + 1));
	s->state.conversations = s->state.model_context = s->state.tokens_written = n;
	for (uint32_t i = 0; i < s->state.rows; i++) {
		s->row[i].tokens = s->row[i].cache_bytes = n;
		s->row[i].used = (double)n;
	}
}

/* Whether all of it is of one writing, whose number it returns. */
static int64_t whole(const struct board_state *s, const struct board_row *row)
{
	const int64_t n = s->conversations;

	assert_int_equal(s->rows, n % (BOARD_ROWS + 1));
	assert_true(s->model_context == n && s->tokens_written == n);
	for (uint32_t i = 0; i < s->rows; i++)
		assert_true(row[i].tokens == n && row[i].cache_bytes == n && row[i].used == (double)n);
	return n;
}

static void *write_on(void *arg)
{
	struct scene *s = arg;

	for (int64_t n = 2; n <= WRITINGS; n++) {
		compose(s, n);
		board_write(s->segment, &s->state, s->row);
	}
	atomic_store(&s->over, true);
	return NULL;
}

static void a_reader_sees_whole_writings_in_order(void **state)
{
	struct scene *s = scene_new();
	struct board_row *row = calloc(BOARD_ROWS, sizeof(*row));
	struct board_state seen;
	pthread_t writer;
	int64_t last = 0;
	bool over;

	(void)state;
	board_begin(s->segment, &s->header);
	compose(s, 1);
	board_write(s->segment, &s->state, s->row);
	assert_int_equal(pthread_create(&writer, NULL, write_on, s), 0);
	do {
		int64_t n;

		over = atomic_load(&s->over);
		/* A writer without a pause may win every race; at a few writings a second it cannot. */
		if (read_scene(s, &seen, row) == SINK_EBUSY)
			continue;
		n = whole(&seen, row);
		assert_true(n >= last);
		last = n;
	} while (!over);
	pthread_join(writer, NULL);
	assert_int_equal(last, WRITINGS);
	free(row);
	scene_free(s);
}

static void a_writer_that_stops_in_the_middle_leaves_the_writing_before(void **state)
{
	struct scene *s = scene_new();
	char *next;

	(void)state;
	board_begin(s->segment, &s->header);
	for (int64_t n = 1; n <= 3; n++) {
		compose(s, n);
		board_write(s->segment, &s->state, s->row);
	}
	next = (char *)s->segment + sizeof(struct board_header); /* slot 0: the fourth writing would go there */
	++*(uint32_t *)next;
	memset(next + sizeof(uint32_t), 0xff, 500);
	assert_int_equal(read_scene(s, &s->state, s->row), 0);
	assert_int_equal(whole(&s->state, s->row), 3);
	scene_free(s);
}

/* What a segment says of its sizes and rows may be anything; valgrind and the sanitizers watch. */
static void a_damaged_header_is_refused(void **state)
{
	static const size_t places[] = {
		offsetof(struct board_header, magic),	     offsetof(struct board_header, version),
		offsetof(struct board_header, header_bytes), offsetof(struct board_header, slot_bytes),
		offsetof(struct board_header, state_bytes),  offsetof(struct board_header, row_bytes),
		offsetof(struct board_header, rows),
	};
	static const uint32_t wrong[] = { 0, 1, 7, 4096 + 4, 1 << 20, 0x7ffffff8, UINT32_MAX - 7, UINT32_MAX };
	struct scene *s = scene_new();
	const struct board_header *h;

	(void)state;
	board_begin(s->segment, &s->header);
	compose(s, 5);
	board_write(s->segment, &s->state, s->row);
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++)
		for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
			uint32_t *at = (uint32_t *)((char *)s->segment + places[i]), right = *at;
			int rc;

			if (wrong[k] == right)
				continue;
			*at = wrong[k];
			rc = read_scene(s, &s->state, s->row);
			if (rc != SINK_EFORMAT && rc != SINK_EPROTO) /* fewer rows are no damage */
				assert_int_equal(places[i], offsetof(struct board_header, rows));
			*at = right;
		}
	h = s->segment;
	((struct board_state *)((char *)s->segment + h->header_bytes + h->slot_bytes))->rows = UINT32_MAX;
	assert_int_equal(read_scene(s, &s->state, s->row), 0);
	assert_true(s->state.rows <= BOARD_ROWS);
	scene_free(s);
}

/* A newer daemon of the same version may have larger parts. */
static void larger_parts_are_read_as_well(void **state)
{
	struct scene *s = scene_new();
	const uint32_t state_bytes = sizeof(struct board_state) + 64, row_bytes = sizeof(struct board_row) + 32;
	struct board_header *h = s->segment;
	char *slot;

	(void)state;
	board_begin(s->segment, &s->header);
	h->header_bytes += 128;
	h->state_bytes = state_bytes;
	h->row_bytes = row_bytes;
	h->rows = 8;
	h->slot_bytes = state_bytes + 8 * row_bytes;
	h->latest = 1;
	compose(s, 3);
	slot = (char *)s->segment + h->header_bytes + h->slot_bytes;
	memcpy(slot, &s->state, sizeof(s->state));
	for (uint32_t i = 0; i < 3; i++)
		memcpy(slot + state_bytes + (size_t)i * row_bytes, &s->row[i], sizeof(s->row[i]));
	memset(&s->state, 0, sizeof(s->state));
	memset(s->row, 0, sizeof(s->row));
	assert_int_equal(read_scene(s, &s->state, s->row), 0);
	assert_int_equal(whole(&s->state, s->row), 3);
	scene_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_field_is_where_the_manuals_say),
		cmocka_unit_test(fields_do_not_overlap),
		cmocka_unit_test(a_name_comes_from_the_endpoint),
		cmocka_unit_test(what_is_not_written_yet_is_no_segment),
		cmocka_unit_test(a_reader_sees_whole_writings_in_order),
		cmocka_unit_test(a_writer_that_stops_in_the_middle_leaves_the_writing_before),
		cmocka_unit_test(a_damaged_header_is_refused),
		cmocka_unit_test(larger_parts_are_read_as_well),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
