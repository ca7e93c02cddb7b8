/*
 * The cache of a conversation as a file, DIR/NUMBER.kv: the pages that its next token can see. README.md has the form,
 * byte by byte.
 *
 * A file has two heads, each with the number of its generation, and pages in slots. Writing puts pages that are new
 * into slots that the last generation does not use, then writes the other head: whatever happens meanwhile, the last
 * generation is whole. Every head and every page has a checksum (XXH3, 64 bits), and a page's covers what it is a page
 * of. Nothing that a file says is believed before it was checked against what the caller expects.
 *
 * What lies at the path is opened when it is a regular file, and refused otherwise (SINK_EIO); a link is not followed.
 * Pages are read and written as memory of the host.
 *
 * All functions block and may run in any thread; one thread at a time for a file.
 */
#ifndef DAEMON_RING_H
#define DAEMON_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "error.h"
#include "kv.h"
#include "policy.h"

enum {
	RING_VERSION = 1,
	RING_PARTS = 1 << 20,	 /* most pages of a file */
	RING_PAGE_MOST = 1 << 30 /* most bytes of a page */
};

/* What must be the same for rows to be of use. */
struct ring_identity {
	struct kv_owner owner;
	uint64_t fingerprint; /* model_fingerprint() */
	struct page_shape shape;
	char policy[POLICY_TEXT]; /* as policy_format() writes it */
	uint64_t marks;		  /* kv_text() of the ids that are marks; 0: none */
};

/* A page in a file. */
struct ring_part {
	int run;
	int64_t number;
	uint64_t sum; /* seal_page() */
	uint32_t slot;
};

/* What a head says: a generation. Zero-initialize, then ring_release(). */
struct ring {
	struct ring_identity identity;
	uint64_t generation; /* 0: nothing was written yet */
	struct kv_state state;
	struct ring_part *part;
	size_t parts;
	int64_t bytes; /* of the file */
	int64_t base;  /* where its slots begin */
	bool doubtful; /* a sync failed, so that what the file holds is unknown: the next write makes it anew */
};

void ring_release(struct ring *r);

/* The path of a conversation's file, at most 4096 bytes. */
void ring_path(const char *dir, int64_t conversation, char *path, size_t size);

/*
 * Reads the heads and takes the newer of those that are whole and fit, into *ret, which is empty. SINK_ENOENT: no file;
 * SINK_EFORMAT: damaged, with the place; SINK_EPROTO: of a later version, to be left alone; SINK_EINVAL: of another
 * model, shape, policy, conversation: the text names which; SINK_EIO, SINK_ENOMEM. `skip` leaves the newest generation
 * out, for when its pages proved bad: the one before it is asked for, SINK_EFORMAT when there is none.
 *
 * The state is the file's word: state.tokens, 0 and up, may be more than the token log holds.
 */
int ring_read(const char *path, const struct ring_identity *expected, bool skip, struct ring *ret, struct err *e);

/*
 * Reads the page of each part into page[i] (ring.parts of them, each page_bytes(shape)) and compares its sum, in two
 * threads where there is much to do. SINK_EFORMAT names one that differs; SINK_EIO; SINK_ENOENT.
 */
int ring_fill(const char *path, const struct ring *r, void *const *page, struct err *e);

/*
 * Writes the next generation, of this state with these parts (kv_parts()); *r is what the file holds now (as of
 * ring_read() or the last ring_write(); generation 0: a new file is made, 0600) and what it holds afterwards. Pages
 * that the last generation has, sealed ones by their sum, are not written again; sums of those that are not sealed are
 * computed here. `sync`: on the disk when it returns, else in the system's memory.
 *
 * The file is made anew beside the old one (PATH.new, renamed) when there was none, the parts are too many for the
 * heads, the identity is another one, the file was exchanged or cut, or a sync had failed.
 *
 * After an error *r (but for `doubtful`) and the last generation in the file are as before. SINK_EBUSY: the disk, a
 * quota or a limit is full; SINK_EPROTO: there is a file of a later version, which a new one would replace;
 * SINK_EINVAL: too many parts; SINK_EIO, SINK_ENOMEM.
 */
int ring_write(const char *path, const struct ring_identity *identity, const struct kv_state *state,
	       const struct kv_part *part, size_t parts, bool sync, struct ring *r, struct err *e);

/* Renames a bad file to PATH.bad (in the place of an older one). */
void ring_set_aside(const char *path);

/* Both heads of a file, whosever they are. */
struct ring_heads {
	struct ring head[2];
	int code[2]; /* 0; SINK_ENOENT: never written; SINK_EFORMAT; SINK_EPROTO; SINK_EINVAL: of another identity */
	struct err why[2];
	int newest; /* the one to take; -1: none */
};
/* `expected` may be NULL. SINK_ENOENT, SINK_EIO, SINK_ENOMEM. Both heads are to be released in any case. */
int ring_heads(const char *path, const struct ring_identity *expected, struct ring_heads *ret, struct err *e);

/*
 * Verifies a file by itself, its heads and the pages of its newest generation: what is wrong with it, one sentence at a
 * time. (Pages that only the generation before has may have been overwritten by a write that was interrupted, which is
 * no damage.) Returns the number of findings or a negative code: SINK_ENOENT, SINK_EPROTO, SINK_EIO, SINK_ENOMEM.
 * *identity: of the newest head that is whole, else zeros.
 */
int ring_check(const char *path, struct ring_identity *identity, void (*tell)(void *arg, const char *text), void *arg,
	       struct err *e);

#endif
