/*
 * Connections and requests, by libmicrohttpd without any thread: each address has its own epoll, which the loop
 * polls. A request whose answer is not there yet is suspended; a stream that has nothing to say suspends itself, and
 * is resumed by what is put into it.
 *
 * libmicrohttpd does not look at suspended connections, so their sockets stand in an epoll of ours, for the end of
 * the peer alone. One that has closed only its sending half is told from one that has gone on a unix socket; TCP says
 * the same of both, and there it counts as gone.
 */
#include "http_serve.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <microhttpd.h>

#include "http_api.h"
#include "http_request.h"

enum {
	HEADERS_MOST = 16 << 10, /* bytes of memory for a connection: its request line and headers, and room to write */
	DRAIN_MOST = 64 << 20,	 /* bytes of a body too long that are read, so that the client reads the answer */
	PING_MS = 15000,
	TICK_MS = 1000,
	WATCHED_MOST = 64,
};

struct http_server {
	struct MHD_Daemon *daemon[HTTP_LISTEN_MOST];
	int epoll[HTTP_LISTEN_MOST];
	size_t count;
	int watch; /* the sockets of suspended connections */
	int64_t ticked;
	bool slow; /* some request is to be given up */
	bool used; /* there were requests at the last tick */
};

/*
 * libmicrohttpd makes GnuTLS ready when it is loaded: a megabyte, for what is never asked of it here. GnuTLS asks a
 * program by the first of these names whether it wants that; the others stand in for those that libmicrohttpd calls.
 */
int _gnutls_global_init_skip(void);
int gnutls_global_init(void);
void gnutls_global_deinit(void);

int _gnutls_global_init_skip(void)
{
	return 1;
}

int gnutls_global_init(void)
{
	return 0;
}

void gnutls_global_deinit(void)
{
}

/* ---- what the others ask ---- */

const char *http_request_header(const struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->connection, MHD_HEADER_KIND, name);
}

const char *http_request_query(const struct http_request *q, const char *name)
{
	return MHD_lookup_connection_value(q->connection, MHD_GET_ARGUMENT_KIND, name);
}

static int socket_of(const struct http_request *q)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(q->connection, MHD_CONNECTION_INFO_CONNECTION_FD);

	return i ? i->connect_fd : -1;
}

static bool is_tcp(const struct http_request *q)
{
	const union MHD_ConnectionInfo *i = MHD_get_connection_info(q->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

	return i && i->client_addr && (i->client_addr->sa_family == AF_INET || i->client_addr->sa_family == AF_INET6);
}

static void suspend(struct http_request *q)
{
	struct epoll_event e = { .events = EPOLLRDHUP | EPOLLET, .data.ptr = q };

	if (!q->watched)
		q->watched = epoll_ctl(q->http->server->watch, EPOLL_CTL_ADD, socket_of(q), &e) == 0;
	q->suspended = true;
	MHD_suspend_connection(q->connection);
}

static void resume(struct http_request *q)
{
	if (!q->suspended)
		return;
	q->suspended = false;
	MHD_resume_connection(q->connection);
}

/* Its client will read nothing more. */
static void give_up(struct http_request *q)
{
	void (*gone)(void *) = q->gone;

	q->aborted = true;
	q->gone = NULL;
	if (gone) {
		q->http->count.gone++;
		gone(q->owner);
	}
	q->owner = NULL;
	resume(q);
}

static void done(struct http_request *q)
{
	q->gone = NULL;
	q->owner = NULL;
	resume(q);
}

/* ---- answers ---- */

void http_request_mark(struct http_request *q, const char *name, const char *value)
{
	/* Headers come before the response that they belong to, so they are kept in an empty one. */
	if (!q->response)
		q->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
	if (q->response)
		MHD_add_response_header(q->response, name, value);
}

static enum MHD_Result copy_header(void *to, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	return MHD_add_response_header(to, name, value);
}

/* Puts a response in place, with the headers that came before. */
static void respond(struct http_request *q, unsigned status, const char *type, struct MHD_Response *r)
{
	if (q->response) {
		if (r)
			MHD_get_response_headers(q->response, copy_header, r);
		MHD_destroy_response(q->response);
	}
	if (r) {
		MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
		MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
	}
	q->response = r;
	q->status = status;
	q->aborted |= !r;
	q->http->count.requests[q->path][status / 100 % 6]++;
}

void http_request_text(struct http_request *q, const char *type, const char *text, size_t size)
{
	union {
		const char *text;
		void *data;
	} body = { text };

	respond(q, 200, type, MHD_create_response_from_buffer(size, body.data, MHD_RESPMEM_MUST_COPY));
	done(q);
}

void http_request_answer(struct http_request *q, unsigned status, json_t *body)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL;

	json_decref(body);
	respond(q, status, "application/json",
		text ? MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE) : NULL);
	done(q);
}

void http_request_fail(struct http_request *q, const struct http_error *e)
{
	char seconds[16];

	if (http_error_retry(e)) {
		snprintf(seconds, sizeof(seconds), "%d", http_error_retry(e));
		http_request_mark(q, MHD_HTTP_HEADER_RETRY_AFTER, seconds);
	}
	if (e->status == 401)
		http_request_mark(q, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer realm=\"sinkd\"");
	if (e->status == 501)
		http_request_mark(q, "X-Should-Retry", "false");
	http_request_answer(q, e->status, http_error_body(e));
}

/* ---- streams ---- */

/* libmicrohttpd wants bytes of a stream. */
static ssize_t read_stream(void *cls, uint64_t at, char *to, size_t most)
{
	struct http_request *q = cls;
	size_t n = q->out.size < most ? q->out.size : most;

	(void)at;
	if (n && !q->aborted) {
		memcpy(to, q->out.data, n);
		buf_drop(&q->out, n);
		return (ssize_t)n;
	}
	if (q->aborted || q->hung || q->out.failed)
		return MHD_CONTENT_READER_END_WITH_ERROR;
	if (q->ended)
		return MHD_CONTENT_READER_END_OF_STREAM;
	suspend(q);
	return 0;
}

void http_request_stream(struct http_request *q)
{
	enum { BLOCK = 1 << 10 };

	respond(q, 200, "text/event-stream",
		MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, read_stream, q, NULL));
	if (q->response)
		MHD_add_response_header(q->response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
	q->streams = true;
	q->spoke = http_clock();
	resume(q);
}

/*
 * A client that takes too little is given up, by the loop and not here: whoever has just said something goes on with
 * what it was about.
 */
static void push(struct http_request *q)
{
	q->spoke = http_clock();
	if (q->out.size > HTTP_OUT_MOST || q->out.failed) {
		q->hung = q->http->server->slow = true;
		buf_release(&q->out);
	}
	resume(q);
}

void http_request_event(struct http_request *q, const char *event, json_t *data)
{
	char *text = data && !q->hung ? json_dumps(data, JSON_COMPACT) : NULL;

	json_decref(data);
	if (q->hung)
		return;
	if (event) {
		buf_adds(&q->out, "event: ");
		buf_adds(&q->out, event);
		buf_adds(&q->out, "\n");
	}
	buf_adds(&q->out, "data: ");
	buf_adds(&q->out, text ? text : "{}");
	buf_adds(&q->out, "\n\n");
	free(text);
	push(q);
}

void http_request_raw(struct http_request *q, const char *line)
{
	if (q->hung)
		return;
	buf_adds(&q->out, line);
	buf_adds(&q->out, "\n\n");
	push(q);
}

void http_request_end(struct http_request *q)
{
	q->ended = true;
	done(q);
}

/* ---- requests ---- */

static struct http_request *begin(struct http *h, struct MHD_Connection *c, const char *url, const char *method)
{
	struct http_request *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->http = h;
	q->connection = c;
	q->method = http_route_method(method);
	q->path = http_route_find(url, q->id);
	q->began = http_clock_us();
	TAILQ_INSERT_TAIL(&h->requests, q, link);
	return q;
}

/* Whether the body is to be refused before it is read, which only helps those who wait to be told. */
static bool at_once(const struct http_request *q)
{
	const char *length = http_request_header(q, MHD_HTTP_HEADER_CONTENT_LENGTH);
	long long n = length ? strtoll(length, NULL, 10) : 0;

	if (n > DRAIN_MOST)
		return true;
	return http_request_header(q, MHD_HTTP_HEADER_EXPECT) && (q->status || n > q->http->conf.body_bytes);
}

static void take_body(struct http_request *q, const char *data, size_t size)
{
	if (q->status || q->dropped || q->body.size + size > (size_t)q->http->conf.body_bytes) {
		q->dropped += size;
		buf_release(&q->body);
		return;
	}
	buf_add(&q->body, data, size);
}

/* The request is whole. */
static void handle(struct http_request *q)
{
	struct http_error e;

	if (q->status) /* refused by its headers */
		return;
	if (q->http->stopping) { /* nobody would end its waiting */
		http_error_set(&e, 503, "stopping", NULL, "The gateway ends.");
		http_request_fail(q, &e);
		return;
	}
	if (q->dropped || q->body.failed) {
		http_error_set(&e, 413, "body_too_long", NULL, "The body may have %lld bytes.",
			       (long long)q->http->conf.body_bytes);
		http_request_fail(q, &e);
		return;
	}
	http_api_handle(q);
}

static enum MHD_Result queue(struct http_request *q)
{
	enum MHD_Result rc;

	if (q->aborted || !q->response)
		return MHD_NO;
	rc = MHD_queue_response(q->connection, q->status, q->response);
	MHD_destroy_response(q->response);
	q->response = NULL;
	return rc;
}

static enum MHD_Result take_request(void *cls, struct MHD_Connection *c, const char *url, const char *method,
				    const char *version, const char *data, size_t *size, void **state)
{
	struct http_request *q = *state;
	struct http_error e;

	(void)version;
	if (!q) {
		*state = q = begin(cls, c, url, method);
		if (!q)
			return MHD_NO;
		if (http_api_admit(q, is_tcp(q), &e))
			http_request_fail(q, &e);
		if (!at_once(q))
			return MHD_YES;
		q->dropped = 1;
		handle(q);
		return queue(q);
	}
	if (*size) {
		take_body(q, data, *size);
		*size = 0;
		return q->dropped > DRAIN_MOST ? MHD_NO : MHD_YES;
	}
	if (!q->refused) {
		q->refused = true; /* it is handled once */
		handle(q);
	}
	if (q->status || q->aborted)
		return queue(q);
	suspend(q);
	return MHD_YES;
}

static void request_completed(void *cls, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode why)
{
	struct http *h = cls;
	struct http_request *q = *state;

	(void)c;
	(void)why;
	if (!q)
		return;
	*state = NULL;
	if (q->watched)
		epoll_ctl(h->server->watch, EPOLL_CTL_DEL, socket_of(q), NULL);
	if (q->gone) {
		h->count.gone++;
		q->gone(q->owner);
	}
	TAILQ_REMOVE(&h->requests, q, link);
	if (q->response)
		MHD_destroy_response(q->response);
	buf_release(&q->body);
	buf_release(&q->out);
	free(q);
}

/* libmicrohttpd's complaints are about its peers, and nobody's business. */
static void ignore(void *cls, const char *format, va_list args)
{
	(void)cls;
	(void)format;
	(void)args;
}

/* Paths come as they were sent: a slash that is part of an id is no other path. */
static size_t leave_escapes(void *cls, struct MHD_Connection *c, char *text)
{
	(void)cls;
	(void)c;
	return strlen(text);
}

/* ---- the loop ---- */

static bool open_one(struct http *h, struct http_server *s, int fd)
{
	const union MHD_DaemonInfo *info;
	struct MHD_Daemon *d = MHD_start_daemon(
		MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, take_request, h,
		MHD_OPTION_EXTERNAL_LOGGER, ignore, NULL, MHD_OPTION_UNESCAPE_CALLBACK, leave_escapes, NULL,
		MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_NOTIFY_COMPLETED, request_completed, h,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)h->conf.connections, MHD_OPTION_CONNECTION_TIMEOUT,
		(unsigned)h->conf.timeout, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADERS_MOST,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);

	if (!d)
		return false;
	info = MHD_get_daemon_info(d, MHD_DAEMON_INFO_EPOLL_FD);
	s->daemon[s->count] = d;
	s->epoll[s->count++] = info ? info->epoll_fd : -1;
	return info != NULL;
}

bool http_serve_open(struct http *h, const int *fd, size_t count, char *cause, size_t size)
{
	struct http_server *s = calloc(1, sizeof(*s));

	h->server = s;
	if (s)
		s->watch = epoll_create1(EPOLL_CLOEXEC);
	if (!s || s->watch < 0) {
		snprintf(cause, size, "There is no memory or descriptor for the server: %s.", strerror(errno));
		return false;
	}
	for (size_t i = 0; i < count; i++)
		if (!open_one(h, s, fd[i])) {
			snprintf(cause, size, "libmicrohttpd cannot serve: %s.", strerror(errno));
			return false;
		}
	return true;
}

static void look_at_watched(struct http_server *s)
{
	struct epoll_event e[WATCHED_MOST];
	int n = epoll_wait(s->watch, e, WATCHED_MOST, 0);

	for (int i = 0; i < n; i++) {
		struct http_request *q = e[i].data.ptr;

		if (!(e[i].events & (EPOLLHUP | EPOLLERR)) && !is_tcp(q))
			continue;
		q->hung = true;
		if (q->suspended)
			give_up(q);
	}
}

static void give_up_slow(struct http *h)
{
	struct http_request *q;

	if (!h->server->slow)
		return;
	h->server->slow = false;
	TAILQ_FOREACH(q, &h->requests, link)
	if (q->streams && q->hung && !q->aborted)
		give_up(q);
}

/* Streams that are silent say a word, which also shows whether somebody is there. */
static void tick(struct http *h)
{
	int64_t now = http_clock();
	struct http_request *q;

	if (now - h->server->ticked < TICK_MS)
		return;
	h->server->ticked = now;
	if (TAILQ_EMPTY(&h->requests) && h->server->used)
		malloc_trim(0); /* what a rush has left behind */
	h->server->used = !TAILQ_EMPTY(&h->requests);
	TAILQ_FOREACH(q, &h->requests, link)
	if (q->streams && !q->ended && now - q->spoke >= PING_MS)
		http_request_raw(q, ": ping");
}

static int time_left(const struct http *h, int most)
{
	const struct http_server *s = h->server;

	if ((s->used || !TAILQ_EMPTY(&h->requests)) && most > TICK_MS)
		most = TICK_MS;
	for (size_t i = 0; i < s->count; i++) {
		MHD_UNSIGNED_LONG_LONG ms;

		if (MHD_get_timeout(s->daemon[i], &ms) == MHD_YES && ms < (unsigned)most)
			most = (int)ms;
	}
	return most;
}

void http_serve_wait(struct http *h, const int *more, size_t count, int timeout_ms)
{
	struct pollfd p[2 * HTTP_LISTEN_MOST + 1];
	struct http_server *s = h->server;
	nfds_t n = 0;

	p[n++] = (struct pollfd){ .fd = s->watch, .events = POLLIN };
	for (size_t i = 0; i < s->count; i++)
		p[n++] = (struct pollfd){ .fd = s->epoll[i], .events = POLLIN };
	for (size_t i = 0; i < count && i < HTTP_LISTEN_MOST; i++)
		p[n++] = (struct pollfd){ .fd = more[i], .events = POLLIN };
	poll(p, n, time_left(h, timeout_ms));
}

void http_serve_run(struct http *h)
{
	struct http_server *s = h->server;

	look_at_watched(s);
	give_up_slow(h);
	tick(h);
	for (size_t i = 0; i < s->count; i++)
		MHD_run(s->daemon[i]);
}

void http_serve_close(struct http *h)
{
	struct http_server *s = h->server;
	struct http_request *q;

	if (!s)
		return;
	TAILQ_FOREACH(q, &h->requests, link)
	give_up(q);
	for (size_t i = 0; i < s->count; i++) {
		MHD_run(s->daemon[i]);
		MHD_stop_daemon(s->daemon[i]);
	}
	if (s->watch >= 0)
		close(s->watch);
	free(s);
	h->server = NULL;
}
