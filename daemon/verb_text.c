/* The verbs of tokens: into a cache, from text, to text, and how likely they are. */
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "score.h"
#include "talk.h"
#include "verb_table.h"

enum { DETOKENIZE_TOKENS = 65536 };

int verb_read_ids(const struct core *c, const struct request *r, const char *key, size_t most, struct tokens *ret,
		  struct err *e)
{
	const struct val *list = val_get(r->root, key);
	int64_t vocab = model_info(c->model)->vocab;

	if (val_type(list) != VAL_ARRAY || val_count(list) > most)
		return err_set(e, SINK_EINVAL, "\"%s\" must be a list of at most %zu token ids.", key, most);
	for (size_t i = 0; i < val_count(list); i++) {
		const struct val *v = val_at(list, i);
		int64_t id = val_int(v, -1);

		if (val_type(v) != VAL_INT)
			return err_set(e, SINK_EINVAL, "Element %zu of \"%s\" is no number.", i, key);
		if (id < 0 || id >= vocab)
			return err_set(e, SINK_EINVAL,
				       "Element %zu of \"%s\" is %lld, no id of the vocabulary, 0 to %lld.", i, key,
				       (long long)id, (long long)vocab - 1);
		if (tokens_add(ret, (int32_t)id, e) < 0)
			return SINK_ENOMEM;
	}
	return 0;
}

/* Sends the request's `text` to the tokenizer; `done` gets it back. */
static int encode_text(struct core *c, struct request *r, struct conversation *v,
		       void (*done)(struct job *j, void *owner), struct err *e)
{
	bool special = false;
	struct encode *n;
	struct piece *p;
	const char *text;
	size_t len;
	int rc;

	if ((rc = msg_str(r->root, "text", SIZE_MAX, &text, &len, e)) < 0 ||
	    (rc = msg_bool_or(r->root, "special", &special, e)) < 0 || (rc = encode_new(c->model, done, &n, e)) < 0)
		return rc;
	p = encode_add(n, PIECE_TEXT);
	p->text = text;
	p->len = len;
	p->special = special;
	n->request = r;
	n->conversation = v;
	rc = core_encode(c, n, e);
	if (rc < 0)
		encode_free(n);
	return rc;
}

static bool has_tokens(const struct request *r)
{
	return val_get(r->root, "tokens") != NULL;
}

/* The conversation has begun to work; on failure it ends that. */
static int feed(struct core *c, struct request *r, struct conversation *v, const struct tokens *t, struct err *e)
{
	const int32_t *sink = &v->keeps.policy.token;
	const size_t before = v->log.count;
	int64_t cut = 0;
	int rc = core_hold(c, r, e);

	if (rc == 0 && *sink >= 0 && !v->log.count)
		rc = talk_append(c, v, sink, 1, e);
	cut = (int64_t)v->log.count;
	if (rc == 0)
		rc = talk_append(c, v, t->id, t->count, e);
	if (rc == 0)
		rc = talk_queue(c, v, -1, cut, cut, e);
	if (rc < 0) {
		v->log.count = before;
		talk_abandon(c, v);
		return rc;
	}
	v->begun = true;
	v->work.request = r;
	if (!conversation_waiting(v))
		talk_stop(c, v); /* nothing was fed */
	return 0;
}

static void feed_done(struct job *j, void *owner)
{
	struct encode *n = (struct encode *)j;
	struct core *c = owner;

	verb_text_home(c, n);
	if (n->rc < 0)
		talk_abandon(c, n->conversation);
	else
		n->rc = feed(c, n->request, n->conversation, &n->out, &n->err);
	if (n->rc < 0)
		core_refuse(c, n->request, &n->err);
	encode_free(n);
}

int verb_feed(struct core *c, struct request *r, struct err *e)
{
	struct tokens t = { 0 };
	struct conversation *v;
	int rc = verb_conversation(c, r, &v, e);

	if (rc == 0 && has_tokens(r))
		rc = verb_read_ids(c, r, "tokens", SIZE_MAX, &t, e);
	if (rc == 0)
		rc = talk_begin(c, v, false, &v->settings, e);
	if (rc == 0 && has_tokens(r)) {
		rc = feed(c, r, v, &t, e);
	} else if (rc == 0) {
		rc = encode_text(c, r, v, feed_done, e);
		if (rc < 0)
			talk_abandon(c, v);
	}
	tokens_release(&t);
	return rc;
}

static void tokenize_done(struct job *j, void *owner)
{
	struct encode *n = (struct encode *)j;
	struct core *c = owner;
	struct out *o;

	verb_text_home(c, n);
	if (n->rc < 0) {
		core_refuse(c, n->request, &n->err);
	} else {
		o = core_reply_begin(c, n->request);
		out_array(o, "tokens");
		for (size_t i = 0; i < n->out.count; i++)
			out_int(o, NULL, n->out.id[i]);
		out_end(o);
		core_reply(c, n->request);
	}
	encode_free(n);
}

int verb_tokenize(struct core *c, struct request *r, struct err *e)
{
	return encode_text(c, r, NULL, tokenize_done, e);
}

int verb_detokenize(struct core *c, struct request *r, struct err *e)
{
	struct text bytes = { 0 }, text = { 0 };
	struct tokens t = { 0 };
	bool goes_on = false, front;
	struct out *o;
	int rc = verb_read_ids(c, r, "tokens", DETOKENIZE_TOKENS, &t, e);

	if (rc == 0)
		rc = msg_bool_or(r->root, "continues", &goes_on, e);
	front = !goes_on;
	for (size_t i = 0; i < t.count && rc == 0; i++) {
		struct gguf_str s = vocab_next_piece(model_vocab(c->model), t.id[i], true, &front);

		rc = text_add(&bytes, s.at, s.len, e);
		if (rc == 0 && bytes.len > (size_t)c->conf.message_bytes)
			rc = err_set(e, SINK_EBUSY, "The text would be longer than a message may be (%lld bytes).",
				     (long long)c->conf.message_bytes);
	}
	if (rc == 0)
		rc = text_add_valid(&text, bytes.at, bytes.len, e);
	if (rc == 0) {
		o = core_reply_begin(c, r);
		out_strn(o, "text", text.at ? text.at : "", text.len);
		out_bin(o, "bytes", bytes.at ? bytes.at : "", bytes.len);
		core_reply(c, r);
	}
	tokens_release(&t);
	text_release(&bytes);
	text_release(&text);
	return rc;
}

/* The text was read; the request goes through the table again, since its conversation may be away by now. */
static void score_encoded(struct job *j, void *owner)
{
	struct encode *n = (struct encode *)j;
	struct core *c = owner;
	struct request *r = n->request;

	verb_text_home(c, n);
	if (n->rc < 0) {
		core_refuse(c, r, &n->err);
		encode_free(n);
		return;
	}
	r->encoded = n;
	verb_admit(c, r);
}

int verb_score(struct core *c, struct request *r, struct err *e)
{
	struct conversation *v = NULL;
	struct tokens given = { 0 };
	const struct tokens *t = &given;
	int rc = 0;

	if (val_get(r->root, "conversation"))
		rc = verb_conversation(c, r, &v, e);
	if (rc < 0)
		return rc;
	if (has_tokens(r))
		rc = verb_read_ids(c, r, "tokens", SCORE_TOKENS, &given, e);
	else if (r->encoded)
		t = &r->encoded->out;
	else
		return encode_text(c, r, NULL, score_encoded, e);
	if (rc == 0 && t->count > SCORE_TOKENS)
		rc = err_set(e, SINK_EINVAL, "The text has %zu tokens; at most %d are scored.", t->count, SCORE_TOKENS);
	if (rc == 0)
		rc = score_begin(c, r, v, t->id, t->count, e);
	tokens_release(&given);
	return rc;
}
