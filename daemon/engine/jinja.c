/* The public face of chat templates: a tree is made once, and run with the variables of a call. */
#include "jinja.h"

#include <stdlib.h>
#include <string.h>

#include "jinja_eval.h"

enum { TEMPLATE_BYTES_MOST = 256 << 10 }; /* the longest in use has 30 kB */

/* What a tree may use; and a run, besides what its texts need. With the copy of the output it is less than 16 MiB. */
enum { TREE_BYTES = 4 << 20, STEPS = 1000 * 1000, BYTES = 8 << 20, OUTPUT = 1 << 20, BYTES_A_BYTE = 16 };

/* The text as the lexer wants it: line feeds alone, and none at the end, where jinja2 drops one. */
static struct jinja_text normalize(struct jinja_run *r, const char *text, size_t len)
{
	char *to = jinja_take(r, len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n')
			continue;
		to[n++] = text[i] == '\r' ? '\n' : text[i];
	}
	n -= n && to[n - 1] == '\n';
	return (struct jinja_text){ to, NULL, n };
}

int jinja_new(const char *text, size_t len, struct jinja **ret, struct err *e)
{
	struct jinja *j;
	struct jinja_text s;
	int code;

	if (len > TEMPLATE_BYTES_MOST)
		return err_set(e, SINK_EBUSY, "A chat template has %zu bytes; %d are possible.", len,
			       TEMPLATE_BYTES_MOST);
	j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
	j->memory.err = e;
	j->memory.bytes_most = TREE_BYTES;
	j->memory.steps_most = STEPS;
	code = setjmp(j->memory.out);
	if (code) {
		jinja_free(j);
		return code;
	}
	s = normalize(&j->memory, text, len);
	j->body = jinja_parse(&j->memory, s.at, s.len);
	*ret = j;
	return 0;
}

void jinja_free(struct jinja *j)
{
	if (!j)
		return;
	jinja_run_release(&j->memory);
	free(j);
}

static size_t bytes_of(const struct jinja_call *c)
{
	size_t bytes = c->json_len;

	for (size_t i = 0; i < c->messages; i++)
		bytes += c->message[i].len;
	return bytes;
}

static void set_limits(struct jinja_run *r, const struct jinja_call *c)
{
	static const struct jinja_limits none = { 0, 0, 0 };
	const struct jinja_limits *l = c->limits ? c->limits : &none;
	size_t bytes = bytes_of(c);

	if (bytes > SIZE_MAX / 64)
		jinja_fail(r, SINK_EBUSY, "The conversation has %zu bytes.", bytes);
	r->steps_most = l->steps ? l->steps : STEPS + BYTES_A_BYTE * bytes;
	r->bytes_most = l->bytes ? l->bytes : BYTES + BYTES_A_BYTE * bytes;
	r->output_most = l->output ? l->output : OUTPUT + 2 * bytes;
}

static struct jinja_value message_value(struct jinja_run *r, const struct jinja_message *m)
{
	struct jinja_value v = jinja_dict_new(r, JINJA_DICT);
	uint8_t *from = NULL;

	if (m->origin) {
		from = jinja_take(r, m->len + 1);
		memset(from, m->origin, m->len);
	}
	jinja_put(r, v.dict, jinja_word("role"), jinja_word(m->role));
	jinja_put(r, v.dict, jinja_word("content"), jinja_string((struct jinja_text){ m->text, from, m->len }));
	return v;
}

/* The variables that Hugging Face gives to each template, and those of the call. */
static struct jinja_scope *variables(struct jinja_run *r, const struct jinja_call *c)
{
	struct jinja_scope *s = jinja_scope_new(r, NULL);
	struct jinja_value none = { .kind = JINJA_NONE }, list, members;

	jinja_define(r, s, "tools", none);
	jinja_define(r, s, "documents", none);
	jinja_define(r, s, "add_generation_prompt", jinja_bool(c->open_answer));
	if (c->bos)
		jinja_define(r, s, "bos_token", jinja_word(c->bos));
	if (c->eos)
		jinja_define(r, s, "eos_token", jinja_word(c->eos));
	if (c->message) {
		list = jinja_list_new(r, JINJA_LIST);
		for (size_t i = 0; i < c->messages; i++)
			jinja_push(r, list.list, message_value(r, &c->message[i]));
		jinja_define(r, s, "messages", list);
	}
	if (!c->json)
		return s;
	members = jinja_from_json(r, c->json, c->json_len, 1);
	if (members.kind != JINJA_DICT)
		jinja_fail(r, SINK_EINVAL, "The values that were given are no object.");
	for (size_t i = 0; i < members.dict->count; i++)
		jinja_define(r, s, members.dict->at[i].key.s.at, members.dict->at[i].value);
	return s;
}

/* A copy of what a run wrote, for the caller. */
static void give(struct jinja_run *r, const struct jinja_buffer *b, struct jinja_output *ret)
{
	ret->at = malloc(b->len + 1);
	ret->origin = calloc(b->len + 1, 1);
	if (!ret->at || !ret->origin) {
		jinja_output_release(ret);
		jinja_fail(r, SINK_ENOMEM, "There is no memory left.");
	}
	if (b->len)
		memcpy(ret->at, b->at, b->len);
	if (b->len && b->from)
		memcpy(ret->origin, b->from, b->len);
	ret->at[b->len] = '\0';
	ret->len = b->len;
}

static void run_call(struct jinja_run *r, const struct jinja *j, const struct jinja_call *c, struct jinja_output *ret)
{
	struct jinja_buffer b = { 0 };
	struct jinja_frame f = { r, NULL, &b, jinja_undefined(NULL) };

	set_limits(r, c);
	f.scope = variables(r, c);
	jinja_run_list(&f, j->body);
	give(r, &b, ret);
}

int jinja_render(const struct jinja *j, const struct jinja_call *c, struct jinja_output *ret, struct err *e)
{
	struct jinja_run *r = calloc(1, sizeof(*r)); /* not on the stack, where a jump may leave old values */
	int code;

	*ret = (struct jinja_output){ 0 };
	if (!r)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
	r->err = e;
	r->now = c->now;
	code = setjmp(r->out);
	if (!code)
		run_call(r, j, c, ret);
	jinja_run_release(r);
	free(r);
	return code;
}

void jinja_output_release(struct jinja_output *o)
{
	free(o->at);
	free(o->origin);
	*o = (struct jinja_output){ 0 };
}
