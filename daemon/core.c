/*
 * Owns the beginning and the end of everything in the loop, the way to clients and back, and the jobs in hand. Limits
 * on what a client can make grow are held here: the bytes of requests in hand, and of replies that it does not read.
 */
#include "core.h"

#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "bundle.h"
#include "fetch.h"
#include "keep.h"
#include "log.h"
#include "notify.h"
#include "replies.h"
#include "resume.h"
#include "score.h"
#include "step.h"
#include "talk.h"
#include "tier.h"
#include "verb.h"

enum {
	LOGITS_MOST = 64,   /* rows of a step that want logits: they are as wide as the vocabulary */
	HELD_MESSAGES = 16, /* requests in hand, and replies unread by one client, in longest messages */
	PAUSE_FIRST = 5,    /* ms until a peer that took no more is tried again; doubles up to the next */
	PAUSE_MOST = 160,
};

/* New conversations may be given a policy that does little good to this model. */
static void warn_of_policy(const struct core *c)
{
	struct policy p;
	const char *policy = core_policy(c);
	const char *note = policy_parse(policy, &p, NULL) == 0 ? retention_note(&p, c->model) : NULL;

	if (note)
		log_warning("policy = %s: %s", policy, note);
}

/* What `auto` means with this model. */
static void tell_usual(const struct core *c)
{
	const struct usual *u = &c->usual;

	if (strcmp(c->conf.policy, USUAL_AUTO) != 0)
		return;
	if (u->trouble.code)
		log_warning("New conversations keep %s, as if nothing had been measured: %s", u->policy,
			    u->trouble.text);
	else
		log_info("New conversations keep %s (%s%s%s).", u->policy, u->from, *u->file ? ": " : "", u->file);
}

const char *core_policy(const struct core *c)
{
	return usual_policy(&c->usual, &c->conf);
}

static void load_done(struct job *j, void *owner)
{
	struct load *l = (struct load *)j;
	struct core *c = owner;

	c->batch_away = false;
	if (l->rc < 0 || core_set_model(c, l->model, &l->err) < 0) {
		log_error("%s", l->err.text);
		c->load_failed = true;
		return;
	}
	if (*model_note(c->model))
		log_warning("%s", model_note(c->model));
	warn_of_policy(c);
	tell_usual(c);
	if (*model_info(c->model)->device_note)
		log_info("The processor computes: %s", model_info(c->model)->device_note);
	log_info("%s: %s, %s, on %s, kernels %s, %d threads; loaded in %.0f ms.", model_info(c->model)->name,
		 model_info(c->model)->arch, model_info(c->model)->quantization, model_info(c->model)->device,
		 model_info(c->model)->kernels, model_info(c->model)->threads, l->ms);
}

int core_new(const struct conf *conf, stream_send *send, void *send_arg, struct core **ret, struct err *e)
{
	struct core *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, SINK_ENOMEM, "There is no memory for the daemon's records.");
	c->conf = *conf;
	c->send = send;
	c->send_arg = send_arg;
	c->adopt = (struct arena_files){ -1, -1 };
	c->started = clock_ms();
	usual_init(&c->usual);
	usual_init(&c->load.usual);
	if (getrandom(&c->instance, sizeof(c->instance), 0) < 0)
		c->instance = (uint64_t)(clock_unix() * 1e6);
	c->instance >>= 1; /* it travels as a signed number too */
	conversations_init(&c->table);
	peers_init(&c->peers);
	TAILQ_INIT(&c->scores);
	TAILQ_INIT(&c->waiting);
	sched_init(&c->sched, (size_t)conf->batch, LOGITS_MOST, conf->gap);
	c->sched.drafts = conf->speculation;
	if ((rc = events_new(&c->events, e)) < 0 || (rc = out_new(&c->reply, e)) < 0 ||
	    (rc = replies_new(&c->replies, e)) < 0 || (rc = bundles_new(&c->bundles, e)) < 0 ||
	    (rc = worker_new("sinkd-engine", &c->engine, e)) < 0 ||
	    (rc = worker_new("sinkd-text", &c->scribe, e)) < 0) {
		core_free(c);
		return rc;
	}
	*ret = c;
	return 0;
}

/* Jobs of the disk come back by themselves, and soon. */
static void wait_for_disk(struct core *c)
{
	while (keep_is_away(c) || tier_is_away(c)) {
		struct pollfd p[] = { { keep_fd(c), POLLIN, 0 }, { tier_fd(c), POLLIN, 0 } };

		poll(p, sizeof(p) / sizeof(p[0]), -1);
		keep_take(c);
		tier_take(c);
	}
}

void core_free(struct core *c)
{
	struct conversation *v;
	struct request *r;
	struct score *s;

	if (!c)
		return;
	assert(!c->batch_away && !c->texts_away);
	wait_for_disk(c);
	worker_free(c->engine);
	worker_free(c->scribe);
	while ((r = TAILQ_FIRST(&c->waiting))) {
		TAILQ_REMOVE(&c->waiting, r, link);
		request_free(c, r);
	}
	while ((s = TAILQ_FIRST(&c->scores)))
		score_free(c, s);
	while (!LIST_EMPTY(&c->peers.list))
		peer_free(&c->peers, LIST_FIRST(&c->peers.list));
	while ((v = TAILQ_FIRST(&c->table.by_use))) {
		sched_remove(&c->sched, &v->runner);
		kv_leave(v->kv);
		tier_release(v);
		v->kv = NULL;
		v->restoring = v->saving = v->encoding = false;
		if (v->work.request)
			request_free(c, v->work.request);
		v->work.request = NULL;
		conversation_remove(&c->table, v);
	}
	bundles_free(c->bundles);
	tier_close(c);
	keep_close(c);
	replies_free(c->replies);
	batch_free(c->batch);
	model_close(c->model);
	events_free(c->events);
	out_free(c->reply);
	free(c);
}

int core_open_store(struct core *c, struct err *e)
{
	int rc = keep_open(c, e);

	return rc < 0 ? rc : tier_open(c, e);
}

int core_load(struct core *c, struct err *e)
{
	int64_t logits = c->conf.batch < LOGITS_MOST ? c->conf.batch : LOGITS_MOST;
	enum precision precision;
	int rc = precision_find(c->conf.precision, &precision, e);

	if (rc < 0)
		return rc;
	c->load.job = (struct job){ load_run, load_done };
	c->load.options = (struct model_options){
		.path = c->conf.model,
		.device = c->conf.device,
		.kernels = c->conf.kernels,
		.gpu_memory = (size_t)c->conf.gpu_memory,
		.invariant = c->conf.batch_invariant,
		.threads = (int)c->conf.threads,
		.pin = c->conf.pin_threads,
		.precision = precision,
		.max_rows = (size_t)c->conf.batch,
		.max_logits = (size_t)logits,
		.cache_bytes = (size_t)c->conf.cache,
		.cache_type = c->conf.cache_type,
		.outlives = keep_is_on(c) && notify_keeps_fds(),
		.adopt = c->adopt,
	};
	c->load.identifies = keep_is_on(c);
	c->batch_away = true; /* the engine is at work, and watched like any step */
	c->batch_gone = clock_ms();
	return worker_give(c->engine, &c->load.job, e);
}

int core_set_model(struct core *c, struct model *m, struct err *e)
{
	int rc = retention_check(&c->conf, m, usual_policy(&c->load.usual, &c->conf), e);

	if (rc == 0)
		rc = batch_new(m, (size_t)c->conf.batch, step_done, &c->batch, e);
	if (rc < 0) {
		model_close(m);
		return rc;
	}
	c->model = m;
	c->fingerprint = c->load.fingerprint;
	c->vocab = c->load.vocab;
	c->usual = c->load.usual;
	tier_begin(c);
	c->pages_free = arena_pages_free(model_arena(m));
	if (c->phase == PHASE_LOADING)
		c->phase = PHASE_READY;
	return 0;
}

void core_take(struct core *c)
{
	struct job *j;

	keep_take(c);
	tier_take(c);
	while ((j = worker_take(c->scribe)) || (j = worker_take(c->engine)))
		j->done(j, c);
	tier_turn(c);
	bundles_sweep(c);
	resume_turn(c);
	verb_retry(c);
}

void core_move(struct core *c)
{
	verb_retry(c); /* a request of this turn may have been what others waited for */
	step_begin(c);
}

void core_stop(struct core *c)
{
	if (c->phase == PHASE_STOPPING)
		return;
	c->phase = PHASE_STOPPING;
	c->stop_by = clock_ms() + (double)c->conf.stop_seconds * 1e3;
	keep_stop(c);
	tier_stop(c);
}

/* Caches may be left behind: what their files lack is read anew. Jobs that were begun are waited for in any case. */
static bool is_saved(const struct core *c)
{
	if (keep_is_away(c) || tier_is_away(c))
		return false;
	return keep_is_idle(c) && (tier_is_idle(c) || clock_ms() >= c->stop_by);
}

bool core_at_home(const struct core *c)
{
	return !c->batch_away && !c->texts_away && is_saved(c);
}

void core_save(struct core *c)
{
	keep_turn(c);
}

double core_due(const struct core *c)
{
	const double due[] = { c->pump_at, keep_due(c), tier_due(c) };
	double next = 0;

	for (size_t i = 0; i < sizeof(due) / sizeof(due[0]); i++)
		if (due[i] > 0 && (next <= 0 || due[i] < next))
			next = due[i];
	return next;
}

int core_check(const struct core *c, const struct conf *conf, struct err *e)
{
	return c->model ? retention_check(conf, c->model, usual_policy(&c->usual, conf), e) : 0;
}

void core_configure(struct core *c)
{
	c->sched.gap = c->conf.gap;
	c->sched.drafts = c->conf.speculation;
}

/* To clients. */

/* It takes no more: it is tried again after a pause, which grows. */
static void pause_peer(struct core *c, struct peer *p)
{
	p->pause = p->pause > 0 ? 2 * p->pause : PAUSE_FIRST;
	if (p->pause > PAUSE_MOST)
		p->pause = PAUSE_MOST;
	p->again = clock_ms() + p->pause;
	if (c->pump_at <= 0 || p->again < c->pump_at)
		c->pump_at = p->again;
}

static void forget_peer(struct core *c, struct peer *p, const char *why)
{
	log_debug("Client \"%s\" is gone: %s", p->name, why);
	peer_free(&c->peers, p);
}

void core_send(struct core *c, struct peer *p, const void *frame, size_t size)
{
	struct err e = { SINK_ECONN, "its connection has ended." };
	int rc = SINK_EBUSY;

	if (STAILQ_EMPTY(&p->unsent))
		rc = c->send(c->send_arg, p, frame, size);
	if (rc == SINK_EBUSY) {
		rc = peer_keep(p, frame, size, HELD_MESSAGES * (size_t)c->conf.message_bytes, &e);
		if (rc == 0 && p->again <= 0)
			pause_peer(c, p);
	}
	if (rc < 0)
		forget_peer(c, p, e.text);
}

/* The reader fell behind the oldest event; the news stands outside the log. */
static void tell_lost(struct core *c, struct attachment *a)
{
	struct out *o = c->reply;
	struct peer *p = a->peer;
	const void *frame;
	size_t size;

	out_reset(o);
	out_map(o, NULL);
	out_str(o, "ev", "error");
	out_str(o, "conversation", a->name);
	out_int(o, "seq", a->next);
	out_str(o, "code", err_name(SINK_EGONE));
	out_str(o, "text", "The reader was too slow: its next event is no longer kept. The attachment has ended.");
	out_end(o);
	peer_detach(&c->peers, a);
	if (!out_ok(o))
		return;
	frame = out_data(o, &size);
	core_send(c, p, frame, size);
}

/* SINK_ECONN: the peer is gone; SINK_EBUSY: it takes no more now. */
static int pump_peer(struct core *c, struct peer *p)
{
	struct attachment *a, *after;
	struct unsent *u;

	while ((u = STAILQ_FIRST(&p->unsent))) {
		int rc = c->send(c->send_arg, p, u->frame, u->size);

		if (rc < 0)
			return rc;
		peer_kept_sent(p);
	}
	for (a = LIST_FIRST(&p->attachments); a; a = after) {
		const int64_t before = a->next;
		int rc = stream_pump(a, c->send, c->send_arg);

		after = LIST_NEXT(a, of_peer);
		if (a->next > before)
			p->pause = 0; /* it takes, only not as fast as a long past is read: a short pause will do */
		if (rc == SINK_EGONE) {
			tell_lost(c, a);
			return 0; /* the peer may be gone; the others come with the next turn */
		}
		if (rc == STREAM_WANTS)
			fetch_begin(c, a);
		else if (rc == SINK_ENOENT)
			peer_detach(&c->peers, a);
		else if (rc < 0)
			return rc;
	}
	p->again = p->pause = 0;
	return 0;
}

void core_pump(struct core *c)
{
	double now = clock_ms();
	struct peer *p, *after;

	c->pump_at = 0;
	for (p = LIST_FIRST(&c->peers.list); p; p = after) {
		int rc = SINK_EBUSY;

		after = LIST_NEXT(p, link);
		if (p->again <= now)
			rc = pump_peer(c, p);
		else if (c->pump_at <= 0 || p->again < c->pump_at)
			c->pump_at = p->again;
		if (rc == SINK_ECONN)
			forget_peer(c, p, "its connection has ended.");
		else if (rc == SINK_EBUSY && p->again <= now)
			pause_peer(c, p);
	}
}

/* Requests and replies. */

int core_hold(struct core *c, struct request *r, struct err *e)
{
	if (r->held)
		return 0;
	if (c->held_bytes && c->held_bytes + r->size > HELD_MESSAGES * (size_t)c->conf.message_bytes)
		return err_set(e, SINK_EBUSY, "Too many requests are in hand; try again later.");
	c->held_bytes += r->size;
	r->held = true;
	return 0;
}

void request_free(struct core *c, struct request *r)
{
	if (r->held)
		c->held_bytes -= r->size;
	encode_free(r->encoded);
	msg_free(r->msg);
	free(r);
}

struct out *core_reply_begin(struct core *c, const struct request *r)
{
	out_reset(c->reply);
	out_map(c->reply, NULL);
	out_int(c->reply, "id", r->id);
	out_map(c->reply, "ok");
	return c->reply;
}

static void send_reply(struct core *c, const struct request *r)
{
	struct peer *p = peer_by_serial(&c->peers, r->peer);
	const void *frame;
	size_t size;

	if (!p)
		return;
	frame = out_data(c->reply, &size);
	core_send(c, p, frame, size);
}

/* One that tells of a change waits until that is safe. */
static void send_when_safe(struct core *c, const struct request *r)
{
	const void *frame;
	size_t size;

	frame = out_data(c->reply, &size);
	replies_made(c, r);
	if (!keep_reply(c, r->peer, r->id, r->key, frame, size))
		replies_send(c, r->peer, r->id, r->key, frame, size);
}

void core_reply(struct core *c, struct request *r)
{
	static const struct err no_memory = { SINK_ENOMEM, "There is no memory for the reply." };

	out_end(c->reply);
	out_end(c->reply);
	if (!out_ok(c->reply)) {
		core_refuse(c, r, &no_memory);
		return;
	}
	if (verb_changes(r->verb))
		send_when_safe(c, r);
	else
		send_reply(c, r);
	request_free(c, r);
}

void core_refuse(struct core *c, struct request *r, const struct err *why)
{
	out_reset(c->reply);
	out_map(c->reply, NULL);
	out_int(c->reply, "id", r->id);
	out_map(c->reply, "error");
	out_str(c->reply, "code", err_name(why->code));
	out_str(c->reply, "text", why->text);
	out_end(c->reply);
	out_end(c->reply);
	replies_forget(c, r);
	if (out_ok(c->reply))
		send_reply(c, r);
	request_free(c, r);
}

int core_encode(struct core *c, struct encode *n, struct err *e)
{
	int rc = core_hold(c, n->request, e);

	if (rc < 0 || (rc = worker_give(c->scribe, &n->job, e)) < 0)
		return rc;
	c->texts_away++;
	if (n->conversation)
		n->conversation->encoding = true;
	return 0;
}

/* The last used of those whose cache may leave memory; pinned ones only when there is no other. */
static struct conversation *find_victim(struct core *c)
{
	struct conversation *v, *victim = NULL;

	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	if (v->kv && (v->seen.pages || v->tier == TIER_FOUND) && !conversation_busy(v) && !v->encoding &&
	    !v->restoring && (!victim || !v->pin || victim->pin))
		victim = v;
	return victim;
}

bool core_make_space(struct core *c)
{
	struct conversation *v = find_victim(c);

	if (!v)
		return false;
	log_debug("The cache of \"%s\" makes room for others.", v->name);
	tier_leave(c, v);
	return true;
}

void core_count(const struct core *c, struct core_counts *ret)
{
	const size_t *in = c->table.in;

	*ret = (struct core_counts){ in[STATE_ANSWERING], in[STATE_QUEUED] + in[STATE_READING] };
}

int64_t core_resident_bytes(void)
{
	long pages = 0;
	FILE *from = fopen("/proc/self/statm", "re");

	if (!from)
		return 0;
	if (fscanf(from, "%*s %ld", &pages) != 1)
		pages = 0;
	fclose(from);
	return (int64_t)pages * sysconf(_SC_PAGESIZE);
}
