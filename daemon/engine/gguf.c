/*
 * The model file: one pass checks everything and builds two sorted indexes, of keys and of tensors; after it a lookup
 * cannot fail for the file's sake, and nothing is read again but what the caller asks for.
 *
 * Every count is compared with the bytes that are left before memory is taken for it (an entry that lies in n bytes can
 * be there at most left / n times), so a file makes us allocate a small multiple of its own size and no more. Sizes are
 * computed with overflow checks and never summed: each tensor is held against the end of the file by itself. Tensors
 * may not share bytes, so that the sum of what they hold is bounded too.
 *
 * The map is private and read-only. A file that somebody truncates while it is mapped kills the process with SIGBUS
 * when the lost part is touched; the cure is to replace model files by rename, as every download tool does.
 */
#include "gguf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's numbers are read as they lie");

const struct gguf_value_type gguf_value_types[VALUE_TYPES] = {
	[U8] = { "u8", 1 },	    [I8] = { "i8", 1 },	       [U16] = { "u16", 2 }, [I16] = { "i16", 2 },
	[U32] = { "u32", 4 },	    [I32] = { "i32", 4 },      [F32] = { "f32", 4 }, [BOOL] = { "bool", 1 },
	[STRING] = { "string", 8 }, [ARRAY] = { "array", 12 }, [U64] = { "u64", 8 }, [I64] = { "i64", 8 },
	[F64] = { "f64", 8 },
};

enum {
	KEY_BYTES_LEAST = 8 + 1 + 4 + 1,	    /* name's length, name, type, value */
	TENSOR_BYTES_LEAST = 8 + 1 + 4 + 8 + 4 + 8, /* name's length, name, dimensions, one of them, type, offset */
	ALIGNMENT_DEFAULT = 32,
	ALIGNMENT_LEAST = 8, /* the format's own rule; no element type needs more */
	ALIGNMENT_MOST = 1 << 30,
};

/* What is still unread. */
struct reader {
	const uint8_t *at;
	size_t left;
};

int gguf_fail(const struct gguf *g, struct err *e, int code, const char *fmt, ...)
{
	char what[sizeof(e->text)];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return err_set(e, code, "Model file %s: %s", g->file, what);
}

const char *gguf_shown(struct gguf_str s, char text[GGUF_SHOWN])
{
	size_t n = s.len < GGUF_SHOWN - 1 ? s.len : GGUF_SHOWN - 1;

	for (size_t i = 0; i < n; i++)
		text[i] = s.at[i] >= ' ' && s.at[i] <= '~' ? s.at[i] : '?';
	text[n] = '\0';
	return text;
}

static bool take(struct reader *r, void *ret, size_t bytes)
{
	if (r->left < bytes)
		return false;
	memcpy(ret, r->at, bytes);
	r->at += bytes;
	r->left -= bytes;
	return true;
}

static bool take_string(struct reader *r, struct gguf_str *ret)
{
	uint64_t len;

	if (!take(r, &len, sizeof(len)) || len > r->left)
		return false;
	*ret = (struct gguf_str){ (const char *)r->at, (size_t)len };
	r->at += len;
	r->left -= (size_t)len;
	return true;
}

static int truncated(const struct gguf *g, const char *where, uint64_t i, uint64_t of, struct err *e)
{
	return gguf_fail(g, e, SINK_EFORMAT,
			 "it ends inside %s %" PRIu64 " of %" PRIu64 "; it is cut short or damaged.", where, i + 1, of);
}

/* ---- keys and values ---- */

static int read_strings(struct gguf *g, struct key *k, struct reader *r, struct err *e)
{
	char name[GGUF_SHOWN];

	k->string = malloc(k->count ? k->count * sizeof(*k->string) : 1);
	if (!k->string)
		return gguf_fail(g, e, SINK_ENOMEM, "no memory for the %zu texts of key \"%s\".", k->count,
				 gguf_shown(k->name, name));
	for (size_t i = 0; i < k->count; i++) {
		struct gguf_str ignored;

		k->string[i] = r->at;
		if (!take_string(r, &ignored))
			return gguf_fail(g, e, SINK_EFORMAT, "text %zu of key \"%s\" is longer than the file.", i,
					 gguf_shown(k->name, name));
	}
	return 0;
}

static int read_array(struct gguf *g, struct key *k, struct reader *r, struct err *e)
{
	char name[GGUF_SHOWN];
	uint32_t item;
	uint64_t count;

	if (!take(r, &item, sizeof(item)) || !take(r, &count, sizeof(count)))
		return gguf_fail(g, e, SINK_EFORMAT, "it ends inside key \"%s\".", gguf_shown(k->name, name));
	if (item >= VALUE_TYPES || item == ARRAY)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"%s\" is an array of type %" PRIu32 ", which is not supported.",
				 gguf_shown(k->name, name), item);
	if (count > r->left / gguf_value_types[item].bytes)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"%s\" claims %" PRIu64 " elements, more than the file can hold.",
				 gguf_shown(k->name, name), count);
	k->item = item;
	k->count = (size_t)count;
	k->at = r->at;
	if (item == STRING)
		return read_strings(g, k, r, e);
	r->at += k->count * gguf_value_types[item].bytes;
	r->left -= k->count * gguf_value_types[item].bytes;
	return 0;
}

static int read_value(struct gguf *g, struct key *k, struct reader *r, struct err *e)
{
	char name[GGUF_SHOWN];
	struct gguf_str ignored;
	uint32_t type;

	if (!take(r, &type, sizeof(type)))
		return gguf_fail(g, e, SINK_EFORMAT, "it ends inside key \"%s\".", gguf_shown(k->name, name));
	if (type >= VALUE_TYPES)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" has the unknown value type %" PRIu32 ".",
				 gguf_shown(k->name, name), type);
	k->type = type;
	k->count = 1;
	k->at = r->at;
	if (type == ARRAY)
		return read_array(g, k, r, e);
	if (type == STRING) {
		if (!take_string(r, &ignored))
			return gguf_fail(g, e, SINK_EFORMAT, "the text of key \"%s\" is longer than the file.",
					 gguf_shown(k->name, name));
		return 0;
	}
	if (r->left < gguf_value_types[type].bytes)
		return gguf_fail(g, e, SINK_EFORMAT, "it ends inside key \"%s\".", gguf_shown(k->name, name));
	r->at += gguf_value_types[type].bytes;
	r->left -= gguf_value_types[type].bytes;
	return 0;
}

static int read_keys(struct gguf *g, uint64_t count, struct reader *r, struct err *e)
{
	char name[GGUF_SHOWN];
	int code;

	if (count > r->left / KEY_BYTES_LEAST)
		return gguf_fail(g, e, SINK_EFORMAT, "it claims %" PRIu64 " keys, more than the file can hold.", count);
	g->keys = calloc(count ? (size_t)count : 1, sizeof(*g->keys));
	if (!g->keys)
		return gguf_fail(g, e, SINK_ENOMEM, "no memory for its %" PRIu64 " keys.", count);
	for (uint64_t i = 0; i < count; i++) {
		struct key *k = &g->keys[g->key_count++];

		if (!take_string(r, &k->name))
			return truncated(g, "key", i, count, e);
		if (k->name.len == 0)
			return gguf_fail(g, e, SINK_EFORMAT, "key %" PRIu64 " has an empty name.", i + 1);
		code = read_value(g, k, r, e);
		if (code)
			return code;
	}
	qsort(g->keys, g->key_count, sizeof(*g->keys), gguf_by_key);
	for (size_t i = 1; i < g->key_count; i++)
		if (gguf_by_key(&g->keys[i - 1], &g->keys[i]) == 0)
			return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is there twice.",
					 gguf_shown(g->keys[i].name, name));
	return 0;
}

static int read_alignment(struct gguf *g, struct err *e)
{
	int64_t n;
	int code = gguf_int_or(g, "general.alignment", ALIGNMENT_LEAST, ALIGNMENT_MOST, ALIGNMENT_DEFAULT, &n, e);

	if (code)
		return code;
	if (n & (n - 1))
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"general.alignment\" is %" PRId64 ", which is no power of two.", n);
	g->alignment = (size_t)n;
	return 0;
}

/* ---- tensors ---- */

/* Checks the shape, and computes the size where the type is known. */
static int measure(struct gguf *g, struct tensor_entry *t, uint32_t dims, struct err *e)
{
	const struct dtype_info *type = dtype_find(t->type);
	uint64_t elements = 1;
	char name[GGUF_SHOWN];

	for (uint32_t d = 0; d < dims; d++) {
		if (t->dims[d] == 0)
			return gguf_fail(g, e, SINK_EFORMAT, "tensor \"%s\": dimension %" PRIu32 " is zero.",
					 gguf_shown(t->name, name), d + 1);
		if (__builtin_mul_overflow(elements, t->dims[d], &elements) || elements > INT64_MAX)
			return gguf_fail(g, e, SINK_EFORMAT, "tensor \"%s\": its dimensions multiply beyond 2^63.",
					 gguf_shown(t->name, name));
	}
	if (!type)
		return 0;
	if (t->dims[0] % type->block)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "tensor \"%s\": rows of %" PRIu64 " elements are no whole blocks of %s.",
				 gguf_shown(t->name, name), t->dims[0], type->name);
	if (__builtin_mul_overflow(elements / type->block, type->bytes, &t->bytes))
		return gguf_fail(g, e, SINK_EFORMAT, "tensor \"%s\": its size is beyond 2^64 bytes.",
				 gguf_shown(t->name, name));
	return 0;
}

static int read_tensor(struct gguf *g, struct tensor_entry *t, struct reader *r, uint64_t i, uint64_t of, struct err *e)
{
	uint32_t dims;
	char name[GGUF_SHOWN];

	for (int d = 0; d < DIMS_MOST; d++)
		t->dims[d] = 1;
	if (!take_string(r, &t->name) || !take(r, &dims, sizeof(dims)))
		return truncated(g, "the description of tensor", i, of, e);
	if (t->name.len == 0)
		return gguf_fail(g, e, SINK_EFORMAT, "tensor %" PRIu64 " has an empty name.", i + 1);
	if (dims == 0 || dims > DIMS_MOST)
		return gguf_fail(g, e, SINK_EFORMAT, "tensor \"%s\" has %" PRIu32 " dimensions; 1 to %d are possible.",
				 gguf_shown(t->name, name), dims, DIMS_MOST);
	if (!take(r, t->dims, dims * sizeof(t->dims[0])) || !take(r, &t->type, sizeof(t->type)) ||
	    !take(r, &t->offset, sizeof(t->offset)))
		return truncated(g, "the description of tensor", i, of, e);
	return measure(g, t, dims, e);
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = ((const struct tensor_entry *)a)->offset, y = ((const struct tensor_entry *)b)->offset;

	return (x > y) - (x < y);
}

static int read_tensors(struct gguf *g, uint64_t count, struct reader *r, struct err *e)
{
	int code;

	if (count > r->left / TENSOR_BYTES_LEAST)
		return gguf_fail(g, e, SINK_EFORMAT, "it claims %" PRIu64 " tensors, more than the file can hold.",
				 count);
	g->tensors = calloc(count ? (size_t)count : 1, sizeof(*g->tensors));
	if (!g->tensors)
		return gguf_fail(g, e, SINK_ENOMEM, "no memory for its %" PRIu64 " tensors.", count);
	for (uint64_t i = 0; i < count; i++) {
		code = read_tensor(g, &g->tensors[g->tensor_count++], r, i, count, e);
		if (code)
			return code;
	}
	return 0;
}

/* Gives each tensor its bytes: inside the file, aligned, and nobody else's. `start` is where the data section begins.
 */
static int place_tensors(struct gguf *g, size_t start, struct err *e)
{
	size_t room = start < g->size ? g->size - start : 0;
	char a[GGUF_SHOWN], b[GGUF_SHOWN];

	qsort(g->tensors, g->tensor_count, sizeof(*g->tensors), by_offset);
	for (size_t i = 0; i < g->tensor_count; i++) {
		struct tensor_entry *t = &g->tensors[i], *before = i ? t - 1 : NULL;

		if (t->offset % g->alignment)
			return gguf_fail(g, e, SINK_EFORMAT,
					 "tensor \"%s\": offset %" PRIu64 " is no multiple of the alignment, %zu.",
					 gguf_shown(t->name, a), t->offset, g->alignment);
		if (t->offset > room || t->bytes > room - t->offset)
			return gguf_fail(g, e, SINK_EFORMAT,
					 "tensor \"%s\" (%zu bytes at offset %" PRIu64
					 ") lies beyond the file's end; it is cut short or damaged.",
					 gguf_shown(t->name, a), t->bytes, t->offset);
		if (before && before->bytes > t->offset - before->offset)
			return gguf_fail(g, e, SINK_EFORMAT, "tensors \"%s\" and \"%s\" share bytes.",
					 gguf_shown(before->name, a), gguf_shown(t->name, b));
		t->data = g->data + start + t->offset;
	}
	qsort(g->tensors, g->tensor_count, sizeof(*g->tensors), gguf_by_tensor);
	for (size_t i = 1; i < g->tensor_count; i++)
		if (gguf_by_tensor(&g->tensors[i - 1], &g->tensors[i]) == 0)
			return gguf_fail(g, e, SINK_EFORMAT, "tensor \"%s\" is there twice.",
					 gguf_shown(g->tensors[i].name, a));
	return 0;
}

/* ---- the file ---- */

static int check_version(const struct gguf *g, uint32_t version, struct err *e)
{
	if (version == 2 || version == 3)
		return 0;
	if (version && (version & 0xffff) == 0)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "it is a big-endian GGUF file; only little-endian ones are supported.");
	return gguf_fail(g, e, SINK_EFORMAT, "it is GGUF version %" PRIu32 "; versions 2 and 3 are supported.",
			 version);
}

static int parse(struct gguf *g, struct err *e)
{
	struct reader r = { g->data, g->size };
	uint64_t tensors, keys;
	uint32_t version;
	char magic[4];
	size_t header;
	int code;

	if (g->size == 0)
		return gguf_fail(g, e, SINK_EFORMAT, "it is empty.");
	if (!take(&r, magic, sizeof(magic)) || memcmp(magic, "GGUF", sizeof(magic)) != 0)
		return gguf_fail(g, e, SINK_EFORMAT, "it is no GGUF file: it does not begin with \"GGUF\".");
	if (!take(&r, &version, sizeof(version)))
		return gguf_fail(g, e, SINK_EFORMAT, "it ends inside its header.");
	code = check_version(g, version, e);
	if (code)
		return code;
	if (!take(&r, &tensors, sizeof(tensors)) || !take(&r, &keys, sizeof(keys)))
		return gguf_fail(g, e, SINK_EFORMAT, "it ends inside its header.");
	code = read_keys(g, keys, &r, e);
	if (!code)
		code = read_alignment(g, e);
	if (!code)
		code = read_tensors(g, tensors, &r, e);
	if (code)
		return code;
	header = g->size - r.left;
	return place_tensors(g, header + (g->alignment - header % g->alignment) % g->alignment, e);
}

/* A file's name as texts show it: its end where it is long, since the end tells the most. */
static struct gguf *allocate(const char *path, struct err *e)
{
	struct gguf *g = calloc(1, sizeof(*g));
	size_t len = strlen(path), most = sizeof(g->file) - sizeof("\"...\"");

	if (!g) {
		err_set(e, SINK_ENOMEM, "There is no memory left to open the model file.");
		return NULL;
	}
	if (len == 0)
		snprintf(g->file, sizeof(g->file), "in memory");
	else
		snprintf(g->file, sizeof(g->file), "\"%s%s\"", len > most ? "..." : "",
			 path + (len > most ? len - most : 0));
	return g;
}

int gguf_parse(const void *data, size_t size, struct gguf **ret, struct err *e)
{
	struct gguf *g = allocate("", e);
	int code;

	if (!g)
		return SINK_ENOMEM;
	g->data = data;
	g->size = size;
	code = parse(g, e);
	if (code) {
		gguf_close(g);
		return code;
	}
	*ret = g;
	return 0;
}

/* Maps the file; an empty one is left unmapped, for parse() to complain about. */
static int map(struct gguf *g, int fd, struct err *e)
{
	struct stat st;
	void *at;

	if (fstat(fd, &st) != 0)
		return gguf_fail(g, e, SINK_EIO, "it cannot be examined: %s.", strerror(errno));
	if (S_ISDIR(st.st_mode))
		return gguf_fail(g, e, SINK_EFORMAT, "it is a directory, not a model file.");
	if (!S_ISREG(st.st_mode))
		return gguf_fail(g, e, SINK_EFORMAT, "it is no regular file.");
	if (st.st_size == 0)
		return 0;
	at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (at == MAP_FAILED)
		return gguf_fail(g, e, errno == ENOMEM ? SINK_ENOMEM : SINK_EIO, "it cannot be mapped: %s.",
				 strerror(errno));
	g->data = at;
	g->size = (size_t)st.st_size;
	g->mapped = true;
	return 0;
}

int gguf_open(const char *path, struct gguf **ret, struct err *e)
{
	struct gguf *g = allocate(path, e);
	int fd, code;

	if (!g)
		return SINK_ENOMEM;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe of that name must not hold us up */
	if (fd < 0) {
		code = errno == ENOENT || errno == ENOTDIR ? SINK_ENOENT : SINK_EIO;
		gguf_fail(g, e, code, "it cannot be opened: %s.", strerror(errno));
	} else {
		code = map(g, fd, e);
		close(fd);
		if (!code)
			code = parse(g, e);
	}
	if (code) {
		gguf_close(g);
		return code;
	}
	*ret = g;
	return 0;
}

void gguf_close(struct gguf *g)
{
	if (!g)
		return;
	for (size_t i = 0; i < g->key_count; i++)
		free(g->keys[i].string);
	free(g->keys);
	free(g->tensors);
	if (g->mapped)
		munmap((void *)g->data, g->size);
	free(g);
}

size_t gguf_size(const struct gguf *g)
{
	return g->size;
}
