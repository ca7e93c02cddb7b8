/*
 * Looking things up in a file that gguf.c has read and checked: keys by type, and tensors, each by binary search in a
 * sorted index. Numbers are copied out of the map byte by byte, since nothing in the header is aligned.
 */
#include "gguf_file.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static int compare(struct gguf_str a, struct gguf_str b)
{
	int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);

	return order ? order : (a.len > b.len) - (a.len < b.len);
}

int gguf_by_key(const void *a, const void *b)
{
	return compare(((const struct key *)a)->name, ((const struct key *)b)->name);
}

int gguf_by_tensor(const void *a, const void *b)
{
	return compare(((const struct tensor_entry *)a)->name, ((const struct tensor_entry *)b)->name);
}

static const struct key *find(const struct gguf *g, const char *key)
{
	struct key wanted = { .name = { key, strlen(key) } };

	return bsearch(&wanted, g->keys, g->key_count, sizeof(*g->keys), gguf_by_key);
}

bool gguf_has(const struct gguf *g, const char *key)
{
	return find(g, key) != NULL;
}

static int absent(const struct gguf *g, const char *key, struct err *e)
{
	return gguf_fail(g, e, SINK_ENOENT, "key \"%s\" is missing.", key);
}

static int wrong_type(const struct gguf *g, const struct key *k, const char *wanted, struct err *e)
{
	char name[GGUF_SHOWN];

	return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is of type %s; %s is needed.", gguf_shown(k->name, name),
			 gguf_value_types[k->type].name, wanted);
}

static bool is_integer(enum value_type type)
{
	return type != F32 && type != F64 && type != STRING && type != ARRAY && type != BOOL;
}

/* Any integer of the file as int64_t; false for another type, and for a u64 that does not fit. */
static bool integer(enum value_type type, const uint8_t *at, int64_t *ret)
{
	union {
		uint8_t u8;
		int8_t i8;
		uint16_t u16;
		int16_t i16;
		uint32_t u32;
		int32_t i32;
		int64_t i64;
	} n;

	if (!is_integer(type))
		return false;
	memcpy(&n, at, gguf_value_types[type].bytes);
	switch (type) {
	case U8:
		*ret = n.u8;
		return true;
	case I8:
		*ret = n.i8;
		return true;
	case U16:
		*ret = n.u16;
		return true;
	case I16:
		*ret = n.i16;
		return true;
	case U32:
		*ret = n.u32;
		return true;
	case I32:
		*ret = n.i32;
		return true;
	default:
		*ret = n.i64;
		return type == I64 || n.i64 >= 0;
	}
}

int gguf_int(const struct gguf *g, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *e)
{
	const struct key *k = find(g, key);
	int64_t n;

	if (!k)
		return absent(g, key, e);
	if (!is_integer(k->type))
		return wrong_type(g, k, "an integer", e);
	if (!integer(k->type, k->at, &n))
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"%s\" is beyond 2^63; it must be %" PRId64 " to %" PRId64 ".", key, least, most);
	if (n < least || n > most)
		return gguf_fail(g, e, SINK_EFORMAT,
				 "key \"%s\" is %" PRId64 "; it must be %" PRId64 " to %" PRId64 ".", key, n, least,
				 most);
	*ret = n;
	return 0;
}

int gguf_int_or(const struct gguf *g, const char *key, int64_t least, int64_t most, int64_t otherwise, int64_t *ret,
		struct err *e)
{
	if (gguf_has(g, key))
		return gguf_int(g, key, least, most, ret, e);
	*ret = otherwise;
	return 0;
}

static bool floating(enum value_type type, const uint8_t *at, double *ret)
{
	float f;

	if (type == F64) {
		memcpy(ret, at, sizeof(*ret));
		return true;
	}
	if (type != F32)
		return false;
	memcpy(&f, at, sizeof(f));
	*ret = f;
	return true;
}

int gguf_float_or(const struct gguf *g, const char *key, double otherwise, double *ret, struct err *e)
{
	const struct key *k = find(g, key);

	*ret = otherwise;
	if (k && !floating(k->type, k->at, ret))
		return wrong_type(g, k, "a float", e);
	return 0;
}

int gguf_bool_or(const struct gguf *g, const char *key, bool otherwise, bool *ret, struct err *e)
{
	const struct key *k = find(g, key);

	*ret = otherwise;
	if (!k)
		return 0;
	if (k->type != BOOL)
		return wrong_type(g, k, "a bool", e);
	if (*k->at > 1)
		return gguf_fail(g, e, SINK_EFORMAT, "key \"%s\" is a bool of value %d.", key, *k->at);
	*ret = *k->at;
	return 0;
}

/* The string whose length field lies at `at`; it was checked when the file was read. */
static struct gguf_str string_at(const uint8_t *at)
{
	uint64_t len;

	memcpy(&len, at, sizeof(len));
	return (struct gguf_str){ (const char *)at + sizeof(len), (size_t)len };
}

int gguf_string(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *e)
{
	const struct key *k = find(g, key);

	if (!k)
		return absent(g, key, e);
	if (k->type != STRING)
		return wrong_type(g, k, "a string", e);
	*ret = string_at(k->at);
	return 0;
}

int64_t gguf_strings(const struct gguf *g, const char *key)
{
	const struct key *k = find(g, key);

	return k && k->type == ARRAY && k->item == STRING ? (int64_t)k->count : -1;
}

struct gguf_str gguf_string_at(const struct gguf *g, const char *key, size_t i)
{
	return string_at(find(g, key)->string[i]);
}

int64_t gguf_numbers(const struct gguf *g, const char *key)
{
	const struct key *k = find(g, key);

	return k && k->type == ARRAY && k->item != STRING ? (int64_t)k->count : -1;
}

double gguf_number_at(const struct gguf *g, const char *key, size_t i)
{
	const struct key *k = find(g, key);
	const uint8_t *at = k->at + i * gguf_value_types[k->item].bytes;
	int64_t n;
	double f;

	if (floating(k->item, at, &f))
		return f;
	if (k->item == BOOL)
		return *at != 0;
	if (integer(k->item, at, &n))
		return (double)n;
	return (double)(uint64_t)n; /* a u64 beyond 2^63 */
}

/* ---- reading tensors ---- */

int gguf_tensor(const struct gguf *g, const char *name, struct tensor *ret, struct err *e)
{
	struct tensor_entry wanted = { .name = { name, strlen(name) } };
	const struct tensor_entry *t = bsearch(&wanted, g->tensors, g->tensor_count, sizeof(*t), gguf_by_tensor);

	if (!t)
		return gguf_fail(g, e, SINK_ENOENT, "tensor \"%s\" is missing.", name);
	if (!dtype_find(t->type))
		return gguf_fail(g, e, SINK_EFORMAT, "tensor \"%s\" is of type %" PRIu32 ", which is not supported.",
				 name, t->type);
	ret->type = (enum dtype)t->type;
	ret->cols = (size_t)t->dims[0];
	ret->rows = (size_t)(t->dims[1] * t->dims[2] * t->dims[3]);
	ret->data = t->data;
	return 0;
}

size_t gguf_tensors(const struct gguf *g)
{
	return g->tensor_count;
}

struct gguf_str gguf_tensor_name(const struct gguf *g, size_t i)
{
	return g->tensors[i].name;
}

uint64_t gguf_fingerprint(const struct gguf *g)
{
	XXH3_state_t state;

	XXH3_64bits_reset(&state);
	for (size_t i = 0; i < g->tensor_count; i++) {
		const struct tensor_entry *t = &g->tensors[i];
		uint64_t len = t->name.len;

		XXH3_64bits_update(&state, &len, sizeof(len));
		XXH3_64bits_update(&state, t->name.at, t->name.len);
		XXH3_64bits_update(&state, &t->type, sizeof(t->type));
		XXH3_64bits_update(&state, t->dims, sizeof(t->dims));
		XXH3_64bits_update(&state, t->data, t->bytes);
	}
	return XXH3_64bits_digest(&state);
}
