/*
 * The client's sockets. ZeroMQ would reconnect a socket by itself, but then a request queued before the loss could be
 * carried out twice or ahead of hello; hence one DEALER a connection, watched by a monitor that tells of its end, and
 * pauses of our own between attempts. ZeroMQ's descriptors are edge-triggered, so callers get an epoll descriptor over
 * them, a timer for the next attempt, one for a moment that is waited for above, and an eventfd that is held readable
 * while something waits there.
 */
#include "link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <zmq.h>

enum { PAUSE_LEAST = 20, PAUSE_MOST = 2000 };	   /* ms between attempts, doubled each time */
enum { NEVER_BY_ITSELF = 3600 * 1000 };		   /* ms until ZeroMQ's own attempt, which thus never comes */
enum { HEARTBEAT = 5000, HEARTBEAT_LOST = 15000 }; /* ms; over TCP only, where a dead peer is silent */

enum {
	WATCHED = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED | ZMQ_EVENT_CONNECT_RETRIED | ZMQ_EVENT_CONNECTED |
		  ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
		  ZMQ_EVENT_HANDSHAKE_FAILED_AUTH
};

struct link {
	void *zmq;
	void *sock, *monitor; /* both NULL between attempts */
	char *endpoint;
	int epoll, timer, alarm, flag;
	int64_t alarm_at; /* INT64_MAX: never */
	bool flagged;
	bool connected; /* the peer accepted: from here on a loss is no "nobody there" */
	bool lost;	/* the monitor told of the end; what had arrived before is still to be read */
	int pause;
	int64_t next_try; /* while sock is NULL */
	unsigned attempts;
	zmq_msg_t frame;
	struct err reason;
};

int64_t link_now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t link_deadline(int timeout_ms)
{
	if (timeout_ms < 0)
		return INT64_MAX;
	return timeout_ms == 0 ? 0 : link_now() + timeout_ms;
}

static bool watch(struct link *l, int fd)
{
	struct epoll_event ev = { .events = EPOLLIN };

	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev) == 0;
}

static int zmq_fd(void *sock)
{
	int fd = -1;
	size_t size = sizeof(fd);

	zmq_getsockopt(sock, ZMQ_FD, &fd, &size);
	return fd;
}

int link_new(const char *endpoint, struct link **ret, struct err *e)
{
	struct link *l = calloc(1, sizeof(*l));

	if (!l)
		return err_set(e, SINK_ENOMEM, "There is no memory for a connection.");
	zmq_msg_init(&l->frame);
	l->pause = PAUSE_LEAST;
	l->zmq = zmq_ctx_new();
	l->endpoint = strdup(endpoint);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	l->alarm = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	l->alarm_at = INT64_MAX;
	l->flag = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!l->zmq || !l->endpoint || l->epoll < 0 || l->timer < 0 || l->alarm < 0 || l->flag < 0 ||
	    !watch(l, l->timer) || !watch(l, l->alarm) || !watch(l, l->flag)) {
		err_set(e, SINK_EIO, "The descriptors of a connection cannot be had: %s.", strerror(errno));
		link_free(l);
		return SINK_EIO;
	}
	*ret = l;
	return 0;
}

static void close_sockets(struct link *l)
{
	if (!l->sock)
		return;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, zmq_fd(l->sock), NULL);
	zmq_socket_monitor(l->sock, NULL, 0);
	if (l->monitor) {
		epoll_ctl(l->epoll, EPOLL_CTL_DEL, zmq_fd(l->monitor), NULL);
		zmq_close(l->monitor);
	}
	zmq_close(l->sock);
	l->sock = NULL;
	l->monitor = NULL;
}

void link_free(struct link *l)
{
	if (!l)
		return;
	zmq_msg_close(&l->frame);
	close_sockets(l);
	if (l->zmq)
		zmq_ctx_term(l->zmq);
	if (l->epoll >= 0)
		close(l->epoll);
	if (l->timer >= 0)
		close(l->timer);
	if (l->alarm >= 0)
		close(l->alarm);
	if (l->flag >= 0)
		close(l->flag);
	free(l->endpoint);
	free(l);
}

/* Words why nobody answers. ZeroMQ does not tell, so a unix socket is asked once more. */
static void explain(struct link *l)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	const char *path = l->endpoint + strlen("ipc://");
	size_t len;
	int fd, rc;

	if (l->connected) {
		err_set(&l->reason, SINK_ECONN, "The connection to %s was lost.", l->endpoint);
		return;
	}
	err_set(&l->reason, SINK_ECONN, "No daemon answers at %s.", l->endpoint);
	if (strncmp(l->endpoint, "ipc://", strlen("ipc://")) != 0 || strlen(path) >= sizeof(at.sun_path))
		return;
	len = strlen(path);
	memcpy(at.sun_path, path, len + 1);
	if (path[0] == '@')
		at.sun_path[0] = '\0'; /* an abstract name */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	rc = connect(fd, (const struct sockaddr *)&at, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	if (rc && errno == EAGAIN)
		err_set(&l->reason, SINK_EBUSY, "So many wait for the daemon at %s that nobody else can.", l->endpoint);
	else if (rc)
		err_set(&l->reason, SINK_ECONN, "No daemon answers at %s: %s.", l->endpoint, strerror(errno));
	close(fd);
}

/* Arms the timer that wakes link_fd() for the next attempt; a pause of 0 disarms it. */
static void set_timer(struct link *l, int pause_ms)
{
	struct itimerspec t = { .it_value = { pause_ms / 1000, (long)(pause_ms % 1000) * 1000000 } };

	timerfd_settime(l->timer, 0, &t, NULL);
}

void link_drop(struct link *l)
{
	close_sockets(l);
	l->lost = false;
	l->next_try = link_now() + l->pause;
	set_timer(l, l->pause);
	l->pause = l->pause * 2 < PAUSE_MOST ? l->pause * 2 : PAUSE_MOST;
}

static void set_int(void *sock, int option, int value)
{
	zmq_setsockopt(sock, option, &value, sizeof(value));
}

static void set_options(struct link *l)
{
	int64_t most = LINK_FRAME_MOST;

	zmq_setsockopt(l->sock, ZMQ_MAXMSGSIZE, &most, sizeof(most));
	set_int(l->sock, ZMQ_LINGER, 0);
	set_int(l->sock, ZMQ_RECONNECT_IVL, NEVER_BY_ITSELF);
	set_int(l->sock, ZMQ_SNDHWM, 0); /* a caller knows how much it begins */
	set_int(l->sock, ZMQ_RCVHWM, 0); /* the credit bounds what may come */
	if (strncmp(l->endpoint, "tcp://", strlen("tcp://")) == 0) {
		set_int(l->sock, ZMQ_HEARTBEAT_IVL, HEARTBEAT);
		set_int(l->sock, ZMQ_HEARTBEAT_TIMEOUT, HEARTBEAT_LOST);
	}
}

static bool start_monitor(struct link *l)
{
	char name[40];

	snprintf(name, sizeof(name), "inproc://monitor-%u", l->attempts++);
	if (zmq_socket_monitor(l->sock, name, WATCHED))
		return false;
	l->monitor = zmq_socket(l->zmq, ZMQ_PAIR);
	if (!l->monitor)
		return false;
	set_int(l->monitor, ZMQ_LINGER, 0);
	return watch(l, zmq_fd(l->monitor)) && zmq_connect(l->monitor, name) == 0;
}

/* Starts an attempt. LINK_LOST when not even that was possible. */
static enum link_news start(struct link *l)
{
	set_timer(l, 0);
	l->connected = false;
	l->sock = zmq_socket(l->zmq, ZMQ_DEALER);
	if (l->sock) {
		set_options(l);
		if (watch(l, zmq_fd(l->sock)) && start_monitor(l) && zmq_connect(l->sock, l->endpoint) == 0)
			return LINK_STARTED;
	}
	err_set(&l->reason, SINK_ECONN, "No connection to %s can be started: %s.", l->endpoint, zmq_strerror(errno));
	link_drop(l);
	return LINK_LOST;
}

/* Takes in what the monitor has to say. */
static void read_monitor(struct link *l)
{
	zmq_msg_t part;

	zmq_msg_init(&part);
	while (zmq_msg_recv(&part, l->monitor, ZMQ_DONTWAIT) >= 0) {
		uint16_t event = 0;

		if (zmq_msg_size(&part) >= sizeof(event))
			memcpy(&event, zmq_msg_data(&part), sizeof(event));
		while (zmq_msg_more(&part) && zmq_msg_recv(&part, l->monitor, ZMQ_DONTWAIT) >= 0)
			; /* the address, which we know */
		if (event == ZMQ_EVENT_CONNECTED)
			l->connected = true;
		else
			l->lost = true;
	}
	zmq_msg_close(&part);
}

/* One look, without waiting. A loss is told after all that arrived before it. */
static enum link_news look(struct link *l, const void **frame, size_t *size)
{
	if (!l->sock)
		return link_now() >= l->next_try ? start(l) : LINK_QUIET;
	read_monitor(l);
	if (zmq_msg_recv(&l->frame, l->sock, ZMQ_DONTWAIT) >= 0) {
		*frame = zmq_msg_data(&l->frame);
		*size = zmq_msg_size(&l->frame);
		return LINK_FRAME;
	}
	if (!l->lost)
		return LINK_QUIET;
	explain(l);
	link_drop(l);
	return LINK_LOST;
}

/* Sleeps until something may have come. False when a signal ended the sleep. */
static bool doze(struct link *l, int64_t until)
{
	zmq_pollitem_t items[2] = { { .socket = l->sock, .events = ZMQ_POLLIN },
				    { .socket = l->monitor, .events = ZMQ_POLLIN } };
	int64_t left;

	if (!l->sock && l->next_try < until)
		until = l->next_try;
	left = until == INT64_MAX ? -1 : until - link_now();
	if (until != INT64_MAX && left <= 0)
		return true;
	return zmq_poll(items, l->sock ? 2 : 0, (long)left) >= 0 || errno != EINTR;
}

enum link_news link_next(struct link *l, int64_t deadline, const void **frame, size_t *size)
{
	for (;;) {
		enum link_news news = look(l, frame, size);

		if (news != LINK_QUIET)
			return news;
		if (deadline == 0 || link_now() >= deadline || !doze(l, deadline))
			return LINK_QUIET;
	}
}

const struct err *link_reason(const struct link *l)
{
	return &l->reason;
}

int link_send(struct link *l, const void *frame, size_t size, struct err *e)
{
	if (!l->sock || l->lost)
		return err_set(e, SINK_ECONN, "There is no connection to %s now.", l->endpoint);
	if (zmq_send(l->sock, frame, size, ZMQ_DONTWAIT) < 0)
		return err_set(e, errno == ENOMEM ? SINK_ENOMEM : SINK_ECONN, "Sending to %s failed: %s.", l->endpoint,
			       zmq_strerror(errno));
	return 0;
}

void link_settled(struct link *l)
{
	l->pause = PAUSE_LEAST;
}

int link_fd(const struct link *l)
{
	return l->epoll;
}

void link_flag(struct link *l, bool readable)
{
	uint64_t one = 1;
	ssize_t n;

	if (readable == l->flagged)
		return;
	n = readable ? write(l->flag, &one, sizeof(one)) : read(l->flag, &one, sizeof(one));
	if (n == sizeof(one))
		l->flagged = readable;
}

void link_alarm(struct link *l, int64_t at)
{
	struct itimerspec t = { 0 };

	if (at == l->alarm_at)
		return;
	if (at != INT64_MAX) {
		at = at > 0 ? at : 1; /* 0 would disarm it */
		t.it_value.tv_sec = at / 1000;
		t.it_value.tv_nsec = (long)(at % 1000) * 1000000;
	}
	timerfd_settime(l->alarm, TFD_TIMER_ABSTIME, &t, NULL);
	l->alarm_at = at;
}
