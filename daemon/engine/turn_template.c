/*
 * Running a template for one message at a time. Messages that a conversation needs around it stand in for the real ones
 * (a template may look at roles, order and number, hardly ever at what others say); bytes know which message they come
 * from, so what is a message's own is never mistaken for a mark.
 */
#include "turn_template.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "jinja.h"

/* Origins: the message in question, the one behind it, and those before. */
enum { OWN = 1, NEXT, PAST };

/* How a system message is written: as a turn, within the first user's turn, or not at all (then before his text). */
enum system_form { SYSTEM_TURN, SYSTEM_IN_USER, SYSTEM_FOLDED };

enum { STAND_INS = 4 };

struct turn_template {
	struct jinja *jinja;
	const struct vocab *vocab;
	char *bos, *eos;
	const char *json; /* further variables of all runs, or NULL */
	struct tm now;	  /* of the opening, so that a date is the same in all turns */
	enum system_form system_form;
	bool writes_bos;
	bool knows_open;     /* it looks at add_generation_prompt */
	bool first_is_usual; /* a first message is written as any other, but for BOS */
	char *system;
	struct tokens open, close;
};

/* A conversation rendered, as text and as tokens. */
struct shot {
	struct jinja_output text;
	struct tokens tokens;
};

static void release(struct shot *s)
{
	jinja_output_release(&s->text);
	tokens_release(&s->tokens);
}

static int render(const struct turn_template *t, const struct jinja_message *m, size_t count, bool open,
		  struct jinja_output *ret, struct err *e)
{
	struct jinja_call c = { .message = m, .messages = count, .open_answer = open };

	c.bos = t->bos;
	c.eos = t->eos;
	c.now = &t->now;
	c.json = t->json;
	c.json_len = t->json ? strlen(t->json) : 0;
	return jinja_render(t->jinja, &c, ret, e);
}

static int encode(const struct turn_template *t, const struct jinja_output *o, size_t begin, size_t end,
		  struct tokens *out, struct err *e)
{
	return vocab_encode_from(t->vocab, o->at + begin, o->origin + begin, end - begin, out, e);
}

static int shoot(const struct turn_template *t, const struct jinja_message *m, size_t count, bool open, struct shot *s,
		 struct err *e)
{
	int code;

	*s = (struct shot){ 0 };
	code = render(t, m, count, open, &s->text, e);
	return code ? code : encode(t, &s->text, 0, s->text.len, &s->tokens, e);
}

static size_t common_bytes(const struct jinja_output *a, const struct jinja_output *b)
{
	size_t n = 0;

	while (n < a->len && n < b->len && a->at[n] == b->at[n])
		n++;
	return n;
}

static size_t common_tokens(const struct tokens *a, const struct tokens *b)
{
	size_t n = 0;

	while (n < a->count && n < b->count && a->id[n] == b->id[n])
		n++;
	return n;
}

/* Where the bytes of an origin begin, and where they end; both are 0 when there are none. */
static size_t begin_of(const struct jinja_output *o, uint8_t origin)
{
	const uint8_t *at = o->len ? memchr(o->origin, origin, o->len) : NULL;

	return at ? (size_t)(at - o->origin) : 0;
}

static size_t end_of(const struct jinja_output *o, uint8_t origin)
{
	const uint8_t *at = o->len ? memrchr(o->origin, origin, o->len) : NULL;

	return at ? (size_t)(at - o->origin) + 1 : 0;
}

static size_t behind_bos(const struct turn_template *t, const struct tokens *tokens)
{
	return t->writes_bos && tokens->count && tokens->id[0] == vocab_bos(t->vocab);
}

static int depends(struct err *e)
{
	return err_set(e, SINK_EINVAL, "The chat template writes a message otherwise when others follow.");
}

/* ---- one message ---- */

/* Messages before the one in question: all of a conversation that there is, or one turn. */
static size_t put_past(enum turn_place place, enum role r, struct jinja_message *m)
{
	static const struct jinja_message user = { "user", "Hi", 2, PAST }, answer = { "assistant", "Yes", 3, PAST },
					  system = { "system", "Do", 2, PAST };
	size_t n = 0;

	if (r == ROLE_SYSTEM || place == TURN_FIRST)
		return 0;
	if (place == TURN_BEHIND_SYSTEM)
		m[n++] = system;
	else
		m[n++] = user;
	if (r == ROLE_USER && place == TURN_LATER)
		m[n++] = answer;
	return n;
}

static struct jinja_message next_of(enum role r)
{
	return r == ROLE_USER ? (struct jinja_message){ "assistant", "No", 2, NEXT }
			      : (struct jinja_message){ "user", "So", 2, NEXT };
}

/* Whether all of `all` behind what `part` has begins with a control token: then tokens are cut there, too. */
static int cut_by_mark(const struct turn_template *t, const struct jinja_output *part, const struct jinja_output *all,
		       bool *ret, struct err *e)
{
	struct tokens rest = { 0 };
	int code = encode(t, all, part->len, all->len, &rest, e);

	*ret = rest.count && vocab_is_control(t->vocab, rest.id[0]);
	tokens_release(&rest);
	return code;
}

/* Appends the tokens of the last of `count` messages, from the byte `from` on, as they stay when `next` follows. */
static int append_gain(const struct turn_template *t, struct jinja_message *m, size_t count, size_t first_token,
		       size_t from, struct tokens *out, struct err *e)
{
	struct jinja_output with = { 0 }, then = { 0 };
	struct tokens a = { 0 }, b = { 0 };
	bool cut = false;
	size_t end;
	int code = render(t, m, count, false, &with, e);

	if (!code)
		code = render(t, m, count + 1, false, &then, e);
	if (!code && common_bytes(&with, &then) < end_of(&with, OWN))
		code = depends(e);
	if (!code)
		code = encode(t, &with, from, with.len, &a, e);
	if (!code && common_bytes(&with, &then) == with.len && then.len > with.len)
		code = cut_by_mark(t, &with, &then, &cut, e);
	if (!code && !cut)
		code = encode(t, &then, from, then.len, &b, e);
	end = cut ? a.count : common_tokens(&a, &b);
	if (!code && first_token == SIZE_MAX)
		first_token = behind_bos(t, &a);
	if (!code && first_token <= end)
		code = tokens_append(out, a.id ? a.id + first_token : NULL, end - first_token, e);
	jinja_output_release(&with);
	jinja_output_release(&then);
	tokens_release(&a);
	tokens_release(&b);
	return code;
}

/* A turn of its own, behind what stands in for the past. */
static int append_turn(const struct turn_template *t, enum turn_place place, enum role r, const char *text, size_t len,
		       struct tokens *out, struct err *e)
{
	struct jinja_message m[STAND_INS];
	size_t count = put_past(place, r, m), first = SIZE_MAX;
	struct shot past = { 0 }, with = { 0 };
	int code = 0;

	m[count] = (struct jinja_message){ role_name(r), "x", 1, OWN };
	m[count + 1] = next_of(r);
	if (count) { /* where the past ends does not depend on the text */
		code = shoot(t, m, count, false, &past, e);
		if (!code)
			code = shoot(t, m, count + 1, false, &with, e);
		first = common_tokens(&past.tokens, &with.tokens);
		if (!code && common_bytes(&past.text, &with.text) < end_of(&past.text, PAST))
			code = depends(e);
		release(&past);
		release(&with);
	}
	m[count].text = text;
	m[count].len = len;
	return code ? code : append_gain(t, m, count + 1, first, 0, out, e);
}

/* A system message within the first user's turn: all that stands before his text, with the system's text in it. */
static int append_before_user(const struct turn_template *t, const char *text, size_t len, struct tokens *out,
			      struct err *e)
{
	struct jinja_message m[] = { { "system", text, len, OWN }, { "user", "So", 2, NEXT } };
	bool folded = t->system_form == SYSTEM_FOLDED;
	struct jinja_output o = { 0 }, all = { 0 };
	struct tokens tokens = { 0 };
	size_t end, first;
	int code = render(t, m + folded, 2U - folded, false, &o, e);

	end = code ? 0 : begin_of(&o, NEXT);
	all.len = end + (folded ? len + 2 : 0);
	all.at = malloc(all.len + 1);
	all.origin = calloc(all.len + 1, 1);
	if (!code && (!all.at || !all.origin))
		code = err_set(e, SINK_ENOMEM, "There is no memory for a message of %zu bytes.", len);
	if (!code) {
		memcpy(all.at, o.at, end);
		memcpy(all.origin, o.origin, end);
		if (folded) {
			memcpy(all.at + end, text, len);
			memset(all.origin + end, OWN, len);
			memcpy(all.at + end + len, "\n\n", 2);
		}
		code = encode(t, &all, 0, all.len, &tokens, e);
	}
	first = behind_bos(t, &tokens);
	if (!code)
		code = tokens_append(out, tokens.id ? tokens.id + first : NULL, tokens.count - first, e);
	tokens_release(&tokens);
	jinja_output_release(&o);
	jinja_output_release(&all);
	return code;
}

/* The user's message behind such a system message: from his text on. A text without bytes of its own is left out. */
static int append_from_text(const struct turn_template *t, const char *text, size_t len, struct tokens *out,
			    struct err *e)
{
	struct jinja_message m[] = { { "system", "Do", 2, PAST }, { "user", text, len, OWN }, next_of(ROLE_USER) };
	size_t skip = t->system_form == SYSTEM_FOLDED, from;
	struct jinja_output o = { 0 };
	int code = render(t, m + skip, 2 - skip, false, &o, e);

	if (!code && !end_of(&o, OWN)) { /* nothing is left of it: behind one that is */
		jinja_output_release(&o);
		m[1].text = "x";
		m[1].len = 1;
		code = render(t, m + skip, 2 - skip, false, &o, e);
		from = end_of(&o, OWN);
	} else {
		from = begin_of(&o, OWN);
	}
	jinja_output_release(&o);
	return code ? code : append_gain(t, m + skip, 2 - skip, 0, from, out, e);
}

int turn_template_message(const struct turn_template *t, enum turn_place place, enum role r, const char *text,
			  size_t len, struct tokens *out, struct err *e)
{
	if (r == ROLE_SYSTEM && t->system_form != SYSTEM_TURN)
		return append_before_user(t, text, len, out, e);
	if (r == ROLE_USER && place == TURN_BEHIND_SYSTEM && t->system_form != SYSTEM_TURN)
		return append_from_text(t, text, len, out, e);
	if (place == TURN_BEHIND_SYSTEM || (place == TURN_FIRST && (t->first_is_usual || r != ROLE_USER)))
		place = TURN_LATER;
	return append_turn(t, place, r, text, len, out, e);
}

/* ---- trying a template ---- */

static int message(const struct turn_template *t, enum turn_place place, enum role r, const char *text,
		   struct tokens *out, struct err *e)
{
	return turn_template_message(t, place, r, text, strlen(text), out, e);
}

/* Whether the template writes BOS at the beginning: without its text, that is missing, and nothing else. */
static int find_bos(struct turn_template *t, struct err *e)
{
	const struct jinja_message m = { "user", "Hi", 2, OWN };
	struct jinja_output with = { 0 }, without = { 0 };
	size_t len = strlen(t->bos);
	char *bos = t->bos;
	int code = render(t, &m, 1, true, &with, e);

	t->bos = "";
	if (!code)
		code = render(t, &m, 1, true, &without, e);
	t->bos = bos;
	t->writes_bos = !code && len && with.len == without.len + len && memcmp(with.at, bos, len) == 0;
	jinja_output_release(&with);
	jinja_output_release(&without);
	return code;
}

/* A template that does not know of open answers: what it writes before one, if there is a mark in it. */
static int open_by_header(struct turn_template *t, const struct jinja_message *m, struct err *e)
{
	struct jinja_output past = { 0 }, with = { 0 };
	struct tokens header = { 0 };
	bool mark = false;
	int code = render(t, m, 1, false, &past, e);

	if (!code)
		code = render(t, m, 2, false, &with, e);
	if (!code && common_bytes(&past, &with) == past.len && past.len <= begin_of(&with, OWN))
		code = encode(t, &with, past.len, begin_of(&with, OWN), &header, e);
	for (size_t i = 0; i < header.count; i++)
		mark = mark || vocab_is_control(t->vocab, header.id[i]);
	if (!code && mark)
		code = tokens_append(&t->open, header.id, header.count, e);
	tokens_release(&header);
	jinja_output_release(&past);
	jinja_output_release(&with);
	return code;
}

/* Appends what an open answer adds to a conversation. */
static int append_open(const struct turn_template *t, const struct jinja_message *m, struct tokens *out, struct err *e)
{
	struct shot closed = { 0 }, open = { 0 };
	size_t first;
	int code = shoot(t, m, 1, false, &closed, e);

	if (!code)
		code = shoot(t, m, 1, true, &open, e);
	first = common_tokens(&closed.tokens, &open.tokens);
	if (!code)
		code = tokens_append(out, open.tokens.id ? open.tokens.id + first : NULL, open.tokens.count - first, e);
	release(&closed);
	release(&open);
	return code;
}

/* What makes the model answer, and what ends an answer. */
static int find_ends(struct turn_template *t, struct err *e)
{
	struct jinja_message m[] = { { "user", "Hi", 2, PAST },
				     { "assistant", "Yes", 3, OWN },
				     { "user", "So", 2, NEXT } };
	struct jinja_output o = { 0 };
	int code = append_open(t, m, &t->open, e);

	t->knows_open = t->open.count > 0;
	if (!code && !t->open.count)
		code = open_by_header(t, m, e);
	if (!code)
		code = render(t, m, 2, false, &o, e);
	if (!code && !end_of(&o, OWN))
		code = err_set(e, SINK_EFORMAT, "The chat template leaves answers out.");
	if (!code)
		code = append_gain(t, m, 2, 0, end_of(&o, OWN), &t->close, e);
	jinja_output_release(&o);
	return code;
}

static bool is_whole(const struct turn_template *t, const struct jinja_message *m, size_t count, bool open,
		     const struct tokens *tokens)
{
	struct shot s = { 0 };
	bool same = shoot(t, m, count, open, &s, NULL) == 0;
	size_t bos = behind_bos(t, &s.tokens);

	same = same && s.tokens.count == tokens->count + bos &&
	       common_tokens(tokens, &(struct tokens){ s.tokens.id + bos, s.tokens.count - bos, 0 }) == tokens->count;
	release(&s);
	return same;
}

/* Whether the turns of a conversation, one after the other, are what the template makes of it as a whole. */
static int compare(const struct turn_template *t, bool system, struct err *e)
{
	static const struct jinja_message m[] = { { "system", "Act.", 4, PAST },
						  { "user", "Ask", 3, PAST },
						  { "assistant", "Tell", 4, PAST },
						  { "user", "Ask more", 8, PAST } };
	struct tokens all = { 0 };
	int code = 0;

	if (t->system)
		code = message(t, TURN_FIRST, ROLE_SYSTEM, system ? m[0].text : t->system, &all, e);
	else if (system)
		code = message(t, TURN_FIRST, ROLE_SYSTEM, m[0].text, &all, e);
	if (!code)
		code = message(t, system || t->system ? TURN_BEHIND_SYSTEM : TURN_FIRST, ROLE_USER, m[1].text, &all, e);
	if (!code)
		code = message(t, TURN_LATER, ROLE_ASSISTANT, m[2].text, &all, e);
	if (!code)
		code = message(t, TURN_LATER, ROLE_USER, m[3].text, &all, e);
	if (!code && t->knows_open)
		code = tokens_append(&all, t->open.id, t->open.count, e);
	if (!code && !is_whole(t, m + !system, 4U - !system, true, &all))
		code = depends(e);
	tokens_release(&all);
	return code;
}

/*
 * The system prompt that the template has for a conversation without one: what stands where a system message's text
 * would, all around it being equal.
 */
static int find_system(struct turn_template *t, struct err *e)
{
	struct jinja_message m[] = { { "system", "@@", 2, OWN }, { "user", "So", 2, NEXT } };
	struct jinja_output given = { 0 }, own = { 0 };
	int code = 0;

	if (render(t, m, 2, false, &given, NULL) == 0 && render(t, m + 1, 1, false, &own, NULL) == 0 &&
	    end_of(&given, OWN)) {
		size_t before = begin_of(&given, OWN), after = begin_of(&given, NEXT) - end_of(&given, OWN);
		size_t end = begin_of(&own, NEXT);

		if (end > before + after && memcmp(own.at, given.at, before) == 0 &&
		    memcmp(own.at + end - after, given.at + end_of(&given, OWN), after) == 0) {
			t->system = strndup(own.at + before, end - after - before);
			t->first_is_usual = true;
			if (!t->system)
				code = err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
		}
	}
	jinja_output_release(&given);
	jinja_output_release(&own);
	return code;
}

/* The form of system messages that gives what the template makes of a whole conversation. */
static void find_system_form(struct turn_template *t)
{
	struct jinja_message m[] = { { "system", "Act.", 4, OWN }, { "user", "Ask", 3, NEXT } };
	struct jinja_output o = { 0 };
	bool has = render(t, m, 2, false, &o, NULL) == 0 && end_of(&o, OWN) && end_of(&o, OWN) <= begin_of(&o, NEXT);

	jinja_output_release(&o);
	for (int form = SYSTEM_TURN; has && form <= SYSTEM_IN_USER; form++) {
		struct tokens two = { 0 };
		struct jinja_message next[] = { m[0], m[1], { "assistant", "Tell", 4, PAST } };

		t->system_form = (enum system_form)form;
		if (message(t, TURN_FIRST, ROLE_SYSTEM, m[0].text, &two, NULL) == 0 &&
		    message(t, TURN_BEHIND_SYSTEM, ROLE_USER, m[1].text, &two, NULL) == 0 &&
		    message(t, TURN_LATER, ROLE_ASSISTANT, next[2].text, &two, NULL) == 0 &&
		    is_whole(t, next, 3, false, &two)) {
			tokens_release(&two);
			return;
		}
		tokens_release(&two);
	}
	t->system_form = has ? SYSTEM_IN_USER : SYSTEM_FOLDED;
}

static int try_out(struct turn_template *t, struct err *e)
{
	int code = find_bos(t, e);

	if (!code)
		code = find_ends(t, e);
	if (code)
		return code;
	find_system_form(t);
	if (t->system_form == SYSTEM_TURN)
		code = find_system(t, e);
	return code ? code : compare(t, false, e);
}

static char *piece_of(const struct vocab *v, int32_t id)
{
	struct gguf_str s = id >= 0 ? vocab_piece(v, id, true) : (struct gguf_str){ "", 0 };

	return strndup(s.at, s.len);
}

/* A template that was not tried yet. */
static int make(struct gguf_str text, const struct vocab *v, struct turn_template **ret, struct err *e)
{
	struct turn_template *t = calloc(1, sizeof(*t));
	time_t now = time(NULL);
	int code = 0;

	if (!t)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
	t->vocab = v;
	t->bos = piece_of(v, vocab_bos(v));
	t->eos = piece_of(v, vocab_eos(v));
	localtime_r(&now, &t->now);
	if (!t->bos || !t->eos)
		code = err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
	if (!code)
		code = jinja_new(text.at, text.len, &t->jinja, e);
	if (code) {
		turn_template_free(t);
		return code;
	}
	*ret = t;
	return 0;
}

int turn_template_new(struct gguf_str text, const struct vocab *v, struct turn_template **ret, struct err *e)
{
	struct turn_template *t;
	int code = make(text, v, &t, e);

	if (code)
		return code;
	code = try_out(t, e);
	if (code)
		turn_template_free(t);
	else
		*ret = t;
	return code;
}

int turn_template_unthinking(struct gguf_str text, const struct vocab *v, struct tokens *out, struct err *e)
{
	static const struct jinja_message m = { "user", "Hi", 2, PAST };
	struct tokens plain = { 0 }, without = { 0 };
	struct turn_template *t = NULL;
	int code = make(text, v, &t, e);

	if (!code)
		code = append_open(t, &m, &plain, e);
	if (!code) {
		t->json = "{\"enable_thinking\": false, \"thinking\": false}";
		code = append_open(t, &m, &without, e);
	}
	if (!code && (plain.count != without.count || common_tokens(&plain, &without) < plain.count))
		code = tokens_append(out, without.id, without.count, e);
	turn_template_free(t);
	tokens_release(&plain);
	tokens_release(&without);
	return code == SINK_ENOMEM ? code : 0;
}

void turn_template_free(struct turn_template *t)
{
	if (!t)
		return;
	jinja_free(t->jinja);
	free(t->bos);
	free(t->eos);
	free(t->system);
	tokens_release(&t->open);
	tokens_release(&t->close);
	free(t);
}

bool turn_template_begins(const struct turn_template *t)
{
	return t->writes_bos;
}

const char *turn_template_system(const struct turn_template *t)
{
	return t->system;
}

const struct tokens *turn_template_open(const struct turn_template *t)
{
	return &t->open;
}

const struct tokens *turn_template_close(const struct turn_template *t)
{
	return &t->close;
}
