/* What there is to see: /v1/models, /health, /props, /metrics. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_api.h"
#include "http_daemon.h"

static json_t *model_of(const struct http *h)
{
	return json_pack("{s:s, s:s, s:I, s:s}", "id", h->model, "object", "model", "created", (json_int_t)h->began,
			 "owned_by", "sinkd");
}

static void fail_absent(struct http_request *q)
{
	struct http_error e;

	http_error_set(&e, 503, "econn", NULL, "The daemon does not answer.");
	http_request_fail(q, &e);
}

static void health(struct http_request *q)
{
	if (http_daemon_connected(q->http))
		http_request_answer(q, 200, json_pack("{s:s}", "status", "ok"));
	else
		fail_absent(q);
}

static void model(struct http_request *q)
{
	struct http_error e;

	if (strcmp(q->id, q->http->model) == 0) {
		http_request_answer(q, 200, model_of(q->http));
		return;
	}
	http_error_set(&e, 404, "model_not_found", "model",
		       "There is no model \"%.100s\" here; the one there is is \"%s\".", q->id, q->http->model);
	http_request_fail(q, &e);
}

static void props(struct http_request *q)
{
	const struct sink_reply *hello = sink_hello(q->http->sink);
	const char *path = sink_str(hello, "model.path", NULL), *turns = sink_str(hello, "model.turns", NULL);

	http_request_answer(q, 200,
			    json_pack("{s:{s:I}, s:I, s:s?, s:s?, s:s}", "default_generation_settings", "n_ctx",
				      (json_int_t)sink_int(hello, "model.context", 0), "total_slots",
				      (json_int_t)sink_int(hello, "limits.conversations", 1), "model_path", path,
				      "chat_template", turns, "build_info", PACKAGE_STRING));
}

/* ---- metrics ---- */

struct metrics {
	struct http *http;
	struct http_request *request;
	struct buf text;
};

static void drop_metrics(void *owner)
{
	struct metrics *m = owner;

	http_ask_forget(m->http, m);
	buf_release(&m->text);
	free(m);
}

static void end_metrics(struct metrics *m)
{
	http_request_text(m->request, "text/plain; version=0.0.4; charset=utf-8", buf_text(&m->text), m->text.size);
	drop_metrics(m);
}

static void add_gauge(struct metrics *m, const char *name, const char *help, const char *type, double value)
{
	buf_addf(&m->text, "# HELP sinkd_%s %s\n# TYPE sinkd_%s %s\nsinkd_%s %.17g\n", name, help, name, type, name,
		 value);
}

static void got_list(void *owner, const struct sink_reply *r, int code, const char *text)
{
	static const char *const tiers[] = { "memory", "disk", "replay", "none" };
	struct metrics *m = owner;
	size_t count = code ? 0 : sink_count(r, "conversations"), in[4] = { 0 };
	char path[48];

	(void)text;
	for (size_t i = 0; i < count; i++) {
		const char *tier;

		snprintf(path, sizeof(path), "conversations.%zu.tier", i);
		tier = sink_str(r, path, NULL);
		for (size_t k = 0; tier && k < 4; k++)
			in[k] += strcmp(tier, tiers[k]) == 0;
	}
	buf_adds(&m->text, "# HELP sinkd_caches Conversations by where their cache is.\n# TYPE sinkd_caches gauge\n");
	for (size_t k = 0; k < 4; k++)
		buf_addf(&m->text, "sinkd_caches{tier=\"%s\"} %zu\n", tiers[k], in[k]);
	end_metrics(m);
}

static void got_status(void *owner, const struct sink_reply *r, int code, const char *text)
{
	static const struct {
		const char *path, *name, *help, *type;
	} values[] = {
		{ "uptime", "uptime_seconds", "Since the daemon began.", "gauge" },
		{ "conversations", "conversations", "Conversations.", "gauge" },
		{ "answering", "answering", "Conversations that are answering.", "gauge" },
		{ "queued", "queued", "Conversations that wait for their turn.", "gauge" },
		{ "clients", "clients", "Clients of the daemon; the gateway is one.", "gauge" },
		{ "pages", "pages", "Pages of cache in all.", "gauge" },
		{ "pages_free", "pages_free", "Those that are free.", "gauge" },
		{ "resident_bytes", "resident_bytes", "Memory of the daemon.", "gauge" },
		{ "tokens_read", "tokens_read_total", "Tokens that were read.", "counter" },
		{ "tokens_written", "tokens_written_total", "Tokens that were written.", "counter" },
		{ "steps", "steps_total", "Steps of the engine.", "counter" },
		{ "step_ms.median", "step_median_milliseconds", "The median time of a step.", "gauge" },
		{ "step_ms.p99", "step_p99_milliseconds", "The 99th percentile of it.", "gauge" },
	};
	struct metrics *m = owner;

	(void)text;
	add_gauge(m, "up", "Whether the daemon answers.", "gauge", !code);
	http_count_write(&m->http->count, &m->text);
	if (code) {
		end_metrics(m);
		return;
	}
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		add_gauge(m, values[i].name, values[i].help, values[i].type,
			  sink_float(r, values[i].path, (double)sink_int(r, values[i].path, 0)));
	http_ask(m->http, "list", NULL, got_list, m);
}

/* Without a daemon the gateway's own are told at once. */
static void metrics(struct http_request *q)
{
	struct metrics *m = calloc(1, sizeof(*m));

	if (!m) {
		http_request_answer(q, 500, NULL);
		return;
	}
	m->http = q->http;
	m->request = q;
	q->owner = m;
	q->gone = drop_metrics;
	if (http_daemon_connected(q->http))
		http_ask(q->http, "status", NULL, got_status, m);
	else
		got_status(m, NULL, SINK_ECONN, NULL);
}

void http_see_get(struct http_request *q)
{
	if (q->path == HTTP_HEALTH)
		health(q);
	else if (q->path == HTTP_METRICS)
		metrics(q);
	else if (!q->http->sink)
		fail_absent(q);
	else if (q->path == HTTP_PROPS)
		props(q);
	else if (q->path == HTTP_MODEL)
		model(q);
	else
		http_request_answer(q, 200, json_pack("{s:s, s:[o]}", "object", "list", "data", model_of(q->http)));
}
