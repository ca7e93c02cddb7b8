/* sinkd-http: options, sockets, and the loop until a signal ends it. */
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "http.h"
#include "http_daemon.h"
#include "http_listen.h"
#include "http_manager.h"
#include "http_say.h"
#include "http_serve.h"

enum { IDLE_MS = 10000, ALONE_MS = 500 };

struct sockets {
	struct http_listener listener[HTTP_LISTEN_MOST];
	size_t count;
};

static int fail(int code, const char *cause)
{
	fprintf(stderr, "sinkd-http: %s\n", cause);
	return code;
}

static bool open_sockets(struct http *h, struct sockets *s, char *cause, size_t size)
{
	char usual[256];
	int passed[HTTP_LISTEN_MOST];
	size_t count = http_manager_sockets(passed, HTTP_LISTEN_MOST);

	for (size_t i = 0; i < count; i++) {
		if (!http_listen_fits(passed[i], h->keys.count > 0)) {
			snprintf(cause, size, "Others can reach a socket that was passed in: see --key-file.");
			return false;
		}
		s->listener[s->count++] = (struct http_listener){ .fd = passed[i], .lock = -1 };
	}
	if (!count && !h->conf.listens) {
		if (!http_listen_usual(usual, sizeof(usual))) {
			snprintf(cause, size, "There is no usual place for the socket: say --listen.");
			return false;
		}
		h->conf.listen[h->conf.listens++] = usual;
	}
	for (size_t i = 0; i < h->conf.listens && s->count < HTTP_LISTEN_MOST; i++) {
		if (!http_listen_open(h->conf.listen[i], h->keys.count > 0, &s->listener[s->count], cause, size))
			return false;
		s->count++;
	}
	return true;
}

/* SIGTERM and SIGINT end the loop; SIGHUP reads the keys anew. */
static int open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void take_signals(struct http *h, int fd)
{
	struct signalfd_siginfo info;
	char cause[200];

	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGHUP)
			h->stopping = true;
		else if (h->conf.key_file && !http_key_load(&h->keys, h->conf.key_file, cause, sizeof(cause)))
			fail(0, cause);
	}
}

/* What the daemon says goes out in the same turn. */
static void loop(struct http *h, int signals)
{
	bool more = true;

	while (!h->stopping) {
		const int fds[] = { signals, http_daemon_fd(h) };

		http_serve_wait(h, fds, 2, more ? 0 : h->sink ? IDLE_MS : ALONE_MS);
		more = http_daemon_run(h);
		http_serve_run(h);
		take_signals(h, signals);
	}
}

static int serve(struct http *h, char *cause, size_t size)
{
	struct sockets s = { 0 };
	int fd[HTTP_LISTEN_MOST], signals = open_signals(), code = 0;

	if (signals < 0)
		return fail(1, strerror(errno));
	if (!open_sockets(h, &s, cause, size)) {
		code = fail(1, cause);
		goto out;
	}
	for (size_t i = 0; i < s.count; i++)
		fd[i] = s.listener[i].fd;
	if (!http_serve_open(h, fd, s.count, cause, size)) {
		code = fail(1, cause);
		goto out;
	}
	http_manager_say("READY=1");
	loop(h, signals);
	http_manager_say("STOPPING=1");
out:
	http_serve_close(h);
	http_daemon_close(h);
	for (size_t i = 0; i < s.count; i++)
		http_listen_close(&s.listener[i]);
	close(signals);
	return code;
}

/* Long bodies are given back when they are done with, and the few threads of ZeroMQ need no heaps of their own. */
static void use_little_memory(void)
{
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_THRESHOLD, 128 << 10);
	mallopt(M_TRIM_THRESHOLD, 128 << 10);
}

int main(int argc, char **argv)
{
	struct http h = { 0 };
	char cause[400];
	int code = 0;

	use_little_memory();
	TAILQ_INIT(&h.calls);
	TAILQ_INIT(&h.feeds);
	TAILQ_INIT(&h.requests);
	http_match_init(&h.match);
	h.began = http_say_time();
	if (!http_conf_read(&h.conf, argc, argv, cause, sizeof(cause)))
		return fail(2, cause);
	if (h.conf.help || h.conf.version) {
		if (h.conf.help)
			http_conf_help();
		else
			printf("sinkd-http %s\n", PACKAGE_VERSION);
		return fflush(stdout) ? 1 : 0;
	}
	if (sink_endpoint(h.conf.endpoint, h.endpoint, sizeof(h.endpoint)))
		return fail(2, sink_error_text(NULL));
	if (h.conf.key_file && !http_key_load(&h.keys, h.conf.key_file, cause, sizeof(cause)))
		return fail(1, cause);
	code = serve(&h, cause, sizeof(cause));
	http_match_release(&h.match);
	http_key_release(&h.keys);
	return code;
}
