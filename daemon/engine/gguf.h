/*
 * A model file in the GGUF format, version 3 (and 2, which differs in nothing that we read), mapped into memory.
 *
 * The file is hostile until proven otherwise: every count, length, offset and size is checked against the bytes that
 * are there, and against overflow, before anything is allocated or read by it. What is returned points into the map
 * and lives as long as the struct gguf. Nothing here knows what the keys mean.
 */
#ifndef ENGINE_GGUF_H
#define ENGINE_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "kernels.h"

struct gguf;

/* A run of bytes in the file; not terminated, any bytes. */
struct gguf_str {
	const char *at;
	size_t len;
};

/*
 * Maps the file and checks its header, keys and descriptions of tensors. SINK_ENOENT, SINK_EIO (refused by the system),
 * SINK_EFORMAT (no GGUF file, damaged, or a directory), SINK_ENOMEM; the text names the file and the cause.
 */
int gguf_open(const char *path, struct gguf **ret, struct err *e);

/* The same over memory that the caller keeps (tests, fuzzing). */
int gguf_parse(const void *data, size_t size, struct gguf **ret, struct err *e);

void gguf_close(struct gguf *g); /* NULL is fine */

/* Words an error about this file, which the text names first; returns `code`. For those who judge what its keys say. */
int gguf_fail(const struct gguf *g, struct err *e, int code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* A name out of the file, fit for an error text: cut, and without bytes that could steer a terminal. Returns `text`. */
enum { GGUF_SHOWN = 64 };
const char *gguf_shown(struct gguf_str s, char text[GGUF_SHOWN]);

size_t gguf_size(const struct gguf *g);
bool gguf_has(const struct gguf *g, const char *key);

/*
 * Typed reads. A key of another type, or (integers) out of least..most: SINK_EFORMAT naming the key. A key that is
 * absent: SINK_ENOENT naming it, or, in the _or forms, the default and 0. Any integer type of the file serves an
 * integer; F32 or F64 a float.
 */
int gguf_int(const struct gguf *g, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *e);
int gguf_int_or(const struct gguf *g, const char *key, int64_t least, int64_t most, int64_t otherwise, int64_t *ret,
		struct err *e);
int gguf_float_or(const struct gguf *g, const char *key, double otherwise, double *ret, struct err *e);
int gguf_bool_or(const struct gguf *g, const char *key, bool otherwise, bool *ret, struct err *e);
int gguf_string(const struct gguf *g, const char *key, struct gguf_str *ret, struct err *e);

/* Arrays: the count, or -1 when absent or no array of that kind. Elements are fetched by index < count, in O(1). */
int64_t gguf_strings(const struct gguf *g, const char *key);
struct gguf_str gguf_string_at(const struct gguf *g, const char *key, size_t i);
int64_t gguf_numbers(const struct gguf *g, const char *key);
double gguf_number_at(const struct gguf *g, const char *key, size_t i);

/*
 * The tensor of this name as a matrix: rows = product of the outer dimensions, cols = the first. SINK_ENOENT when
 * absent; SINK_EFORMAT when its type is not supported. Shapes are as the file says; the caller checks them.
 */
int gguf_tensor(const struct gguf *g, const char *name, struct tensor *ret, struct err *e);

/* The names of all tensors, for listings and fingerprints. */
size_t gguf_tensors(const struct gguf *g);
struct gguf_str gguf_tensor_name(const struct gguf *g, size_t i);

/*
 * XXH3-64 over names, types, shapes and bytes of all tensors: the same weights give the same number in any file. (Of a
 * tensor whose type is not supported the bytes are left out: nobody can read it.)
 */
uint64_t gguf_fingerprint(const struct gguf *g);

#endif
