/*
 * The verbs about streams that never end: streameval, what is remembered of numbered lines (StreamingLLM, section 4.3),
 * and chat, many prompts as one conversation (the demo of that paper). Answers are greedy: the likeliest token each
 * time.
 */
#include "bench.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sample.h"

enum { DIGITS = 5, LINE = 128 };

/* The text so far and its cache: what every step of a stream needs. */
struct flow {
	const struct bench *o;
	struct model *m;
	struct kv *kv;
	struct sampler *sampler;
	struct tokens text;
};

static int flow_open(struct flow *f, struct err *e)
{
	int r = bench_open(f->o, (size_t)f->o->chunk, 1, false, &f->m, e);

	if (!r)
		r = sampler_new((size_t)model_info(f->m)->vocab, &f->sampler, e);
	if (!r)
		r = bench_cache(f->o, &f->o->chosen, f->m, (size_t)f->o->chunk, 0, &f->kv, e);
	return r;
}

static void flow_close(struct flow *f)
{
	tokens_release(&f->text);
	kv_free(f->kv);
	sampler_free(f->sampler);
	model_close(f->m);
}

/* What both verbs report of themselves. */
static void report_flow(const struct flow *f, struct report *r)
{
	const char *note = bench_note(f->m, &f->o->chosen);
	char setting[POLICY_TEXT];

	policy_format(&f->o->chosen, setting, sizeof(setting));
	report_begin(r, f->o->json);
	bench_report(f->o, f->m, r);
	report_text(r, "policy", setting);
	if (note)
		report_text(r, "note", note);
}

static int32_t pick_likeliest(const struct flow *f)
{
	const struct top *top = model_top(f->m, 0);
	struct sampling greedy;

	if (top)
		return top->id[0];
	sampling_defaults(&greedy);
	greedy.temperature = 0;
	return sampler_pick(f->sampler, &greedy, model_logits(f->m, 0), 0, NULL, 0, NULL);
}

/* Reads all of the text; the logits of what follows are there afterwards. */
static int read_all(struct flow *f, struct err *e)
{
	return bench_read_to(f->m, f->kv, f->text.id, (int64_t)f->text.count, (size_t)f->o->chunk, e);
}

static int add_text(struct flow *f, const char *text, struct err *e)
{
	return vocab_encode(model_vocab(f->m), text, strlen(text), false, &f->text, e);
}

/* Names for what the lines hold. A small model finds a line by words better than by its number. */
static const char *const words[] = {
	"anchor", "apple",  "basket", "bread",	"candle", "chair",  "cloud",  "dragon", "engine", "feather",
	"garden", "glass",  "hammer", "horse",	"island", "jacket", "kettle", "ladder", "lemon",  "light",
	"magnet", "moon",   "music",  "needle", "ocean",  "orange", "paper",  "pencil", "piano",  "plant",
	"queen",  "ribbon", "river",  "robot",	"saddle", "snake",  "stone",  "sugar",	"table",  "tiger",
	"train",  "tunnel", "uncle",  "violin", "water",  "window", "yogurt", "zebra",
};

enum { WORDS = sizeof(words) / sizeof(words[0]) };

/* The value of a line: five digits, drawn from its number, as are the words before it. */
static void line_texts(int64_t line, char begin[LINE], char value[DIGITS + 1])
{
	const uint32_t key[2] = { 0x51e4, 0 };
	const uint32_t counter[4] = { (uint32_t)line, (uint32_t)(line >> 32), 0, 0 };
	uint32_t random[4];

	philox(key, counter, random);
	snprintf(value, DIGITS + 1, "%05u", random[3] % 100000);
	snprintf(begin, LINE, "%" PRId64 ". %s %s %s = ", line, words[random[0] % WORDS], words[random[1] % WORDS],
		 words[random[2] % WORDS]);
}

/* Questions about lines so far back. */
struct distance {
	int64_t questions, correct, tokens; /* tokens from the line's end to the question, summed up */
	double nll;			    /* of the right values, summed up */
};

/*
 * Asks for the value of a line, in a fork of the stream: the line is begun again, and the model shall complete it. The
 * stream itself goes on as if nobody had asked. An answer is right when each of its tokens is the likeliest one.
 */
static int ask(struct flow *f, int64_t line, struct distance *d, struct err *e)
{
	const size_t before = f->text.count;
	char begin[LINE], value[DIGITS + 1];
	struct kv *fork = NULL;
	bool correct = true;
	int32_t token;
	size_t question;
	int r = kv_fork(f->kv, &fork, e);

	line_texts(line, begin, value);
	if (!r)
		r = add_text(f, begin, e);
	question = f->text.count;
	if (!r)
		r = add_text(f, value, e);
	for (size_t t = question, end = f->text.count; !r && t < end; t++) {
		double nll = 0;

		r = bench_predict(f->m, fork, f->text.id, (int64_t)t - 1, (size_t)f->o->chunk, &nll, e);
		token = r ? -1 : pick_likeliest(f);
		correct &= token == f->text.id[t];
		d->nll += nll;
	}
	d->questions++;
	d->correct += correct;
	f->text.count = before;
	kv_free(fork);
	return r;
}

static int ask_all(struct flow *f, int64_t line, const size_t *line_end, struct distance *d, struct err *e)
{
	int r = 0;

	for (size_t i = 0; !r && i < f->o->back.count; i++) {
		int64_t of = line - f->o->back.at[i];

		if (of < 1)
			continue;
		r = ask(f, of, &d[i], e);
		d[i].tokens += (int64_t)(f->text.count - line_end[of]);
	}
	return r;
}

static double share(int64_t part, int64_t all)
{
	return all ? (double)part / (double)all : NAN;
}

static void report_distances(const struct flow *f, const struct distance *d)
{
	const struct bench *o = f->o;
	struct distance all = { 0 };
	struct report r;

	for (size_t i = 0; i < o->back.count; i++) {
		all.questions += d[i].questions;
		all.correct += d[i].correct;
	}
	report_flow(f, &r);
	report_count(&r, "lines", o->lines);
	report_count(&r, "tokens", (int64_t)f->text.count);
	report_count(&r, "questions", all.questions);
	report_number(&r, "accuracy", 4, share(all.correct, all.questions));
	for (size_t i = 0; i < o->back.count; i++) {
		report_row(&r);
		report_count(&r, "back", o->back.at[i]);
		report_number(&r, "tokens_back", 1, share(d[i].tokens, d[i].questions));
		report_count(&r, "questions", d[i].questions);
		report_count(&r, "correct", d[i].correct);
		report_number(&r, "accuracy", 4, share(d[i].correct, d[i].questions));
		report_number(&r, "nats_a_digit", 4,
			      d[i].questions ? d[i].nll / (double)(d[i].questions * DIGITS) : NAN);
	}
	report_end(&r);
}

static int run_lines(struct flow *f, size_t *line_end, struct distance *d, struct err *e)
{
	char begin[LINE], value[DIGITS + 1];
	int r = turns_begin(model_turns(f->m), &f->text, e);

	if (!r)
		r = add_text(f, "Below is a record of lines to remember.\n", e);
	for (int64_t line = 1; !r && line <= f->o->lines; line++) {
		line_texts(line, begin, value);
		if ((r = add_text(f, begin, e)) || (r = add_text(f, value, e)) || (r = add_text(f, "\n", e)))
			break;
		line_end[line] = f->text.count;
		if (line % f->o->every)
			continue;
		r = read_all(f, e);
		if (!r)
			r = ask_all(f, line, line_end, d, e);
	}
	return r;
}

int bench_streameval(const struct bench *o, struct err *e)
{
	struct distance d[BENCH_LIST] = { 0 };
	struct flow f = { .o = o };
	size_t *line_end = calloc((size_t)o->lines + 1, sizeof(*line_end));
	int r = line_end ? flow_open(&f, e) : err_set(e, SINK_ENOMEM, "Out of memory for the lines.");

	if (!r)
		r = run_lines(&f, line_end, d, e);
	if (!r)
		report_distances(&f, d);
	flow_close(&f);
	free(line_end);
	return r;
}

/* chat */

/* What one turn took. */
struct turn {
	int64_t prompt, answer; /* tokens */
	int64_t tokens, evicted, cache_bytes, resident_kib;
	double prompt_ms, answer_ms;
};

struct chat {
	struct flow f;
	json_t **prompt;
	size_t prompts;
	struct turn *turn;
	size_t turns, room;
};

/* One prompt a line, each an object with an array of texts. */
static int read_prompts(struct chat *c, struct err *e)
{
	FILE *f = fopen(c->f.o->prompts, "rb");
	char *line = NULL;
	size_t size = 0, number = 0;
	int r = 0;

	if (!f)
		return err_set(e, errno == ENOENT ? SINK_ENOENT : SINK_EIO, "The prompts \"%s\" cannot be opened: %s.",
			       c->f.o->prompts, strerror(errno));
	while (!r && getline(&line, &size, f) >= 0) {
		json_error_t why;
		json_t *j, *turns, **more;
		size_t i;

		number++;
		if (line[strspn(line, " \t\r\n")] == '\0')
			continue;
		j = json_loads(line, 0, &why);
		turns = j ? json_object_get(j, "turns") : NULL;
		more = realloc(c->prompt, (c->prompts + 1) * sizeof(*more));
		if (more) {
			c->prompt = more;
			c->prompt[c->prompts++] = j;
		}
		for (i = 0; i < json_array_size(turns) && json_is_string(json_array_get(turns, i)); i++)
			c->room++;
		if (!j)
			r = err_set(e, SINK_EFORMAT, "Line %zu of \"%s\" is not JSON: %s.", number, c->f.o->prompts,
				    why.text);
		else if (!more)
			r = err_set(e, SINK_ENOMEM, "Out of memory for the prompts.");
		else if (i == 0 || i < json_array_size(turns))
			r = err_set(e, SINK_EINVAL, "Line %zu of \"%s\" has no array \"turns\" of texts.", number,
				    c->f.o->prompts);
	}
	free(line);
	fclose(f);
	if (!r && !c->room)
		r = err_set(e, SINK_EINVAL, "The prompts \"%s\" are none.", c->f.o->prompts);
	return r;
}

/* Text for people: control characters of an answer stay out of their terminal. */
static void show(const struct chat *c, const char *text, size_t len)
{
	for (size_t i = 0; !c->f.o->json && i < len; i++)
		putchar(((unsigned char)text[i] >= 0x20 && text[i] != 0x7f) || text[i] == '\n' ? text[i] : ' ');
}

static void show_turn(const struct chat *c, const struct turn *t)
{
	if (c->f.o->json)
		return;
	printf("\n-- %lld tokens, %lld evicted, %.0f tokens/s, cache %.1f MiB, resident %.1f MiB\n\n",
	       (long long)t->tokens, (long long)t->evicted, (double)t->answer * 1000 / t->answer_ms,
	       (double)t->cache_bytes / 0x1p20, (double)t->resident_kib / 1024);
	fflush(stdout);
}

/* The prompt is in the text: the answer, up to its end token or the limit. */
static int answer(struct chat *c, struct turn *t, struct err *e)
{
	struct flow *f = &c->f;
	const struct vocab *v = model_vocab(f->m);
	double begin = bench_seconds(), now;
	int32_t token = -1;
	bool front = true;
	int r = read_all(f, e);

	now = bench_seconds();
	t->prompt_ms = (now - begin) * 1000;
	while (!r) {
		struct gguf_str piece;

		token = pick_likeliest(f);
		piece = vocab_next_piece(v, token, false, &front);
		r = tokens_add(&f->text, token, e);
		t->answer++;
		show(c, piece.at, piece.len);
		if (r || vocab_is_end(v, token) || t->answer == f->o->answer)
			break;
		r = read_all(f, e);
	}
	t->answer_ms = (bench_seconds() - now) * 1000;
	if (!r)
		r = turns_close_answer(model_turns(f->m), token, &f->text, e);
	return r;
}

static int take_turn(struct chat *c, const char *text, struct err *e)
{
	struct turn *t = &c->turn[c->turns++];
	struct flow *f = &c->f;
	const size_t before = f->text.count;
	struct kv_info info;
	int r = turns_message(model_turns(f->m), ROLE_USER, text, strlen(text), &f->text, e);

	if (!r)
		r = turns_open_answer(model_turns(f->m), &f->text, e);
	t->prompt = (int64_t)(f->text.count - before);
	show(c, "USER: ", 6);
	show(c, text, strlen(text));
	show(c, "\n\nASSISTANT: ", 13);
	if (!r)
		r = answer(c, t, e);
	if (r)
		return r;
	kv_info(f->kv, &info);
	t->tokens = info.tokens;
	t->evicted = info.evicted;
	t->cache_bytes = (int64_t)info.bytes;
	t->resident_kib = bench_resident_kib();
	show_turn(c, t);
	return 0;
}

/* Tokens a second of the answers of some turns. */
static double speed(const struct turn *t, size_t n)
{
	double tokens = 0, ms = 0;

	for (size_t i = 0; i < n; i++) {
		tokens += (double)t[i].answer;
		ms += t[i].answer_ms;
	}
	return ms > 0 ? tokens * 1000 / ms : NAN;
}

static void report_chat(const struct chat *c)
{
	const size_t tenth = c->turns < 10 ? 1 : c->turns / 10;
	const struct turn *last = &c->turn[c->turns - 1];
	struct report r;

	report_flow(&c->f, &r);
	report_count(&r, "turns", (int64_t)c->turns);
	report_count(&r, "tokens", last->tokens);
	report_count(&r, "evicted", last->evicted);
	report_number(&r, "tokens_per_s", 2, speed(c->turn, c->turns));
	report_number(&r, "first_tenth_per_s", 2, speed(c->turn, tenth));
	report_number(&r, "last_tenth_per_s", 2, speed(last + 1 - tenth, tenth));
	report_count(&r, "cache_bytes", last->cache_bytes);
	report_count(&r, "resident_kib_first", c->turn[tenth - 1].resident_kib);
	report_count(&r, "resident_kib_last", last->resident_kib);
	for (size_t i = 0; c->f.o->json && i < c->turns; i++) {
		const struct turn *t = &c->turn[i];

		report_row(&r);
		report_count(&r, "prompt", t->prompt);
		report_count(&r, "answer", t->answer);
		report_count(&r, "tokens", t->tokens);
		report_count(&r, "evicted", t->evicted);
		report_number(&r, "prompt_ms", 3, t->prompt_ms);
		report_number(&r, "tokens_per_s", 2, speed(t, 1));
		report_count(&r, "cache_bytes", t->cache_bytes);
		report_count(&r, "resident_kib", t->resident_kib);
	}
	report_end(&r);
}

/* What stands before the first prompt: BOS, and the system prompt that the model's template gives. */
static int begin_chat(struct chat *c, struct err *e)
{
	const struct turns *turns = model_turns(c->f.m);
	const char *system = turns_default_system(turns);
	int r = turns_begin(turns, &c->f.text, e);

	if (!r && system)
		r = turns_message_at(turns, TURN_FIRST, ROLE_SYSTEM, system, strlen(system), &c->f.text, e);
	return r;
}

int bench_chat(const struct bench *o, struct err *e)
{
	struct chat c = { .f.o = o };
	int r = read_prompts(&c, e);

	if (!r)
		c.turn = calloc(c.room, sizeof(*c.turn));
	if (!r && !c.turn)
		r = err_set(e, SINK_ENOMEM, "Out of memory for %zu turns.", c.room);
	if (!r)
		r = flow_open(&c.f, e);
	if (!r)
		r = begin_chat(&c, e);
	for (size_t i = 0; !r && i < c.prompts; i++) {
		json_t *turns = json_object_get(c.prompt[i], "turns");

		for (size_t k = 0; !r && k < json_array_size(turns); k++)
			r = take_turn(&c, json_string_value(json_array_get(turns, k)), e);
	}
	if (!r)
		report_chat(&c);
	for (size_t i = 0; i < c.prompts; i++)
		json_decref(c.prompt[i]);
	free(c.prompt);
	free(c.turn);
	flow_close(&c.f);
	return r;
}
