/*
 * Owns the order of what goes to the disk: one commit at a time (commit.h), other jobs beside it; when it must be
 * durable; and what happens while the disk takes nothing.
 */
#include "keep.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commit.h"
#include "log.h"
#include "replies.h"
#include "resume.h"

enum { DURABLE_MS = 1000, RETRY_MS = 1000, TIDY_MS = 200 };

struct keep {
	struct store *store;
	uint64_t id;
	struct worker *worker;
	size_t away;
	int64_t last; /* number given */
	struct commit *flying;
	struct held_list held; /* for the next commit */
	int64_t *removed;
	size_t removed_count, removed_room;
	bool stopped, ending, untidy;
	struct err why;
	double durable_at; /* by when what was committed last must be durable, in ms of the clock; 0: it is */
	double retry_at, tidy_at;
	int64_t bytes;
};

bool keep_is_on(const struct core *c)
{
	return c->keep != NULL;
}

bool keep_has_stopped(const struct core *c)
{
	return c->keep && c->keep->stopped;
}

const struct err *keep_trouble(const struct core *c)
{
	return &c->keep->why;
}

struct store *keep_store(const struct core *c)
{
	return c->keep->store;
}

uint64_t keep_id(const struct core *c)
{
	return c->keep ? c->keep->id : 0;
}

int64_t keep_bytes(const struct core *c)
{
	return c->keep->bytes;
}

int keep_fd(const struct core *c)
{
	return c->keep ? worker_fd(c->keep->worker) : -1;
}

int64_t keep_number(struct core *c)
{
	return ++c->keep->last;
}

/* The directory and those above it, for the owner alone. */
static int make_directory(const char *path, struct err *e)
{
	char part[4096];
	struct stat s;

	snprintf(part, sizeof(part), "%s", path);
	for (char *at = part + 1; *at; at++) {
		if (*at != '/')
			continue;
		*at = '\0';
		mkdir(part, 0700);
		*at = '/';
	}
	if (mkdir(part, 0700) < 0 && errno != EEXIST)
		return err_set(e, SINK_EIO, "The directory %s (option state) cannot be made: %s.", path,
			       strerror(errno));
	if (stat(path, &s) < 0 || !S_ISDIR(s.st_mode))
		return err_set(e, SINK_EIO, "%s (option state) is no directory.", path);
	if ((s.st_mode & 077) && chmod(path, 0700) < 0)
		log_warning("Others may look into %s: %s.", path, strerror(errno));
	return 0;
}

static int read_all(struct core *c, struct keep *k, const struct store_options *o, struct err *e)
{
	char note[512];
	int rc = store_open(o, &k->store, note, sizeof(note), e);

	if (rc < 0)
		return rc;
	if (*note)
		log_error("%s", note);
	k->id = store_id(k->store);
	k->bytes = store_bytes(k->store);
	rc = resume_list(c, &k->last, e);
	return rc < 0 ? rc : replies_load(c, e);
}

static void tell(void *arg, const char *text)
{
	(void)arg;
	log_error("%s", text);
}

/* A damaged file is no reason not to start: what is sound of it is used. */
static int mend(struct core *c, struct keep *k, const struct store_options *o, struct err *e)
{
	struct conversation *v;
	int rc;

	log_error("%s It is mended, as by sinkd --repair-store.", e->text);
	while ((v = TAILQ_FIRST(&c->table.by_use)))
		conversation_remove(&c->table, v);
	c->resuming = 0;
	store_close(k->store);
	k->store = NULL;
	rc = store_check(o->dir, true, tell, NULL, e);
	return rc < 0 ? rc : read_all(c, k, o, e);
}

int keep_open(struct core *c, struct err *e)
{
	struct keep *k;
	struct store_options o = { .dir = c->conf.state, .event_bytes = c->conf.event_bytes };
	int rc;

	if (strcmp(c->conf.state, "none") == 0)
		return 0;
	rc = make_directory(c->conf.state, e);
	if (rc < 0)
		return rc;
	k = c->keep = calloc(1, sizeof(*k));
	if (!k)
		return err_set(e, SINK_ENOMEM, "There is no memory for the store's records.");
	STAILQ_INIT(&k->held);
	k->untidy = true; /* what an earlier process may have left */
	rc = worker_new("sinkd-store", &k->worker, e);
	if (rc == 0)
		rc = read_all(c, k, &o, e);
	if (rc == SINK_EFORMAT)
		rc = mend(c, k, &o, e);
	return rc;
}

static void free_held(struct held_list *list)
{
	struct held *h;

	while ((h = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		free(h);
	}
}

void keep_close(struct core *c)
{
	struct keep *k = c->keep;

	if (!k)
		return;
	assert(!k->away);
	worker_free(k->worker);
	store_close(k->store);
	free_held(&k->held);
	free(k->removed);
	free(k);
	c->keep = NULL;
}

/* Conversations. */

void keep_begin(struct core *c, struct conversation *v)
{
	if (!c->keep)
		return;
	v->kept = (struct kept){
		.id = keep_number(c), .segment = keep_number(c), .begins = true, .seq = 1, .safe_seq = 1
	};
	stream_keep(v->stream, 1, 1);
	if (c->keep->stopped)
		stream_publish_all(v->stream);
	conversation_changed(v, true);
}

void keep_remove(struct core *c, struct conversation *v)
{
	struct keep *k = c->keep;

	if (!k || !v->kept.id)
		return;
	if (k->flying)
		commit_forget(k->flying, v);
	if (k->removed_count == k->removed_room) {
		size_t room = k->removed_room ? 2 * k->removed_room : 16;
		int64_t *more = realloc(k->removed, room * sizeof(*more));

		if (!more) {
			log_error("\"%s\" is removed, but will be back after a restart: there is no memory to note it.",
				  v->name);
			return;
		}
		k->removed = more;
		k->removed_room = room;
	}
	k->removed[k->removed_count++] = v->kept.id;
}

/* What of a text will not change, whatever comes: all of it but for what is being written. */
static void settled(const struct conversation *v, int64_t *tokens, int64_t *messages)
{
	*tokens = (int64_t)v->log.count;
	*messages = (int64_t)v->messages;
	if (!conversation_busy(v))
		return;
	*messages = v->work.prompt >= 0 ? v->work.prompt : v->work.message;
	if (*messages < (int64_t)v->messages)
		*tokens = v->message[*messages].first_token;
}

bool keep_may_fork(const struct core *c, const struct conversation *v)
{
	const struct kept *k = &v->kept;
	int64_t tokens, messages;

	if (!c->keep || c->keep->stopped)
		return true;
	settled(v, &tokens, &messages);
	return k->known && !k->flies && !k->begins && !k->cuts && k->tokens >= tokens && k->messages >= messages;
}

void keep_fork(struct core *c, struct conversation *v, struct conversation *fork, int64_t tokens, int64_t messages)
{
	struct kept *k = &v->kept, *f = &fork->kept;

	if (!c->keep)
		return;
	*f = (struct kept){ .id = keep_number(c),
			    .segment = keep_number(c),
			    .parent = k->segment,
			    .begins = true,
			    .base_tokens = tokens,
			    .base_messages = messages,
			    .tokens = tokens,
			    .messages = messages,
			    .safe_tokens = tokens,
			    .safe_messages = messages,
			    .seq = 1,
			    .safe_seq = 1 };
	stream_keep(fork->stream, 1, 1);
	fork->absent = true;
	fork->absent_tokens = tokens;
	fork->absent_messages = messages;
	conversation_changed(fork, true);
	settled(v, &k->base_tokens, &k->base_messages);
	k->parent = k->segment;
	k->segment = keep_number(c);
	k->begins = true;
	k->tokens = k->base_tokens; /* what is being written goes to the new segment */
	k->messages = k->base_messages;
	conversation_changed(v, true);
}

bool keep_allows(const struct core *c, const struct conversation *v)
{
	return !c->keep || c->keep->stopped || v->kept.safe_tokens >= v->seen.tokens;
}

int keep_check(const struct core *c, const struct conversation *v, struct err *e)
{
	if (!c->keep || !c->keep->stopped || stream_unsafe(v->stream) < (size_t)c->conf.log_bytes)
		return 0;
	return err_set(e, SINK_EBUSY, "\"%s\" cannot go on: too much of it is unsaved. %s", v->name, c->keep->why.text);
}

/* Commits. */

static void send_held(struct core *c, struct held_list *list)
{
	struct held *h;

	while ((h = STAILQ_FIRST(list))) {
		STAILQ_REMOVE_HEAD(list, link);
		replies_send(c, h->serial, h->id, h->key, h->frame, h->size);
		free(h);
	}
}

/* All that was said may be told now, whether it is kept or not. */
static void publish_all(struct core *c)
{
	struct conversation *v;

	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	stream_publish_all(v->stream);
}

static void stop_saving(struct core *c, const struct err *why)
{
	struct keep *k = c->keep;
	struct conversation *v;

	k->why = *why;
	k->retry_at = clock_ms() + RETRY_MS;
	if (k->stopped)
		return;
	k->stopped = true;
	log_error("SAVING HAS STOPPED: %s It is tried again every second; what was saved is safe.", why->text);
	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	if (stream_readers(v->stream) || conversation_busy(v))
		event_unsaved(c->events, v, why);
	publish_all(c);
}

static void saving_again(struct core *c)
{
	struct keep *k = c->keep;
	struct conversation *v;

	k->stopped = false;
	k->retry_at = 0;
	log_info("All is saved again.");
	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	{
		stream_publish(v->stream, v->kept.safe_seq);
		if (stream_readers(v->stream) || conversation_busy(v))
			event_saved(c->events, v);
	}
}

static void note_removed_again(struct core *c, const struct commit *t)
{
	struct keep *k = c->keep;

	for (size_t i = 0; i < t->changes; i++)
		if (t->change[i].removes && k->removed_count < k->removed_room)
			k->removed[k->removed_count++] = t->change[i].id;
}

static void commit_done(struct job *j, void *owner)
{
	struct commit *t = (struct commit *)j;
	struct core *c = owner;
	struct keep *k = c->keep;

	keep_home(c);
	k->flying = NULL;
	if (t->rc < 0) {
		commit_lost(t);
		note_removed_again(c, t);
		stop_saving(c, &t->err);
	} else {
		commit_arrived(t);
		k->bytes = t->bytes;
		k->durable_at = t->durable ? 0 : k->durable_at > 0 ? k->durable_at : clock_ms() + DURABLE_MS;
		if (k->stopped && TAILQ_EMPTY(&c->table.changed))
			saving_again(c);
	}
	send_held(c, &t->held);
	if (k->stopped)
		send_held(c, &k->held);
	commit_free(t);
}

static size_t count_changes(const struct core *c)
{
	return c->keep->removed_count + commit_count(&c->table);
}

/* A commit that could not be loaded: what it holds is handed over another time. */
static void unload(struct core *c, struct commit *t, const struct err *why)
{
	commit_lost(t);
	note_removed_again(c, t);
	stop_saving(c, why);
	send_held(c, &t->held);
	send_held(c, &c->keep->held);
	commit_free(t);
}

static void begin_commit(struct core *c, bool durable)
{
	struct keep *k = c->keep;
	struct commit *t = commit_new(k->store, count_changes(c), durable || c->conf.sync_tokens || k->ending);
	struct err e;
	int rc;

	if (!t)
		return; /* the next turn tries it again */
	t->job.done = commit_done;
	commit_load_removed(t, k->removed, k->removed_count);
	k->untidy = k->untidy || k->removed_count;
	k->removed_count = 0;
	rc = commit_load_changed(c, t, &e);
	if (rc == 0)
		rc = commit_load_replies(t, &k->held, &e);
	if (rc == 0)
		rc = keep_give(c, &t->job, &e);
	if (rc < 0)
		unload(c, t, &e);
	else
		k->flying = t;
}

struct tidy {
	struct job job;
	struct store *store;
	bool more;
	int rc;
	struct err err;
};

static void tidy_run(struct job *j)
{
	struct tidy *t = (struct tidy *)j;

	t->rc = store_tidy(t->store, &t->more, &t->err);
}

static void tidy_done(struct job *j, void *owner)
{
	struct tidy *t = (struct tidy *)j;
	struct core *c = owner;

	keep_home(c);
	if (t->rc < 0)
		log_warning("What was removed is not yet wiped from the disk: %s", t->err.text);
	else if (t->more)
		c->keep->untidy = true;
	free(t);
}

/* When nothing else is to be done for a moment, a little of what removing has left. */
static void begin_tidy(struct core *c)
{
	struct keep *k = c->keep;
	struct tidy *t = calloc(1, sizeof(*t));

	if (!t)
		return;
	t->job = (struct job){ tidy_run, tidy_done };
	t->store = k->store;
	k->untidy = false;
	if (keep_give(c, &t->job, NULL) < 0)
		free(t);
}

void keep_turn(struct core *c)
{
	struct keep *k = c->keep;
	double now = clock_ms();
	bool durable;

	if (!k || k->flying)
		return;
	durable = k->durable_at > 0 && (now >= k->durable_at || k->ending);
	if (k->stopped) {
		if (now >= k->retry_at)
			begin_commit(c, true);
		return;
	}
	if (count_changes(c) || !STAILQ_EMPTY(&k->held) || durable) {
		begin_commit(c, durable);
		k->tidy_at = now + TIDY_MS;
	} else if (k->untidy && !k->away && now >= k->tidy_at) {
		begin_tidy(c);
		k->tidy_at = now + TIDY_MS / 10;
	}
}

static double sooner(double a, double b)
{
	return a <= 0 || (b > 0 && b < a) ? b : a;
}

double keep_due(const struct core *c)
{
	const struct keep *k = c->keep;

	if (!k || k->flying)
		return 0;
	if (k->stopped)
		return k->retry_at;
	return sooner(k->durable_at, k->untidy && !k->away ? k->tidy_at : 0);
}

bool keep_is_idle(const struct core *c)
{
	const struct keep *k = c->keep;

	return !k || (!k->away && (k->stopped || (!count_changes(c) && STAILQ_EMPTY(&k->held) && k->durable_at <= 0)));
}

bool keep_is_away(const struct core *c)
{
	return c->keep && c->keep->away;
}

void keep_stop(struct core *c)
{
	if (!c->keep)
		return;
	c->keep->ending = true;
	if (c->keep->stopped) /* once more, and at once */
		c->keep->retry_at = 1;
}

int keep_give(struct core *c, struct job *j, struct err *e)
{
	int rc = worker_give(c->keep->worker, j, e);

	if (rc == 0)
		c->keep->away++;
	return rc;
}

void keep_home(struct core *c)
{
	c->keep->away--;
}

void keep_take(struct core *c)
{
	struct job *j;

	while (c->keep && (j = worker_take(c->keep->worker)))
		j->done(j, c);
}

/* Replies. */

bool keep_reply(struct core *c, uint64_t serial, int64_t id, int64_t key, const void *frame, size_t size)
{
	struct keep *k = c->keep;
	struct held *h;

	if (!k || k->stopped)
		return false;
	h = malloc(sizeof(*h) + size);
	if (!h)
		return false;
	*h = (struct held){ .serial = serial, .id = id, .key = key, .size = size };
	memcpy(h->frame, frame, size);
	STAILQ_INSERT_TAIL(&k->held, h, link);
	return true;
}

static bool redirect(struct held_list *list, int64_t key, uint64_t serial, int64_t id)
{
	struct held *h;

	STAILQ_FOREACH(h, list, link)
	if (h->key == key) {
		h->serial = serial;
		h->id = id;
		return true;
	}
	return false;
}

bool keep_redirect(struct core *c, int64_t key, uint64_t serial, int64_t id)
{
	struct keep *k = c->keep;

	return k && (redirect(&k->held, key, serial, id) || (k->flying && redirect(&k->flying->held, key, serial, id)));
}
