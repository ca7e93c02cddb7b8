/* From a request to the endpoint that answers it. */
#ifndef CLIENT_HTTP_API_H
#define CLIENT_HTTP_API_H

#include "http_request.h"

/*
 * Looks at the headers: 401 without a key, 403 for what comes from a web page, 404 and 405 for what is no part of the
 * API. -1 with the error. `tcp`: the peer is not at a unix socket.
 */
int http_api_admit(struct http_request *q, bool tcp, struct http_error *e);

/* Answers a request that is whole, at once or later. */
void http_api_handle(struct http_request *q);

/* The endpoints, by file. */
void http_chat_post(struct http_request *q);
void http_complete_post(struct http_request *q);
void http_response_post(struct http_request *q);
void http_response_get(struct http_request *q);
void http_response_cancel(struct http_request *q);
void http_response_delete(struct http_request *q);
void http_talk_post(struct http_request *q);
void http_talk_get(struct http_request *q);
void http_talk_delete(struct http_request *q);
void http_see_get(struct http_request *q);

#endif
