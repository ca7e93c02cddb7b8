/* What the gateway counts, and its text for Prometheus. */
#ifndef CLIENT_HTTP_COUNT_H
#define CLIENT_HTTP_COUNT_H

#include <stddef.h>
#include <stdint.h>

#include "buf.h"
#include "http_route.h"

enum { HTTP_BUCKETS = 16 };

/* Seconds that something took. The last bucket has no limit. */
struct http_histogram {
	uint64_t bucket[HTTP_BUCKETS], count;
	double sum;
};

struct http_count {
	uint64_t requests[HTTP_PATHS + 1][6]; /* by route (the last: none), and first digit of the status */
	uint64_t prompt, cached, generated;   /* tokens of answers that ended */
	uint64_t gone;			      /* requests whose client did not wait */
	struct http_histogram first, gap;     /* until the first token; between two */
};

void http_count_time(struct http_histogram *h, double seconds);
void http_count_write(const struct http_count *c, struct buf *b);

#endif
