/*
 * The loop of the daemon: sockets, signals, jobs that come back, and what is due by the clock. The only file of this
 * room that knows ZeroMQ.
 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include "conf.h"
#include "error.h"

struct server;

enum server_end {
	SERVER_STOPPED,	  /* as asked; all is at home */
	SERVER_HURRIED,	  /* asked twice, or while the model was loading: threads may still be at work */
	SERVER_NO_MODEL,  /* the model cannot be loaded; the log says why */
	SERVER_NO_DEVICE, /* what computes has failed in mid-run; the log says why, and the rest is at home */
	SERVER_FAILED,	  /* the endpoint cannot be bound; the log says why */
};

/*
 * Takes the endpoint and begins to load the model; from now on SIGTERM, SIGINT and SIGHUP are the loop's. argc and argv
 * are read again by SIGHUP. SINK_EBUSY: another daemon is there; SINK_EINVAL: the endpoint; SINK_EIO, SINK_ENOMEM.
 */
int server_new(const struct conf *conf, int argc, char *const *argv, struct server **ret, struct err *e);

enum server_end server_run(struct server *s);

/* After SERVER_HURRIED only the socket file is removed: the process must end at once. */
void server_free(struct server *s, enum server_end end);

#endif
