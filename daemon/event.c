/* Owns the form of each event, and the memory in which they are built, used again by the next. */
#include "event.h"

#include <stdlib.h>

#include "log.h"
#include "utf8.h"

struct events {
	struct out *o;
};

int events_new(struct events **ret, struct err *e)
{
	struct events *v = calloc(1, sizeof(*v));

	if (!v)
		return err_set(e, SINK_ENOMEM, "There is no memory for events.");
	if (out_new(&v->o, e) < 0) {
		free(v);
		return SINK_ENOMEM;
	}
	*ret = v;
	return 0;
}

void events_free(struct events *v)
{
	if (!v)
		return;
	out_free(v->o);
	free(v);
}

static struct out *begin(struct events *v, const struct conversation *c, const char *ev)
{
	out_reset(v->o);
	out_map(v->o, NULL);
	out_str(v->o, "ev", ev);
	out_int(v->o, "seq", stream_next(c->stream));
	return v->o;
}

static void end(struct events *v, struct conversation *c, const char *to)
{
	const void *frame;
	size_t size;
	struct err e = { SINK_ENOMEM, "There is no memory to build it." };

	conversation_changed(c, false);
	out_end(v->o);
	frame = out_ok(v->o) ? out_data(v->o, &size) : NULL;
	if (!frame || stream_append(c->stream, frame, size, to, &e) < 0)
		log_error("An event of \"%s\" is lost: %s", c->name, e.text);
}

void event_message(struct events *v, struct conversation *c, size_t message)
{
	const struct message *m = &c->message[message];
	struct out *o = begin(v, c, "message");

	out_int(o, "message", (int64_t)message);
	out_str(o, "role", role_name(m->role));
	out_strn(o, "text", m->text.at, m->text.len);
	out_int(o, "tokens", m->tokens);
	end(v, c, NULL);
}

void event_answer(struct events *v, struct conversation *c)
{
	out_int(begin(v, c, "answer"), "message", c->work.message);
	end(v, c, NULL);
}

void event_prefill(struct events *v, struct conversation *c, int64_t done, int64_t total, double ms)
{
	struct out *o = begin(v, c, "prefill");

	out_int(o, "message", c->work.prompt >= 0 ? c->work.prompt : c->work.message);
	out_int(o, "done", done);
	out_int(o, "total", total);
	out_float(o, "ms", ms);
	end(v, c, NULL);
}

/* A token's bytes are told where they are no text. */
static void add_likely(struct out *o, int32_t id, double logprob, const struct vocab *vocab)
{
	const struct gguf_str piece = vocab_piece(vocab, id, true);

	out_map(o, NULL);
	out_int(o, "id", id);
	out_float(o, "logprob", logprob);
	out_strn(o, "text", piece.at, piece.len);
	if (utf8_valid(piece.at, piece.len) < piece.len)
		out_bin(o, "bytes", piece.at, piece.len);
	out_end(o);
}

static void add_likeliest(struct out *o, const struct answer *a, const struct vocab *vocab)
{
	out_array(o, "top_logprobs");
	for (size_t i = 0; i < a->tokens; i++) {
		out_array(o, NULL);
		for (size_t k = 0; k < a->likeliest[i].count; k++)
			add_likely(o, a->likeliest[i].at[k].id, a->likeliest[i].at[k].logprob, vocab);
		out_end(o);
	}
	out_end(o);
}

void event_text(struct events *v, struct conversation *c, const struct text *text, const struct vocab *vocab)
{
	const struct answer *a = &c->work.answer;
	struct out *o = begin(v, c, "text");

	out_int(o, "message", c->work.message);
	out_strn(o, "text", text->at ? text->at : "", text->len);
	out_int(o, "tokens", (int64_t)a->tokens);
	if (a->settings.logprobs || a->settings.top_logprobs) {
		out_array(o, "ids");
		for (size_t i = 0; i < a->tokens; i++)
			out_int(o, NULL, a->id[i]);
		out_end(o);
		out_array(o, "logprobs");
		for (size_t i = 0; i < a->tokens; i++)
			out_float(o, NULL, a->logprob[i]);
		out_end(o);
	}
	if (a->tokens && a->likeliest)
		add_likeliest(o, a, vocab);
	end(v, c, NULL);
}

void event_evicted(struct events *v, struct conversation *c, int64_t first)
{
	struct out *o = begin(v, c, "evicted");

	out_int(o, "first", first);
	out_int(o, "count", c->seen.evicted_end - first);
	out_int(o, "kept", c->seen.kept);
	end(v, c, NULL);
}

void event_restored(struct events *v, struct conversation *c, int64_t tokens, int64_t recomputed, const char *from,
		    double ms)
{
	struct out *o = begin(v, c, "restored");

	out_int(o, "tokens", tokens);
	out_int(o, "recomputed", recomputed);
	out_str(o, "from", from);
	out_float(o, "ms", ms);
	end(v, c, NULL);
}

void event_unsaved(struct events *v, struct conversation *c, const struct err *why)
{
	struct out *o = begin(v, c, "unsaved");

	out_str(o, "code", err_name(why->code));
	out_str(o, "text", why->text);
	end(v, c, NULL);
}

void event_saved(struct events *v, struct conversation *c)
{
	begin(v, c, "saved");
	end(v, c, NULL);
}

static double per_second(int64_t count, double ms)
{
	return ms > 0 ? (double)count * 1e3 / ms : 0;
}

static double between(double from, double to)
{
	return from > 0 && to > from ? to - from : 0;
}

void event_done(struct events *v, struct conversation *c, const char *finish, double now)
{
	const struct work *w = &c->work;
	struct out *o = begin(v, c, "done");
	int64_t prompt = c->seen.tokens - w->begin;
	double decode = between(w->read, now);

	prompt = prompt < w->total ? prompt : w->total;
	out_int(o, "message", w->message);
	out_str(o, "finish", finish);
	out_map(o, "usage");
	out_int(o, "prompt", prompt);
	out_int(o, "cached", w->begin);
	out_int(o, "generated", w->generated);
	out_int(o, "evicted", c->seen.evicted - w->evicted);
	out_int(o, "kept", c->seen.kept);
	out_int(o, "window", c->seen.window);
	out_int(o, "pinned", c->seen.pinned);
	out_end(o);
	out_map(o, "timing");
	out_float(o, "queue_ms", between(w->asked, w->served > 0 ? w->served : now));
	out_float(o, "prefill_ms", between(w->served, w->read > 0 ? w->read : now));
	out_float(o, "decode_ms", decode);
	out_float(o, "first_ms", between(w->asked, w->first));
	out_float(o, "prompt_per_s", per_second(prompt, between(w->served, w->read > 0 ? w->read : now)));
	/* The first token comes with the last of the prompt; the time measured is that of the others. */
	out_float(o, "decode_per_s", per_second(w->generated - 1, decode));
	out_end(o);
	end(v, c, NULL);
}

void event_error(struct events *v, struct conversation *c, const struct err *why)
{
	struct out *o = begin(v, c, "error");

	out_str(o, "code", err_name(why->code));
	out_str(o, "text", why->text);
	if (c->work.answers)
		out_int(o, "message", c->work.message);
	end(v, c, NULL);
}

void event_rewound(struct events *v, struct conversation *c, size_t messages)
{
	out_int(begin(v, c, "rewound"), "messages", (int64_t)messages);
	end(v, c, NULL);
}

void event_renamed(struct events *v, struct conversation *c, const char *to)
{
	begin(v, c, "renamed");
	end(v, c, to);
}

void event_removed(struct events *v, struct conversation *c)
{
	begin(v, c, "removed");
	end(v, c, NULL);
}
