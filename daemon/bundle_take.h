/*
 * Taking a bundle apart: from a file of unknown origin to a conversation. In two steps: bundle_take() in the store's
 * thread, which reads and checks the file; bundle_fill() in the loop, which makes the conversation of it.
 */
#ifndef DAEMON_BUNDLE_TAKE_H
#define DAEMON_BUNDLE_TAKE_H

#include "core.h"
#include "ring.h"

#define BUNDLE_MAGIC "sinkdbdl"

/* All numbers little-endian. */
struct bundle_head {
	char magic[8];
	uint32_t version, zero;
	uint64_t map_bytes, cache_bytes; /* what follows */
	uint64_t map_sum;		 /* XXH3 of the map's bytes */
	uint64_t sum;			 /* of what stands before it */
};

enum { BUNDLE_MAP_MOST = 1 << 30 };

/* Zero but for `vocab`, then bundle_taken_release(). */
struct bundle_taken {
	uint64_t vocab; /* in: that of the model here */
	struct msg *map;
	char name[STREAM_NAME + 1];
	int64_t cache_bytes; /* of the file that was made; 0: none was */
	char note[512];	     /* why there is none, although the bundle has one; or "" */
};

/*
 * Reads the bundle in `fd` (of `bytes`); a cache that it has and that fits *identity (whose policy and marks are filled
 * in here) is written to `path`. SINK_EFORMAT: damaged; SINK_EPROTO: of a later version; SINK_EINVAL: of another model.
 */
int bundle_take(int fd, int64_t bytes, struct ring_identity *identity, const char *path, struct bundle_taken *ret,
		struct err *e);
void bundle_taken_release(struct bundle_taken *t);

/* Text, tokens and settings into an empty conversation. SINK_EFORMAT, SINK_EINVAL, SINK_ENOMEM. */
int bundle_fill(struct core *c, struct conversation *v, const struct bundle_taken *t, struct err *e);

#endif
