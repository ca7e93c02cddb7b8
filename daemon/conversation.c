/*
 * Owns the table of conversations and the rules of a single one: names, states, messages. What moves a conversation
 * (prompts, tokens, ends) is talk.c; this file knows no model.
 */
#include "conversation.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "utf8.h"

/* The next state, or NONE where that cannot happen. */
enum { NONE = -1 };

static const int8_t next_state[STATES][HAPPENINGS] = {
	/*                    PROMPT        SERVED         READ             END         FAILURE */
	[STATE_IDLE] = { STATE_QUEUED, NONE, NONE, NONE, STATE_FAILED },
	[STATE_QUEUED] = { NONE, STATE_READING, NONE, STATE_IDLE, STATE_FAILED },
	[STATE_READING] = { NONE, STATE_READING, STATE_ANSWERING, STATE_IDLE, STATE_FAILED },
	[STATE_ANSWERING] = { NONE, STATE_ANSWERING, NONE, STATE_IDLE, STATE_FAILED },
	[STATE_FAILED] = { STATE_QUEUED, NONE, NONE, NONE, STATE_FAILED },
};

static const char *const state_names[STATES] = {
	[STATE_IDLE] = "idle",		 [STATE_QUEUED] = "queued", [STATE_READING] = "reading",
	[STATE_ANSWERING] = "answering", [STATE_FAILED] = "failed",
};

const char *state_name(enum state s)
{
	return state_names[s];
}

enum state state_named(const char *name)
{
	for (int i = 0; name && i < STATES; i++)
		if (strcmp(state_names[i], name) == 0)
			return (enum state)i;
	return STATE_IDLE;
}

void conversation_changed(struct conversation *c, bool row)
{
	if (!c->kept.id)
		return;
	c->kept.row = c->kept.row || row;
	if (!c->kept.listed)
		TAILQ_INSERT_TAIL(&c->table->changed, c, kept.link);
	c->kept.listed = true;
}

bool conversation_can(const struct conversation *c, enum happening h)
{
	return next_state[c->state][h] != NONE;
}

void conversation_happens(struct conversation *c, enum happening h)
{
	const enum state before = c->state;

	assert(conversation_can(c, h));
	conversation_set_state(c, (enum state)next_state[before][h]);
	if (c->state != before)
		conversation_changed(c, true);
}

void conversation_set_state(struct conversation *c, enum state s)
{
	if (c->table) { /* one that is made to be looked at, of a bundle, is in none */
		c->table->in[c->state]--;
		c->table->in[s]++;
		c->table->happened += s != c->state;
	}
	c->state = s;
}

bool conversation_busy(const struct conversation *c)
{
	return c->state == STATE_QUEUED || c->state == STATE_READING || c->state == STATE_ANSWERING;
}

double clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

double clock_unix(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

void conversations_init(struct conversations *t)
{
	TAILQ_INIT(&t->by_use);
	TAILQ_INIT(&t->changed);
	for (size_t i = 0; i < BUCKETS; i++)
		LIST_INIT(&t->bucket[i]);
	t->count = 0;
	t->happened = 0;
	memset(t->in, 0, sizeof(t->in));
}

int conversation_check_name(const char *name, size_t len, struct err *e)
{
	if (len < 1 || len > STREAM_NAME)
		return err_set(e, SINK_EINVAL, "A conversation's name must have 1 to %d bytes, not %zu.", STREAM_NAME,
			       len);
	if (utf8_valid(name, len) != len)
		return err_set(e, SINK_EINVAL, "A conversation's name must be valid UTF-8.");
	if (memchr(".- ", name[0], 3) || name[len - 1] == ' ')
		return err_set(
			e, SINK_EINVAL,
			"A conversation's name must not begin with a point, a minus or a blank, or end with a blank.");
	for (size_t i = 0; i < len;) {
		int bytes = utf8_character(name + i, len - i);
		uint32_t code = utf8_code(name + i, bytes);

		if (code < 0x20 || (code >= 0x7f && code < 0xa0))
			return err_set(e, SINK_EINVAL, "A conversation's name must have no control characters.");
		if (code == '/' || code == '@' || code == '=')
			return err_set(e, SINK_EINVAL, "A conversation's name must not contain \"%c\".", (char)code);
		i += (size_t)bytes;
	}
	return 0;
}

/* FNV-1a */
static size_t bucket_of(const char *name, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return hash % BUCKETS;
}

static struct conversation *find(struct conversations *t, const char *name, size_t len)
{
	struct conversation *c;

	LIST_FOREACH(c, &t->bucket[bucket_of(name, len)], in_bucket)
	if (strlen(c->name) == len && memcmp(c->name, name, len) == 0)
		return c;
	return NULL;
}

struct conversation *conversation_find(struct conversations *t, const char *name, size_t len, struct err *e)
{
	struct conversation *c = find(t, name, len);

	if (!c)
		err_set(e, SINK_ENOENT, "There is no conversation \"%.*s\".", (int)(len > 64 ? 64 : len), name);
	return c;
}

struct conversation *conversation_numbered(const struct conversations *t, int64_t number)
{
	struct conversation *c;

	TAILQ_FOREACH(c, &t->by_use, by_use)
	if (c->kept.id == number)
		return c;
	return NULL;
}

static int check_free(struct conversations *t, const char *name, size_t len, struct err *e)
{
	if (conversation_check_name(name, len, e) < 0)
		return SINK_EINVAL;
	if (find(t, name, len))
		return err_set(e, SINK_EEXIST, "There is a conversation \"%.*s\" already.", (int)len, name);
	return 0;
}

static void set_name(struct conversations *t, struct conversation *c, const char *name, size_t len)
{
	memcpy(c->name, name, len);
	c->name[len] = '\0';
	LIST_INSERT_HEAD(&t->bucket[bucket_of(name, len)], c, in_bucket);
}

int conversation_new(struct conversations *t, const char *name, size_t len, size_t log_bytes, struct conversation **ret,
		     struct err *e)
{
	struct conversation *c;
	int rc = check_free(t, name, len, e);

	if (rc < 0)
		return rc;
	c = calloc(1, sizeof(*c));
	if (!c)
		return err_set(e, SINK_ENOMEM, "There is no memory for a conversation.");
	rc = stream_new(log_bytes, &c->stream, e);
	if (rc < 0) {
		free(c);
		return rc;
	}
	set_name(t, c, name, len);
	c->table = t;
	c->runner.owner = c;
	c->created = c->used = clock_unix();
	TAILQ_INSERT_HEAD(&t->by_use, c, by_use);
	t->count++;
	t->in[c->state]++;
	*ret = c;
	return 0;
}

void conversation_remove(struct conversations *t, struct conversation *c)
{
	assert(!c->kv && !c->away && !c->encoding && !c->runner.listed && !c->work.request);
	LIST_REMOVE(c, in_bucket);
	TAILQ_REMOVE(&t->by_use, c, by_use);
	t->count--;
	t->in[c->state]--;
	if (c->kept.listed)
		TAILQ_REMOVE(&t->changed, c, kept.link);
	c->kept.id = 0;
	conversation_cut(c, 0, 0);
	free(c->message);
	retention_release(&c->keeps);
	tokens_release(&c->log);
	answer_release(&c->work.answer);
	settings_release(&c->settings);
	draft_free(c->work.draft);
	stream_close(c->stream);
	free(c);
}

int conversation_rename(struct conversations *t, struct conversation *c, const char *name, size_t len, struct err *e)
{
	int rc = check_free(t, name, len, e);

	if (rc < 0)
		return rc;
	LIST_REMOVE(c, in_bucket);
	set_name(t, c, name, len);
	conversation_changed(c, true);
	return 0;
}

void conversation_invent_name(struct conversations *t, char name[STREAM_NAME + 1])
{
	for (size_t i = t->count + 1;; i++) {
		int len = snprintf(name, STREAM_NAME + 1, "chat-%zu", i);

		if (!find(t, name, (size_t)len))
			return;
	}
}

void conversation_touch(struct conversations *t, struct conversation *c)
{
	c->used = clock_unix();
	TAILQ_REMOVE(&t->by_use, c, by_use);
	TAILQ_INSERT_HEAD(&t->by_use, c, by_use);
}

const char *conversation_finish(const char *name)
{
	static const char *const all[] = { "end", "length", "stop", "stopped", "error" };

	for (size_t i = 0; name && i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(name, all[i]) == 0)
			return all[i];
	return NULL;
}

int conversation_add(struct conversation *c, enum role role, const char *text, size_t len, struct err *e)
{
	struct message m = { .role = role, .first_token = (int64_t)c->log.count, .time = clock_unix() };

	if (c->messages == c->message_room) {
		size_t room = c->message_room ? 2 * c->message_room : 8;
		struct message *more = realloc(c->message, room * sizeof(*more));

		if (!more)
			return err_set(e, SINK_ENOMEM, "There is no memory for another message.");
		c->message = more;
		c->message_room = room;
	}
	if (text_add(&m.text, text, len, e) < 0)
		return SINK_ENOMEM;
	c->message[c->messages++] = m;
	conversation_changed(c, false);
	return 0;
}

/* What the store has from there on is to be forgotten, or written again. */
static void kept_cut(struct conversation *c, int64_t messages, int64_t tokens)
{
	struct kept *k = &c->kept;

	if (!k->id || (messages >= k->messages && tokens >= k->tokens))
		return;
	k->cut_messages = k->cuts && k->cut_messages < messages ? k->cut_messages : messages;
	k->cut_tokens = k->cuts && k->cut_tokens < tokens ? k->cut_tokens : tokens;
	k->cuts = true;
	k->messages = k->messages < messages ? k->messages : messages;
	k->tokens = k->tokens < tokens ? k->tokens : tokens;
	k->safe_tokens = k->safe_tokens < tokens ? k->safe_tokens : tokens;
	k->safe_messages = k->safe_messages < messages ? k->safe_messages : messages;
	conversation_changed(c, true);
}

void conversation_cut(struct conversation *c, size_t messages, int64_t tokens)
{
	while (c->messages > messages)
		text_release(&c->message[--c->messages].text);
	if ((size_t)tokens < c->log.count)
		c->log.count = (size_t)tokens;
	kept_cut(c, (int64_t)messages, tokens);
}

void conversation_rewrite(struct conversation *c, size_t messages)
{
	kept_cut(c, (int64_t)messages, INT64_MAX);
}

const struct kv_info *conversation_cache(const struct conversation *c)
{
	return (c->kv && c->tier != TIER_FOUND) || !c->left.tokens ? &c->seen : &c->left;
}

int64_t conversation_tokens(const struct conversation *c)
{
	return c->absent ? c->absent_tokens : (int64_t)c->log.count;
}

bool conversation_unload(struct conversation *c)
{
	const struct kept kept = c->kept;

	if (!kept.id || kept.listed || kept.flies || c->absent || c->encoding || c->fetching || conversation_busy(c))
		return false;
	c->absent_tokens = (int64_t)c->log.count;
	c->absent_messages = (int64_t)c->messages;
	c->kept.id = 0; /* this is no change */
	conversation_cut(c, 0, 0);
	c->kept = kept;
	tokens_release(&c->log);
	c->absent = true;
	return true;
}

int64_t conversation_waiting(const struct conversation *c)
{
	return (int64_t)c->log.count - c->seen.tokens;
}

int64_t conversation_evicted_end(const struct conversation *c)
{
	const struct kv_info *i = conversation_cache(c);

	return i->evicted_end > i->pinned ? i->evicted_end : 0;
}

static const char *tier_name(const struct conversation *c)
{
	static const char *const names[] = {
		[TIER_NONE] = "none", [TIER_MEMORY] = "memory", [TIER_FOUND] = "memory",
		[TIER_DISK] = "disk", [TIER_REPLAY] = "replay",
	};

	return names[c->tier];
}

void conversation_info(const struct conversation *c, struct out *o, const char *key)
{
	const struct kv_info *i = conversation_cache(c);
	char policy[POLICY_TEXT];

	policy_format(&c->keeps.policy, policy, sizeof(policy));
	out_map(o, key);
	out_str(o, "name", c->name);
	out_str(o, "state", state_name(c->state));
	out_int(o, "messages", c->absent ? c->absent_messages : (int64_t)c->messages);
	out_int(o, "tokens", i->tokens);
	out_int(o, "waiting", conversation_tokens(c) - i->tokens);
	out_str(o, "policy", policy);
	out_int(o, "pinned", i->pinned);
	out_int(o, "kept", i->kept);
	out_int(o, "window", i->window);
	out_int(o, "evicted", i->evicted);
	out_int(o, "evicted_end", conversation_evicted_end(c));
	out_int(o, "cache_bytes", (int64_t)c->seen.bytes);
	out_str(o, "tier", tier_name(c));
	out_bool(o, "pin", c->pin);
	out_int(o, "clients", (int64_t)stream_readers(c->stream));
	out_float(o, "created", c->created);
	out_float(o, "used", c->used);
	out_int(o, "seq", stream_next(c->stream));
	out_int(o, "first_seq", stream_first(c->stream));
	if (conversation_busy(c) && c->work.answers)
		out_int(o, "answer", c->work.message);
	else
		out_nil(o, "answer");
	settings_write(&c->settings, o, "sampling", key != NULL); /* a list would be too long */
	out_end(o);
}
