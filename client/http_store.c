/* Conversations of the gateway's own. What they are worth is their cache; losing one costs time alone. */
#include "http_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_daemon.h"

void http_store_remove(struct http *h, struct http_chain *c)
{
	http_ask(h, "remove", http_ask_args("conversation", c->name), NULL, NULL);
	http_match_drop(&h->match, c);
}

void http_store_trim(struct http *h)
{
	struct http_chain *c;

	while ((c = http_match_oldest(&h->match, (size_t)h->conf.keep)))
		http_store_remove(h, c);
}

/* ---- reading ---- */

static void take_message(struct http_reading *r, const struct sink_reply *reply, size_t i)
{
	struct http_chain *c = r->chain;
	char path[48];
	const char *role, *text;
	size_t len = 0;

	snprintf(path, sizeof(path), "messages.%zu.role", i);
	role = sink_str(reply, path, NULL);
	snprintf(path, sizeof(path), "messages.%zu.text", i);
	text = sink_str(reply, path, &len);
	if (!role || !text)
		return;
	if (r->next == 0 && strcmp(role, "system") == 0) {
		r->system = http_match_root(text, len);
		if (!r->seeded)
			c->root = r->system;
		return;
	}
	if (c->first < 0)
		c->first = r->next;
	http_match_push(c, http_match_next(c->count ? c->hash[c->count - 1] : c->root, role, text, len));
}

static void read_more(struct http_reading *r);

static void took_log(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct http_reading *r = owner;
	size_t count = code ? 0 : sink_count(reply, "messages");

	for (size_t i = 0; i < count; i++, r->next++)
		take_message(r, reply, i);
	if (count) {
		read_more(r);
		return;
	}
	r->chain->busy = false;
	r->chain->made = true;
	if (r->chain->first < 0 && r->next)
		r->chain->first = r->next;
	r->done(r->owner, code, text);
}

static void read_more(struct http_reading *r)
{
	struct sink_args *a = http_ask_args("conversation", r->name);

	if (a)
		sink_args_int(a, "from", r->next);
	http_ask(r->http, "log", a, took_log, r);
}

static void no_memory(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct http_reading *r = owner;

	(void)reply;
	(void)code;
	(void)text;
	r->done(r->owner, SINK_ENOMEM, "There is no memory to read a conversation.");
}

void http_store_read(struct http_reading *r)
{
	r->system = http_match_root(NULL, 0);
	r->chain = http_match_add(r->into, r->name, r->seeded ? r->seed : r->system, NULL, 0);
	if (!r->chain) {
		http_ask(r->http, "status", NULL, no_memory, r);
		return;
	}
	r->chain->busy = true;
	read_more(r);
}

/* ---- at the start ---- */

static void loaded(void *owner, int code, const char *text)
{
	struct http_reading *r = owner;

	(void)text;
	if (code && r->chain)
		http_match_drop(&r->http->match, r->chain);
	http_store_trim(r->http);
	free(r);
}

static void load_one(struct http *h, const char *name)
{
	struct http_reading *r;

	if (!http_id_is_hidden(name) || http_match_named(&h->match, name))
		return;
	r = calloc(1, sizeof(*r));
	if (!r)
		return;
	*r = (struct http_reading){ .http = h, .into = &h->match, .done = loaded, .owner = r };
	snprintf(r->name, sizeof(r->name), "%s", name);
	r->seeded = !http_id_has_system(name);
	r->seed = http_match_root(NULL, 0);
	http_store_read(r);
}

/* The last used one comes first, and is to be so in the table. */
static void listed(void *owner, const struct sink_reply *reply, int code, const char *text)
{
	struct http *h = owner;
	char path[48];

	(void)text;
	for (size_t i = code ? 0 : sink_count(reply, "conversations"); i-- > 0;) {
		const char *name;

		snprintf(path, sizeof(path), "conversations.%zu.name", i);
		name = sink_str(reply, path, NULL);
		if (name)
			load_one(h, name);
	}
}

void http_store_load(struct http *h)
{
	http_ask(h, "list", NULL, listed, h);
}
