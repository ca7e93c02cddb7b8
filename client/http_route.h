/*
 * The paths of the API: one table, read by the dispatcher, the answers to methods that a path does not have, and the
 * counters. Pure: nothing here knows of connections.
 */
#ifndef CLIENT_HTTP_ROUTE_H
#define CLIENT_HTTP_ROUTE_H

#include <stdbool.h>
#include <stddef.h>

enum http_method { HTTP_GET = 1, HTTP_POST = 2, HTTP_DELETE = 4, HTTP_HEAD = 8, HTTP_OPTIONS = 16, HTTP_OTHER = 32 };

enum http_path {
	HTTP_HEALTH,
	HTTP_METRICS,
	HTTP_PROPS,
	HTTP_MODELS,
	HTTP_MODEL,
	HTTP_CHAT,
	HTTP_COMPLETIONS,
	HTTP_INFILL,
	HTTP_RESPONSES,
	HTTP_RESPONSE,
	HTTP_RESPONSE_CANCEL,
	HTTP_CONVERSATIONS,
	HTTP_CONVERSATION,
	HTTP_ITEMS,
	HTTP_PATHS,
};

enum { HTTP_ID_MOST = 512 }; /* bytes of what stands in a path for {id} */

struct http_route {
	const char *pattern; /* "/v1/models/{id}" */
	unsigned methods;    /* those that it has; HEAD goes with GET, OPTIONS with all */
	bool open;	     /* asks for no key */
};

extern const struct http_route http_routes[HTTP_PATHS];

enum http_method http_route_method(const char *name);

/*
 * The route of a path (without its query); HTTP_PATHS when there is none. What stands for {id} goes to `id`, percent
 * encoding resolved; one that is empty, too long, or no UTF-8 without control characters is no path of ours. "/v1"
 * may be missing in front of those that have it, since clients differ in what they call a base.
 */
enum http_path http_route_find(const char *path, char id[HTTP_ID_MOST]);

/* Writes the methods of a route, for the header Allow. */
void http_route_allow(const struct http_route *r, char *ret, size_t size);

#endif
