/*
 * The client's protocol: hello, calls, events, and the way back after a loss. link.c knows sockets, cursor.c cursors,
 * call.c requests under way, this file what is said and when.
 *
 * Whatever arrives is dispatched in one place, dispatch(), whoever waits: a call that waits for its reply queues the
 * events that come first, and an event loop that waits for events settles what else arrives. Whatever is to be sent is
 * sent in one place too, step(): a call is begun, sent when there is a connection, and sent again on the next one.
 */
#include "sink.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "cursor.h"
#include "endpoint.h"
#include "link.h"
#include "reply.h"

struct sink {
	struct link *link;
	struct err err;	    /* of the last call */
	struct err fatal;   /* code 0 while the connection is of use */
	struct err refused; /* why the daemon refused hello for now, such as SINK_EBUSY */
	char *client;
	struct sink_reply *hello;
	bool ready;   /* hello is answered */
	bool leaving; /* the daemon has said bye: what can wait is for the next one */
	uint64_t last_id, hello_id;
	int64_t request_most; /* bytes that the daemon takes; 0 when it does not say */
	struct calls calls;
	struct cursors cursors;
};

/* ---- small answers ---- */

int sink_error(const struct sink *s)
{
	return s ? s->err.code : err_alone()->code;
}

const char *sink_error_text(const struct sink *s)
{
	return s ? s->err.text : err_alone()->text;
}

const struct sink_reply *sink_hello(const struct sink *s)
{
	return s->hello;
}

bool sink_connected(const struct sink *s)
{
	return s->ready;
}

int sink_fd(struct sink *s)
{
	return link_fd(s->link);
}

/* ---- requests of the library's own ---- */

/* Begins a request; its fields are added by the caller. NULL without memory. */
static struct out *begin_request(struct sink *s, const char *op, uint64_t *id)
{
	struct out *o;

	if (out_new(&o, NULL))
		return NULL;
	*id = ++s->last_id;
	out_map(o, NULL);
	out_str(o, "op", op);
	out_int(o, "id", (int64_t)*id);
	return o;
}

/* Sends it and forgets it. What cannot be sent now is of no use later: the connection is being lost. */
static void end_request(struct sink *s, struct out *o)
{
	const void *frame;
	size_t size;

	out_end(o);
	frame = out_data(o, &size);
	if (out_ok(o))
		link_send(s->link, frame, size, NULL);
	out_free(o);
}

static void send_hello(struct sink *s)
{
	struct out *o = begin_request(s, "hello", &s->hello_id);

	if (!o)
		return;
	out_int(o, "protocol", SINK_PROTOCOL);
	out_str(o, "client", s->client);
	end_request(s, o);
}

static void send_detach(struct sink *s, int64_t number)
{
	uint64_t id;
	struct out *o = begin_request(s, "detach", &id);

	if (!o)
		return;
	out_int(o, "attachment", number);
	end_request(s, o);
}

/* Gives back what the reader has taken. */
static void send_credit(struct sink *s, struct cursor *cur)
{
	uint64_t id;
	struct out *o = begin_request(s, "credit", &id);

	if (!o)
		return;
	out_int(o, "attachment", cur->number);
	out_int(o, "bytes", cur->taken);
	end_request(s, o);
	cur->taken = 0;
}

/* Comes back at the cursor, after a loss or a gap; or, where that is ahead of the log, at the log's end. */
static void send_attach(struct sink *s, struct cursor *cur)
{
	struct out *o;

	if (cur->number)
		send_detach(s, cur->number);
	cur->number = 0;
	cur->taken = 0;
	o = begin_request(s, "attach", &cur->request);
	if (!o)
		return;
	out_str(o, "conversation", cur->name);
	if (!cur->ahead)
		out_int(o, "from", cur->seq);
	out_int(o, "credit", cur->credit);
	end_request(s, o);
}

/* ---- what arrives ---- */

static void take_hello(struct sink *s, struct sink_reply *r)
{
	if (r->error.code == SINK_EPROTO)
		s->fatal = r->error;
	else if (!r->error.code && sink_int(r, "protocol", -1) != SINK_PROTOCOL)
		err_set(&s->fatal, SINK_EPROTO,
			"The daemon speaks version %" PRId64 " of the protocol, this library %d.",
			sink_int(r, "protocol", -1), SINK_PROTOCOL);
	else if (r->error.code)
		s->refused = r->error;
	if (r->error.code || s->fatal.code) {
		sink_reply_free(r);
		link_drop(s->link); /* a refusal for now is tried again after the pause */
		return;
	}
	sink_reply_free(s->hello);
	s->hello = r;
	s->hello_id = 0;
	s->ready = true;
	s->refused.code = 0;
	s->request_most = sink_int(r, "limits.message_bytes", 0);
	link_settled(s->link);
	for (struct cursor *cur = s->cursors.list; cur; cur = cur->next)
		send_attach(s, cur);
}

/* The reply is there: kept for who waits for it, put among the events for who does not. Those end with it. */
static void answer(struct sink *s, struct call *c, struct sink_reply *r)
{
	if (c->waited) {
		c->reply = r;
	} else {
		r->request = (int64_t)c->id;
		reply_push(&s->cursors.events, r);
		call_end(&s->calls, c);
	}
}

/* There will be no reply. */
static void answer_bad(struct sink *s, struct call *c, const struct err *why)
{
	struct sink_reply *r = c->news;

	c->news = NULL;
	r->error = *why;
	answer(s, c, r);
}

/* Makes the attachment that a reply names, or comes back at the event where it should be. */
static void begin_attachment(struct sink *s, struct sink_reply *r, const char *name, int64_t credit, bool moves)
{
	int64_t number = sink_int(r, "attachment", 0);
	struct cursor *cur = cursor_named(&s->cursors, name);

	if (cur && (cur->number || cur->request) && !moves)
		return; /* a say leaves an attachment where it is */
	if (!cursor_begin(&s->cursors, name, number, sink_int(r, "seq", 0), credit))
		err_set(&r->error, SINK_ENOMEM, "There is no memory for an attachment.");
	else if (!number) /* the reply to an earlier connection, which was kept for its key */
		send_attach(s, cursor_named(&s->cursors, name));
}

static void resolve(struct sink *s, struct call *c, struct sink_reply *r)
{
	const char *name = sink_str(r, "conversation.name", NULL);
	bool attaches, moves;
	struct cursor *cur;
	int64_t credit;

	if (r->error.code == SINK_EBUSY && s->leaving && c->req.repeat) {
		c->sent = false; /* the next daemon is asked */
		sink_reply_free(r);
		return;
	}
	cur = !r->error.code && c->req.detaches ? cursor_numbered(&s->cursors, c->req.detaches) : NULL;
	if (cur) /* a detach by hand ends the library's part as well */
		cursor_end(&s->cursors, cur, true);
	attaches = c->req.attaches && name && sink_has(r, "seq");
	credit = c->req.credit;
	moves = strcmp(c->op, "attach") == 0;
	answer(s, c, r); /* ahead of the events of its attachment */
	if (attaches)
		begin_attachment(s, r, name, credit, moves);
}

/* The answer to an attach that was to bring us back. */
static void came_back(struct sink *s, struct cursor *cur, const struct sink_reply *r)
{
	cur->request = 0;
	if (!r->error.code) {
		cur->number = sink_int(r, "attachment", 0);
		if (cur->ahead)
			cursor_back(&s->cursors, cur, sink_int(r, "seq", cur->seq));
		return;
	}
	if (r->error.code == SINK_EINVAL && !cur->ahead) {
		cur->ahead = true;
		send_attach(s, cur);
		return;
	}
	cursor_over(&s->cursors, cur, &r->error);
}

static void take_reply(struct sink *s, struct sink_reply *r)
{
	uint64_t id = (uint64_t)val_int(val_get(msg_root(r->msg), "id"), 0);
	struct cursor *cur = id ? cursor_awaiting(&s->cursors, id) : NULL;
	struct call *c = id || r->error.code ? call_of(&s->calls, id) : NULL;

	if (id && id == s->hello_id) {
		take_hello(s, r);
		return;
	}
	if (c) {
		resolve(s, c, r);
		return;
	}
	if (cur)
		came_back(s, cur, r);
	else if (sink_has(r, "attachment"))
		send_detach(s, sink_int(r, "attachment", 0)); /* its caller has stopped waiting */
	sink_reply_free(r);
}

static bool is_bye(const struct sink_reply *r)
{
	const char *ev = sink_str(r, "ev", NULL);

	return ev && strcmp(ev, "bye") == 0 && !sink_has(r, "conversation");
}

static void dispatch(struct sink *s, const void *frame, size_t size)
{
	struct sink_reply *r;
	struct cursor *gap;
	struct err e;

	if (reply_new(frame, size, &r, &e)) {
		err_set(&s->fatal, e.code, "What came from the daemon is of no use: %s", e.text);
		s->ready = false;
		link_drop(s->link);
		return;
	}
	if (!val_get(msg_root(r->msg), "ev")) {
		take_reply(s, r);
		return;
	}
	s->leaving |= is_bye(r);
	gap = cursor_event(&s->cursors, r, size, call_attaching(&s->calls));
	if (gap && s->ready)
		send_attach(s, gap);
}

/* ---- what is to be sent, and for how long ---- */

static void lost(struct sink *s)
{
	struct err why;

	s->ready = false;
	s->leaving = false;
	s->hello_id = 0;
	cursor_all_lost(&s->cursors);
	for (struct call *c = s->calls.first, *next; c; c = next) {
		next = c->next;
		if (!c->sent || c->reply)
			continue;
		c->sent = false;
		if (c->req.repeat)
			continue;
		err_set(&why, SINK_ECONN,
			"The connection was lost before \"%s\" was answered: it may have been carried out.", c->op);
		answer_bad(s, c, &why);
	}
}

/* Sends what waits for a connection: what was begun without one, or was lost with the last. */
static void send_calls(struct sink *s)
{
	for (struct call *c = s->calls.first, *next; c; c = next) {
		struct err why;
		int rc;

		next = c->next;
		if (c->sent || c->reply || (s->leaving && c->req.repeat))
			continue;
		rc = link_send(s->link, c->req.frame, c->req.size, &why);
		c->sent = !rc;
		if (rc == SINK_ECONN)
			return; /* the loss is about to be told */
		if (rc)
			answer_bad(s, c, &why);
	}
}

/* Why a call has waited in vain. */
static void explain(const struct sink *s, const struct call *c, struct err *why)
{
	if (s->fatal.code)
		*why = s->fatal;
	else if (s->ready)
		err_set(why, SINK_ETIMEDOUT, "The daemon did not answer \"%s\" in time.", c->op);
	else if (s->refused.code)
		*why = s->refused;
	else
		err_set(why, SINK_ECONN, "%s", link_reason(s->link)->text);
}

/* Ends the calls whose time is over; all of them when the connection is of no use any more. */
static void expire_calls(struct sink *s)
{
	int64_t now = link_now();
	struct err why;

	for (struct call *c = s->calls.first, *next; c; c = next) {
		next = c->next;
		if (c->reply || (c->deadline > now && !s->fatal.code))
			continue;
		explain(s, c, &why);
		answer_bad(s, c, &why);
	}
}

/* One piece of news, waiting for it until `deadline`. What has arrived is read before any call's time is over. */
static enum link_news step(struct sink *s, int64_t deadline)
{
	const void *frame;
	size_t size;
	int64_t first = call_deadline(&s->calls, true);
	enum link_news news;

	if (s->ready)
		send_calls(s);
	news = link_next(s->link, first < deadline ? first : deadline, &frame, &size);
	if (news == LINK_STARTED)
		send_hello(s);
	else if (news == LINK_FRAME)
		dispatch(s, frame, size);
	else if (news == LINK_LOST)
		lost(s);
	if (s->calls.first && (news == LINK_QUIET || s->fatal.code))
		expire_calls(s);
	if (!call_attaching(&s->calls))
		cursor_forget_strays(&s->cursors);
	return news;
}

/* Takes in all that is there already, and tells sink_fd() whether something waits for the caller, and until when. */
static void settle(struct sink *s)
{
	while (!s->fatal.code && step(s, 0) != LINK_QUIET)
		;
	link_flag(s->link, s->cursors.events.first || s->fatal.code);
	link_alarm(s->link, call_deadline(&s->calls, false));
}

/* ---- opening and closing ---- */

static int say_hello(struct sink *s, const char *endpoint, int timeout_ms, struct err *e)
{
	int64_t deadline = link_deadline(timeout_ms);

	while (!s->ready) {
		enum link_news news = step(s, deadline);

		if (s->fatal.code)
			return err_set(e, s->fatal.code, "%s", s->fatal.text);
		if (s->refused.code)
			return err_set(e, s->refused.code, "%s", s->refused.text);
		if (news == LINK_LOST && link_reason(s->link)->code != SINK_EBUSY)
			return err_set(e, SINK_ECONN, "%s", link_reason(s->link)->text);
		if (news != LINK_FRAME && link_now() >= deadline)
			return err_set(e, SINK_ETIMEDOUT, "The daemon at %s did not answer within %d ms.", endpoint,
				       timeout_ms);
	}
	return 0;
}

struct sink *sink_open(const char *endpoint, const char *client, int timeout_ms)
{
	char at[256];
	struct sink *s;

	memset(err_alone(), 0, sizeof(struct err));
	if (endpoint_find(endpoint, at, sizeof(at), err_alone()))
		return NULL;
	s = calloc(1, sizeof(*s));
	if (s) {
		cursor_all_init(&s->cursors);
		call_all_init(&s->calls);
	}
	if (s)
		s->client = strdup(client ? client : "libsink");
	if (!s || !s->client) {
		sink_close(s);
		err_set(err_alone(), SINK_ENOMEM, "There is no memory for a connection.");
		return NULL;
	}
	if (link_new(at, &s->link, err_alone()) || say_hello(s, at, timeout_ms, err_alone())) {
		sink_close(s);
		return NULL;
	}
	settle(s);
	return s;
}

void sink_close(struct sink *s)
{
	if (!s)
		return;
	link_free(s->link);
	cursor_all_release(&s->cursors);
	call_all_release(&s->calls);
	sink_reply_free(s->hello);
	free(s->client);
	free(s);
}

/* ---- calls ---- */

/* Takes the arguments in every case. NULL on failure, with s->err set. */
static struct call *begin_call(struct sink *s, const char *op, struct sink_args *args, int timeout_ms, bool waited)
{
	struct call *c = NULL;

	memset(&s->err, 0, sizeof(s->err));
	if (!args)
		args = sink_args_new();
	if (s->fatal.code)
		s->err = s->fatal;
	else if (!args)
		err_set(&s->err, SINK_ENOMEM, "There is no memory for a request.");
	else
		call_new(&s->calls, ++s->last_id, op, args, &c, &s->err);
	if (!c) {
		sink_args_free(args);
		return NULL;
	}
	if (s->request_most > 0 && c->req.size > (size_t)s->request_most) {
		err_set(&s->err, SINK_EINVAL, "The request has %zu bytes; the daemon takes %" PRId64 ".", c->req.size,
			s->request_most);
		call_end(&s->calls, c);
		return NULL;
	}
	c->deadline = link_deadline(timeout_ms);
	c->waited = waited;
	return c;
}

struct sink_reply *sink_call(struct sink *s, const char *op, struct sink_args *args, int timeout_ms)
{
	struct call *c = begin_call(s, op, args, timeout_ms, true);
	struct sink_reply *r = NULL;

	if (c) {
		while (!c->reply)
			step(s, c->deadline);
		s->err = c->reply->error;
		if (!s->err.code) {
			r = c->reply;
			c->reply = NULL;
		}
		call_end(&s->calls, c);
	}
	settle(s);
	return r;
}

int64_t sink_begin(struct sink *s, const char *op, struct sink_args *args, int timeout_ms)
{
	struct call *c = begin_call(s, op, args, timeout_ms, false);
	int64_t number = c ? (int64_t)c->id : s->err.code;

	settle(s);
	return number;
}

/* ---- attachments and events ---- */

int sink_attach(struct sink *s, const char *conversation, int64_t from, int timeout_ms)
{
	struct sink_args *a = sink_args_new();
	struct sink_reply *r;

	if (!a)
		return err_set(&s->err, SINK_ENOMEM, "There is no memory for a request.");
	sink_args_str(a, "conversation", conversation);
	if (from >= 0)
		sink_args_int(a, "from", from);
	sink_args_int(a, "credit", CURSOR_CREDIT);
	r = sink_call(s, "attach", a, timeout_ms);
	sink_reply_free(r);
	return s->err.code;
}

int sink_detach(struct sink *s, const char *conversation)
{
	struct cursor *cur = cursor_named(&s->cursors, conversation);

	memset(&s->err, 0, sizeof(s->err));
	if (!cur)
		return err_set(&s->err, SINK_ENOENT, "\"%s\" is not attached.", conversation);
	if (cur->number && s->ready)
		send_detach(s, cur->number);
	cursor_end(&s->cursors, cur, true);
	settle(s);
	return 0;
}

/* An event goes to the caller, and its bytes back to the daemon once half of the credit has come together. */
static void hand_out(struct sink *s, const struct sink_reply *r)
{
	struct cursor *cur = r->cursor ? cursor_of(&s->cursors, r->cursor) : NULL;

	if (cur && cur->number) {
		cur->taken += r->cost;
		if (s->ready && cur->taken > 0 && cur->taken >= cur->credit / 2)
			send_credit(s, cur);
	}
}

struct sink_reply *sink_event(struct sink *s, int timeout_ms)
{
	int64_t deadline = link_deadline(timeout_ms);
	struct sink_reply *r = reply_pop(&s->cursors.events);

	memset(&s->err, 0, sizeof(s->err));
	while (!r && !s->fatal.code) {
		enum link_news news = step(s, deadline);

		r = reply_pop(&s->cursors.events);
		if (!r && news == LINK_QUIET)
			break; /* the time is over, or a signal wants the caller */
	}
	if (r)
		hand_out(s, r);
	else if (s->fatal.code)
		s->err = s->fatal;
	settle(s);
	return r;
}
