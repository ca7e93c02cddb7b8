/*
 * Owns the table of verbs, the order in which requests are served, and the verbs that speak of the daemon as a whole. A
 * frame is hostile until msg_parse() has read it.
 */
#include "verb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keep.h"
#include "log.h"
#include "replies.h"
#include "resume.h"
#include "tier.h"
#include "verb_table.h"

enum { WAITING_MOST = 1000, PATH_SHOWN = 32 };

struct verb {
	const char *name;
	int needs;
	verb_function *run;
	enum {
		PLAIN,
		PATIENT, /* waits while the conversation reads something that no answer follows */
		URGENT,	 /* overtakes those that wait */
	} manner;
	bool changes; /* its reply waits until what it tells is safe */
};

static verb_function hello_again, status, models, shut_down;

enum {
	TEXT = NEEDS_TEXT | NEEDS_HOME,
	CACHE = TEXT | NEEDS_CACHE,
	CACHES = CACHE | NEEDS_CACHES,
};

static const struct verb verbs[] = {
	{ "hello", NEEDS_NOTHING, hello_again, PLAIN, false },
	{ "new", NEEDS_NOTHING, verb_new, PLAIN, true },
	{ "say", CACHE, verb_say, PATIENT, true },
	{ "regenerate", CACHES, verb_regenerate, PATIENT, true },
	{ "rewind", CACHES, verb_rewind, PLAIN, true },
	{ "fork", CACHES | NEEDS_FORK, verb_fork, PLAIN, true },
	{ "list", NEEDS_NOTHING, verb_list, PLAIN, false },
	{ "show", NEEDS_NOTHING, verb_show, PLAIN, false },
	{ "log", NEEDS_TEXT, verb_log, PLAIN, false },
	{ "rename", NEEDS_NOTHING, verb_rename, PLAIN, true },
	{ "remove", NEEDS_HOME | NEEDS_CACHES | NEEDS_FREE, verb_remove, PLAIN, true },
	{ "stop", TEXT, verb_stop, URGENT, true },
	{ "attach", NEEDS_NOTHING, verb_attach, PLAIN, false },
	{ "detach", NEEDS_NOTHING, verb_detach, PLAIN, false },
	{ "credit", NEEDS_NOTHING, verb_credit, PLAIN, false },
	{ "feed", CACHE, verb_feed, PATIENT, true },
	{ "generate", CACHES, verb_generate, PATIENT, true },
	{ "tokenize", NEEDS_NOTHING, verb_tokenize, PLAIN, false },
	{ "detokenize", NEEDS_NOTHING, verb_detokenize, PLAIN, false },
	{ "score", CACHES, verb_score, PLAIN, false },
	{ "pin", NEEDS_NOTHING, verb_pin, PLAIN, true },
	{ "search", NEEDS_NOTHING, verb_search, PLAIN, false },
	{ "bundle", TEXT | NEEDS_FILE, verb_bundle, PLAIN, false },
	{ "bundle_read", NEEDS_NOTHING, verb_bundle_read, PLAIN, false },
	{ "bundle_new", NEEDS_NOTHING, verb_bundle_new, PLAIN, false },
	{ "bundle_write", NEEDS_NOTHING, verb_bundle_write, PLAIN, false },
	{ "bundle_import", NEEDS_NOTHING, verb_bundle_import, PLAIN, true },
	{ "bundle_close", NEEDS_NOTHING, verb_bundle_close, PLAIN, false },
	{ "status", NEEDS_NOTHING, status, PLAIN, false },
	{ "models", NEEDS_NOTHING, models, PLAIN, false },
	{ "shutdown", NEEDS_NOTHING, shut_down, PLAIN, false },
};

bool verb_changes(const struct verb *v)
{
	return v->changes;
}

static const struct verb *verb_named(const char *name, size_t len)
{
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strlen(verbs[i].name) == len && memcmp(verbs[i].name, name, len) == 0)
			return &verbs[i];
	return NULL;
}

/* The daemon itself. */

/* What a client that writes raw text must know of the vocabulary. */
static void write_marks(const struct vocab *v, struct out *o)
{
	int32_t fim[VOCAB_FIM];

	if (vocab_adds_bos(v))
		out_int(o, "bos", vocab_bos(v));
	if (!vocab_fim(v, fim))
		return;
	out_map(o, "fim");
	out_int(o, "prefix", fim[VOCAB_FIM_PREFIX]);
	out_int(o, "suffix", fim[VOCAB_FIM_SUFFIX]);
	out_int(o, "middle", fim[VOCAB_FIM_MIDDLE]);
	out_end(o);
}

static void write_model(const struct core *c, struct out *o)
{
	const struct model_info *m = model_info(c->model);

	out_map(o, "model");
	out_str(o, "name", m->name);
	out_str(o, "path", m->path);
	out_str(o, "arch", m->arch);
	out_str(o, "quantization", m->quantization);
	out_str(o, "kernels", m->kernels);
	out_str(o, "device", m->device);
	out_str(o, "turns", m->turns);
	out_int(o, "threads", m->threads);
	out_int(o, "context", m->context);
	out_int(o, "vocab", m->vocab);
	out_int(o, "bytes", (int64_t)m->bytes);
	out_int(o, "parameters", (int64_t)m->parameters);
	out_int(o, "layers", m->layers);
	out_int(o, "token_bytes", (int64_t)m->token_bytes);
	out_str(o, "policy", core_policy(c));
	out_str(o, "policy_from", usual_source(&c->usual, &c->conf));
	write_marks(model_vocab(c->model), o);
	out_end(o);
}

static void write_self(const struct core *c, struct out *o)
{
	out_str(o, "server", "sinkd " PACKAGE_VERSION);
	out_int(o, "pid", getpid());
	out_int(o, "instance", (int64_t)c->instance);
}

static int hello_again(struct core *c, struct request *r, struct err *e)
{
	struct out *o;

	(void)e;
	o = core_reply_begin(c, r);
	out_int(o, "protocol", SINK_PROTOCOL);
	write_self(c, o);
	write_model(c, o);
	out_map(o, "limits");
	out_int(o, "message_bytes", c->conf.message_bytes);
	out_int(o, "conversations", c->conf.conversations);
	out_int(o, "log_bytes", c->conf.log_bytes);
	out_end(o);
	core_reply(c, r);
	return 0;
}

static void write_steps(const struct core *c, struct out *o)
{
	struct sched_times t;

	sched_times(&c->sched, &t);
	out_int(o, "steps", c->sched.steps);
	out_map(o, "step_ms");
	out_float(o, "median", t.median);
	out_float(o, "p99", t.p99);
	out_float(o, "max", t.max);
	out_end(o);
}

static void write_store(struct core *c, struct out *o)
{
	struct tier_figures f;

	tier_figures(c, &f);
	out_map(o, "store");
	out_str(o, "state", !keep_is_on(c) ? "off" : keep_has_stopped(c) ? "stopped" : "saving");
	if (keep_has_stopped(c))
		out_str(o, "text", keep_trouble(c)->text);
	else if (f.trouble)
		out_str(o, "text", f.trouble->text);
	if (keep_is_on(c)) {
		out_str(o, "path", c->conf.state);
		out_int(o, "bytes", keep_bytes(c));
		out_int(o, "caches", f.files);
		out_int(o, "cache_bytes", f.bytes);
		out_int(o, "free_bytes", f.free_bytes);
	}
	out_end(o);
}

static int status(struct core *c, struct request *r, struct err *e)
{
	struct out *o = core_reply_begin(c, r);
	const struct arena *a = model_arena(c->model);
	struct core_counts n;

	(void)e;
	core_count(c, &n);
	write_self(c, o);
	out_float(o, "uptime", (clock_ms() - c->started) / 1e3);
	out_str(o, "state", c->phase == PHASE_STOPPING ? "stopping" : "ready");
	write_model(c, o);
	out_int(o, "conversations", (int64_t)c->table.count);
	out_int(o, "answering", (int64_t)n.answering);
	out_int(o, "queued", (int64_t)n.queued);
	out_int(o, "clients", (int64_t)c->peers.count);
	out_int(o, "attachments", (int64_t)c->peers.attachments);
	out_int(o, "pages", (int64_t)arena_pages(a));
	out_int(o, "pages_free", (int64_t)c->pages_free);
	out_int(o, "page_bytes", (int64_t)arena_page_bytes(a));
	out_int(o, "resident_bytes", core_resident_bytes());
	out_int(o, "tokens_read", c->pulse.read);
	out_int(o, "tokens_written", c->pulse.written);
	out_int(o, "drafted", c->drafted);
	out_int(o, "accepted", c->accepted);
	write_steps(c, o);
	write_store(c, o);
	out_str(o, "endpoint", c->conf.listen);
	core_reply(c, r);
	return 0;
}

static int models(struct core *c, struct request *r, struct err *e)
{
	struct out *o = core_reply_begin(c, r);

	(void)e;
	out_array(o, "models");
	out_map(o, NULL);
	out_str(o, "name", model_info(c->model)->name);
	out_str(o, "path", model_info(c->model)->path);
	out_bool(o, "loaded", true);
	out_str(o, "policy", core_policy(c));
	out_str(o, "policy_from", usual_source(&c->usual, &c->conf));
	out_end(o);
	out_end(o);
	core_reply(c, r);
	return 0;
}

static int shut_down(struct core *c, struct request *r, struct err *e)
{
	const struct peer *p = peer_by_serial(&c->peers, r->peer);

	(void)e;
	log_info("Client \"%s\" asks for the end.", p ? p->name : "?");
	core_reply_begin(c, r);
	core_reply(c, r);
	core_stop(c);
	return 0;
}

/* Requests. */

/* Whether what a verb needs of its conversation can be had at all. */
static int check_text(struct core *c, const struct request *r, struct err *e)
{
	struct conversation *v;

	if (!(r->verb->needs & NEEDS_TEXT) || verb_conversation(c, r, &v, NULL) < 0 || !v->trouble.code)
		return 0;
	return err_set(e, v->trouble.code, "\"%s\" cannot be used: %s", v->name, v->trouble.text);
}

static void run(struct core *c, struct request *r)
{
	struct err e;

	if (c->phase == PHASE_STOPPING && r->key) {
		replies_forget(c, r);
		request_free(c, r); /* it will be sent again, to the next daemon */
		return;
	}
	if (c->phase == PHASE_STOPPING && r->verb->changes) /* what only looks is served to the end */
		err_set(&e, SINK_EBUSY, "The daemon is stopping.");
	else if (check_text(c, r, &e) == 0 && r->verb->run(c, r, &e) == 0)
		return;
	core_refuse(c, r, &e);
}

static bool same_conversation(const struct request *a, const struct request *b)
{
	size_t an, bn;
	const char *as = val_str(val_get(a->root, "conversation"), &an);
	const char *bs = val_str(val_get(b->root, "conversation"), &bn);

	return as && bs && an == bn && memcmp(as, bs, an) == 0;
}

/* What a verb needs of its conversation; what is missing is begun. */
static bool lacks(struct core *c, const struct request *r, struct conversation *v)
{
	const int needs = r->verb->needs;

	if ((needs & NEEDS_HOME) && (v->away || v->encoding || v->restoring))
		return true;
	if ((needs & NEEDS_TEXT) && !resume_text(c, v))
		return !v->trouble.code;
	if ((needs & NEEDS_FREE) && (tier_holds(v) || v->fetching))
		return true;
	if ((needs & NEEDS_CACHE) && resume_check(c, v, NULL) == 0 && !tier_ready(c, v))
		return true;
	if ((needs & NEEDS_FILE) && val_bool(val_get(r->root, "cache"), false) && !tier_written(c, v))
		return true;
	if ((needs & NEEDS_FORK) && !keep_may_fork(c, v))
		return true;
	return r->verb->manner == PATIENT && conversation_busy(v) && !v->work.answers;
}

/* Whether it must wait: for what it needs, or for one that came earlier to the same conversation. */
static bool must_wait(struct core *c, const struct request *r)
{
	const struct request *earlier;
	struct conversation *v;

	if (r->verb->needs == NEEDS_NOTHING)
		return false;
	if ((r->verb->needs & NEEDS_CACHES) && c->batch_away)
		return true;
	if (verb_conversation(c, r, &v, NULL) == 0 && lacks(c, r, v))
		return true;
	if (r->verb->manner == URGENT)
		return false;
	TAILQ_FOREACH(earlier, &c->waiting, link)
	{
		if (earlier == r)
			break;
		if (same_conversation(earlier, r))
			return true;
	}
	return false;
}

void verb_admit(struct core *c, struct request *r)
{
	struct err e;

	if (!must_wait(c, r)) {
		run(c, r);
		return;
	}
	if (c->waiting_count >= WAITING_MOST)
		err_set(&e, SINK_EBUSY, "Too many requests are waiting; try again later.");
	else if (core_hold(c, r, &e) == 0) {
		TAILQ_INSERT_TAIL(&c->waiting, r, link);
		c->waiting_count++;
		return;
	}
	core_refuse(c, r, &e);
}

void verb_retry(struct core *c)
{
	struct request *r = TAILQ_FIRST(&c->waiting);

	while (r) {
		if (must_wait(c, r)) {
			r = TAILQ_NEXT(r, link);
			continue;
		}
		TAILQ_REMOVE(&c->waiting, r, link);
		c->waiting_count--;
		run(c, r);
		r = TAILQ_FIRST(&c->waiting); /* it may have been what earlier ones waited for */
	}
}

/* Frames. */

static void refuse_stranger(struct core *c, const struct sender *from, int64_t id, const struct err *why)
{
	struct peer stranger = { .id_len = from->id_len, .fd = -1 };
	struct out *o = c->reply;
	const void *frame;
	size_t size;

	memcpy(stranger.id, from->id, from->id_len);
	out_reset(o);
	out_map(o, NULL);
	out_int(o, "id", id);
	out_map(o, "error");
	out_str(o, "code", err_name(why->code));
	out_str(o, "text", why->text);
	out_end(o);
	out_end(o);
	if (!out_ok(o))
		return;
	frame = out_data(o, &size);
	c->send(c->send_arg, &stranger, frame, size); /* one that does not read its errors loses them */
}

void verb_refuse_frame(struct core *c, const struct sender *from, const struct err *why)
{
	log_debug("A frame is refused: %s", why->text);
	refuse_stranger(c, from, 0, why);
}

static int greet(struct core *c, const struct sender *from, const struct val *root, struct peer **peer, struct err *e)
{
	char name[PEER_NAME_MOST + 1] = "";
	const char *client = "";
	size_t len = 0;
	int64_t protocol;

	if (msg_int(root, "protocol", INT64_MIN, INT64_MAX, &protocol, e) < 0 ||
	    msg_str(root, "client", 4096, &client, &len, e) < 0)
		return SINK_EINVAL;
	if (protocol != SINK_PROTOCOL)
		return err_set(e, SINK_EPROTO, "This daemon speaks version %d of the protocol, not %lld.",
			       SINK_PROTOCOL, (long long)protocol);
	if (!*peer && c->peers.count >= (size_t)c->conf.clients)
		return err_set(e, SINK_EBUSY, "There are %zu clients already (option clients).", c->peers.count);
	for (size_t i = 0; i < len && i < PEER_NAME_MOST; i++) /* it goes into the log */
		name[i] = client[i] >= ' ' && client[i] < 0x7f ? client[i] : '?';
	if (!*peer && peer_new(&c->peers, from->id, from->id_len, name, peer, e) < 0)
		return SINK_ENOMEM;
	(*peer)->fd = from->fd;
	log_debug("Client \"%s\" says hello.", name);
	return 0;
}

/* Reads what every request has. *id is set as soon as it is known. */
static int read_request(struct core *c, const struct sender *from, const struct val *root, struct peer **peer,
			const struct verb **verb, int64_t *id, struct err *e)
{
	const char *op;
	size_t len;

	if (msg_int(root, "id", 1, INT64_MAX, id, e) < 0 || msg_str(root, "op", 4096, &op, &len, e) < 0)
		return SINK_EINVAL;
	*verb = verb_named(op, len);
	if (!*verb)
		return err_set(e, SINK_EPROTO, "There is no verb \"%.*s\".", (int)(len < PATH_SHOWN ? len : PATH_SHOWN),
			       op);
	if ((*verb)->run == hello_again)
		return greet(c, from, root, peer, e);
	if (!*peer)
		return err_set(e, SINK_EPROTO, "The first message must be a hello.");
	return 0;
}

void verb_dispatch(struct core *c, const struct sender *from, const void *frame, size_t size)
{
	struct peer *peer = peer_find(&c->peers, from->id, from->id_len);
	struct request *r;
	struct msg *m;
	struct err e;
	int64_t id = 0, key = 0;
	const struct verb *verb;

	if (size > (size_t)c->conf.message_bytes) {
		err_set(&e, SINK_EFORMAT, "The message has %zu bytes; at most %lld are taken.", size,
			(long long)c->conf.message_bytes);
		verb_refuse_frame(c, from, &e);
		return;
	}
	if (msg_parse(frame, size, &m, &e) < 0) {
		verb_refuse_frame(c, from, &e);
		return;
	}
	if (read_request(c, from, msg_root(m), &peer, &verb, &id, &e) < 0 ||
	    (verb->changes && msg_int_or(msg_root(m), "key", 1, INT64_MAX, &key, &e) < 0)) {
		refuse_stranger(c, from, id, &e);
		msg_free(m);
		return;
	}
	r = calloc(1, sizeof(*r));
	if (!r) {
		refuse_stranger(c, from, id, &(struct err){ SINK_ENOMEM, "There is no memory for the request." });
		msg_free(m);
		return;
	}
	*r = (struct request){
		.verb = verb, .msg = m, .root = msg_root(m), .size = size, .id = id, .key = key, .peer = peer->serial
	};
	if (!key || !replies_know(c, r))
		verb_admit(c, r);
}
