/* See the header. One peer list, one log; everything that a test can see is an atomic. */
#include "fake_daemon.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <zmq.h>

#include "msg.h"

enum { PEERS = 8, ID_MOST = 64 };

struct peer {
	char id[ID_MOST];
	size_t id_len;
	int attachment; /* 0: none */
	int cursor;
	long credit;
	int64_t held; /* id of a request that is answered later; 0 */
};

struct fake {
	struct fake_knobs knobs;
	char endpoint[200];
	void *zmq, *sock;
	pthread_t thread;
	atomic_bool stop;
	char die_on[32]; /* one verb that ends the connection; guarded by the order of calls in a test */
	struct peer peers[PEERS];
	int peer_count, last_attachment;
	int64_t known_key, known_from; /* of the latest `say` that was carried out */
};

static void bind_again(struct fake *f)
{
	int zero = 0;

	f->sock = zmq_socket(f->zmq, ZMQ_ROUTER);
	zmq_setsockopt(f->sock, ZMQ_LINGER, &zero, sizeof(zero));
	zmq_setsockopt(f->sock, ZMQ_SNDHWM, &zero, sizeof(zero));
	f->peer_count = 0;
	for (int i = 0; i < 100 && zmq_bind(f->sock, f->endpoint); i++)
		usleep(10000);
}

static struct peer *peer_of(struct fake *f, const char *id, size_t len)
{
	struct peer *p;

	for (int i = 0; i < f->peer_count; i++)
		if (f->peers[i].id_len == len && memcmp(f->peers[i].id, id, len) == 0)
			return &f->peers[i];
	p = &f->peers[f->peer_count < PEERS - 1 ? f->peer_count++ : PEERS - 1];
	memset(p, 0, sizeof(*p));
	memcpy(p->id, id, len);
	p->id_len = len;
	return p;
}

static void send_out(struct fake *f, struct peer *p, struct out *o)
{
	size_t size;
	const void *frame;

	out_end(o);
	frame = out_data(o, &size);
	zmq_send(f->sock, p->id, p->id_len, ZMQ_SNDMORE);
	zmq_send(f->sock, frame, size, 0);
	out_free(o);
}

static struct out *begin(void)
{
	struct out *o;

	if (out_new(&o, NULL))
		abort();
	out_map(o, NULL);
	return o;
}

/* An `ok` reply is begun; the caller adds its fields and calls end_ok(). */
static struct out *begin_ok(int64_t id)
{
	struct out *o = begin();

	out_int(o, "id", id);
	out_map(o, "ok");
	return o;
}

static void end_ok(struct fake *f, struct peer *p, struct out *o)
{
	out_end(o);
	send_out(f, p, o);
}

static void reply_error(struct fake *f, struct peer *p, int64_t id, const char *code, const char *text)
{
	struct out *o = begin();

	out_int(o, "id", id);
	out_map(o, "error");
	out_str(o, "code", code);
	out_str(o, "text", text);
	out_end(o);
	send_out(f, p, o);
}

static const char *name_at(struct fake *f, int seq)
{
	return f->knobs.renamed_at && seq > f->knobs.renamed_at ? "lake" : "sea";
}

static void send_event(struct fake *f, struct peer *p, int seq)
{
	struct out *o = begin();
	char text[32];
	size_t size;
	char *padding;

	snprintf(text, sizeof(text), "%d", seq);
	if (seq == f->knobs.removed_at) {
		out_str(o, "ev", "removed");
	} else if (seq == f->knobs.renamed_at) {
		out_str(o, "ev", "renamed");
		out_str(o, "to", "lake");
	} else {
		out_str(o, "ev", "text");
		out_str(o, "text", text);
	}
	out_str(o, "conversation", name_at(f, seq));
	out_int(o, "seq", seq);
	padding = calloc(1, (size_t)f->knobs.padding + 1);
	out_bin(o, "padding", padding, (size_t)f->knobs.padding);
	free(padding);
	out_data(o, &size);
	f->knobs.sent += (long)size;
	p->credit -= (long)size;
	send_out(f, p, o);
}

/* Sends what the cursors and the credit allow. */
static void pump(struct fake *f)
{
	for (int i = 0; i < f->peer_count; i++) {
		struct peer *p = &f->peers[i];

		while (p->attachment && p->cursor <= f->knobs.last && p->credit > 0) {
			int seq = p->cursor++;

			if (atomic_compare_exchange_strong(&f->knobs.skip, &seq, 0))
				continue;
			seq = p->cursor - 1;
			send_event(f, p, seq);
			if (atomic_compare_exchange_strong(&f->knobs.twice, &seq, 0))
				send_event(f, p, p->cursor - 1);
		}
	}
}

static void attach(struct fake *f, struct peer *p, int64_t id, const struct val *m, bool stay)
{
	int64_t from = val_int(val_get(m, "from"), f->knobs.last + 1);
	const char *name = val_str(val_get(m, "conversation"), NULL);
	struct out *o;

	f->knobs.attaches++;
	if (!name || strcmp(name, name_at(f, f->knobs.last)) != 0) {
		reply_error(f, p, id, "enoent", "There is no such conversation.");
		return;
	}
	if (from < f->knobs.first) {
		reply_error(f, p, id, "egone", "The cursor is before the oldest event.");
		return;
	}
	if (from > f->knobs.last + 1) {
		reply_error(f, p, id, "einval", "The cursor is ahead of the log.");
		return;
	}
	if (!stay || !p->attachment) {
		p->attachment = ++f->last_attachment;
		p->cursor = (int)from;
		p->credit = (long)val_int(val_get(m, "credit"), 262144);
		f->knobs.granted += p->credit;
	}
	if (f->knobs.early)
		pump(f);
	o = begin_ok(id);
	out_map(o, "conversation");
	out_str(o, "name", name);
	out_end(o);
	out_int(o, "attachment", p->attachment);
	out_int(o, "seq", from);
	end_ok(f, p, o);
}

static void hello(struct fake *f, struct peer *p, int64_t id, const struct val *m)
{
	struct out *o;

	f->knobs.hellos++;
	if (f->knobs.refuse) {
		reply_error(f, p, id, err_name(f->knobs.refuse), "This daemon refuses.");
		return;
	}
	o = begin_ok(id);
	out_int(o, "protocol", f->knobs.protocol);
	out_str(o, "server", "fake 1");
	out_val(o, "greeted", val_get(m, "client"));
	out_map(o, "limits");
	out_int(o, "message_bytes", 100000);
	out_end(o);
	end_ok(f, p, o);
}

static void answer_held(struct fake *f, struct peer *p)
{
	struct out *o;

	if (!p->held)
		return;
	o = begin_ok(p->held);
	out_int(o, "attachment", 99);
	end_ok(f, p, o);
	p->held = 0;
}

static void carry_out(struct fake *f, const struct val *m)
{
	f->knobs.says++;
	f->knobs.last += 3;
	f->known_key = val_int(val_get(m, "key"), 0);
	f->known_from = val_int(val_get(m, "from"), 0);
}

/* A key that it knows gets the reply of the first time, which names no attachment. */
static void say(struct fake *f, struct peer *p, int64_t id, const struct val *m)
{
	int64_t key = val_int(val_get(m, "key"), 0);
	struct out *o;

	f->knobs.last_key = key;
	if (!key || key != f->known_key) {
		carry_out(f, m);
		attach(f, p, id, m, true);
		return;
	}
	f->knobs.again++;
	o = begin_ok(id);
	out_map(o, "conversation");
	out_str(o, "name", "sea");
	out_end(o);
	out_int(o, "seq", f->known_from);
	end_ok(f, p, o);
}

static void send_bye(struct fake *f, struct peer *p)
{
	struct out *o = begin();

	out_str(o, "ev", "bye");
	out_str(o, "reason", "The daemon ends.");
	send_out(f, p, o);
}

static void list(struct fake *f, struct peer *p, int64_t id)
{
	f->knobs.lists++;
	if (!f->knobs.stopping) {
		end_ok(f, p, begin_ok(id));
		return;
	}
	send_bye(f, p);
	reply_error(f, p, id, "ebusy", "The daemon is stopping.");
	usleep(20000); /* what was sent last arrives before the end */
	f->knobs.stopping = false;
	f->knobs.hang_up = true;
}

/* The verbs that are the daemon's own. */
static void serve(struct fake *f, struct peer *p, const char *op, int64_t id, const struct val *m)
{
	struct out *o;

	answer_held(f, p);
	if (strcmp(op, "hello") == 0) {
		hello(f, p, id, m);
	} else if (strcmp(op, "attach") == 0) {
		attach(f, p, id, m, false);
	} else if (strcmp(op, "say") == 0) {
		say(f, p, id, m);
	} else if (strcmp(op, "echo") == 0) {
		o = begin_ok(id);
		out_val(o, "request", m);
		end_ok(f, p, o);
	} else if (strcmp(op, "later") == 0) {
		p->held = id;
	} else if (strcmp(op, "never") != 0) {
		reply_error(f, p, id, "eproto", "There is no such verb.");
	}
}

static void take_request(struct fake *f, struct peer *p, const struct val *m)
{
	const char *op = val_str(val_get(m, "op"), NULL);
	int64_t id = val_int(val_get(m, "id"), 0);

	if (!op || f->knobs.silent)
		return;
	if (strcmp(op, f->die_on) == 0) {
		f->die_on[0] = '\0';
		f->knobs.lists += strcmp(op, "list") == 0;
		f->knobs.last_key = val_int(val_get(m, "key"), 0);
		if (f->knobs.done_once)
			carry_out(f, m);
		f->knobs.hang_up = true;
		return;
	}
	if (strcmp(op, "credit") == 0) {
		p->credit += (long)val_int(val_get(m, "bytes"), 0);
		f->knobs.granted += (long)val_int(val_get(m, "bytes"), 0);
		end_ok(f, p, begin_ok(id));
	} else if (strcmp(op, "detach") == 0) {
		f->knobs.detaches++;
		p->attachment = 0;
		end_ok(f, p, begin_ok(id));
	} else if (strcmp(op, "list") == 0) {
		list(f, p, id);
	} else {
		serve(f, p, op, id, m);
	}
}

static void read_one(struct fake *f)
{
	char id[ID_MOST], frame[200000];
	int id_len = zmq_recv(f->sock, id, sizeof(id), ZMQ_DONTWAIT), size;
	struct msg *m;

	if (id_len < 0)
		return;
	size = zmq_recv(f->sock, frame, sizeof(frame), 0);
	if (size < 0 || msg_parse(frame, (size_t)size, &m, NULL))
		return;
	take_request(f, peer_of(f, id, (size_t)id_len), msg_root(m));
	msg_free(m);
}

static void send_too_slow(struct fake *f, struct peer *p)
{
	struct out *o = begin();

	out_str(o, "ev", "error");
	out_str(o, "conversation", "sea");
	out_int(o, "seq", p->cursor);
	out_str(o, "code", "egone");
	out_str(o, "text", "Too slow.");
	send_out(f, p, o);
	p->attachment = 0;
}

static void misbehave(struct fake *f)
{
	if (f->knobs.hang_up) {
		zmq_close(f->sock);
		while (f->knobs.away && !f->stop)
			usleep(5000);
		bind_again(f);
		f->knobs.hang_up = false;
	}
	for (int i = 0; i < f->peer_count; i++) {
		struct peer *p = &f->peers[i];

		if (f->knobs.garbage) {
			zmq_send(f->sock, p->id, p->id_len, ZMQ_SNDMORE);
			zmq_send(f->sock, "\xdd\xff\0\0\0", 5, 0);
		}
		if (f->knobs.too_slow && p->attachment)
			send_too_slow(f, p);
		if (f->knobs.bye)
			send_bye(f, p);
	}
	if (f->peer_count > 0)
		f->knobs.garbage = f->knobs.bye = f->knobs.too_slow = false;
}

static void *run(void *arg)
{
	struct fake *f = arg;

	while (!f->stop) {
		zmq_pollitem_t item = { .socket = f->sock, .events = ZMQ_POLLIN };

		zmq_poll(&item, 1, 2);
		if (item.revents)
			read_one(f);
		misbehave(f);
		pump(f);
	}
	return NULL;
}

struct fake *fake_start(const char *endpoint)
{
	struct fake *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	snprintf(f->endpoint, sizeof(f->endpoint), "%s", endpoint);
	f->knobs.protocol = SINK_PROTOCOL;
	f->knobs.first = 1;
	f->zmq = zmq_ctx_new();
	bind_again(f);
	assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
	return f;
}

struct fake_knobs *fake_knobs(struct fake *f)
{
	return &f->knobs;
}

void fake_die_on(struct fake *f, const char *op)
{
	snprintf(f->die_on, sizeof(f->die_on), "%s", op);
}

void fake_stop(struct fake *f)
{
	f->stop = true;
	pthread_join(f->thread, NULL);
	zmq_close(f->sock);
	zmq_ctx_term(f->zmq);
	if (strncmp(f->endpoint, "ipc://", 6) == 0)
		unlink(f->endpoint + 6); /* ZeroMQ leaves it there */
	free(f);
}
