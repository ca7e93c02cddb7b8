/* The HTTP side: libmicrohttpd at each of the addresses, driven by the loop's own epoll. */
#ifndef CLIENT_HTTP_SERVE_H
#define CLIENT_HTTP_SERVE_H

#include "http.h"

/* Takes over listening descriptors. False with a sentence. */
bool http_serve_open(struct http *h, const int *fd, size_t count, char *cause, size_t size);

/* Waits for work at most `timeout_ms`, beside the sockets at `more` descriptors (-1: none). */
void http_serve_wait(struct http *h, const int *more, size_t count, int timeout_ms);
/* Does what there is to do for connections. */
void http_serve_run(struct http *h);

/* Ends every request and connection. */
void http_serve_close(struct http *h);

#endif
