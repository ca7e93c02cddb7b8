/* Addresses that the gateway listens at. */
#ifndef CLIENT_HTTP_LISTEN_H
#define CLIENT_HTTP_LISTEN_H

#include <stdbool.h>
#include <stddef.h>

struct http_listener {
	int fd;		/* -1: none */
	char path[108]; /* of a unix socket that we made; "" else */
	int lock;	/* held as long as it is ours; -1: none */
};

/*
 * Listens at "unix:PATH" or "ADDRESS:PORT" (numbers; [..] around an IPv6 address). `keyed`: keys are asked for, so an
 * address that others can reach is allowed. False with a sentence.
 */
bool http_listen_open(const char *address, bool keyed, struct http_listener *ret, char *cause, size_t size);
/* Whether a socket that was passed in may be served: as above, others may reach it only when keys are asked for. */
bool http_listen_fits(int fd, bool keyed);
void http_listen_close(struct http_listener *l); /* the descriptor is left to whoever serves it */

/* Writes where to listen when nothing is said: "unix:" and the user's socket. False: there is no such place. */
bool http_listen_usual(char *ret, size_t size);

#endif
