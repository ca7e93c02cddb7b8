/*
 * libsink: a client's end of the sinkd protocol (libproto/README.md, sink-protocol(7)).
 *
 * A `struct sink` is one connection, for one thread at a time. Calls are maps built by the caller (or NULL for none);
 * replies and events are read by key. The library reconnects by itself, says hello again, and comes back at the cursor
 * of every attachment, so that a client sees a pause and neither a gap nor a duplicate. It grants credit as events
 * are taken. It never prints and never ends the process. It does its work inside the calls below: a client that waits
 * elsewhere watches sink_fd().
 */
#ifndef SINK_H
#define SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sink_code.h"

#ifdef __cplusplus
extern "C" {
#endif

#define SINK_API __attribute__((visibility("default")))

struct sink;
struct sink_reply; /* a reply or an event; the caller's, until sink_reply_free() */
struct sink_args;  /* the fields of a request */

/* The last call's error; with NULL that of what belongs to no connection, one a thread: 0 or a code, and a sentence. */
SINK_API int sink_error(const struct sink *s);
SINK_API const char *sink_error_text(const struct sink *s);
SINK_API const char *sink_error_name(int code);
SINK_API const char *sink_version(void);

/*
 * Writes the endpoint that clients use: `given` when not NULL or empty, else $SINK_HOST, else the user's socket below
 * $XDG_RUNTIME_DIR (or /run/user/UID), or the system's when that alone is there. A path that begins with a slash means
 * a unix socket. Returns 0, or SINK_EINVAL when it is no ipc: or tcp: endpoint, does not fit `size`, or a unix path
 * would pass 107 bytes; see sink_error_text(NULL).
 */
SINK_API int sink_endpoint(const char *given, char *endpoint, size_t size);

/*
 * Connects and says hello; waits at most timeout_ms (-1: for ever) for the answer. `endpoint` is taken as by
 * sink_endpoint(), `client` is a short name for the daemon's log. NULL on failure, with sink_error(NULL): SINK_ECONN at
 * once when nobody is there, SINK_ETIMEDOUT when somebody is and says nothing, SINK_EPROTO for another version,
 * SINK_EBUSY when the daemon takes no more clients, SINK_EINVAL, SINK_ENOMEM, SINK_EIO.
 */
SINK_API struct sink *sink_open(const char *endpoint, const char *client, int timeout_ms);
SINK_API void sink_close(struct sink *s); /* NULL is fine */

/*
 * Readable when something may have arrived, or the time of a sink_begin() is over: for poll(2), level-triggered; call
 * sink_event(s, 0) until it gives NULL.
 */
SINK_API int sink_fd(struct sink *s);

/* The daemon's answer to hello; the library's, until the next call. After a reconnect it is the new daemon's. */
SINK_API const struct sink_reply *sink_hello(const struct sink *s);

/* Arguments: names and values in any order. sink_args_new() returns NULL only without memory. */
SINK_API struct sink_args *sink_args_new(void);
SINK_API void sink_args_free(struct sink_args *a);
SINK_API void sink_args_str(struct sink_args *a, const char *key, const char *value);
SINK_API void sink_args_strn(struct sink_args *a, const char *key, const char *value, size_t len);
SINK_API void sink_args_int(struct sink_args *a, const char *key, int64_t value);
SINK_API void sink_args_float(struct sink_args *a, const char *key, double value);
SINK_API void sink_args_bool(struct sink_args *a, const char *key, bool value);
SINK_API void sink_args_bin(struct sink_args *a, const char *key, const void *data, size_t size);
SINK_API void sink_args_map(struct sink_args *a, const char *key);   /* until sink_args_end() */
SINK_API void sink_args_array(struct sink_args *a, const char *key); /* until sink_args_end(); values take key NULL */
SINK_API void sink_args_end(struct sink_args *a);

/*
 * Adds the value that a JSON text is: an object, an array, or any other, the keys of objects in their order. False, and
 * nothing is added, when it is no JSON, has a key twice, a number beyond int64 or double, or nesting that no request
 * can have; see sink_error_text(NULL).
 */
SINK_API bool sink_args_json(struct sink_args *a, const char *key, const char *json, size_t len);

/*
 * Calls a verb and waits for its reply, at most timeout_ms (-1: for ever); `args` (may be NULL) is freed in every case.
 * NULL on failure: the daemon's own code and text; SINK_EINVAL for arguments that are no whole map or too long;
 * SINK_ETIMEDOUT; SINK_ECONN. While there is no connection, or the daemon has said `bye`, it waits for the next one.
 *
 * A verb is carried out once, whatever happens to the connection or the daemon: one that changes something is given a
 * random `key` unless the caller gave it, by which the daemon knows it again, and after a loss the request is sent
 * again within the time limit. When that is over (SINK_ECONN, SINK_ETIMEDOUT) it may have been carried out; calling
 * again with a key of one's own tells. Not sent again are requests with a `key` of nil, and verbs about the connection
 * or the one daemon (detach, credit, bundle_read, bundle_write, bundle_close, shutdown): there SINK_ECONN tells of the
 * loss. Events that arrive meanwhile are kept for sink_event().
 */
SINK_API struct sink_reply *sink_call(struct sink *s, const char *op, struct sink_args *args, int timeout_ms);

/*
 * Calls a verb without waiting: returns the request's number (above 0) at once, or a negative code when it can never be
 * sent, with sink_error(). Any number may be under way. The reply comes out of sink_event() among the events, ahead of
 * the first event of the attachment that it may name; it is known by sink_reply_request(). There is exactly one for
 * each number: when the daemon refused, or the time is over, or the connection is of no use, it is an error, which
 * sink_reply_error() tells. Everything else is as with sink_call(): what is carried out once, what is sent again after
 * a loss, what attaches. Requests are sent in the order in which they were begun; replies may overtake each other.
 */
SINK_API int64_t sink_begin(struct sink *s, const char *op, struct sink_args *args, int timeout_ms);

/* The number that sink_begin() gave to the request of this reply; 0 for an event. */
SINK_API int64_t sink_reply_request(const struct sink_reply *r);

/* 0, or the negative code of a reply that is an error, or of `ended`; *text (may be NULL) becomes its sentence. */
SINK_API int sink_reply_error(const struct sink_reply *r, const char **text);

/*
 * Attaches to a conversation from event `from` on (-1: from the next one). Returns 0 or a negative code; afterwards its
 * events come from sink_event(), over all reconnects, until sink_detach() or its `removed` event. Attaching again moves
 * the attachment; events that were not taken yet are dropped. A say, regenerate or generate called with attach=true
 * attaches from its own first event, and leaves an attachment that there is where it is; so it is when the call was
 * sent again after a loss.
 */
SINK_API int sink_attach(struct sink *s, const char *conversation, int64_t from, int timeout_ms);

/* Ends it; its events that were not taken are dropped. SINK_ENOENT when there is none to this conversation. */
SINK_API int sink_detach(struct sink *s, const char *conversation);

/*
 * The next event, or reply to a sink_begin(), waiting at most timeout_ms (0: not at all, -1: for ever); the caller's.
 * NULL with sink_error() 0: none came, or a signal did. NULL with a code: the connection is of no use any more, and
 * stays so (SINK_EPROTO: another version, SINK_EFORMAT: what came is no message).
 * Besides the events of conversations there is `bye`, which has neither `conversation` nor `seq`: the daemon ends, and
 * will be waited for.
 * `ended`, with `conversation`, `code` and `text`, is the library's own word that the attachment to that conversation
 * has ended, while others go on: its next event is no longer kept (egone), or it was not found again (enoent).
 * sink_reply_error() tells the same.
 * An `error` event with code `egone` is the library's own word that the daemon came back without events that were seen
 * here, since its disk was full; the attachment goes on behind the event's `seq`.
 */
SINK_API struct sink_reply *sink_event(struct sink *s, int timeout_ms);

/* Whether the daemon answers now; false while the library is trying to reconnect. */
SINK_API bool sink_connected(const struct sink *s);

/*
 * The state that the daemon at `endpoint` (as for sink_endpoint()) shows in shared memory, without a connection or a
 * message: it can be had while the daemon is stopped, busy, or loading its model. A map like a reply, the caller's; its
 * fields are in sink-protocol(7), THE STATUS SEGMENT. `age` is how many seconds ago it was written: a daemon whose
 * state is older than three times `period_ms` does not answer. NULL with sink_error(NULL): SINK_ECONN when no daemon is
 * there, or it shows nothing (its option status-segment), SINK_EIO when it may not be read, SINK_EFORMAT when it is
 * just starting, SINK_EPROTO, SINK_EINVAL, SINK_ENOMEM.
 */
SINK_API struct sink_reply *sink_board(const char *endpoint);

/*
 * Reading a reply's `ok` map or an event by path: keys and indices joined by dots, such as "conversation.name" or
 * "messages.0.text". Strings are UTF-8, terminated; they live as long as the reply.
 */
SINK_API void sink_reply_free(struct sink_reply *r); /* NULL is fine */
SINK_API bool sink_has(const struct sink_reply *r, const char *path);
SINK_API const char *sink_str(const struct sink_reply *r, const char *path, size_t *len);  /* NULL: no string there */
SINK_API const void *sink_bin(const struct sink_reply *r, const char *path, size_t *size); /* NULL: no bytes there */
SINK_API int64_t sink_int(const struct sink_reply *r, const char *path, int64_t otherwise);
SINK_API double sink_float(const struct sink_reply *r, const char *path, double otherwise);
SINK_API bool sink_bool(const struct sink_reply *r, const char *path, bool otherwise);
SINK_API size_t sink_count(const struct sink_reply *r, const char *path); /* elements of an array or map */

/* The reply or event as one line of JSON, bytes as base64; the caller frees it with free(). NULL without memory. */
SINK_API char *sink_json(const struct sink_reply *r);

#ifdef __cplusplus
}
#endif

#endif
