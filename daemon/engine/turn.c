/*
 * The families of chat templates, one row each, for files without a template, and for those whose template cannot be
 * run: it is searched for the marks that tell its family, and for a system prompt that stands in it as a literal text.
 *
 * Whatever stands between two marks is encoded as one text, header, message and all, since the tokenizer that the model
 * was trained with saw it so. Only strings of this table can become marks; the text of a message never does.
 */
#include "turn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "turn_template.h"

/* Stands for the text of the vocabulary's eos token. */
#define EOS "\1"

enum { MARKS = 4, SYSTEM_BYTES_MOST = 4096 };

struct family {
	const char *name;
	const char *in_template[2];  /* both stand in a template of this family, */
	const char *not_in_template; /* and this does not */
	const char *marks[MARKS];
	struct {
		const char *before, *after;
	} role[ROLES];
	const char *open; /* what makes the model answer */
	const char *next; /* what the user's next turn begins with, where no token tells that an answer is over */
	bool trims;	  /* the template takes white space off both ends of a message */
};

static const struct family families[] = {
	{
		.name = "chatml",
		.in_template = { "<|im_start|>", "<|im_end|>" },
		.marks = { "<|im_start|>", "<|im_end|>" },
		.role = { [ROLE_SYSTEM] = { "<|im_start|>system\n", "<|im_end|>\n" },
			  [ROLE_USER] = { "<|im_start|>user\n", "<|im_end|>\n" },
			  [ROLE_ASSISTANT] = { "<|im_start|>assistant\n", "<|im_end|>\n" } },
		.open = "<|im_start|>assistant\n",
	},
	{
		.name = "llama-3",
		.in_template = { "<|start_header_id|>", "<|eot_id|>" },
		.marks = { "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>" },
		.role = { [ROLE_SYSTEM] = { "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>" },
			  [ROLE_USER] = { "<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>" },
			  [ROLE_ASSISTANT] = { "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>" } },
		.open = "<|start_header_id|>assistant<|end_header_id|>\n\n",
		.trims = true,
	},
	{
		.name = "zephyr",
		.in_template = { "<|user|>", "<|assistant|>" },
		.not_in_template = "<|end|>", /* another family with the same headers */
		.marks = { "<|system|>", "<|user|>", "<|assistant|>", EOS },
		.role = { [ROLE_SYSTEM] = { "<|system|>\n", EOS "\n" },
			  [ROLE_USER] = { "<|user|>\n", EOS "\n" },
			  [ROLE_ASSISTANT] = { "<|assistant|>\n", EOS "\n" } },
		.open = "<|assistant|>\n",
	},
	{
		.name = "mistral",
		.in_template = { "[INST]", "[/INST]" },
		.marks = { "[INST]", "[/INST]", EOS },
		.role = { [ROLE_SYSTEM] = { "", "\n\n" },
			  [ROLE_USER] = { "[INST] ", " [/INST]" },
			  [ROLE_ASSISTANT] = { " ", EOS } },
		.open = "",
	},
	{
		.name = "plain",
		.marks = { EOS },
		.role = { [ROLE_SYSTEM] = { "", "\n\n" },
			  [ROLE_USER] = { "User: ", "\n\n" },
			  [ROLE_ASSISTANT] = { "Assistant: ", "\n\n" } },
		.open = "Assistant:",
		.next = "\n\nUser:",
	},
};

static const struct family *const chatml = &families[0];
static const struct family *const plain = &families[sizeof(families) / sizeof(families[0]) - 1];

struct turns {
	const struct family *family;
	bool known; /* it is that of the file's template */
	const struct vocab *vocab;
	int32_t mark[MARKS]; /* the family's marks as tokens; -1: written as text */
	char *system;
	struct turn_template *template; /* NULL: the family's form is used */
	struct tokens unthinking;	/* opens an answer without thoughts; none: as any other */
};

/* ---- roles ---- */

static const char *const role_names[ROLES] = { "system", "user", "assistant" };

const char *role_name(enum role r)
{
	return role_names[r];
}

int role_find(const char *name, enum role *ret, struct err *e)
{
	for (int r = 0; r < ROLES; r++)
		if (strcmp(name, role_names[r]) == 0) {
			*ret = (enum role)r;
			return 0;
		}
	return err_set(e, SINK_EINVAL, "There is no role \"%.60s\"; roles are system, user and assistant.", name);
}

/* ---- choosing ---- */

static bool contains(struct gguf_str text, const char *part)
{
	return memmem(text.at, text.len, part, strlen(part)) != NULL;
}

static const struct family *recognise(struct gguf_str template)
{
	for (const struct family *f = families; f != plain; f++)
		if (contains(template, f->in_template[0]) && contains(template, f->in_template[1]) &&
		    !(f->not_in_template && contains(template, f->not_in_template)))
			return f;
	return NULL;
}

static int32_t control_token(const struct vocab *v, const char *text)
{
	int32_t id = strcmp(text, EOS) == 0 ? vocab_eos(v) : vocab_find(v, text);

	return id >= 0 && vocab_is_control(v, id) ? id : -1;
}

/* Finds the marks in the vocabulary; the first that is no control token there is returned, or NULL. */
static const char *find_marks(struct turns *t)
{
	const char *missing = NULL;

	for (int i = 0; i < MARKS && t->family->marks[i]; i++) {
		t->mark[i] = control_token(t->vocab, t->family->marks[i]);
		if (t->mark[i] < 0 && !missing && strcmp(t->family->marks[i], EOS) != 0)
			missing = t->family->marks[i];
	}
	return missing;
}

static void choose(struct turns *t, struct gguf_str template, const char *why, char note[240])
{
	const char *missing;

	t->family = template.at ? recognise(template) : NULL;
	t->known = t->family != NULL;
	if (!t->known)
		t->family = control_token(t->vocab, "<|im_start|>") >= 0 && control_token(t->vocab, "<|im_end|>") >= 0
				    ? chatml
				    : plain;
	missing = find_marks(t);
	if (!note)
		return;
	note[0] = '\0';
	if (!template.at)
		snprintf(note, 240, "The model file has no chat template; turns are written as %s.", t->family->name);
	else if (!t->template && !t->known)
		snprintf(note, 240,
			 "The model file's chat template is of no known family; turns are written as %s. %.100s",
			 t->family->name, why);
	else if (!t->template)
		snprintf(note, 240, "Turns are written as %s by the family of the model file's chat template. %.100s",
			 t->family->name, why);
	else if (!t->known)
		return;
	else if (missing)
		snprintf(note, 240,
			 "The model file's chat template is of the family %s, but \"%s\" is no control token of its "
			 "vocabulary: it is written as text, which a message could imitate.",
			 t->family->name, missing);
}

/* ---- the template's own system prompt ---- */

/* A text of a template while it is copied out: `quote` is 0 for text that stands outside of expressions. */
struct literal {
	const char *at, *end;
	char quote;
};

static bool begins_with(const char *at, const char *end, const char *text)
{
	return (size_t)(end - at) >= strlen(text) && memcmp(at, text, strlen(text)) == 0;
}

/* Takes the next character of the text; false at the end of the literal. */
static bool next(struct literal *l, char *ret)
{
	static const char escapes[] = "n\nt\tr\r'\'\"\"\\\\";
	const char *e = escapes;

	if (l->at == l->end || (l->quote && *l->at == l->quote) ||
	    (!l->quote && (begins_with(l->at, l->end, "{{") || begins_with(l->at, l->end, "{%"))))
		return false;
	*ret = *l->at++;
	if (*ret != '\\' || !l->quote || l->at == l->end)
		return true;
	while (*e && *e != *l->at)
		e += 2;
	if (*e) {
		*ret = e[1];
		l->at++;
	}
	return true;
}

static bool skip(struct literal *l, const char *text)
{
	char c;

	for (; *text; text++)
		if (!next(l, &c) || c != *text)
			return false;
	return true;
}

/* Copies what stands between the system role's header and its end mark at `l`; false when that is no literal text. */
static bool copy_prompt(struct literal l, const char *header, const char *end_mark, char *to)
{
	size_t n = 0;

	if (!skip(&l, header))
		return false;
	while (!begins_with(l.at, l.end, end_mark))
		if (n == SYSTEM_BYTES_MOST || !next(&l, &to[n++]))
			return false;
	to[n] = '\0';
	return n > 0 && !memchr(to, '\0', n);
}

static int find_system(struct turns *t, struct gguf_str template, struct err *e)
{
	const char *header = t->family->role[ROLE_SYSTEM].before, *after = t->family->role[ROLE_SYSTEM].after;
	const char *mark = t->family->marks[0], *end_mark = NULL, *end = template.at + template.len;

	for (int i = 0; i < MARKS && t->family->marks[i]; i++)
		if (strcmp(t->family->marks[i], EOS) != 0 &&
		    strncmp(after, t->family->marks[i], strlen(t->family->marks[i])) == 0)
			end_mark = t->family->marks[i];
	if (!end_mark || strncmp(header, mark, strlen(mark)) != 0)
		return 0;
	t->system = malloc(SYSTEM_BYTES_MOST + 1);
	if (!t->system)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
	for (const char *at = template.at; (at = memmem(at, (size_t)(end - at), mark, strlen(mark))); at++) {
		char before = at > template.at ? at[-1] : '\0';
		struct literal l = { at, end, before == '\'' || before == '"' ? before : '\0' };

		if (copy_prompt(l, header, end_mark, t->system))
			return 0;
	}
	free(t->system);
	t->system = NULL;
	return 0;
}

int turns_new(const struct gguf *g, const struct vocab *v, struct turns **ret, char note[240], struct err *e)
{
	static const char *const key = "tokenizer.chat_template";
	struct gguf_str template = { NULL, 0 };
	struct err why = { 0 };
	struct turns *t;
	int code = gguf_has(g, key) ? gguf_string(g, key, &template, e) : 0;

	if (code)
		return code;
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, SINK_ENOMEM, "There is no memory left for a chat template.");
	t->vocab = v;
	if (template.at && turn_template_new(template, v, &t->template, &why) == SINK_ENOMEM)
		code = SINK_ENOMEM;
	choose(t, template, why.text, note);
	if (template.at && !t->template && !code)
		code = find_system(t, template, e);
	if (template.at && !code)
		code = turn_template_unthinking(template, v, &t->unthinking, e);
	if (code) {
		turns_free(t);
		return code;
	}
	*ret = t;
	return 0;
}

void turns_free(struct turns *t)
{
	if (!t)
		return;
	turn_template_free(t->template);
	tokens_release(&t->unthinking);
	free(t->system);
	free(t);
}

const char *turns_name(const struct turns *t)
{
	return t->template && !t->known ? "template" : t->family->name;
}

const char *turns_default_system(const struct turns *t)
{
	return t->template ? turn_template_system(t->template) : t->system;
}

/* ---- writing ---- */

/* Text gathers here until a mark, or the end, sends it through the tokenizer. */
struct writer {
	const struct turns *t;
	struct tokens *out;
	char *text;
	size_t len;
};

static int flush(struct writer *w, struct err *e)
{
	int code = vocab_encode(w->t->vocab, w->text, w->len, false, w->out, e);

	w->len = 0;
	return code;
}

static void put_text(struct writer *w, const char *text, size_t len)
{
	if (len)
		memcpy(w->text + w->len, text, len);
	w->len += len;
}

/* The family's mark that a string of the table begins with, or -1. */
static int mark_of(const struct family *f, const char *at)
{
	for (int i = 0; i < MARKS && f->marks[i]; i++)
		if (strncmp(at, f->marks[i], strlen(f->marks[i])) == 0)
			return i;
	return -1;
}

/* Writes a string of the table. */
static int put_pattern(struct writer *w, const char *pattern, struct err *e)
{
	int code = 0;

	while (!code && *pattern) {
		int mark = mark_of(w->t->family, pattern);
		size_t len = mark < 0 ? 1 : strlen(w->t->family->marks[mark]);

		if (mark < 0 || (w->t->mark[mark] < 0 && *pattern != *EOS)) {
			put_text(w, pattern, len);
		} else if (w->t->mark[mark] >= 0) {
			code = flush(w, e);
			if (!code)
				code = tokens_add(w->out, w->t->mark[mark], e);
		}
		pattern += len;
	}
	return code;
}

/* Writes before, text and after; on failure `out` is as it was. */
static int write_turn(const struct turns *t, const char *before, const char *text, size_t len, const char *after,
		      struct tokens *out, struct err *e)
{
	size_t count = out->count, bytes = strlen(before) + strlen(after);
	struct writer w = { t, out, NULL, 0 };
	int code;

	w.text = len < SIZE_MAX - bytes ? malloc(bytes + len + 1) : NULL;
	if (!w.text)
		return err_set(e, SINK_ENOMEM, "There is no memory for a message of %zu bytes.", len);
	code = put_pattern(&w, before, e);
	if (!code) {
		put_text(&w, text, len);
		code = put_pattern(&w, after, e);
	}
	if (!code)
		code = flush(&w, e);
	if (code)
		out->count = count;
	free(w.text);
	return code;
}

const char *turns_next(const struct turns *t)
{
	return t->template ? NULL : t->family->next;
}

int turns_begin(const struct turns *t, struct tokens *out, struct err *e)
{
	bool begins = vocab_adds_bos(t->vocab) || (t->template && turn_template_begins(t->template));

	return begins ? tokens_add(out, vocab_bos(t->vocab), e) : 0;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

int turns_message_at(const struct turns *t, enum turn_place place, enum role r, const char *text, size_t len,
		     struct tokens *out, struct err *e)
{
	if (t->template) {
		size_t count = out->count;
		int code = turn_template_message(t->template, place, r, text, len, out, e);

		if (code != SINK_EINVAL && code != SINK_EFORMAT && code != SINK_EBUSY)
			return code;
		out->count = count;
		if (!t->known)
			return code;
		/* A message that the template does not take has the form of its family. */
	}
	if (t->family->trims) {
		for (; len && is_space(text[len - 1]); len--)
			;
		for (; len && is_space(*text); len--)
			text++;
	}
	return write_turn(t, t->family->role[r].before, text, len, t->family->role[r].after, out, e);
}

int turns_message(const struct turns *t, enum role r, const char *text, size_t len, struct tokens *out, struct err *e)
{
	return turns_message_at(t, TURN_LATER, r, text, len, out, e);
}

int turns_open_answer(const struct turns *t, struct tokens *out, struct err *e)
{
	const struct tokens *open = t->template ? turn_template_open(t->template) : NULL;

	return open ? tokens_append(out, open->id, open->count, e) : write_turn(t, t->family->open, "", 0, "", out, e);
}

bool turns_think(const struct turns *t)
{
	return t->unthinking.count > 0;
}

int turns_open_unthinking(const struct turns *t, struct tokens *out, struct err *e)
{
	return turns_think(t) ? tokens_append(out, t->unthinking.id, t->unthinking.count, e)
			      : turns_open_answer(t, out, e);
}

int turns_close_answer(const struct turns *t, int32_t last, struct tokens *out, struct err *e)
{
	const char *after = t->family->role[ROLE_ASSISTANT].after;
	int mark = mark_of(t->family, after);

	if (t->template) {
		const struct tokens *close = turn_template_close(t->template);
		size_t first = close->count && vocab_is_end(t->vocab, last) && vocab_is_control(t->vocab, close->id[0]);

		return tokens_append(out, close->count ? close->id + first : NULL, close->count - first, e);
	}
	if (vocab_is_end(t->vocab, last) && mark >= 0)
		after += strlen(t->family->marks[mark]);
	return write_turn(t, after, "", 0, "", out, e);
}
