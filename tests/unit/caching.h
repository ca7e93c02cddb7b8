/*
 * What the tests of caches that come back share: caches on a random model in arenas of their own, and what says that
 * one goes on with the very bits of one that was never interrupted. Whatever fails fails the test.
 */
#ifndef TESTS_CACHING_H
#define TESTS_CACHING_H

#include <stddef.h>
#include <stdint.h>

#include "model.h"

enum {
	TEXT = 700,  /* tokens of a conversation at most */
	STEP = 40,   /* of a step */
	AHEAD = 150, /* that are read to compare */
	PAGES = 150, /* of an arena */
};

extern struct model *m; /* computes; the caches of most tests lie in arenas of their own, on `device` */
extern const struct backend *backend;
extern struct device *device;

void options(const char *policy, struct kv_options *o);
struct kv *cache(struct arena *a, const char *policy);
int verify(struct kv *kv, const char *policy, const int32_t *log, size_t count, struct err *e);
int64_t tokens_of(const struct kv *kv);

/* Reads on to token `to` of the text; the checksum of the logits on the way when `all`, else of the last ones. */
uint64_t read_to(struct kv *kv, const int32_t *log, int64_t to, bool all);

/* What a cache that was never interrupted says to tokens from .. to-1. */
uint64_t reference(const char *policy, const int32_t *log, int64_t from, int64_t to);

/* The next tokens, read by a fork so that the cache stays as it is, give the bits of one never interrupted. */
void goes_on_as_if_alone(struct kv *kv, const char *policy, const int32_t *log, int64_t count);

size_t bytes_of(size_t pages);

/*
 * Opens, on random models, all of the above: `m`, one whose pages are in 8 bits, and one on a device apart from the
 * host (apart.h). They take its place for the tests of which in_8_bits() or on_a_device_apart() is the setup and
 * as_usual() the teardown. 0, or -1.
 */
int caching_open(void);
void caching_close(void);
/* One more of the last kind. */
int caching_model(struct model **ret, struct err *e);
int in_8_bits(void **state);
int on_a_device_apart(void **state);
int as_usual(void **state);

#define BOTH_TYPES(test)                                                                                               \
	cmocka_unit_test(test),                                                                                        \
	{                                                                                                              \
#test "_in_8_bits", test, in_8_bits, as_usual, NULL                                                    \
	}

#define EVERYWHERE(test)                                                                                               \
	BOTH_TYPES(test),                                                                                              \
	{                                                                                                              \
#test "_apart", test, on_a_device_apart, as_usual, NULL                                                \
	}

#endif
