/* A GGUF writer that writes whatever it is told: it lays out, and never checks. */
#include "make_gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
	uint8_t *at;
	size_t size, room;
};

struct make_gguf {
	struct bytes keys, tensors, data;
	uint64_t key_count, tensor_count;
	uint32_t version;
	size_t alignment;
	bool lies; /* the header claims other counts */
	uint64_t claimed_tensors, claimed_keys;
};

static void put(struct bytes *b, const void *from, size_t size)
{
	if (b->room - b->size < size) {
		b->room = (b->size + size) * 2;
		b->at = realloc(b->at, b->room);
		if (!b->at)
			abort();
	}
	if (size)
		memcpy(b->at + b->size, from, size);
	b->size += size;
}

static void put_u32(struct bytes *b, uint32_t n)
{
	put(b, &n, sizeof(n));
}

static void put_u64(struct bytes *b, uint64_t n)
{
	put(b, &n, sizeof(n));
}

static void put_string(struct bytes *b, const char *text)
{
	put_u64(b, strlen(text));
	put(b, text, strlen(text));
}

static void pad(struct bytes *b, size_t alignment)
{
	while (b->size % alignment)
		put(b, "", 1);
}

struct make_gguf *make_gguf_new(void)
{
	struct make_gguf *m = calloc(1, sizeof(*m));

	if (!m)
		abort();
	m->version = 3;
	m->alignment = 32;
	return m;
}

void make_gguf_version(struct make_gguf *m, uint32_t version)
{
	m->version = version;
}

void make_gguf_alignment(struct make_gguf *m, size_t alignment)
{
	m->alignment = alignment;
}

void make_gguf_counts(struct make_gguf *m, uint64_t tensors, uint64_t keys)
{
	m->lies = true;
	m->claimed_tensors = tensors;
	m->claimed_keys = keys;
}

/* Opens a key whose value the caller appends to m->keys. */
static void put_key(struct make_gguf *m, const char *key, uint32_t type)
{
	put_string(&m->keys, key);
	put_u32(&m->keys, type);
	m->key_count++;
}

void make_gguf_raw(struct make_gguf *m, const char *key, uint32_t type, const void *value, size_t bytes)
{
	put_key(m, key, type);
	put(&m->keys, value, bytes);
}

void make_gguf_u32(struct make_gguf *m, const char *key, uint32_t value)
{
	make_gguf_raw(m, key, GGUF_U32, &value, sizeof(value));
}

void make_gguf_f32(struct make_gguf *m, const char *key, float value)
{
	make_gguf_raw(m, key, GGUF_F32, &value, sizeof(value));
}

void make_gguf_bool(struct make_gguf *m, const char *key, bool value)
{
	make_gguf_raw(m, key, GGUF_BOOL, &value, 1);
}

void make_gguf_string(struct make_gguf *m, const char *key, const char *value)
{
	put_key(m, key, GGUF_STRING);
	put_string(&m->keys, value);
}

void make_gguf_strings(struct make_gguf *m, const char *key, const char *const *value, size_t count)
{
	put_key(m, key, GGUF_ARRAY);
	put_u32(&m->keys, GGUF_STRING);
	put_u64(&m->keys, count);
	for (size_t i = 0; i < count; i++)
		put_string(&m->keys, value[i]);
}

void make_gguf_i32s(struct make_gguf *m, const char *key, const int32_t *value, size_t count)
{
	put_key(m, key, GGUF_ARRAY);
	put_u32(&m->keys, GGUF_I32);
	put_u64(&m->keys, count);
	put(&m->keys, value, count * sizeof(*value));
}

void make_gguf_f32s(struct make_gguf *m, const char *key, const float *value, size_t count)
{
	put_key(m, key, GGUF_ARRAY);
	put_u32(&m->keys, GGUF_F32);
	put_u64(&m->keys, count);
	put(&m->keys, value, count * sizeof(*value));
}

void make_gguf_claim(struct make_gguf *m, const char *name, uint32_t type, uint32_t dims, const uint64_t *dim,
		     uint64_t offset)
{
	put_string(&m->tensors, name);
	put_u32(&m->tensors, dims);
	put(&m->tensors, dim, dim ? dims * sizeof(*dim) : 0);
	put_u32(&m->tensors, type);
	put_u64(&m->tensors, offset);
	m->tensor_count++;
}

void make_gguf_tensor(struct make_gguf *m, const char *name, uint32_t type, uint32_t dims, const uint64_t *dim,
		      const void *data, size_t bytes)
{
	pad(&m->data, m->alignment);
	make_gguf_claim(m, name, type, dims, dim, m->data.size);
	put(&m->data, data, bytes);
}

void *make_gguf_finish(struct make_gguf *m, size_t *size)
{
	struct bytes file = { 0 };

	put(&file, "GGUF", 4);
	put_u32(&file, m->version);
	put_u64(&file, m->lies ? m->claimed_tensors : m->tensor_count);
	put_u64(&file, m->lies ? m->claimed_keys : m->key_count);
	put(&file, m->keys.at, m->keys.size);
	put(&file, m->tensors.at, m->tensors.size);
	if (m->data.size)
		pad(&file, m->alignment);
	put(&file, m->data.at, m->data.size);
	free(m->keys.at);
	free(m->tensors.at);
	free(m->data.at);
	free(m);
	*size = file.size;
	return file.at;
}

int make_gguf_write(struct make_gguf *m, const char *path)
{
	size_t size;
	void *data = make_gguf_finish(m, &size);
	FILE *f = fopen(path, "wb");
	int code = -1;

	if (f) {
		code = fwrite(data, 1, size, f) == size ? 0 : -1;
		if (fclose(f) != 0)
			code = -1;
	}
	free(data);
	return code;
}
