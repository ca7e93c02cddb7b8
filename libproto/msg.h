/*
 * Messages: one frame, one MessagePack map with string keys. Pure and bounded: no sockets, no globals.
 *
 * Reading. A frame comes from a peer that may be hostile. msg_parse() walks it first without allocating: every declared
 * size against the bytes that are left, nesting against MSG_DEPTH, strings against UTF-8; only then is it decoded.
 * Values are looked up by key; what is returned points into the message and lives as long as it.
 *
 * Writing. A `struct out` builds a frame; maps and arrays are opened and closed, and counted by itself. Running out of
 * memory, or a key too many or too few, is remembered: out_ok() tells at the end.
 */
#ifndef SINK_MSG_H
#define SINK_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"

enum { SINK_PROTOCOL = 1 };

/*
 * Limits of a frame beside its bytes. A decoded value takes 24 bytes where one byte of the wire may name it, so the
 * number of values is what bounds the memory: 24 MiB here.
 */
enum {
	MSG_DEPTH = 32,		/* maps and arrays inside each other, the message itself included */
	MSG_PAIRS = 128,	/* pairs of one map */
	MSG_ELEMENTS = 1 << 20, /* values in all, keys included */
};

struct msg;

/* A value inside a message; NULL-safe in all readers below. */
struct val;

/*
 * Decodes a frame, which is copied. SINK_EFORMAT: no whole map, trailing bytes, beyond a limit above, bad UTF-8, a key
 * twice or no string, an extension type; SINK_ENOMEM. The caller frees *ret, written on success only.
 */
int msg_parse(const void *frame, size_t size, struct msg **ret, struct err *e);
void msg_free(struct msg *m); /* NULL is fine */
const struct val *msg_root(const struct msg *m);

/* The value under a key of a map; NULL when absent (or nil) or when `map` is no map. */
const struct val *val_get(const struct val *map, const char *key);

enum val_type { VAL_NIL, VAL_BOOL, VAL_INT, VAL_FLOAT, VAL_STR, VAL_BIN, VAL_ARRAY, VAL_MAP };
enum val_type val_type(const struct val *v);

size_t val_count(const struct val *v);			     /* elements of an array, pairs of a map; else 0 */
const struct val *val_at(const struct val *array, size_t i); /* NULL beyond the end */
/* Pair i of a map: its key and value. */
const struct val *val_pair(const struct val *map, size_t i, const char **key, size_t *key_len);

/* Plain reads for values already known to be good, with a default for NULL or another type. */
int64_t val_int(const struct val *v, int64_t otherwise); /* a uint above INT64_MAX gives INT64_MAX */
double val_float(const struct val *v, double otherwise); /* an integer serves */
bool val_bool(const struct val *v, bool otherwise);
/* A string's bytes: terminated by a NUL that is not counted (the string may hold others). NULL when it is none. */
const char *val_str(const struct val *v, size_t *len);
const void *val_bin(const struct val *v, size_t *len);

/*
 * Checked reads of a request's field. SINK_EINVAL names the key and what it must be. Absent or nil: the _or forms leave
 * *ret as it is and return 0, the others fail.
 */
int msg_int(const struct val *map, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *e);
int msg_int_or(const struct val *map, const char *key, int64_t least, int64_t most, int64_t *ret, struct err *e);
int msg_float_or(const struct val *map, const char *key, double *ret, struct err *e); /* NaN, infinities: SINK_EINVAL */
int msg_bool_or(const struct val *map, const char *key, bool *ret, struct err *e);
int msg_str(const struct val *map, const char *key, size_t most, const char **ret, size_t *len, struct err *e);
int msg_str_or(const struct val *map, const char *key, size_t most, const char **ret, size_t *len, struct err *e);

/*
 * The bytes of `s` up to its first byte that belongs to no valid UTF-8 character: `len` when all is well, and then *bad
 * is 0. Otherwise *bad is how many bytes one U+FFFD stands for.
 */
size_t msg_utf8(const char *s, size_t len, size_t *bad);

struct out;

int out_new(struct out **ret, struct err *e);
void out_free(struct out *o);  /* NULL is fine */
void out_reset(struct out *o); /* empty again, memory kept */

/* Inside a map each value is given its key; inside an array and at the top `key` is NULL. */
void out_map(struct out *o, const char *key);
void out_array(struct out *o, const char *key);
void out_end(struct out *o); /* closes the innermost map or array */
void out_nil(struct out *o, const char *key);
void out_bool(struct out *o, const char *key, bool v);
void out_int(struct out *o, const char *key, int64_t v);
void out_float(struct out *o, const char *key, double v);
void out_str(struct out *o, const char *key, const char *s);		  /* NULL writes nil */
void out_strn(struct out *o, const char *key, const char *s, size_t len); /* invalid UTF-8 becomes U+FFFD */
void out_bin(struct out *o, const char *key, const void *p, size_t len);
void out_val(struct out *o, const char *key, const struct val *v); /* a copy; NULL writes nil */

bool out_ok(const struct out *o);		   /* every map closed, no memory missing */
int out_check(const struct out *o, struct err *e); /* the same, with the reason: SINK_EINVAL or SINK_ENOMEM */
const void *out_data(const struct out *o, size_t *size);

#endif
