/*
 * Cache files against what was written: at whatever call a write ends, whatever byte is another, a generation is read
 * as it was written or not at all. The system's calls that a write makes pass through this file, which counts them and
 * lets one fail, be short, or be the process's last.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring.h"
#include "seal.h"

#define RUN(name) cmocka_unit_test_setup(name, clean)
#define CASE(name) static void name(void **state __attribute__((unused)))

enum { WINDOW = 6, MOST = 400, FIXED = 184, PART = 24, AREA = 4096 };

static const struct page_shape small = { 1, 1, 10, DTYPE_F32 }; /* 5,120 bytes, in slots of 8,192 */
static const struct ring_identity known = { { 7, 42 }, 99, { 1, 1, 10, DTYPE_F32 }, "sink:4,380", 5 };
static char dir[] = "/tmp/test_ring.XXXXXX";
static char path[64], bad[80], made[80];
static struct ring r; /* as the last write left it */
static uint8_t file[1 << 22], was[1 << 22];
static size_t bytes; /* of it */

/* What becomes of call number `at`, counted from 1; 0: nothing. */
enum fate { PASS, FAIL, DIE, HALF, SHORT };
static struct hook {
	int at;
	enum fate fate;
	int error, calls; /* that a call fails with; that were made */
} hook;

/* Whether this call fails; it may never return. */
static bool fails(void)
{
	if (++hook.calls != hook.at)
		return false;
	if (hook.fate == DIE)
		_exit(0);
	errno = hook.error;
	return hook.fate == FAIL;
}

ssize_t pwrite(int fd, const void *from, size_t count, off_t at)
{
	if (fails())
		return -1;
	if (hook.fate == SHORT && hook.calls % 3 == 0) {
		errno = EINTR;
		return -1;
	}
	if (hook.fate == SHORT && count > 1000)
		count = 1000;
	if (hook.fate == HALF && hook.calls == hook.at) {
		syscall(SYS_pwrite64, fd, from, count / 2, at);
		_exit(0);
	}
	return syscall(SYS_pwrite64, fd, from, count, at);
}

int fdatasync(int fd)
{
	return fails() || fd < 0 ? -1 : 0; /* the system is not to die here */
}

int fsync(int fd)
{
	return fails() || fd < 0 ? -1 : 0;
}

int rename(const char *from, const char *to)
{
	return fails() ? -1 : (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* A cache that rolls: after step g its pages are one pinned and those of the window, the last of which grows. */
struct scene {
	size_t parts;
	struct kv_part part[MOST];
	struct kv_state state;
	struct ring_identity id;
};

static struct scene *scene_of(const struct page_shape *shape, int g, size_t window)
{
	const size_t size = page_bytes(shape);
	struct scene *s = calloc(1, sizeof(*s));

	s->id = known;
	s->id.shape = *shape;
	s->state = (struct kv_state){ g * PAGE_TOKENS, g, (uint64_t)g + 1000 };
	s->parts = window + 1;
	for (size_t i = 0; i < s->parts; i++) {
		const int64_t number = i ? g + (int64_t)i : 0, version = i == window ? g + 1 : 0;
		uint8_t *at = malloc(size);

		for (size_t k = 0; k < size; k++)
			at[k] = (uint8_t)(k * (version ? 33 : 31) + k / 251 + (size_t)(number * 7 + version * 11));
		s->part[i] = (struct kv_part){ i ? RUN_WINDOW : RUN_PINNED, number, at, !version, 0 };
		if (!version)
			s->part[i].sum = seal_page(shape, at, s->part[i].run, number);
	}
	return s;
}

static void scene_free(struct scene *s)
{
	for (size_t i = 0; i < s->parts; i++)
		free(s->part[i].page);
	free(s);
}

static int put_scene(struct scene *s, bool sync, struct err *e)
{
	const int ret = ring_write(path, &s->id, &s->state, s->part, s->parts, sync, &r, e);

	scene_free(s);
	return ret;
}

static int try(int g, struct err *e)
{
	return put_scene(scene_of(&small, g, WINDOW), true, e);
}

static void put(int g)
{
	assert_int_equal(put_scene(scene_of(&small, g, WINDOW), g % 3 == 0, NULL), 0);
}

/* Fills the pages of a generation, and compares them with those of its scene, if it claims to be one's. */
static int fill(const struct ring *from)
{
	const size_t size = page_bytes(&from->identity.shape);
	const bool is_scene = from->state.tokens == from->state.marks * PAGE_TOKENS && from->state.marks < 2000 &&
			      from->state.text == (uint64_t)from->state.marks + 1000;
	struct scene *s = scene_of(&from->identity.shape, is_scene ? (int)from->state.marks : 0,
				   from->parts ? from->parts - 1 : 0);
	void **page = calloc(from->parts + 1, sizeof(*page));
	int ret;

	for (size_t i = 0; i < from->parts; i++)
		page[i] = malloc(size);
	ret = ring_fill(path, from, page, NULL);
	for (size_t i = 0; i < from->parts; i++) {
		if (!ret && is_scene)
			assert_memory_equal(page[i], s->part[i].page, size);
		free(page[i]);
	}
	free(page);
	scene_free(s);
	return ret || is_scene ? ret : SINK_EINVAL;
}

/* Reads the newest generation with its pages: which scene it is, or a code. */
static int look(bool skip)
{
	struct ring found = { 0 };
	int ret = ring_read(path, &known, skip, &found, NULL);

	if (!ret)
		ret = fill(&found);
	if (!ret)
		ret = (int)found.state.marks;
	ring_release(&found);
	return ret;
}

static void note(void *arg, const char *text)
{
	(void)arg;
	assert_non_null(strchr(text, '.'));
}

static int check(void)
{
	struct ring_identity id;

	return ring_check(path, &id, note, NULL, NULL);
}

static void load(void)
{
	FILE *f = fopen(path, "rb");

	bytes = fread(file, 1, sizeof(file), f);
	fclose(f);
}

static void save(size_t count)
{
	FILE *f = fopen(path, "wb");

	assert_int_equal(fwrite(file, 1, count, f), count);
	fclose(f);
}

/* A file of two generations. */
static void two(void)
{
	put(1);
	put(2);
	load();
}

static void reseal(uint8_t *head)
{
	uint32_t length;
	uint64_t sum;

	memcpy(&length, head + 12, sizeof(length));
	sum = seal_bytes(head, length - sizeof(sum), 0);
	memcpy(head + length - sizeof(sum), &sum, sizeof(sum));
}

static int clean(void **state __attribute__((unused)))
{
	const char *const names[] = { path, bad, made };

	hook = (struct hook){ 0 };
	ring_release(&r);
	for (int i = 0; i < 3; i++)
		if (unlink(names[i]) < 0)
			rmdir(names[i]);
	return 0;
}

CASE(what_is_written_is_read)
{
	const struct kv_state none = { 0, 0, 1000 };
	struct stat st;

	assert_int_equal(look(false), SINK_ENOENT);
	for (int g = 1; g < 9; g++) {
		hook.fate = g > 4 ? SHORT : PASS; /* those are continued */
		put(g);
		assert_int_equal(look(false), g);
		assert_int_equal(look(true), g > 1 ? g - 1 : SINK_EFORMAT);
		assert_int_equal(check(), 0);
		assert_int_equal(stat(path, &st), 0);
		assert_true((st.st_mode & 07777) == 0600 && st.st_size == r.bytes && r.generation == (uint64_t)g);
	}
	assert_int_equal(ring_write(path, &known, &none, NULL, 0, true, &r, NULL), 0); /* an empty conversation */
	assert_int_equal(look(false), 0);
	clean(NULL);
	assert_int_equal(ring_write(path, &known, &none, NULL, 0, true, &r, NULL), 0);
	assert_int_equal(look(false), 0);
	assert_int_equal(check(), 0);
}

CASE(a_window_that_rolls_writes_what_is_new_and_stays_small)
{
	int64_t size = 0;

	for (int g = 1; g <= 1000; g++) {
		hook.calls = 0;
		put(g);
		if (g > 1 && g % 3)
			assert_int_equal(hook.calls, 3); /* the page that was filled, one that is new, the head */
		size = g <= 5 ? r.bytes : size;
		assert_int_equal(r.bytes, size);
	}
	assert_true(size <= 2 * AREA + (WINDOW + 4) * 8192);
	assert_int_equal(look(false), 1000);
	hook.calls = 0;
	put(1000);
	assert_int_equal(hook.calls, 1); /* the head alone */
}

CASE(a_file_grows_and_shrinks)
{
	struct scene *other = scene_of(&small, 7, WINDOW);

	put(1);
	assert_int_equal(put_scene(scene_of(&small, 3, 300), true, NULL), 0); /* more than the heads have room for */
	assert_true(r.base > 2 * AREA && r.generation == 2);
	assert_int_equal(look(false), 3);
	assert_int_equal(look(true), SINK_EFORMAT);
	put(4);
	assert_int_equal(look(true), 3); /* the one before is there as long as it may be asked for */
	put(5);
	put(6);
	assert_true(r.bytes < 300 * 8192 / 2);
	assert_int_equal(look(false), 6);
	assert_int_equal(look(true), 5);
	other->id.marks++;
	assert_int_equal(put_scene(other, false, NULL), 0); /* another identity: anew */
	assert_int_equal(look(false), SINK_EINVAL);
	assert_int_equal(check(), 0);
}

/* Writes the next scene in a child whose call number `at` is the last, for each that there is. */
static void dies_anywhere(int g, enum fate fate)
{
	int status = 0, there;

	for (int at = 1; !status; at++) {
		clean(NULL);
		for (int i = 1; i <= g; i++)
			put(i);
		if (fork() == 0) {
			hook = (struct hook){ .at = at, .fate = fate };
			try(g + 1, NULL);
			_exit(1);
		}
		assert_true(wait(&status) > 0 && WIFEXITED(status) && at < 40);
		there = look(false);
		assert_true(there == g + 1 || (!status && there == (g ? g : SINK_ENOENT)));
		assert_true(fate != DIE || there < 0 || check() == 0);
		ring_release(&r);
		if (there > 0)
			assert_int_equal(ring_read(path, &known, false, &r, NULL), 0);
		put(g + 2);
		assert_int_equal(look(false), g + 2);
	}
}

CASE(whoever_dies_while_writing_leaves_a_generation)
{
	for (int g = 0; g < 4; g++) {
		dies_anywhere(g, DIE);
		dies_anywhere(g, HALF);
	}
}

/* What a power cut may leave: the head is on the disk and its pages are not. */
CASE(a_head_without_its_pages_is_noticed)
{
	size_t before;

	two();
	before = bytes;
	memcpy(was, file, bytes);
	put(3);
	load();
	memcpy(file + 2 * AREA, was + 2 * AREA, before - 2 * AREA);
	memset(file + before, 0, bytes - before);
	save(bytes);
	assert_int_equal(look(false), SINK_EFORMAT);
	assert_int_equal(look(true), 2);
	assert_true(check() > 0);
}

/* Each call of a write fails; returns whether there was one of this number. */
static bool fails_at(int g, int at, int error)
{
	struct err e = { 0 };
	int ret;

	clean(NULL);
	for (int i = 1; i <= g; i++)
		put(i);
	hook = (struct hook){ .at = at, .fate = FAIL, .error = error };
	ret = try(g + 1, &e);
	hook = (struct hook){ 0 };
	assert_true(ret == 0 || ret == SINK_EIO || (ret == SINK_EBUSY && error != EIO));
	assert_true(!ret || (strstr(e.text, path) && r.generation == (uint64_t)g));
	if (ret && !(g == 0 && look(false) == 1)) /* that is when the directory's sync alone has failed */
		assert_int_equal(look(false), g ? g : SINK_ENOENT);
	put(g + 2);
	assert_int_equal(look(false), g + 2);
	assert_int_equal(check(), 0);
	return ret != 0;
}

CASE(a_call_that_fails_changes_nothing)
{
	static const int errors[] = { ENOSPC, EFBIG, EIO };

	for (int g = 0; g < 3; g++)
		for (int k = 0; k < 3; k++)
			for (int at = 1; fails_at(g, at, errors[k]); at++)
				assert_true(at < 40);
}

CASE(after_a_sync_that_failed_the_file_is_made_anew)
{
	two();
	hook = (struct hook){ .at = 3, .fate = FAIL, .error = EIO }; /* two pages, then their sync */
	assert_int_equal(try(3, NULL), SINK_EIO);
	assert_true(r.doubtful && r.generation == 2);
	assert_int_equal(look(false), 2);
	hook = (struct hook){ 0 };
	assert_int_equal(try(3, NULL), 0);
	assert_int_equal(hook.calls, WINDOW + 1 + 4); /* all pages, the head, sync, rename, the directory's sync */
	assert_false(r.doubtful);
	assert_int_equal(look(false), 3);
}

/* Every byte of both heads, as damage and as malice that knows the sum. */
CASE(a_byte_that_is_another_is_noticed)
{
	size_t head;

	two();
	head = FIXED + r.parts * PART + 8;
	for (size_t i = 0; i < 2 * head; i++) {
		uint8_t sum[8], *area = i < head ? file : file + AREA, *byte = area + i % head;

		memcpy(sum, area + head - 8, 8);
		*byte ^= (uint8_t)(1 << i % 8);
		save(bytes);
		assert_int_equal(look(false), i < head ? 1 : 2);
		assert_true(check() > 0 || i % head / 4 == 2); /* there it may be a later version */
		if (i % head >= 16 && i % head < head - 8) {
			reseal(area);
			save(bytes);
			assert_true(look(false) != SINK_EIO && look(true) != SINK_EIO && check() >= 0);
		}
		*byte ^= (uint8_t)(1 << i % 8);
		memcpy(area + head - 8, sum, 8);
	}
	for (size_t i = 0; i < r.parts * 40; i++) { /* pages of the newest generation */
		const size_t at = 2 * AREA + r.part[i / 40].slot * 8192 + i * 127 % 5120;

		file[at] ^= 16;
		save(bytes);
		assert_int_equal(look(false), SINK_EFORMAT);
		assert_int_equal(check(), 1);
		file[at] ^= 16;
	}
}

CASE(a_file_that_was_cut_is_noticed)
{
	two();
	for (size_t cut = 0; cut < bytes; cut += cut < 2 * AREA ? 64 : 1024) {
		save(cut);
		assert_true(look(false) == SINK_EFORMAT || look(false) == 1);
		assert_int_equal(look(true), SINK_EFORMAT);
		assert_true(check() > 0);
	}
	put(3); /* the file is not the one that is told of */
	assert_int_equal(look(false), 3);
}

/* A field of the newest head (the first area), alone and with a sum that fits, set to a value. */
static int forge(size_t at, size_t size, uint64_t value)
{
	int ret;

	memcpy(file, was, AREA);
	memset(file + AREA, 0, AREA);
	memcpy(file + at, &value, size);
	if (at >= 16)
		reseal(file);
	save(bytes);
	ret = look(false);
	assert_true(ret == SINK_EFORMAT || ret == SINK_EINVAL || ret == 2);
	assert_true(check() >= 0);
	return ret;
}

CASE(what_a_head_claims_is_not_believed)
{
	static const uint64_t values[] = { 0,	       1,	  4097,	     DTYPE_Q8_0, RING_PARTS, RING_PARTS + 1,
					   UINT32_MAX, INT64_MAX, UINT64_MAX };

	two();
	memcpy(was, file, AREA);
	for (size_t at = 12; at < FIXED + 2 * PART; at += 4) /* as halves and wholes of fields */
		for (size_t v = 0; v < 18; v++)
			forge(at, v % 2 && at % 8 == 0 ? 8 : 4, values[v / 2]);
	assert_int_equal(forge(FIXED + 20, 4, r.part[1].slot), SINK_EFORMAT); /* two pages in one place */
	assert_int_equal(forge(96, 8, UINT64_MAX), SINK_EFORMAT);	      /* tokens */
	assert_int_equal(forge(104, 8, 1 << 20), SINK_EFORMAT);		      /* more marks than tokens */
}

CASE(a_cache_of_something_else_is_named)
{
	static const struct {
		size_t at;
		const char *says;
	} fields[] = { { offsetof(struct ring_identity, fingerprint), "weights" },
		       { offsetof(struct ring_identity, shape.layers), "shape" },
		       { offsetof(struct ring_identity, shape.kv_heads), "shape" },
		       { offsetof(struct ring_identity, shape.head_size), "shape" },
		       { offsetof(struct ring_identity, shape.type), "type" },
		       { offsetof(struct ring_identity, policy), "policy" },
		       { offsetof(struct ring_identity, marks), "marks" },
		       { offsetof(struct ring_identity, owner.conversation), "conversation" },
		       { offsetof(struct ring_identity, owner.store), "store" } };
	struct ring found = { 0 };

	put(1);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		struct ring_identity other = known;
		struct err e = { 0 };

		((uint8_t *)&other)[fields[i].at] ^= 1;
		assert_int_equal(ring_read(path, &other, false, &found, &e), SINK_EINVAL);
		assert_non_null(strstr(e.text, fields[i].says));
	}
}

CASE(a_later_version_is_left_alone)
{
	two();
	ring_release(&r);
	file[8] = file[AREA + 8] = 2;
	memcpy(was, file, bytes);
	save(bytes);
	assert_int_equal(look(false), SINK_EPROTO);
	assert_int_equal(check(), SINK_EPROTO);
	assert_int_equal(try(3, NULL), SINK_EPROTO);
	load();
	assert_memory_equal(was, file, bytes);
	ring_set_aside(path);
	assert_int_equal(try(3, NULL), 0);
	assert_int_equal(look(false), 3);
}

static void expect_refusal(const char *of)
{
	struct err e = { 0 };

	assert_true(of != path || look(false) == SINK_EIO);
	assert_int_equal(try(1, &e), SINK_EIO);
	assert_non_null(strstr(e.text, of));
	clean(NULL);
}

CASE(what_is_no_file_is_refused)
{
	const bool root = geteuid() == 0;

	assert_int_equal(symlink("/etc/passwd", path), 0);
	expect_refusal(path);
	assert_int_equal(mkdir(path, 0700), 0);
	expect_refusal(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect_refusal(path);
	assert_int_equal(mkdir(made, 0700), 0);
	expect_refusal(made);
	assert_int_equal(symlink("/etc/passwd", made), 0); /* left by somebody: replaced, not followed */
	assert_int_equal(try(1, NULL), 0);
	clean(NULL);
	assert_int_equal(chmod(dir, 0555), 0);
	assert_true(!root || seteuid(65534) == 0);
	expect_refusal(made);
	assert_true(!root || seteuid(0) == 0);
	assert_int_equal(chmod(dir, 0700), 0);
}

CASE(large_files_are_filled_by_two)
{
	static const struct page_shape large = { 4, 4, 480, DTYPE_Q8_0 }; /* 1 MiB */

	assert_int_equal(put_scene(scene_of(&large, 1, 20), false, NULL), 0);
	assert_int_equal(check(), 0);
	assert_int_equal(fill(&r), 0);
	assert_int_equal(truncate(path, r.bytes - 1), 0);
	assert_int_equal(fill(&r), SINK_EFORMAT);
	ring_set_aside(path);
	assert_int_equal(fill(&r), SINK_ENOENT);
	assert_int_equal(access(bad, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { RUN(what_is_written_is_read),
					    RUN(a_window_that_rolls_writes_what_is_new_and_stays_small),
					    RUN(a_file_grows_and_shrinks),
					    RUN(whoever_dies_while_writing_leaves_a_generation),
					    RUN(a_head_without_its_pages_is_noticed),
					    RUN(a_call_that_fails_changes_nothing),
					    RUN(after_a_sync_that_failed_the_file_is_made_anew),
					    RUN(a_byte_that_is_another_is_noticed),
					    RUN(a_file_that_was_cut_is_noticed),
					    RUN(what_a_head_claims_is_not_believed),
					    RUN(a_cache_of_something_else_is_named),
					    RUN(a_later_version_is_left_alone),
					    RUN(what_is_no_file_is_refused),
					    RUN(large_files_are_filled_by_two) };
	int ret;

	if (!mkdtemp(dir))
		return 1;
	ring_path(dir, 42, path, sizeof(path));
	snprintf(bad, sizeof(bad), "%s.bad", path);
	snprintf(made, sizeof(made), "%s.new", path);
	ret = cmocka_run_group_tests(tests, NULL, NULL);
	clean(NULL);
	rmdir(dir);
	return ret;
}
