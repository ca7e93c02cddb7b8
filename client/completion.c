/*
 * Completion. The scripts for the shells know nothing of verbs and options: at every Tab they ask this verb, with the
 * words so far, what may stand for the last one. So the answer comes from the tables of the very program that is going
 * to run, and names from its daemon, where one runs; none is started.
 *
 * The answer is a line that tells its kind (- as it is, n without a blank behind it, f names of files) and then one
 * candidate a line, for zsh and fish with a tab and words about it, for bash quoted as the line needs it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "format.h"
#include "start.h"
#include "template.h"
#include "verb.h"

enum { CALL_MS = 1000, MESSAGES = 50, TEXT_BYTES = 60 };

struct completion {
	struct cli *c;
	const char *word;   /* what is completed */
	const char *before; /* what every candidate has in front, such as "--color=" */
	const char **taken; /* the arguments so far */
	size_t taken_count;
	char kind;
	struct buf found; /* lines "candidate\tabout" */
};

static const char bash_script[] =
	"# Completion of sink for bash: the program itself knows what may come.\n"
	"_sink() {\n"
	"\tlocal kind line\n"
	"\tCOMPREPLY=()\n"
	"\t{\n"
	"\t\tIFS= read -r kind\n"
	"\t\twhile IFS= read -r line; do COMPREPLY+=(\"$line\"); done\n"
	"\t} < <(sink completion bash -- \"${COMP_LINE:0:COMP_POINT}\" \"$COMP_WORDBREAKS\" 2>/dev/null)\n"
	"\tcase $kind in\n"
	"\tf) compopt -o default 2>/dev/null ;;\n"
	"\tn) compopt -o nospace 2>/dev/null ;;\n"
	"\tesac\n"
	"\treturn 0\n"
	"}\n"
	"complete -F _sink sink\n";

static const char zsh_script[] =
	"#compdef sink\n"
	"# Completion of sink for zsh: the program itself knows what may come.\n"
	"_sink() {\n"
	"\tlocal kind line\n"
	"\tlocal -a lines found shown blank\n"
	"\tlines=(\"${(@f)$(sink completion zsh -- \"${(@Q)words[1,CURRENT-1]}\" \"${(Q)PREFIX}\" 2>/dev/null)}\")\n"
	"\tkind=$lines[1]\n"
	"\tfor line in \"${(@)lines[2,-1]}\"; do\n"
	"\t\tfound+=(\"${line%%$'\\t'*}\")\n"
	"\t\tshown+=(\"${line/$'\\t'/  -- }\")\n"
	"\tdone\n"
	"\tcase $kind in\n"
	"\tf) _files; return ;;\n"
	"\tn) blank=(-S '') ;;\n"
	"\tesac\n"
	"\tcompadd -V sink -l -d shown \"$blank[@]\" -a found\n"
	"}\n"
	"if [[ $funcstack[1] == _sink ]]; then\n"
	"\t_sink \"$@\"\n"
	"else\n"
	"\tcompdef _sink sink\n"
	"fi\n";

static const char fish_script[] =
	"# Completion of sink for fish: the program itself knows what may come.\n"
	"function __sink_complete\n"
	"\tset -l current (commandline -ct)\n"
	"\tset -l plain (string unescape -- \"$current\"; or string escape -n -- \"$current\")\n"
	"\tset -l lines (sink completion fish -- (commandline -opc) \"$plain\" 2>/dev/null)\n"
	"\tswitch \"$lines[1]\"\n"
	"\t\tcase f\n"
	"\t\t\t__fish_complete_path \"$current\"\n"
	"\t\tcase '*'\n"
	"\t\t\tprintf '%s\\n' $lines[2..-1]\n"
	"\tend\n"
	"end\n"
	"complete -c sink -f -a '(__sink_complete)'\n";

static const struct {
	const char *name, *script;
} shells[] = { { "bash", bash_script }, { "zsh", zsh_script }, { "fish", fish_script } };

enum { SHELLS = sizeof(shells) / sizeof(shells[0]) };

/* ---- candidates ---- */

static void offer(struct completion *t, const char *word, const char *after, const char *about)
{
	buf_addf(&t->found, "%s%s%s\t%s\n", t->before, word, after, about);
}

/* Choices with blanks between; what ends with a colon goes on. */
static void offer_choices(struct completion *t, const char *text, char between)
{
	while (*text) {
		const char *end = strchr(text, between);
		int len = end ? (int)(end - text) : (int)strlen(text);
		char word[32];

		snprintf(word, sizeof(word), "%.*s", len, text);
		offer(t, word, "", "");
		if (len && text[len - 1] == ':')
			t->kind = 'n';
		text += len + (text[len] != '\0');
	}
}

static void offer_verbs(struct completion *t)
{
	for (const struct verb *v = verb_rows; v->name; v++)
		offer(t, v->name, "", v->summary);
}

static void offer_options(struct completion *t, uint64_t allowed)
{
	for (enum option i = 0; i < OPTION_COUNT; i++) {
		if (!(allowed & OPTION_BIT(i)))
			continue;
		buf_addf(&t->found, "--%s\t%s\n", option_rows[i].name, option_rows[i].help);
	}
}

static bool is_taken(const struct completion *t, const char *name)
{
	for (size_t i = 0; i < t->taken_count; i++)
		if (strcmp(t->taken[i], name) == 0)
			return true;
	return false;
}

static void offer_names(struct completion *t, const char *after)
{
	struct sink_reply *r = start_look(t->c) ? sink_call(t->c->sink, "list", NULL, CALL_MS) : NULL;
	size_t count = r ? sink_count(r, "conversations") : 0;

	if (*t->word == '=')
		t->before = "=";
	for (size_t i = 0; i < count; i++) {
		char path[64], about[96], age[32];
		const char *name, *state;

		snprintf(path, sizeof(path), "conversations.%zu.name", i);
		name = sink_str(r, path, NULL);
		snprintf(path, sizeof(path), "conversations.%zu.state", i);
		state = sink_str(r, path, NULL);
		snprintf(path, sizeof(path), "conversations.%zu.used", i);
		format_age(difftime(time(NULL), 0) - sink_float(r, path, 0), age, sizeof(age));
		snprintf(path, sizeof(path), "conversations.%zu.messages", i);
		snprintf(about, sizeof(about), "%s, %" PRId64 " messages, %s", state ? state : "", sink_int(r, path, 0),
			 age);
		if (name && !is_taken(t, name))
			offer(t, name, after, about);
	}
	sink_reply_free(r);
}

/* The beginning of a message, in one line. */
static void offer_message(struct completion *t, const struct sink_reply *r, size_t i)
{
	char path[64], number[32], about[TEXT_BYTES + 32];
	const char *role, *text;
	size_t len = 0;

	snprintf(path, sizeof(path), "messages.%zu.role", i);
	role = sink_str(r, path, NULL);
	snprintf(path, sizeof(path), "messages.%zu.text", i);
	text = sink_str(r, path, &len);
	snprintf(path, sizeof(path), "messages.%zu.message", i);
	snprintf(number, sizeof(number), "%" PRId64, sink_int(r, path, 0));
	if (!role || !text)
		return;
	len = buf_utf8(text, len < TEXT_BYTES ? len : TEXT_BYTES);
	snprintf(about, sizeof(about), "%.16s: %.*s", role, (int)len, text);
	for (char *at = about; *at; at++)
		if ((unsigned char)*at < 0x20 || *at == 0x7f)
			*at = ' ';
	offer(t, number, "", about);
}

static void offer_messages(struct completion *t)
{
	const char *at = strchr(t->word, '@');
	struct sink_args *a = sink_args_new();
	struct sink_reply *r = NULL;
	static char before[300], name[300];
	int64_t messages;

	snprintf(before, sizeof(before), "%.*s", (int)(at + 1 - t->word), t->word);
	snprintf(name, sizeof(name), "%.*s", (int)(at - t->word), t->word);
	sink_args_str(a, "conversation", name);
	if (start_look(t->c))
		r = sink_call(t->c->sink, "show", a, CALL_MS);
	else
		sink_args_free(a);
	messages = r ? sink_int(r, "conversation.messages", 0) : 0;
	sink_reply_free(r);
	if (!messages)
		return;
	t->before = before;
	a = sink_args_new();
	sink_args_str(a, "conversation", name);
	sink_args_int(a, "from", messages > MESSAGES ? messages - MESSAGES : 0);
	sink_args_int(a, "count", MESSAGES);
	r = sink_call(t->c->sink, "log", a, CALL_MS);
	for (size_t i = 0; r && i < sink_count(r, "messages"); i++)
		offer_message(t, r, i);
	sink_reply_free(r);
}

static void offer_templates(struct completion *t)
{
	struct buf b = { 0 };

	template_list(&b);
	for (const char *at = buf_text(&b); *at; at += strcspn(at, "\n") + 1)
		buf_addf(&t->found, "%s%.*s\n", t->before, (int)strcspn(at, "\n"), at);
	buf_release(&b);
}

/* What a word of a usage line stands for. */
static void offer_kind(struct completion *t, const char *kind)
{
	bool message = strstr(kind, "@MESSAGE") != NULL;

	if (message && strchr(t->word, '@')) {
		offer_messages(t);
	} else if (message && !strchr(kind, '[')) {
		t->kind = 'n';
		offer_names(t, "@");
	} else if (message || strcmp(kind, "NAME") == 0 || strcmp(kind, "OLD") == 0) {
		offer_names(t, "");
	} else if (strncmp(kind, "FILE", 4) == 0) {
		t->kind = 'f';
	} else if (strcmp(kind, "VERB") == 0) {
		offer_verbs(t);
	} else if (strcmp(kind, "TEMPLATE") == 0) {
		offer_templates(t);
	} else if (*kind >= 'a' && *kind <= 'z') {
		offer_choices(t, kind, '|');
	}
}

/* ---- the place in the line ---- */

/* Word number `n` of a usage line without its brackets; the last one stands for all that come when it ends in dots. */
static void usage_word(const char *args, size_t n, char *ret, size_t size)
{
	const char *at = args, *last = args;
	size_t len;

	*ret = '\0';
	for (; *at && n; n--) {
		last = at;
		at += strcspn(at, " ");
		at += *at == ' ';
	}
	if (!*at)
		at = strstr(last, "...") ? last : at;
	at += *at == '[';
	len = strcspn(at, " ");
	if (len > 3 && strncmp(at + len - 3, "...", 3) == 0)
		len -= 3;
	else if (len > 4 && strncmp(at + len - 4, "...]", 4) == 0)
		len -= 4;
	else if (len && at[len - 1] == ']' && at > args && at[-1] == '[')
		len--;
	if (len < size)
		snprintf(ret, size, "%.*s", (int)len, at);
}

static void offer_value(struct completion *t, enum option which)
{
	if (option_rows[which].choices)
		offer_choices(t, option_rows[which].choices, ' ');
	else
		offer_kind(t, option_rows[which].value);
}

/* Whether a word of options leaves the value of its last one to the next word. A daemon that it names is ours too. */
static enum option open_option(struct completion *t, uint64_t allowed, const char *word)
{
	enum option which = OPTION_COUNT;
	const char *value = NULL;
	char cause[200];

	if (word[1] == '-') {
		value = strchr(word, '=');
		which = option_named(allowed, word + 2, strcspn(word + 2, "="));
		value = value ? value + 1 : NULL;
	}
	for (const char *at = word + 1; word[1] != '-' && *at && !value; at++) {
		which = option_lettered(allowed, *at);
		if (which != OPTION_COUNT && option_rows[which].value && at[1])
			value = at + 1;
	}
	if (value && (which == OPTION_ENDPOINT || which == OPTION_INSTANCE))
		option_set(&t->c->o, which, value, cause, sizeof(cause));
	return which != OPTION_COUNT && option_rows[which].value && !value ? which : OPTION_COUNT;
}

/* Goes through the words before the last one, and offers what may stand for that. */
static void complete(struct completion *t, const char *const *words, size_t count)
{
	const struct verb *v = NULL;
	enum option open = OPTION_COUNT;
	uint64_t allowed = OPTION_GLOBAL | OPTION_BIT(OPTION_STDIO);
	bool ended = false;
	char cause[200], usage[64];

	t->word = words[count - 1];
	for (size_t i = 1; i + 1 < count; i++) {
		const char *word = words[i];

		if (open != OPTION_COUNT) {
			if (open == OPTION_ENDPOINT || open == OPTION_INSTANCE)
				option_set(&t->c->o, open, word, cause, sizeof(cause));
			open = OPTION_COUNT;
		} else if (!ended && strcmp(word, "--") == 0) {
			ended = true;
		} else if (!ended && word[0] == '-' && word[1]) {
			open = open_option(t, allowed, word);
		} else if (!v) {
			v = verb_find(word);
			if (!v)
				return;
			allowed = OPTION_GLOBAL | v->options;
		} else {
			t->taken[t->taken_count++] = word;
		}
	}
	if (open != OPTION_COUNT) {
		offer_value(t, open);
	} else if (!ended && strncmp(t->word, "--", 2) == 0 && strchr(t->word, '=')) {
		static char before[64];

		open = option_named(allowed, t->word + 2, strcspn(t->word + 2, "="));
		snprintf(before, sizeof(before), "%.*s", (int)strcspn(t->word, "=") + 1, t->word);
		t->before = before;
		if (open != OPTION_COUNT && option_rows[open].value)
			offer_value(t, open);
	} else if (!ended && t->word[0] == '-') {
		offer_options(t, allowed);
	} else if (!v) {
		offer_verbs(t);
	} else {
		usage_word(v->args, t->taken_count, usage, sizeof(usage));
		offer_kind(t, usage);
	}
}

/* ---- the answer ---- */

/* A line of bash, taken apart. */
struct line {
	char **words;
	size_t count;
	size_t kept; /* bytes of the last word that readline leaves as they are */
	char quote;  /* that is open at its end; 0: none */
};

/* One word as bash reads it, from *at on. Readline will replace what follows an open quote, or the last break. */
static void take_word(struct line *l, const char **at, const char *breaks, struct buf *word)
{
	const char *text = *at;
	size_t opened = 0, broken = 0;

	l->quote = '\0';
	for (; *text && (l->quote || (*text != ' ' && *text != '\t')); text++) {
		if (*text == l->quote) {
			l->quote = '\0';
		} else if (!l->quote && (*text == '"' || *text == '\'')) {
			l->quote = *text;
			opened = word->size;
		} else if (*text == '\\' && text[1] && l->quote != '\'') {
			buf_add(word, ++text, 1);
		} else {
			buf_add(word, text, 1);
			if (!l->quote && strchr(breaks, *text))
				broken = word->size;
		}
	}
	l->kept = l->quote ? opened : broken;
	*at = text;
}

/* All words; the last one is empty when the line ends with a blank. False without memory. */
static bool take_apart(struct line *l, const char *text, const char *breaks)
{
	bool more = true;

	while (more) {
		struct buf word = { 0 };
		char **words = realloc(l->words, (l->count + 1) * sizeof(*words));

		if (!words)
			return false;
		l->words = words;
		text += strspn(text, " \t");
		take_word(l, &text, breaks, &word);
		l->words[l->count] = strdup(buf_text(&word));
		buf_release(&word);
		if (!l->words[l->count++])
			return false;
		more = *text != '\0';
	}
	return true;
}

/* A candidate for bash: without what stays in the line, quoted as the rest of it is. */
static void print_quoted(const struct line *l, const char *text, size_t len)
{
	const char *special = l->quote == '\'' ? "" : l->quote == '"' ? "\"\\$`" : " \t\"'\\$`&;|<>()*?[]{}~#!^";

	for (size_t i = l->kept; i < len; i++) {
		if (l->quote == '\'' && text[i] == '\'')
			printf("'\\'");
		else if (strchr(special, text[i]))
			putchar('\\');
		putchar(text[i]);
	}
	putchar('\n');
}

/* `l` is NULL for a shell that compares and quotes by itself. */
static void print_found(const struct completion *t, const struct line *l)
{
	size_t word = strlen(t->word);

	printf("%c\n", t->kind);
	for (const char *at = buf_text(&t->found); *at; at += strcspn(at, "\n") + 1) {
		size_t len = strcspn(at, "\t");

		if (!l)
			printf("%.*s\n", (int)strcspn(at, "\n"), at);
		else if (len >= word && strncmp(at, t->word, word) == 0)
			print_quoted(l, at, len);
	}
}

static int answer(struct cli *c, const char *const *words, size_t count, const struct line *l)
{
	struct completion t = { .c = c, .before = "", .kind = '-' };

	t.taken = calloc(count, sizeof(*t.taken));
	if (!t.taken)
		return fail(FAIL_FAILED, "There is not enough memory.");
	complete(&t, words, count);
	print_found(&t, l);
	free(t.taken);
	buf_release(&t.found);
	return 0;
}

/* bash gives its line up to the cursor, and its COMP_WORDBREAKS. */
static int answer_bash(struct cli *c)
{
	struct line l = { 0 };
	int code;

	if (take_apart(&l, c->o.args[1], c->o.count > 2 ? c->o.args[2] : " \t\n\"'@><=;|&(:"))
		code = answer(c, (const char *const *)l.words, l.count, &l);
	else
		code = fail(FAIL_FAILED, "There is not enough memory.");
	for (size_t i = 0; i < l.count; i++)
		free(l.words[i]);
	free(l.words);
	return code;
}

int completion_run(struct cli *c)
{
	for (size_t i = 0; i < SHELLS; i++) {
		if (strcmp(shells[i].name, c->o.args[0]) != 0)
			continue;
		if (c->o.count > 1)
			return i == 0 ? answer_bash(c) : answer(c, c->o.args + 1, c->o.count - 1, NULL);
		printf("%s", shells[i].script);
		return 0;
	}
	return fail(FAIL_USAGE, "There is no completion for \"%.40s\", but for bash, zsh and fish.", c->o.args[0]);
}
