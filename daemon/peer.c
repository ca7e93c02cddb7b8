/* Owns the list of clients and their attachments. There are hundreds at most: lists are walked. */
#include "peer.h"

#include <stdlib.h>
#include <string.h>

void peers_init(struct peers *p)
{
	memset(p, 0, sizeof(*p));
	LIST_INIT(&p->list);
}

struct peer *peer_find(struct peers *p, const void *id, size_t len)
{
	struct peer *peer;

	LIST_FOREACH(peer, &p->list, link)
	if (peer->id_len == len && memcmp(peer->id, id, len) == 0)
		return peer;
	return NULL;
}

struct peer *peer_by_serial(struct peers *p, uint64_t serial)
{
	struct peer *peer;

	LIST_FOREACH(peer, &p->list, link)
	if (peer->serial == serial)
		return peer;
	return NULL;
}

int peer_new(struct peers *p, const void *id, size_t len, const char *name, struct peer **ret, struct err *e)
{
	struct peer *peer = calloc(1, sizeof(*peer));

	if (!peer)
		return err_set(e, SINK_ENOMEM, "There is no memory for a client.");
	peer->serial = ++p->serials;
	memcpy(peer->id, id, len);
	peer->id_len = len;
	memcpy(peer->name, name, strnlen(name, PEER_NAME_MOST));
	peer->fd = -1;
	LIST_INIT(&peer->attachments);
	STAILQ_INIT(&peer->unsent);
	LIST_INSERT_HEAD(&p->list, peer, link);
	p->count++;
	*ret = peer;
	return 0;
}

void peer_free(struct peers *p, struct peer *peer)
{
	struct attachment *a;

	while ((a = LIST_FIRST(&peer->attachments)))
		peer_detach(p, a);
	while (!STAILQ_EMPTY(&peer->unsent))
		peer_kept_sent(peer);
	LIST_REMOVE(peer, link);
	p->count--;
	free(peer);
}

int peer_keep(struct peer *peer, const void *frame, size_t size, size_t most, struct err *e)
{
	struct unsent *u;

	if (peer->unsent_bytes && peer->unsent_bytes + size > most)
		return err_set(e, SINK_EBUSY, "The client does not read its replies.");
	u = malloc(sizeof(*u) + size);
	if (!u)
		return err_set(e, SINK_ENOMEM, "There is no memory to keep a reply.");
	u->size = size;
	memcpy(u->frame, frame, size);
	STAILQ_INSERT_TAIL(&peer->unsent, u, link);
	peer->unsent_bytes += size;
	return 0;
}

void peer_kept_sent(struct peer *peer)
{
	struct unsent *u = STAILQ_FIRST(&peer->unsent);

	peer->unsent_bytes -= u->size;
	STAILQ_REMOVE_HEAD(&peer->unsent, link);
	free(u);
}

struct attachment *peer_reads(const struct peer *peer, const struct stream *s)
{
	struct attachment *a;

	LIST_FOREACH(a, &peer->attachments, of_peer)
	if (a->stream == s)
		return a;
	return NULL;
}

struct attachment *peer_attachment(const struct peer *peer, uint64_t id)
{
	struct attachment *a;

	LIST_FOREACH(a, &peer->attachments, of_peer)
	if (a->id == id)
		return a;
	return NULL;
}

void peer_attach(struct peers *p, struct peer *peer, struct attachment *a)
{
	a->peer = peer;
	a->id = ++p->attachment_ids;
	LIST_INSERT_HEAD(&peer->attachments, a, of_peer);
	peer->attachment_count++;
	p->attachments++;
}

void peer_detach(struct peers *p, struct attachment *a)
{
	struct peer *peer = a->peer;

	LIST_REMOVE(a, of_peer);
	peer->attachment_count--;
	p->attachments--;
	stream_detach(a);
}
