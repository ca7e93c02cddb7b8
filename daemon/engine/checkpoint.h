/*
 * Inside a cache, for kv.c and record.c alone: the record of a cache whose pages lie on a device apart from the host.
 *
 * What a next process finds is the host's copies, so a record tells of a state of the text whose rows have all come
 * there: a checkpoint. One is due at each end of a page of the text; it is written when its pages are sealed
 * (mirror.h), which a step does not wait for. At most two are due at a time; in between the record says what it said
 * before, which is kept true: a step that would take a page over from what the record tells of waits for what is due.
 */
#ifndef ENGINE_CHECKPOINT_H
#define ENGINE_CHECKPOINT_H

#include "record.h"

/*
 * Around a step that ends before token `end`: what it reads comes to the device; the page's end in it is noted; what
 * the record tells of is made sure. Nothing on a device that is not apart, like all that follows.
 */
void checkpoint_before(struct kv *kv, const int32_t *token, size_t count);
/* Instead of record_went_on() and record_went_back(). */
void checkpoint_went_on(struct kv *kv, int64_t t, int64_t marks);
void checkpoint_went_back(struct kv *kv, const int32_t *log);
/* The cache has an owner from now on, who may find it again. No operation of the device. */
void checkpoint_owned(struct kv *kv);
/* Whether the host has all pages of the record's state, which are full: then they can be read without waiting. */
bool checkpoint_is_ready(const struct kv *kv);
/* Before the cache is left to a process that comes: waits until the record tells of its last token. */
void checkpoint_end(struct kv *kv);

/* Whether the record tells of this page: then a copy of it needs the host's rows too. */
bool checkpoint_needs(const struct kv *kv, int run, int64_t number);
/* Pages that no token from `back` on sees may be given up; where the record tells of less, from there on. */
int64_t checkpoint_back(const struct kv *kv, int64_t back);

/* Brings to the host all that kv_parts() tells of. False: the device has failed. */
bool checkpoint_fetch(struct kv *kv);

#endif
