/*
 * Bundles: a conversation as one file that travels, with or without its cache (README.md has the form). A client reads
 * a bundle that the daemon has made, or writes one that is then imported, in pieces; both lie in a file without a name
 * until the client or its connection ends them.
 *
 * What is imported comes from anywhere: nothing of it is believed before it was checked.
 */
#ifndef DAEMON_BUNDLE_H
#define DAEMON_BUNDLE_H

#include "core.h"
#include "ring.h"

enum { BUNDLE_VERSION = 1, BUNDLE_PIECE = 2 << 20, BUNDLES_MOST = 16 };

struct bundles;

int bundles_new(struct bundles **ret, struct err *e);
void bundles_free(struct bundles *b); /* NULL is fine */
/* Ends those whose clients are gone. */
void bundles_sweep(struct core *c);

/* Functions of the verbs. The request is theirs when they return 0; its reply comes when the disk has done its part. */
int bundle_make(struct core *c, struct request *r, struct conversation *v, bool cache, struct err *e);
int bundle_begin(struct core *c, struct request *r, int64_t bytes, struct err *e);
int bundle_read(struct core *c, struct request *r, int64_t bundle, int64_t offset, int64_t count, struct err *e);
int bundle_write(struct core *c, struct request *r, int64_t bundle, int64_t offset, const void *data, size_t size,
		 struct err *e);
/* `name` NULL: the bundle's own. */
int bundle_import(struct core *c, struct request *r, int64_t bundle, const char *name, size_t len, struct err *e);
int bundle_close(struct core *c, struct request *r, int64_t bundle, struct err *e);

#endif
