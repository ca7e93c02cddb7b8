/*
 * Owns the sockets and the turns of the loop. A turn does a bounded amount of everything: frames, jobs, the next batch,
 * events to readers; what is left waits for the next turn.
 *
 * Connections are counted, by the socket's monitor, and one that is too many is shut down at once (to unbind the socket
 * would end all that it has); accept.c bridges the moment until then. The monitor also tells the end of a connection,
 * and with it of a client.
 */
#include "server.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>

#include "core.h"
#include "keep.h"
#include "listen.h"
#include "log.h"
#include "notify.h"
#include "publish.h"
#include "tier.h"
#include "verb.h"

enum {
	FRAMES_A_TURN = 100,
	SPARE_CONNECTIONS = 64,	  /* beyond the clients: those that have not said hello */
	BURST_CONNECTIONS = 1024, /* that may be accepted before the loop sees them */
	SEND_HIGH_WATER = 256,
	RECEIVE_HIGH_WATER = 64,
	HANDSHAKE_MS = 5000,
	HEARTBEAT_MS = 10000,
	LINGER_MS = 1000,
	FORGET_MS = 50, /* from the end of a connection until its client is forgotten */
	STATUS_MS = 5000,
	HUNG_MS = 60000, /* a step that takes longer stops the watchdog's feed */
};

struct server {
	struct core *core;
	struct notify_fds fds; /* of an earlier daemon */
	struct listener listener;
	struct publish *board;
	int argc;
	char *const *argv;
	void *context, *router, *monitor;
	int signals;
	bool ready, hurry, told_hung, told_stopped;
	bool crowded; /* it was said that there are too many connections */

	uint8_t *open; /* by descriptor: an accepted connection */
	size_t open_room, connections, most_connections;
	double forget_at; /* 0: nobody is to be forgotten */

	double watchdog_ms, watchdog_at, status_at;
	int64_t status_tokens;
	double status_since;
};

static int send_frame(void *arg, void *peer, const void *frame, size_t size)
{
	const struct server *s = arg;
	const struct peer *p = peer;

	if (zmq_send(s->router, p->id, p->id_len, ZMQ_SNDMORE | ZMQ_DONTWAIT) < 0)
		return errno == EAGAIN ? SINK_EBUSY : SINK_ECONN;
	return zmq_send(s->router, frame, size, ZMQ_DONTWAIT) < 0 ? SINK_ECONN : 0;
}

/* Set-up. */

static void set_int(void *socket, int option, int value)
{
	int rc = zmq_setsockopt(socket, option, &value, sizeof(value));

	assert(rc == 0);
	(void)rc;
}

static int open_router(struct server *s, const struct conf *conf, struct err *e)
{
	int64_t most = 2 * conf->message_bytes; /* up to here a message that is too long is told so */

	s->context = zmq_ctx_new();
	s->router = s->context ? zmq_socket(s->context, ZMQ_ROUTER) : NULL;
	s->monitor = s->router ? zmq_socket(s->context, ZMQ_PAIR) : NULL;
	if (!s->monitor)
		return err_set(e, SINK_EIO, "ZeroMQ makes no socket: %s.", zmq_strerror(errno));
	set_int(s->router, ZMQ_ROUTER_MANDATORY, 1);
	set_int(s->router, ZMQ_SNDHWM, SEND_HIGH_WATER);
	set_int(s->router, ZMQ_RCVHWM, RECEIVE_HIGH_WATER);
	set_int(s->router, ZMQ_LINGER, LINGER_MS);
	set_int(s->router, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS);
	if (!listen_knows(
		    conf->listen)) { /* of a unix socket the kernel tells the end; and a stopped client may sleep */
		set_int(s->router, ZMQ_HEARTBEAT_IVL, HEARTBEAT_MS);
		set_int(s->router, ZMQ_HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS);
	}
	zmq_setsockopt(s->router, ZMQ_MAXMSGSIZE, &most, sizeof(most));
	set_int(s->monitor, ZMQ_RCVHWM, 0); /* no event waits for room while this thread waits for ZeroMQ's */
	if (zmq_socket_monitor(s->router, "inproc://monitor", ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED) < 0 ||
	    zmq_connect(s->monitor, "inproc://monitor") < 0)
		return err_set(e, SINK_EIO, "ZeroMQ does not watch its connections: %s.", zmq_strerror(errno));
	return 0;
}

static int take_signals(struct server *s, struct err *e)
{
	sigset_t set;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	s->signals = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (s->signals < 0)
		return err_set(e, SINK_EIO, "Signals cannot be taken: %s.", strerror(errno));
	return 0;
}

/* As many descriptors as the system lets us have, and no more connections than they bear. */
static int count_descriptors(struct server *s, const struct conf *conf, struct err *e)
{
	size_t wanted = (size_t)conf->clients + SPARE_CONNECTIONS, most;
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_set(e, SINK_EIO, "The limit of descriptors is not known: %s.", strerror(errno));
	l.rlim_cur = l.rlim_max;
	setrlimit(RLIMIT_NOFILE, &l);
	getrlimit(RLIMIT_NOFILE, &l);
	most = l.rlim_cur > 2 * BURST_CONNECTIONS ? (size_t)l.rlim_cur - BURST_CONNECTIONS - 128
						  : (size_t)l.rlim_cur / 4;
	if (wanted > most)
		log_warning("Descriptors suffice for %zu connections only (clients is %lld).", most,
			    (long long)conf->clients);
	s->most_connections = wanted < most ? wanted : most;
	s->open_room = s->most_connections + BURST_CONNECTIONS + 4096;
	s->open = calloc(s->open_room, 1);
	return s->open ? 0 : err_set(e, SINK_ENOMEM, "There is no memory for the table of connections.");
}

/* Our own socket is given to the manager, so that those who come while no daemon runs wait for the next one. */
static void keep_listener(struct listener *l)
{
	if (*l->path && !l->kept && notify_keeps_fds())
		l->kept = notify_keep_fd(NOTIFY_LISTEN, l->fd) == 0;
}

/* Listens from now on, if it is for us to say so: other endpoints are bound by ZeroMQ, when there is a model. */
static int open_listener(struct server *s, const struct conf *conf, struct err *e)
{
	int rc = 0;

	if (*s->fds.note)
		log_warning("%s.", s->fds.note);
	if ((s->fds.listen >= 0 && !s->fds.listen_ours) || listen_knows(conf->listen)) {
		rc = listen_open(conf->listen, &s->fds, &s->listener, e);
		keep_listener(&s->listener);
		return rc;
	}
	if (s->fds.listen >= 0) {
		listen_discard(s->fds.listen);
		notify_forget_fd(NOTIFY_LISTEN);
	}
	log_warning("Whoever reaches %s is served: it has no owner and no permissions.", conf->listen);
	return 0;
}

/* Named by where the socket is, which a unit may have put elsewhere than the option says. */
static void open_board(struct server *s)
{
	const struct conf *conf = &s->core->conf;
	char endpoint[LISTEN_ENDPOINT];

	if (conf->status_segment)
		s->board = publish_open(s->core, listen_endpoint(&s->listener, endpoint) ? endpoint : conf->listen);
}

/* Caches of an earlier daemon that are of no use to this one, which keeps none: the system has their memory back. */
static void drop_caches(const struct notify_fds *fds)
{
	if (fds->pages >= 0) {
		close(fds->pages);
		notify_forget_fd(NOTIFY_PAGES);
	}
	if (fds->records >= 0) {
		close(fds->records);
		notify_forget_fd(NOTIFY_RECORDS);
	}
}

int server_new(const struct conf *conf, int argc, char *const *argv, struct server **ret, struct err *e)
{
	struct server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, SINK_ENOMEM, "There is no memory for the server.");
	s->argc = argc;
	s->argv = argv;
	s->signals = -1;
	s->listener = (struct listener){ .fd = -1, .lock = -1 };
	s->watchdog_ms = (double)notify_watchdog_usec() / 1e3;
	if ((rc = notify_take_fds(&s->fds, e)) < 0 || (rc = take_signals(s, e)) < 0 ||
	    (rc = count_descriptors(s, conf, e)) < 0 || (rc = open_listener(s, conf, e)) < 0 ||
	    (rc = open_router(s, conf, e)) < 0 || (rc = core_new(conf, send_frame, s, &s->core, e)) < 0)
		goto fail;
	s->core->adopt.pages = s->fds.pages;
	s->core->adopt.records = s->fds.records;
	if ((rc = core_open_store(s->core, e)) < 0 || (rc = core_load(s->core, e)) < 0)
		goto fail;
	if (!s->core->load.options.outlives)
		drop_caches(&s->fds);
	open_board(s);
	*ret = s;
	return 0;
fail:
	server_free(s, SERVER_STOPPED);
	return rc;
}

void server_free(struct server *s, enum server_end end)
{
	if (!s)
		return;
	publish_close(s->board);
	listen_close(&s->listener);
	if (end == SERVER_HURRIED)
		return;
	core_free(s->core);
	if (s->router) /* first: an event that nobody can take any more would hold ZeroMQ's thread for ever */
		zmq_socket_monitor(s->router, NULL, 0);
	if (s->monitor)
		zmq_close(s->monitor);
	if (s->router)
		zmq_close(s->router);
	if (s->context)
		zmq_ctx_term(s->context);
	if (s->signals >= 0)
		close(s->signals);
	free(s->open);
	free(s);
}

/* Connections. */

static int bind_router(struct server *s, struct err *e)
{
	const char *endpoint = s->core->conf.listen;
	int fd = -1;

	if (s->listener.fd >= 0) {
		fd = dup(s->listener.fd); /* ZeroMQ will close its own */
		set_int(s->router, ZMQ_USE_FD, fd);
	}
	if (zmq_bind(s->router, endpoint) < 0) {
		int no = errno;

		if (fd >= 0)
			close(fd);
		return err_set(e, no == EADDRINUSE ? SINK_EBUSY : SINK_EIO, "%s cannot be listened on: %s.", endpoint,
			       zmq_strerror(no));
	}
	return 0;
}

/*
 * One connection too many: it is closed before it can say anything. (Should its descriptor be another's by now, that
 * one is closed instead, and its client connects again.)
 */
static void refuse_connection(struct server *s, int fd)
{
	if (!s->crowded)
		log_warning("There are %zu connections: more are refused.", s->most_connections);
	s->crowded = true;
	shutdown(fd, SHUT_RDWR);
}

/* Its client is forgotten when what it has sent before has been read. */
static void connection_ended(struct server *s, int fd)
{
	struct peer *p;

	LIST_FOREACH(p, &s->core->peers.list, link)
	if (p->fd == fd) {
		p->fd = -1;
		p->ended = clock_ms();
		s->forget_at = p->ended + FORGET_MS;
	}
}

static void forget_ended(struct server *s, double now)
{
	struct peer *p, *after;

	s->forget_at = 0;
	for (p = LIST_FIRST(&s->core->peers.list); p; p = after) {
		after = LIST_NEXT(p, link);
		if (p->ended > 0 && now >= p->ended + FORGET_MS)
			peer_free(&s->core->peers, p);
		else if (p->ended > 0 && (s->forget_at <= 0 || p->ended + FORGET_MS < s->forget_at))
			s->forget_at = p->ended + FORGET_MS;
	}
}

/* One event of the monitor: two bytes of kind, four of value, which is the descriptor; then the address. */
static bool take_connection(struct server *s)
{
	uint8_t event[6];
	char address[256];
	uint16_t kind;
	int32_t fd;

	if (zmq_recv(s->monitor, event, sizeof(event), ZMQ_DONTWAIT) != (int)sizeof(event))
		return false;
	zmq_recv(s->monitor, address, sizeof(address), ZMQ_DONTWAIT);
	memcpy(&kind, event, sizeof(kind));
	memcpy(&fd, event + 2, sizeof(fd));
	if (fd < 0 || (size_t)fd >= s->open_room)
		return true;
	if (kind == ZMQ_EVENT_ACCEPTED) {
		s->connections += !s->open[fd];
		s->open[fd] = 1;
		if (s->connections > s->most_connections)
			refuse_connection(s, fd);
	} else {
		s->connections -= s->open[fd];
		s->open[fd] = 0;
		s->crowded = s->connections >= s->most_connections;
		connection_ended(s, fd);
	}
	return true;
}

/* Frames. */

static void drop_parts(struct server *s)
{
	int more = 1;
	size_t size = sizeof(more);

	while (more) {
		zmq_msg_t part;

		zmq_msg_init(&part);
		if (zmq_msg_recv(&part, s->router, ZMQ_DONTWAIT) < 0)
			more = 0;
		else
			zmq_getsockopt(s->router, ZMQ_RCVMORE, &more, &size);
		zmq_msg_close(&part);
	}
}

static void take_payload(struct server *s, zmq_msg_t *id, zmq_msg_t *frame)
{
	struct sender from = { zmq_msg_data(id), zmq_msg_size(id), -1 };
	const char *fd = zmq_msg_gets(frame, "__fd");
	struct err e;

	from.fd = fd ? atoi(fd) : -1;
	while (take_connection(s)) /* so that a descriptor that is used again is not taken for the one before */
		;
	if (!zmq_msg_more(frame)) {
		verb_dispatch(s->core, &from, zmq_msg_data(frame), zmq_msg_size(frame));
		if (from.fd >= 0 && (size_t)from.fd < s->open_room && !s->open[from.fd])
			connection_ended(s, from.fd); /* it was greeted too late */
		return;
	}
	drop_parts(s);
	err_set(&e, SINK_EFORMAT, "A message must be one frame.");
	verb_refuse_frame(s->core, &from, &e);
}

static bool take_frame(struct server *s)
{
	zmq_msg_t id, frame;
	bool got;

	zmq_msg_init(&id);
	zmq_msg_init(&frame);
	got = zmq_msg_recv(&id, s->router, ZMQ_DONTWAIT) >= 0;
	if (got && zmq_msg_more(&id) && zmq_msg_recv(&frame, s->router, ZMQ_DONTWAIT) >= 0)
		take_payload(s, &id, &frame);
	zmq_msg_close(&id);
	zmq_msg_close(&frame);
	return got;
}

/* Signals and the service manager. */

static void stop(struct server *s, const char *why)
{
	if (s->core->phase == PHASE_STOPPING || s->core->phase == PHASE_LOADING) {
		s->hurry = true;
		return;
	}
	log_info("Stopping: %s.", why);
	core_stop(s->core);
}

static void reload(struct server *s)
{
	static struct conf fresh; /* large, and needed once at a time */
	struct conf_call call;
	char restart[512];
	struct err e;

	notify_reloading();
	if (conf_load(s->argc, s->argv, &fresh, &call, &e) < 0 || core_check(s->core, &fresh, &e) < 0) {
		log_error("The configuration stays as it was: %s", e.text);
	} else {
		conf_reload(&s->core->conf, &fresh, restart, sizeof(restart));
		core_configure(s->core);
		log_set_level((enum log_level)s->core->conf.log_level);
		log_info("The configuration was read again%s%s.", *restart ? "; a restart is needed for " : "",
			 restart);
	}
	notify_send("READY=1");
}

static void take_signal(struct server *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo == SIGHUP)
			reload(s);
		else
			stop(s, info.ssi_signo == SIGINT ? "interrupted" : "asked to");
	}
}

static void tell_status(struct server *s, double now)
{
	const struct core *c = s->core;
	int64_t tokens = c->pulse.read + c->pulse.written;
	double rate = (double)(tokens - s->status_tokens) * 1e3 / (now - s->status_since);
	struct core_counts n;

	core_count(c, &n);
	s->told_stopped = keep_has_stopped(c);
	notify_send("STATUS=%s%s: %zu conversations, %zu answering, %zu queued, %zu clients, %.0f tokens/s%s%s",
		    s->told_stopped ? "SAVING HAS STOPPED; " : "", model_info(c->model)->name, c->table.count,
		    n.answering, n.queued, c->peers.count, rate, s->told_stopped ? "; " : "",
		    s->told_stopped ? keep_trouble(c)->text : "");
	s->status_tokens = tokens;
	s->status_since = now;
	s->status_at = now + STATUS_MS;
}

/* The watchdog is fed while the loop turns and no step hangs: a daemon that can only talk is no use either. */
static void feed_watchdog(struct server *s, double now)
{
	bool hung = s->core->batch_away && s->core->phase != PHASE_LOADING && now - s->core->batch_gone > HUNG_MS;

	if (hung && !s->told_hung)
		log_error("A step of the engine has taken more than %d seconds.", HUNG_MS / 1000);
	s->told_hung = hung;
	if (!hung)
		notify_send("WATCHDOG=1");
	s->watchdog_at = now + s->watchdog_ms / 2;
}

static int become_ready(struct server *s)
{
	struct err e;

	if (bind_router(s, &e) < 0) {
		log_error("%s", e.text);
		return SINK_EIO;
	}
	s->ready = true;
	s->status_since = clock_ms();
	notify_send("READY=1");
	tell_status(s, s->status_since + 1);
	log_info("Ready at %s.", s->core->conf.listen);
	return 0;
}

static void keep_time(struct server *s)
{
	double now = clock_ms();

	publish_turn(s->board, now);
	if (s->watchdog_ms > 0 && now >= s->watchdog_at)
		feed_watchdog(s, now);
	if (s->forget_at > 0 && now >= s->forget_at)
		forget_ended(s, now);
	if (s->ready && (now >= s->status_at || s->told_stopped != keep_has_stopped(s->core)))
		tell_status(s, now);
}

/* Milliseconds until something is due. */
static long time_left(const struct server *s, bool more)
{
	double now = clock_ms(), next = now + STATUS_MS;
	const double due[] = { s->watchdog_ms > 0 ? s->watchdog_at : next, s->forget_at > 0 ? s->forget_at : next,
			       core_due(s->core) > 0 ? core_due(s->core) : next,
			       s->board ? publish_due(s->board) : next };

	if (more)
		return 0;
	for (size_t i = 0; i < sizeof(due) / sizeof(due[0]); i++)
		if (due[i] < next)
			next = due[i];
	return next > now ? (long)(next - now) + 1 : 0;
}

static void say_goodbye(struct server *s)
{
	static const uint8_t bye[] = { 0x82, 0xa2, 'e', 'v', 0xa3, 'b',	 'y', 'e', 0xa6, 'r',
				       'e',  'a',  's', 'o', 'n',  0xa4, 's', 't', 'o',	 'p' };
	struct peer *p, *after;

	notify_send("STOPPING=1\nSTATUS=Stopping");
	core_pump(s->core);
	for (p = LIST_FIRST(&s->core->peers.list); p; p = after) {
		after = LIST_NEXT(p, link);
		core_send(s->core, p, bye, sizeof(bye));
	}
}

/* One turn. True: there may be more frames than it took. */
static bool turn(struct server *s, bool frames)
{
	int taken = 0;

	while (take_connection(s))
		;
	core_take(s->core);
	while (frames && taken < FRAMES_A_TURN && take_frame(s))
		taken++;
	core_move(s->core);
	core_save(s->core);
	core_pump(s->core);
	keep_time(s);
	return taken == FRAMES_A_TURN;
}

enum server_end server_run(struct server *s)
{
	struct core *c = s->core;
	bool more = false;

	for (;;) {
		zmq_pollitem_t item[] = {
			{ s->router, 0, ZMQ_POLLIN, 0 },
			{ s->monitor, 0, ZMQ_POLLIN, 0 },
			{ NULL, worker_fd(c->engine), ZMQ_POLLIN, 0 },
			{ NULL, worker_fd(c->scribe), ZMQ_POLLIN, 0 },
			{ NULL, s->signals, ZMQ_POLLIN, 0 },
			{ NULL, keep_fd(c), ZMQ_POLLIN, 0 },
			{ NULL, tier_fd(c), ZMQ_POLLIN, 0 },
		};
		const int items = tier_fd(c) >= 0 ? 7 : 5;

		zmq_poll(item, items, time_left(s, more));
		if (item[4].revents)
			take_signal(s);
		if (s->hurry)
			return SERVER_HURRIED;
		more = turn(s, more || item[0].revents);
		if (c->load_failed || (c->phase == PHASE_READY && !s->ready && become_ready(s) < 0))
			return c->load_failed ? SERVER_NO_MODEL : SERVER_FAILED;
		if (c->phase == PHASE_STOPPING && core_at_home(c)) {
			say_goodbye(s);
			return c->device_failed ? SERVER_NO_DEVICE : SERVER_STOPPED;
		}
	}
}
