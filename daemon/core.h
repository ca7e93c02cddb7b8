/*
 * What the loop owns: the conversations, the clients, the scheduler, the two workers, and what is in hand between them.
 * No sockets: frames come in by verb_dispatch() and go out by the function that the server gave.
 *
 * A turn of the loop is: requests (verb.h), jobs that came back (core_take), the next batch (core_move), events to
 * those who read them (core_pump).
 */
#ifndef DAEMON_CORE_H
#define DAEMON_CORE_H

#include "batch.h"
#include "conf.h"
#include "conversation.h"
#include "encode.h"
#include "event.h"
#include "peer.h"
#include "sched.h"
#include "stream.h"
#include "worker.h"

struct verb;

/* A request while it is in hand. Exactly one reply ends it: core_reply() or core_refuse(), which free it. */
struct request {
	TAILQ_ENTRY(request) link;
	const struct verb *verb;
	struct msg *msg;
	const struct val *root;
	size_t size; /* of its frame */
	int64_t id;
	uint64_t peer; /* serial of the client, who may be gone by now */
	int64_t key;   /* 0: none */
	bool held;
	struct encode *encoded; /* a `score` whose text was read but whose conversation was away */
};

struct score;
struct keep;
struct tiers;
struct replies;
struct bundles;

enum phase { PHASE_LOADING, PHASE_READY, PHASE_STOPPING };

struct core {
	struct conf conf;
	enum phase phase;
	bool load_failed;   /* why is in the log */
	bool device_failed; /* in mid-run: nothing more can be computed, and the daemon ends */
	struct model *model;
	struct load load;

	struct conversations table;
	struct peers peers;
	struct events *events;
	struct sched sched;
	TAILQ_HEAD(, score) scores;
	size_t score_count;

	struct arena_files adopt;    /* what an earlier process has left; -1: nothing */
	uint64_t fingerprint, vocab; /* of the model and of its tokens */
	struct usual usual;	     /* what new conversations keep of it, where nobody says so */
	struct keep *keep;	     /* the store; NULL: nothing is kept */
	struct tiers *tiers;	     /* files of caches; NULL likewise */
	struct replies *replies;
	struct bundles *bundles;
	size_t resuming; /* conversations that go on by themselves */
	double stop_by;	 /* when the end does not wait for caches any more, in ms of the clock */

	struct worker *engine, *scribe; /* steps; texts */
	struct batch *batch;
	bool batch_away;
	double batch_gone; /* ms of the clock */
	size_t texts_away;
	size_t pages_free; /* when the caches were last at home */

	TAILQ_HEAD(request_list, request) waiting;
	size_t waiting_count, held_bytes;

	stream_send *send;
	void *send_arg;
	struct out *reply;
	double pump_at; /* a peer did not take what it was sent: when to try again, in ms of the clock; 0: none */

	uint64_t instance;
	double started;		   /* ms of the clock */
	struct pulse pulse;	   /* of all conversations together */
	int64_t drafted, accepted; /* tokens of drafts that were read, and those that came true */
};

/* `send` reaches a `struct peer`. The workers run, the model is not loaded yet. */
int core_new(const struct conf *conf, stream_send *send, void *send_arg, struct core **ret, struct err *e);
/* All jobs must be at home. NULL is fine. */
void core_free(struct core *c);

/*
 * Opens what is kept (options state, ...), before the model is loaded. SINK_EBUSY, SINK_EPROTO, SINK_EIO,
 * SINK_ENOMEM.
 */
int core_open_store(struct core *c, struct err *e);
/* Begins to load the model; core_take() brings it. */
int core_load(struct core *c, struct err *e);
/*
 * A model that the caller has opened: for tests, and what core_take() does. It is closed when the settings of new
 * conversations do not fit it (SINK_EINVAL).
 */
int core_set_model(struct core *c, struct model *m, struct err *e);

/* The policy of new conversations whose request names none. */
const char *core_policy(const struct core *c);

void core_take(struct core *c);
void core_move(struct core *c);
void core_pump(struct core *c);

/* No batch is handed out any more, and all is saved; core_at_home() tells when nothing is under way. */
void core_stop(struct core *c);
bool core_at_home(const struct core *c);

/* The end of a turn: what has changed goes to the disk. */
void core_save(struct core *c);
/* When there is something to do by the clock, in ms; 0: never. */
double core_due(const struct core *c);

/* Whether these settings would fit the model that is loaded, if there is one. SINK_EINVAL. */
int core_check(const struct core *c, const struct conf *conf, struct err *e);
/* New limits and defaults from c->conf. */
void core_configure(struct core *c);

/* Sends the bytes to the peer, now or when it reads again. A peer that is gone or never reads is freed. */
void core_send(struct core *c, struct peer *peer, const void *frame, size_t size);

/*
 * Replies. core_reply_begin() opens `{id, ok: {`; the caller writes the fields, then core_reply() closes, sends and
 * frees the request.
 */
struct out *core_reply_begin(struct core *c, const struct request *r);
void core_reply(struct core *c, struct request *r);
void core_refuse(struct core *c, struct request *r, const struct err *why);

/* Counts the memory of a request that stays in hand. SINK_EBUSY when too much is. */
int core_hold(struct core *c, struct request *r, struct err *e);
void request_free(struct core *c, struct request *r);

/* Hands a text to the tokenizer; n->request is held. On failure all stays the caller's. */
int core_encode(struct core *c, struct encode *n, struct err *e);

/*
 * Takes the cache of the idle conversation used least recently out of memory, now or as soon as its file is complete.
 * False: there is none. All at home.
 */
bool core_make_space(struct core *c);

struct core_counts {
	size_t answering, queued;
};
void core_count(const struct core *c, struct core_counts *ret);

/* Pages of this process in memory, as the system counts them. */
int64_t core_resident_bytes(void);

#endif
