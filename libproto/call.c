/* Calls under way, oldest first. They are few: a list is walked. */
#include "call.h"

#include <stdlib.h>
#include <string.h>

void call_all_init(struct calls *all)
{
	all->first = NULL;
	all->end = &all->first;
}

void call_all_release(struct calls *all)
{
	while (all->first)
		call_end(all, all->first);
}

static void call_free(struct call *c)
{
	sink_args_free(c->args);
	sink_reply_free(c->reply);
	sink_reply_free(c->news);
	free(c->op);
	free(c);
}

int call_new(struct calls *all, uint64_t id, const char *op, struct sink_args *args, struct call **ret, struct err *e)
{
	static const struct err none;
	struct call *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, SINK_ENOMEM, "There is no memory for a request.");
	c->op = strdup(op);
	c->news = reply_new_error(&none);
	if (c->op && c->news)
		rc = args_finish(args, op, id, &c->req, e);
	else
		rc = err_set(e, SINK_ENOMEM, "There is no memory for a request.");
	if (rc) {
		call_free(c);
		return rc;
	}
	c->id = id;
	c->args = args;
	c->deadline = INT64_MAX;
	*all->end = c;
	all->end = &c->next;
	*ret = c;
	return 0;
}

void call_end(struct calls *all, struct call *c)
{
	struct call **at = &all->first;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	if (!c->next)
		all->end = at;
	call_free(c);
}

struct call *call_of(const struct calls *all, uint64_t id)
{
	struct call *found = NULL;

	for (struct call *c = all->first; c; c = c->next) {
		if (!c->sent || c->reply || (id && c->id != id))
			continue;
		if (id)
			return c;
		if (found)
			return NULL;
		found = c;
	}
	return found;
}

bool call_attaching(const struct calls *all)
{
	for (const struct call *c = all->first; c; c = c->next)
		if (c->req.attaches && !c->reply)
			return true;
	return false;
}

int64_t call_deadline(const struct calls *all, bool waited)
{
	int64_t first = INT64_MAX;

	for (const struct call *c = all->first; c; c = c->next)
		if (c->deadline < first && (waited || !c->waited))
			first = c->deadline;
	return first;
}
