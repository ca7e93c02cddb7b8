/* Keys of a family: those of gguf.h, with the family's name before them ("llama" and "block_count"). */
#ifndef ENGINE_KEYS_H
#define ENGINE_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "error.h"
#include "gguf.h"

struct keys {
	const struct gguf *g;
	const char *arch;
};

bool key_has(const struct keys *k, const char *name);
int key_int(const struct keys *k, const char *name, int64_t least, int64_t most, int64_t *ret, struct err *e);
int key_int_or(const struct keys *k, const char *name, int64_t least, int64_t most, int64_t otherwise, int64_t *ret,
	       struct err *e);
/* Within least and most, and a number. */
int key_float_or(const struct keys *k, const char *name, double least, double most, double otherwise, double *ret,
		 struct err *e);
int key_float(const struct keys *k, const char *name, double least, double most, double *ret, struct err *e);
int key_bool_or(const struct keys *k, const char *name, bool otherwise, bool *ret, struct err *e);
/* Empty when there is no such key. */
int key_string_or(const struct keys *k, const char *name, struct gguf_str *ret, struct err *e);
/* As gguf_numbers() and gguf_number_at(). */
int64_t key_numbers(const struct keys *k, const char *name);
double key_number_at(const struct keys *k, const char *name, size_t i);

/* SINK_EFORMAT with `Key "ARCH.NAME": ` before the words. */
int key_fail(const struct keys *k, const char *name, struct err *e, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

#endif
