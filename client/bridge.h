/*
 * A bridge: JSON-RPC on standard input and output, the daemon behind it, and a table that says what a method means. One
 * loop serves `sink --stdio` (stdio.c) and `sink acp` (acp.c).
 *
 * Standard output carries the protocol and nothing else. A peer that does not read is waited for: while BRIDGE_OUT_MOST
 * bytes stand before it, the bridge neither reads its requests nor takes events, so that the daemon's credit for it
 * runs out and the memory stays bounded. The end of the input ends the bridge once everything is answered; it stops no
 * answer of a model.
 */
#ifndef CLIENT_BRIDGE_H
#define CLIENT_BRIDGE_H

#include "rpc.h"
#include "verb.h"

enum {
	BRIDGE_OUT_MOST = 256 << 10, /* bytes that wait for the peer */
	BRIDGE_CREDIT = 64 << 10,    /* bytes of events that may be under way for one attachment */
	BRIDGE_PATIENCE_MS = 30000,  /* how long answers are waited for without a daemon, once the input has ended */
};

struct bridge;

/* What a kind of bridge makes of what comes. */
struct bridge_kind {
	/* The peer calls; to be answered by rpc_result() or rpc_error() on b->rpc, now or later. */
	void (*called)(struct bridge *b, struct rpc_call *call, const char *method, json_t *params);
	/* The daemon's reply to what was begun, or an event; the callee's to free. */
	void (*replied)(struct bridge *b, struct sink_reply *r);
	void (*happened)(struct bridge *b, struct sink_reply *ev);
	/* The connection was lost, or is there again. */
	void (*changed)(struct bridge *b, bool connected);
};

struct bridge {
	const struct bridge_kind *kind;
	struct cli *cli;
	struct sink *sink;
	struct rpc rpc;
	void *state; /* the kind's own */
	bool connected;
	int64_t instance;
	bool ended, broken; /* the input has ended; nobody reads the output */
	int64_t alone;	    /* since when there has been no daemon after the input's end; -1 */
};

/* Runs until the input ends, the output breaks, or the daemon is of no use. An exit code. */
int bridge_run(struct cli *c, const struct bridge_kind *kind, void *state);

/* Answers a call with the daemon's error, in JSON-RPC's codes: einval is -32602, an unknown verb -32601. */
void bridge_refuse(struct bridge *b, struct rpc_call *call, int code, const char *text);

/* Begins a request; `call` (NULL: nobody's) is answered at once when it can never be sent. The number, or negative. */
int64_t bridge_begin(struct bridge *b, const char *op, struct sink_args *a, struct rpc_call *call);

#endif
