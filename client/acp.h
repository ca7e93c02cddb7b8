/*
 * `sink acp`: the Agent Client Protocol, version 1, over a bridge. A session is a named conversation; its id is the
 * name under which this client first met it.
 *
 * acp.c carries out the client's methods, acp_open.c those that lead into a session, each a chain of requests to the
 * daemon; acp_session.c keeps the sessions and tells the client what happens in them, whoever caused it.
 */
#ifndef CLIENT_ACP_H
#define CLIENT_ACP_H

#include "bridge.h"

/* Events that are kept aside, in order. */
struct acp_held {
	struct acp_held *next;
	struct sink_reply *ev;
};

struct acp_session {
	struct acp_session *next;
	char *id, *name; /* the name moves with `renamed` */
	char *cwd;
	int64_t answer_seq; /* of the last `answer`: makes the ids of its pieces unlike those of an earlier attempt */

	struct rpc_call *prompt; /* what is being answered; NULL: nothing that was asked here */
	int64_t said;		 /* the prompt's message; -1 while the daemon's reply is awaited */
	char trouble[200];	 /* what an `error` event said of it */

	struct rpc_call *load; /* to be answered when the events before `caught_up` have come */
	int64_t caught_up;
	struct acp_held *held, **held_end;
};

struct acp_step;
typedef void acp_then(struct bridge *b, struct acp_step *p, struct sink_reply *r);

/* A request to the daemon whose reply is awaited, and how it goes on then. */
struct acp_step {
	struct acp_step *next;
	int64_t number;
	struct rpc_call *call;	     /* what it is for; NULL: nobody's, or nobody's any more, and it goes no further */
	struct acp_session *session; /* NULL: none yet */
	acp_then *then;		     /* the reply is there; the step is its to free, the reply is not */
	acp_then *otherwise;	     /* the same for an error; NULL: the call is answered with it */

	char *name, *cwd;	/* of the conversation that it is about */
	char *source;		/* the one that is forked; NULL: none */
	bool exact;		/* the name was given, and no other will do */
	int tries;		/* names that were taken */
	int64_t at, messages;	/* load: the next message, and how many there are */
	int64_t seq, first_seq; /* load: the moment up to which they count, and the oldest event */
	int64_t answer;		/* load: the message that was being written then; -1: none */
};

struct acp {
	struct acp_session *sessions;
	struct acp_step *steps;
};

/* ---- acp.c ---- */

/* A step of a call, about a conversation. NULL: the call was answered. */
struct acp_step *acp_step_new(struct bridge *b, struct rpc_call *call, const char *name, const char *cwd);
void acp_step_free(struct acp_step *p);

/*
 * Sends its next request; `a` is taken, and NULL means that there was no memory for it. False: that cannot be, the call
 * was answered and the step is gone.
 */
bool acp_step_begin(struct bridge *b, struct acp_step *p, const char *op, struct sink_args *a, acp_then *then);

/* The arguments of a request about its conversation. */
struct sink_args *acp_step_args(const struct acp_step *p);

/* Ends it: its call is answered with the error of this reply. */
void acp_step_refuse(struct bridge *b, struct acp_step *p, const struct sink_reply *r);

/* Ends it for want of memory. */
void acp_step_starve(struct bridge *b, struct acp_step *p);

/* A string among the params that must be there; NULL: the call was answered. */
const char *acp_text(struct bridge *b, struct rpc_call *call, json_t *params, const char *key);

/* The session that the params name; NULL: the call was answered. */
struct acp_session *acp_session_of(struct bridge *b, struct rpc_call *call, json_t *params);

/* ---- acp_open.c: the ways into a session ---- */

typedef void acp_method(struct bridge *b, struct rpc_call *call, json_t *params);
acp_method acp_open_new, acp_open_fork, acp_open_load, acp_open_resume;

/* ---- acp_session.c ---- */

/* Finds a session by its id; NULL: the client knows none of that name. */
struct acp_session *acp_session_find(const struct acp *a, const char *id);

/* The session of a conversation, made when there is none. NULL without memory. */
struct acp_session *acp_session_meet(struct acp *a, const char *name, const char *cwd);

/* Forgets it; a prompt that is being answered is told `cancelled`. The caller has seen to the daemon. */
void acp_session_forget(struct bridge *b, struct acp_session *s);

/* The end of the process: all sessions are forgotten, without a word. */
void acp_session_end(struct acp *a);

/* Something happened in a conversation. The event is taken. */
void acp_session_event(struct bridge *b, struct sink_reply *ev);

/* The daemon has numbered the prompt's message: what was kept aside meanwhile is told. -1: it was refused. */
void acp_session_said(struct bridge *b, struct acp_session *s, int64_t message);

/* Tells one message of the past. */
void acp_session_message(struct bridge *b, const struct acp_session *s, int64_t number, const char *role,
			 const char *text, size_t len);

/* Tells the name, the time of the last use, and how full the window is, from the info at this path of `r`. */
void acp_session_info(struct bridge *b, const struct acp_session *s, const struct sink_reply *r, const char *path);

/* Unix seconds as the protocol of the editors has times. */
void acp_time(double seconds, char *ret, size_t size);

/* Answers with a value, which is taken. */
void acp_result(struct bridge *b, struct rpc_call *call, json_t *result);

#endif
