/*
 * One poll(2) over the peer's two descriptors and libsink's. The descriptors may be shared with other processes, so
 * they are left blocking: they are read and written only when poll(2) has said so, in pieces that cannot block then.
 */
#include "bridge.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "follow.h"
#include "term.h"

enum { PIECE = 64 << 10 };

void bridge_refuse(struct bridge *b, struct rpc_call *call, int code, const char *text)
{
	const char *name = sink_error_name(code);
	int number = RPC_FIRST + code;

	if (code == SINK_EINVAL)
		number = RPC_PARAMS;
	else if (code == SINK_EPROTO)
		number = RPC_METHOD;
	rpc_error(&b->rpc, call, number, name, "%s", text);
}

int64_t bridge_begin(struct bridge *b, const char *op, struct sink_args *a, struct rpc_call *call)
{
	int64_t number = sink_begin(b->sink, op, a, -1);

	if (number < 0 && call)
		bridge_refuse(b, call, (int)number, sink_error_text(b->sink));
	else if (call)
		call->number = number;
	return number;
}

static void called(void *context, struct rpc_call *call, const char *method, json_t *params)
{
	struct bridge *b = context;

	b->kind->called(b, call, method, params);
}

/* ---- the peer ---- */

static void read_peer(struct bridge *b)
{
	static char data[PIECE];
	ssize_t n = read(STDIN_FILENO, data, sizeof(data));

	if (n > 0) {
		rpc_take(&b->rpc, data, (size_t)n);
	} else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
		b->ended = true;
		rpc_end(&b->rpc);
	}
}

/* Writes what the peer takes without waiting: a pipe that is ready has room for PIPE_BUF bytes. */
static void write_peer(struct bridge *b)
{
	struct buf *out = &b->rpc.out;
	size_t done = 0;

	while (done < out->size) {
		struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
		size_t left = out->size - done;
		ssize_t n;

		if (poll(&p, 1, 0) <= 0)
			break;
		n = send(STDOUT_FILENO, out->data + done, left, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == ENOTSOCK)
			n = write(STDOUT_FILENO, out->data + done, left < PIPE_BUF ? left : PIPE_BUF);
		if (n < 0 && errno != EINTR && errno != EAGAIN) {
			b->broken = true;
			break;
		}
		if (n < 0)
			break;
		done += (size_t)n;
	}
	if (done == out->size && out->room > 2 * BRIDGE_OUT_MOST)
		buf_release(out);
	else
		buf_drop(out, done);
}

/* ---- the daemon ---- */

static void look_at_connection(struct bridge *b)
{
	bool connected = sink_connected(b->sink);
	int64_t instance = sink_int(sink_hello(b->sink), "instance", 0);

	if (connected == b->connected && instance == b->instance)
		return;
	if (connected && b->connected)
		b->kind->changed(b, false); /* it went and came between two looks */
	b->connected = connected;
	b->instance = instance;
	b->kind->changed(b, connected);
}

/* Takes what the daemon has sent, as long as the peer takes it as well. False when the connection is of no use. */
static bool take_daemon(struct bridge *b)
{
	while (b->rpc.out.size < BRIDGE_OUT_MOST) {
		struct sink_reply *r = sink_event(b->sink, 0);

		look_at_connection(b);
		if (r && sink_reply_request(r))
			b->kind->replied(b, r);
		else if (r)
			b->kind->happened(b, r);
		else
			return !sink_error(b->sink);
	}
	return true;
}

/* ---- the loop ---- */

/* Whether there is nothing to wait for any more. */
static bool over(struct bridge *b)
{
	if (b->broken || b->rpc.out.failed)
		return true;
	if (!b->ended || b->rpc.out.size)
		return false;
	if (!b->rpc.calls)
		return true;
	if (sink_connected(b->sink))
		b->alone = -1;
	else if (b->alone < 0)
		b->alone = follow_clock();
	return b->alone >= 0 && follow_clock() - b->alone >= BRIDGE_PATIENCE_MS;
}

static void wait_for_any(struct bridge *b)
{
	bool full = b->rpc.out.size >= BRIDGE_OUT_MOST;
	struct pollfd p[] = {
		{ .fd = full || b->ended ? -1 : STDIN_FILENO, .events = POLLIN },
		{ .fd = full ? -1 : sink_fd(b->sink), .events = POLLIN },
		/* a peer that has gone is noticed even when there is nothing to tell */
		{ .fd = STDOUT_FILENO, .events = b->rpc.out.size ? POLLOUT : 0 },
	};

	if (poll(p, 3, b->ended && !b->connected ? 1000 : -1) <= 0)
		return;
	if (p[0].revents)
		read_peer(b);
	if (p[2].revents & (POLLERR | POLLHUP | POLLNVAL))
		b->broken = true;
}

/*
 * A long line's memory goes back to the system. By itself the allocator would take the first one as a sign that more
 * will come, and keep it.
 */
static void give_memory_back(void)
{
#ifdef M_MMAP_THRESHOLD
	mallopt(M_MMAP_THRESHOLD, PIECE);
#endif
}

int bridge_run(struct cli *c, const struct bridge_kind *kind, void *state)
{
	struct bridge b = { .kind = kind, .cli = c, .sink = c->sink, .state = state, .connected = true, .alone = -1 };
	bool useful = true;
	int code = 0;

	give_memory_back();
	b.instance = sink_int(sink_hello(b.sink), "instance", 0);
	rpc_init(&b.rpc, called, &b);
	while (useful && !over(&b)) {
		wait_for_any(&b);
		useful = take_daemon(&b);
		write_peer(&b);
	}
	if (!useful)
		code = fail_sink(c->sink);
	else if (b.rpc.out.failed)
		code = fail(FAIL_FAILED, "There is not enough memory.");
	else if (b.rpc.calls && !b.broken)
		code = fail(FAIL_UNREACHABLE, "The daemon went away and did not come back.");
	rpc_release(&b.rpc);
	return code;
}
