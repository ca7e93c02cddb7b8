/*
 * For tests of the store: a folder to work in, and a world of conversations that is kept both in plain memory and in a
 * store, changed at random, and compared in full. Whatever the store does, the world says what must be read.
 */
#ifndef TESTS_STORING_H
#define TESTS_STORING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store.h"

enum { STORING_CONVERSATIONS = 12, STORING_MESSAGES = 64, STORING_EVENT = 55 };

struct storing_message {
	int64_t first_token, tokens;
	int role;
	char text[80];
};

/* A conversation as it must be read. Its events follow from their numbers: storing_records(). */
struct storing_conversation {
	int64_t id, segment; /* 0: there is none */
	char name[STREAM_NAME + 1], state[32];
	double used;
	int32_t *token;
	size_t tokens, messages;
	struct storing_message message[STORING_MESSAGES];
	int64_t seq;
};

struct storing_world {
	struct storing_conversation conversation[STORING_CONVERSATIONS];
	uint64_t count; /* of conversations at most */
	int64_t last;
	double now;
	uint64_t random;
};

/* A new folder below TMPDIR, to be removed by storing_remove(); both abort when the system fails. */
char *storing_folder(void);
void storing_remove(char *dir);
void storing_path(const char *dir, const char *name, char path[4096]);
void *storing_read(const char *path, size_t *size);
void storing_write(const char *path, const void *data, size_t size);
/* Whether any file of the folder has these bytes. */
bool storing_has(const char *dir, const void *bytes, size_t size);

struct store *storing_open(const char *dir);
/* Opens and closes it, for what that says; `note` (512 bytes) may be NULL. */
int storing_try(const char *dir, char *note, struct err *e);
/* Runs SQL on a store that nobody has open. */
void storing_sql(const char *dir, const char *sql);
int64_t storing_number(const char *dir, const char *sql);

uint64_t storing_random(uint64_t *state, uint64_t below);
/* Records `from` .. of a conversation; *size of them all. The caller frees. */
void *storing_records(int64_t id, int64_t from, int64_t count, size_t *size);

struct storing_world *storing_world(uint64_t seed);
void storing_world_free(struct storing_world *w);
struct storing_world *storing_copy(const struct storing_world *w);
/*
 * Changes the world a little, and the store likewise, in one commit. Returns what the commit did; *w is what it holds
 * when it did well.
 */
int storing_step(struct storing_world *w, struct store *s, struct err *e);
/* The same steps in another process, which is killed without closing its store; from an empty world and folder. */
void storing_die_after(struct storing_world *w, const char *dir, int steps);
/* Whether the store holds this world, word for word; what differs is written to `why`. */
bool storing_same(const struct storing_world *w, struct store *s, char *why, size_t size);
/* Fails the test unless it does. */
void storing_expect(const struct storing_world *w, struct store *s);

/* Findings of store_check(); they are printed when SINKD_TELL is set. */
int storing_check(const char *dir, bool repair, struct err *e);

#endif
