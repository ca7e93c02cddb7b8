/*
 * A stream: the log of a conversation's events, and the cursors of those who read it.
 *
 * Events are numbered from 1 without gaps and kept, encoded, in a bounded buffer; the oldest go first. There are no
 * queues: a reader is an attachment, which is a cursor into the buffer and a credit in bytes. What a reader does not
 * take costs nobody anything, and one that falls behind the oldest kept event is told so and ends.
 *
 * A stream that is kept (stream_keep()) has its older events on the disk: a reader who wants one of those is given them
 * by stream_give(), and nobody is sent an event before it is said to be safe (stream_publish()).
 *
 * An event is stored without the conversation's name, which is put in when it is sent: a reader sees the name under
 * which it attached until it has read a later `renamed` event, and the new one from then on. So a client that tells its
 * conversations apart by name is never sent an event under a name that it does not know yet, or no more.
 */
#ifndef DAEMON_STREAM_H
#define DAEMON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "error.h"

enum { STREAM_NAME = 64 }; /* most bytes of a name */

struct stream;
struct segment;

/* A reader. The fields down to `credit` may be read; `credit` may be raised. */
struct attachment {
	LIST_ENTRY(attachment) of_stream;
	LIST_ENTRY(attachment) of_peer; /* for the owner of the peer */
	uint64_t id;
	void *peer;
	struct stream *stream;
	int64_t next;	/* number of the event that it is sent next */
	int64_t credit; /* bytes; the last event may overdraw it */

	struct segment *segment; /* where `next` lies; NULL: at the end of a log that was empty */
	size_t offset;
	int64_t since;	       /* renames from this event on are news to it */
	bool lost;	       /* its next event was dropped */
	bool fetching;	       /* for the owner: its next event is being read from the disk */
	struct segment *piece; /* what it was given, or NULL */
	char name[STREAM_NAME + 1];
};

/* In front of each stored event; then come `to` bytes of a name and `size` bytes of pairs. */
struct record {
	uint32_t size;
	uint8_t pairs, to, zero[2];
};

/* `limit`: most bytes of events kept; the newest event is kept whatever its size. */
int stream_new(size_t limit, struct stream **ret, struct err *e);

/* No event follows. The stream frees itself when its last attachment is gone; NULL is fine. */
void stream_close(struct stream *s);

/*
 * Its events are kept elsewhere too: those from `first` on already, and `next` is the number of the next one. Such a
 * stream is told with stream_publish() up to which event (not included) they are safe; those behind are not sent and
 * not dropped.
 */
void stream_keep(struct stream *s, int64_t first, int64_t next);
void stream_publish(struct stream *s, int64_t up_to);
/* Nothing is kept for now: all events may be sent, and are held in memory until they are kept. */
void stream_publish_all(struct stream *s);
void stream_kept_from(struct stream *s, int64_t first); /* older ones are kept no more */
/* Appended bytes that are not safe yet. */
size_t stream_unsafe(const struct stream *s);

/* Records of events from number `from` on, all of them; *ret (`size` bytes) is the caller's. SINK_ENOMEM. */
int stream_copy(const struct stream *s, int64_t from, void **ret, size_t *size, struct err *e);
/* Records that begin with the reader's next event, if that is still `from`. SINK_ENOMEM, SINK_EFORMAT. */
int stream_give(struct attachment *a, int64_t from, const void *record, size_t size, int64_t events, struct err *e);

int64_t stream_first(const struct stream *s); /* number of the oldest kept event; stream_next() when there is none */
int64_t stream_next(const struct stream *s);  /* number of the next event */
size_t stream_readers(const struct stream *s);

/*
 * Appends the event number stream_next(): `frame` is its MessagePack map (of at most 12 pairs) without `conversation`.
 * `to` is NULL, or for a `renamed` event the new name, which is sent as the field `to`.
 */
int stream_append(struct stream *s, const void *frame, size_t size, const char *to, struct err *e);

/*
 * Attaches a reader at event `from`, under the conversation's present name. SINK_EGONE: `from` is dropped; SINK_EINVAL:
 * beyond the next event. The attachment is the stream's and the peer's; stream_detach() ends it.
 */
int stream_attach(struct stream *s, const char *name, int64_t from, struct attachment **ret, struct err *e);
/* Moves the reader to `from`, with the same errors, and unchanged by them. */
int stream_seek(struct attachment *a, const char *name, int64_t from, struct err *e);
void stream_detach(struct attachment *a);

/* Sends a frame to a peer: 0, SINK_EBUSY (not now), or SINK_ECONN (the peer is gone). */
typedef int stream_send(void *arg, void *peer, const void *frame, size_t size);

/*
 * Sends what the reader's credit allows. 0: it has all that it can get now; SINK_EBUSY and SINK_ECONN as from send();
 * SINK_EGONE: it was too slow and its next event is dropped; SINK_ENOENT: the stream is closed and it has read its
 * last; STREAM_WANTS: its next event must be given to it. The attachment lives on in every case.
 */
enum { STREAM_WANTS = 1 };
int stream_pump(struct attachment *a, stream_send *send, void *arg);

#endif
