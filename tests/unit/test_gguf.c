/* gguf.c from the format's definition: what was written is read, and every way to be wrong is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bad_gguf.h"
#include "gguf.h"
#include "make_gguf.h"

static const float six[6] = { 1, 2, 3, 4, 5, 6 };

static struct make_gguf *some_file(void)
{
	static const char *const texts[] = { "first", "", "third" };
	static const int32_t numbers[] = { -1, 0, INT32_MAX };
	struct make_gguf *m = make_gguf_new();

	make_gguf_u32(m, "u32", UINT32_MAX);
	make_gguf_raw(m, "i8", GGUF_I8, &(const int8_t){ -5 }, 1);
	make_gguf_raw(m, "u64", GGUF_U64, &(const uint64_t){ UINT64_MAX }, 8);
	make_gguf_raw(m, "i64", GGUF_I64, &(const int64_t){ INT64_MIN }, 8);
	make_gguf_raw(m, "u16", GGUF_U16, &(const uint16_t){ 65535 }, 2);
	make_gguf_f32(m, "f32", 0.5F);
	make_gguf_raw(m, "f64", GGUF_F64, &(const double){ 1e-300 }, 8);
	make_gguf_bool(m, "bool", true);
	make_gguf_raw(m, "no bool", GGUF_BOOL, "\2", 1);
	make_gguf_string(m, "text", "some text");
	make_gguf_strings(m, "texts", texts, 3);
	make_gguf_i32s(m, "numbers", numbers, 3);
	make_gguf_tensor(m, "b", DTYPE_F32, 2, (const uint64_t[]){ 3, 2 }, six, sizeof(six));
	make_gguf_tensor(m, "a", DTYPE_F32, 3, (const uint64_t[]){ 1, 2, 3 }, six, sizeof(six));
	make_gguf_tensor(m, "odd", 9999, 1, (const uint64_t[]){ 5 }, six, sizeof(six));
	return m;
}

static struct gguf *parse(struct make_gguf *m, void **data)
{
	struct gguf *g = NULL;
	struct err e = { 0 };
	size_t size;

	*data = make_gguf_finish(m, &size);
	if (gguf_parse(*data, size, &g, &e))
		fail_msg("%s", e.text);
	assert_int_equal(gguf_size(g), size);
	return g;
}

static void numbers_are_read_within_their_range(void **state)
{
	static const struct {
		const char *key;
		int64_t least, most, is;
		int code;
	} cases[] = {
		{ "u32", 0, UINT32_MAX, UINT32_MAX, 0 },
		{ "u32", 0, INT32_MAX, 0, SINK_EFORMAT },
		{ "i8", -5, -5, -5, 0 },
		{ "i8", 0, 10, 0, SINK_EFORMAT },
		{ "u64", INT64_MIN, INT64_MAX, 0, SINK_EFORMAT },
		{ "i64", INT64_MIN, INT64_MAX, INT64_MIN, 0 },
		{ "u16", 0, 65535, 65535, 0 },
		{ "f32", 0, 1, 0, SINK_EFORMAT },
		{ "bool", 0, 1, 0, SINK_EFORMAT },
		{ "text", 0, 1, 0, SINK_EFORMAT },
		{ "numbers", 0, 1, 0, SINK_EFORMAT },
		{ "absent", 0, 1, 0, SINK_ENOENT },
	};
	void *data;
	struct gguf *g = parse(some_file(), &data);

	(void)state;
	for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
		struct err e = { 0 };
		int64_t n = 77;

		assert_int_equal(gguf_int(g, cases[c].key, cases[c].least, cases[c].most, &n, &e), cases[c].code);
		assert_int_equal(n, cases[c].code ? 77 : cases[c].is);
		assert_true(!cases[c].code || strstr(e.text, cases[c].key));
	}
	gguf_close(g);
	free(data);
}

static void absent_keys_have_defaults_and_wrong_types_do_not(void **state)
{
	void *data;
	struct gguf *g = parse(some_file(), &data);
	struct err e = { 0 };
	double f;
	int64_t n;
	bool b;

	(void)state;
	assert_int_equal(gguf_int_or(g, "absent", 1, 2, 42, &n, &e), 0);
	assert_int_equal(n, 42);
	assert_int_equal(gguf_int_or(g, "text", 1, 2, 42, &n, &e), SINK_EFORMAT);
	assert_int_equal(gguf_float_or(g, "absent", 2.5, &f, &e), 0);
	assert_true(f == 2.5);
	assert_int_equal(gguf_float_or(g, "f32", 2.5, &f, &e), 0);
	assert_true(f == 0.5);
	assert_int_equal(gguf_float_or(g, "f64", 2.5, &f, &e), 0);
	assert_true(f == 1e-300);
	assert_int_equal(gguf_float_or(g, "u32", 2.5, &f, &e), SINK_EFORMAT);
	assert_int_equal(gguf_bool_or(g, "absent", true, &b, &e), 0);
	assert_true(b);
	assert_int_equal(gguf_bool_or(g, "bool", false, &b, &e), 0);
	assert_true(b);
	assert_int_equal(gguf_bool_or(g, "no bool", false, &b, &e), SINK_EFORMAT);
	assert_int_equal(gguf_bool_or(g, "u32", false, &b, &e), SINK_EFORMAT);
	gguf_close(g);
	free(data);
}

static void texts_and_lists_are_read(void **state)
{
	void *data;
	struct gguf *g = parse(some_file(), &data);
	struct gguf_str s;

	(void)state;
	assert_int_equal(gguf_string(g, "text", &s, NULL), 0);
	assert_int_equal(s.len, 9);
	assert_memory_equal(s.at, "some text", 9);
	assert_int_equal(gguf_string(g, "absent", &s, NULL), SINK_ENOENT);
	assert_int_equal(gguf_string(g, "u32", &s, NULL), SINK_EFORMAT);
	assert_int_equal(gguf_strings(g, "texts"), 3);
	assert_int_equal(gguf_strings(g, "numbers"), -1);
	assert_int_equal(gguf_strings(g, "text"), -1);
	assert_int_equal(gguf_strings(g, "absent"), -1);
	s = gguf_string_at(g, "texts", 2);
	assert_int_equal(s.len, 5);
	assert_memory_equal(s.at, "third", 5);
	assert_int_equal(gguf_string_at(g, "texts", 1).len, 0);
	assert_int_equal(gguf_numbers(g, "numbers"), 3);
	assert_int_equal(gguf_numbers(g, "texts"), -1);
	assert_true(gguf_number_at(g, "numbers", 0) == -1);
	assert_true(gguf_number_at(g, "numbers", 2) == INT32_MAX);
	assert_true(gguf_has(g, "bool"));
	assert_false(gguf_has(g, "boo"));
	assert_false(gguf_has(g, ""));
	gguf_close(g);
	free(data);
}

static void tensors_are_matrices(void **state)
{
	void *data;
	struct gguf *g = parse(some_file(), &data);
	struct err e = { 0 };
	struct tensor t;

	(void)state;
	assert_int_equal(gguf_tensor(g, "b", &t, &e), 0);
	assert_int_equal(t.type, DTYPE_F32);
	assert_int_equal(t.cols, 3);
	assert_int_equal(t.rows, 2);
	assert_memory_equal(t.data, six, sizeof(six));
	assert_int_equal(gguf_tensor(g, "a", &t, &e), 0);
	assert_int_equal(t.cols, 1);
	assert_int_equal(t.rows, 6);
	assert_int_equal(gguf_tensors(g), 3);
	assert_memory_equal(gguf_tensor_name(g, 0).at, "a", 1);
	assert_int_equal(gguf_tensor(g, "absent", &t, &e), SINK_ENOENT);
	assert_non_null(strstr(e.text, "\"absent\""));
	assert_int_equal(gguf_tensor(g, "odd", &t, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "type 9999"));
	gguf_close(g);
	free(data);
}

static void both_versions_and_every_alignment_are_read(void **state)
{
	(void)state;
	for (uint32_t alignment = 8; alignment <= 4096; alignment *= 2) {
		struct make_gguf *m = make_gguf_new();
		struct tensor t;
		struct gguf *g;
		void *data;

		make_gguf_version(m, alignment % 3 == 1 ? 2 : 3);
		make_gguf_u32(m, "general.alignment", alignment);
		make_gguf_alignment(m, alignment);
		make_gguf_tensor(m, "v", DTYPE_F32, 1, (const uint64_t[]){ 6 }, six, sizeof(six));
		make_gguf_tensor(m, "w", DTYPE_F32, 1, (const uint64_t[]){ 6 }, six, sizeof(six));
		g = parse(m, &data);
		assert_int_equal(gguf_tensor(g, "w", &t, NULL), 0);
		assert_memory_equal(t.data, six, sizeof(six));
		gguf_close(g);
		free(data);
	}
}

/* Memory of exactly this size, so that a sanitizer sees a read behind it. */
static int parse_exactly(const void *data, size_t size, struct err *e)
{
	void *copy = malloc(size ? size : 1);
	struct gguf *g = NULL;
	int code;

	if (!copy)
		abort();
	memcpy(copy, data, size);
	code = gguf_parse(size ? copy : NULL, size, &g, e);
	gguf_close(g);
	free(copy);
	return code;
}

static void a_file_cut_anywhere_is_refused(void **state)
{
	struct make_gguf *m = some_file();
	struct err e = { 0 };
	size_t size;
	void *data = make_gguf_finish(m, &size);

	(void)state;
	/* The last tensor is of an unknown type, so that its bytes cannot be missed. */
	assert_int_equal(parse_exactly(data, size, NULL), 0);
	for (size_t cut = 0; cut < size - sizeof(six) - 8; cut++) {
		e.text[0] = '\0';
		assert_int_equal(parse_exactly(data, cut, &e), SINK_EFORMAT);
		assert_non_null(strstr(e.text, "odel file in memory: "));
	}
	assert_int_equal(parse_exactly(data, 0, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "empty"));
	free(data);
}

/* Whatever one byte says, the answer is a code; the sanitizers watch the rest. */
static void no_byte_can_do_harm(void **state)
{
	static const uint8_t values[] = { 0, 1, 8, 9, 0x7f, 0x80, 0xff };
	size_t size;
	uint8_t *data = make_gguf_finish(some_file(), &size);

	(void)state;
	for (size_t at = 0; at < size; at++)
		for (size_t i = 0; i < sizeof(values); i++) {
			uint8_t was = data[at];
			int code;

			data[at] = values[i];
			code = parse_exactly(data, size, NULL);
			assert_true(code == 0 || code == SINK_EFORMAT);
			data[at] = was;
		}
	free(data);
}

static void each_fault_is_named(void **state)
{
	(void)state;
	for (const struct bad_gguf *b = bad_gguf; b->name; b++) {
		struct make_gguf *m = make_gguf_new();
		struct err e = { 0 };
		size_t size;
		void *data;
		int code;

		b->make(m);
		data = make_gguf_finish(m, &size);
		code = parse_exactly(data, size, &e);
		if (code != (b->says ? SINK_EFORMAT : 0) || (b->says && !strstr(e.text, b->says)))
			fail_msg("%s: code %d, \"%s\"", b->name, code, e.text);
		free(data);
	}
}

static void a_name_in_an_error_is_fit_to_print(void **state)
{
	struct make_gguf *m = make_gguf_new();
	struct err e = { 0 };
	char name[400];
	size_t size;
	void *data;

	(void)state;
	memset(name, '\033', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	make_gguf_claim(m, name, DTYPE_F32, 9, NULL, 0);
	make_gguf_string(m, "padding", "long enough for a tensor's description to fit");
	data = make_gguf_finish(m, &size);
	assert_int_equal(parse_exactly(data, size, &e), SINK_EFORMAT);
	assert_null(strchr(e.text, '\033'));
	assert_non_null(strstr(e.text, "has 9 dimensions"));
	free(data);
}

static int open_path(const char *path, struct err *e)
{
	struct gguf *g = NULL;
	int code = gguf_open(path, &g, e);

	gguf_close(g);
	return code;
}

static void files_are_opened_or_refused_by_name(void **state)
{
	char dir[] = "/tmp/test_gguf.XXXXXX", path[300];
	struct err e = { 0 };

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/model.gguf", dir);
	assert_int_equal(open_path(path, &e), SINK_ENOENT);
	assert_non_null(strstr(e.text, path));
	assert_int_equal(open_path(dir, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "directory"));
	assert_int_equal(make_gguf_write(some_file(), path), 0);
	assert_int_equal(open_path(path, &e), 0);
	assert_int_equal(chmod(path, 0), 0);
	if (geteuid() != 0) {
		assert_int_equal(open_path(path, &e), SINK_EIO);
		assert_non_null(strstr(e.text, path));
	}
	assert_int_equal(chmod(path, 0600), 0);
	assert_int_equal(truncate(path, 100), 0);
	assert_int_equal(open_path(path, &e), SINK_EFORMAT);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(open_path(path, &e), SINK_EFORMAT);
	assert_non_null(strstr(e.text, "is empty"));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(open_path(path, &e), SINK_EFORMAT); /* and at once */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dir), 0);
}

static uint64_t fingerprint_of(bool other_order, float first, const char *name)
{
	float data[6] = { first, 2, 3, 4, 5, 6 };
	struct make_gguf *m = make_gguf_new();
	uint64_t print;
	struct gguf *g;
	void *bytes;

	if (other_order) {
		make_gguf_string(m, "general.name", "the same weights in another file");
		make_gguf_tensor(m, "v", DTYPE_F32, 2, (const uint64_t[]){ 3, 2 }, six, sizeof(six));
	}
	make_gguf_tensor(m, name, DTYPE_F32, 2, (const uint64_t[]){ 2, 3 }, data, sizeof(data));
	if (!other_order)
		make_gguf_tensor(m, "v", DTYPE_F32, 2, (const uint64_t[]){ 3, 2 }, six, sizeof(six));
	g = parse(m, &bytes);
	print = gguf_fingerprint(g);
	gguf_close(g);
	free(bytes);
	return print;
}

static void the_fingerprint_is_of_the_weights(void **state)
{
	(void)state;
	assert_true(fingerprint_of(false, 1, "w") == fingerprint_of(true, 1, "w"));
	assert_true(fingerprint_of(false, 1, "w") != fingerprint_of(false, 1.5F, "w"));
	assert_true(fingerprint_of(false, 1, "w") != fingerprint_of(false, 1, "x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(numbers_are_read_within_their_range),
		cmocka_unit_test(absent_keys_have_defaults_and_wrong_types_do_not),
		cmocka_unit_test(texts_and_lists_are_read),
		cmocka_unit_test(tensors_are_matrices),
		cmocka_unit_test(both_versions_and_every_alignment_are_read),
		cmocka_unit_test(a_file_cut_anywhere_is_refused),
		cmocka_unit_test(no_byte_can_do_harm),
		cmocka_unit_test(each_fault_is_named),
		cmocka_unit_test(a_name_in_an_error_is_fit_to_print),
		cmocka_unit_test(files_are_opened_or_refused_by_name),
		cmocka_unit_test(the_fingerprint_is_of_the_weights),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
