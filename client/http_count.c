/* Counters and histograms, in the text form of Prometheus. */
#include "http_count.h"

#include <inttypes.h>

static const double limits[HTTP_BUCKETS - 1] = { 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1,
						 0.25,	0.5,	1,     2.5,  5,	   10,	 60 };

void http_count_time(struct http_histogram *h, double seconds)
{
	int i = 0;

	while (i < HTTP_BUCKETS - 1 && seconds > limits[i])
		i++;
	h->bucket[i]++;
	h->count++;
	h->sum += seconds;
}

static void write_histogram(struct buf *b, const char *name, const char *help, const struct http_histogram *h)
{
	uint64_t sum = 0;

	buf_addf(b, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name);
	for (int i = 0; i < HTTP_BUCKETS; i++) {
		sum += h->bucket[i];
		if (i < HTTP_BUCKETS - 1)
			buf_addf(b, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", name, limits[i], sum);
		else
			buf_addf(b, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", name, sum);
	}
	buf_addf(b, "%s_sum %.6f\n%s_count %" PRIu64 "\n", name, h->sum, name, h->count);
}

static void write_counter(struct buf *b, const char *name, const char *help, uint64_t n)
{
	buf_addf(b, "# HELP %s %s\n# TYPE %s counter\n%s %" PRIu64 "\n", name, help, name, name, n);
}

void http_count_write(const struct http_count *c, struct buf *b)
{
	static const char requests[] = "sinkd_http_requests_total";

	buf_addf(b, "# HELP %s Requests by path and class of status.\n# TYPE %s counter\n", requests, requests);
	for (int path = 0; path <= HTTP_PATHS; path++)
		for (int class = 1; class < 6; class ++)
			if (c->requests[path][class])
				buf_addf(b, "%s{path=\"%s\",status=\"%dxx\"} %" PRIu64 "\n", requests,
					 path < HTTP_PATHS ? http_routes[path].pattern : "none", class,
					 c->requests[path][class]);
	write_counter(b, "sinkd_http_gone_total", "Requests whose client did not wait for the end.", c->gone);
	write_counter(b, "sinkd_http_prompt_tokens_total", "Tokens of prompts, cached ones included.", c->prompt);
	write_counter(b, "sinkd_http_cached_tokens_total", "Tokens of prompts that need not be read.", c->cached);
	write_counter(b, "sinkd_http_generated_tokens_total", "Tokens of answers.", c->generated);
	write_histogram(b, "sinkd_http_first_token_seconds", "From the request to the answer's first text.", &c->first);
	write_histogram(b, "sinkd_http_token_gap_seconds", "Between two pieces of an answer's text.", &c->gap);
}
