/*
 * Clients: those that have said hello, their attachments, and the replies that could not be sent yet.
 *
 * A client is known by the routing id of its connection, which it may choose itself: it is an address, not an identity.
 * Who may connect at all is decided by the socket's directory and mode.
 */
#ifndef DAEMON_PEER_H
#define DAEMON_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "error.h"
#include "stream.h"

enum { PEER_ID_MOST = 255, PEER_NAME_MOST = 64 };

struct unsent {
	STAILQ_ENTRY(unsent) link;
	size_t size;
	char frame[];
};

struct peer {
	LIST_ENTRY(peer) link;
	uint64_t serial; /* never given twice */
	uint8_t id[PEER_ID_MOST];
	size_t id_len;
	char name[PEER_NAME_MOST + 1];
	int fd;	      /* of its connection; -1: not known, or ended */
	double ended; /* when its connection has ended, in ms of the clock; 0: it has not */
	LIST_HEAD(, attachment) attachments;
	size_t attachment_count;
	STAILQ_HEAD(, unsent) unsent;
	size_t unsent_bytes;
	double again, pause; /* it took no more: when to try again, in ms of the clock, and the pause before that */
};

struct peers {
	LIST_HEAD(peer_list, peer) list;
	size_t count, attachments;
	uint64_t serials, attachment_ids;
};

void peers_init(struct peers *p);

struct peer *peer_find(struct peers *p, const void *id, size_t len);
struct peer *peer_by_serial(struct peers *p, uint64_t serial);
int peer_new(struct peers *p, const void *id, size_t len, const char *name, struct peer **ret, struct err *e);
/* Ends its attachments and forgets its unsent replies. */
void peer_free(struct peers *p, struct peer *peer);

/* A reply that the connection does not take now. SINK_EBUSY: the peer does not read, and `most` bytes wait already. */
int peer_keep(struct peer *peer, const void *frame, size_t size, size_t most, struct err *e);
void peer_kept_sent(struct peer *peer); /* the first of them is sent */

/* Its attachment to a stream or of this id; NULL when it has none. */
struct attachment *peer_reads(const struct peer *peer, const struct stream *s);
struct attachment *peer_attachment(const struct peer *peer, uint64_t id);

/* Gives the attachment its number and its place. */
void peer_attach(struct peers *p, struct peer *peer, struct attachment *a);
void peer_detach(struct peers *p, struct attachment *a);

#endif
