/* The options of `sinkd-http`: one table, read by the parser and the help text. */
#ifndef CLIENT_HTTP_CONF_H
#define CLIENT_HTTP_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HTTP_LISTEN_MOST = 8 };

struct http_conf {
	const char *listen[HTTP_LISTEN_MOST]; /* as given: unix:PATH, ADDRESS:PORT */
	size_t listens;
	const char *endpoint; /* NULL: the usual one */
	const char *key_file; /* NULL: everybody is let in */
	int64_t body_bytes, connections, timeout, keep;
	bool help, version;
};

/* Reads the command line; false with a sentence in `cause`. The texts belong to argv. */
bool http_conf_read(struct http_conf *c, int argc, char **argv, char *cause, size_t size);

void http_conf_help(void);

#endif
