/*
 * JSON-RPC 2.0 over lines: the peer's bytes in, calls out; answers and notifications in, lines out. Pure: no
 * descriptors and no daemon, so that it can be fuzzed.
 *
 * One line is one message, or a batch. A call lives from its line until it is answered, in whatever order; a
 * notification is a call that nobody will hear of. What is no message is answered by the module itself, and the next
 * line is read as if nothing had happened.
 */
#ifndef CLIENT_RPC_H
#define CLIENT_RPC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "buf.h"

enum {
	RPC_LINE_MOST = 16 << 20,  /* bytes of a line; a longer one is an error, and passed over */
	RPC_VALUES_MOST = 1 << 20, /* values in a line, which bounds the memory that reading it takes */
	RPC_CALLS_MOST = 1024,	   /* calls that are not answered yet; one more is refused */
	RPC_BYTES_MOST = 32 << 20, /* bytes of their lines */
	RPC_ID_MOST = 1024,	   /* bytes of an id */
};

enum rpc_code {
	RPC_PARSE = -32700,
	RPC_REQUEST = -32600,
	RPC_METHOD = -32601,
	RPC_PARAMS = -32602,
	RPC_INTERNAL = -32603,
	RPC_FIRST = -32000, /* the protocol's codes begin below it: -32002 is enoent */
};

struct rpc_batch;

struct rpc_call {
	struct rpc_call *next;
	char *id; /* as JSON; NULL: a notification */
	struct rpc_batch *batch;
	size_t cost;
	int64_t number; /* the user's own, 0 at first */
	void *of;	/* the user's own, NULL at first */
};

/* A call has come; it is to be answered, now or later. `params` is an object, and the module's. */
typedef void rpc_called(void *context, struct rpc_call *call, const char *method, json_t *params);

struct rpc {
	struct buf out; /* what is to be written; the user takes it with buf_drop() */
	rpc_called *called;
	void *context;
	struct buf line; /* the part of a line that has come */
	bool passing;	 /* over a line that is too long */
	struct rpc_call *calls;
	size_t count, bytes;
};

void rpc_init(struct rpc *r, rpc_called *called, void *context);
void rpc_release(struct rpc *r); /* calls that were never answered are forgotten */

/* Takes what the peer has written. */
void rpc_take(struct rpc *r, const char *data, size_t size);

/* The peer's last byte has come: a line without its newline is one. */
void rpc_end(struct rpc *r);

/* Answers a call, which is gone then. `json` is one value of JSON without a newline. */
void rpc_result(struct rpc *r, struct rpc_call *call, const char *json);

/* Answers with an error. `name` is the protocol's code, such as "enoent"; NULL: none. */
void rpc_error(struct rpc *r, struct rpc_call *call, int code, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* A notification to the peer. */
void rpc_notify(struct rpc *r, const char *method, const char *params);

/* The call that was given this number; NULL: none. */
struct rpc_call *rpc_find(const struct rpc *r, int64_t number);

#endif
