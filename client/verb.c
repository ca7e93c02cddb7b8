/* The verb table and what is made from it: look-up, the overview, the help of one verb. */
#include "verb.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "nearest.h"
#include "term.h"

enum { CALL_MS = 30000 };

#define BIT(name) OPTION_BIT(OPTION_##name)

static int help_run(struct cli *c);

static const char talk[] = "Talk", see[] = "See", change[] = "Change", tools[] = "Tools", bridges[] = "Bridges";

const struct verb verb_rows[] = {
	{ "ask", NULL, "[PROMPT|-]", 0, -1, VERB_STARTS,
	  BIT(CONVERSATION) | BIT(TEMPORARY) | BIT(TEMPLATE) | BIT(SYSTEM) | BIT(POLICY) | BIT(MARKS) | BIT(FILE) |
		  BIT(DETACH) | BIT(STRICT) | BIT(TIMEOUT) | OPTION_SAMPLING,
	  talk, "ask one question; the answer alone goes to standard output",
	  "Several words are one prompt. Files and, when it is no terminal, standard input are added\n"
	  "to it after a blank line each; - is standard input alone. Without -c and $SINK_CONVERSATION\n"
	  "the conversation is temporary. Ctrl-C stops the answer.",
	  ask_run },
	{ "attach", "a", "[NAME]", 0, 1, VERB_STARTS, BIT(READ_ONLY) | BIT(TEMPLATE), talk,
	  "talk in a conversation; `sink` alone takes the last one",
	  "Ctrl-C stops the answer, Ctrl-D detaches, /help tells the rest. Where input or output is no\n"
	  "terminal, the conversation is shown and followed as by log -f. With -t a conversation that is\n"
	  "missing is made of the template.",
	  chat_run },
	{ "regen", NULL, "[NAME]", 0, 1, VERB_STARTS, BIT(DETACH) | BIT(STRICT) | BIT(TIMEOUT) | OPTION_SAMPLING, talk,
	  "make the last answer anew", NULL, ask_regen },
	{ "stop", NULL, "[NAME]", 0, 1, VERB_LOOKS, 0, talk, "stop the answer; what was written stays", NULL,
	  change_stop },
	{ "wait", NULL, "[NAME]", 0, 1, VERB_LOOKS, BIT(TIMEOUT) | BIT(STRICT), talk, "wait for the answer's end",
	  "The exit code tells how it ended, also when it ended before.", change_wait },
	{ "ls", "list", "", 0, 0, VERB_LOOKS, BIT(FIELDS) | BIT(NO_LEGEND), see,
	  "list the conversations, the last used first",
	  "With -F a line is written for each, {KEY} in it being what --json has under that key, as\n"
	  "{name} or {sampling.seed}; \\t and \\n are tab and newline, {{ is a brace.",
	  see_ls },
	{ "log", NULL, "[NAME]", 0, 1, VERB_LOOKS, BIT(FOLLOW) | BIT(NUMBER) | BIT(SINCE) | BIT(FROM) | BIT(NO_PAGER),
	  see, "show the messages of a conversation",
	  "With --from its events are replayed from that number on, to the end of an answer that is\n"
	  "being written. With -f it goes on with what comes, until Ctrl-C. --json prints messages, or\n"
	  "with --from or -f events, which carry their number as seq.",
	  log_run },
	{ "show", NULL, "[NAME[@MESSAGE]]", 0, 1, VERB_LOOKS, 0, see, "show a conversation's figures, or one message",
	  NULL, see_show },
	{ "grep", NULL, "TEXT...", 1, -1, VERB_LOOKS, BIT(WITHIN) | BIT(NUMBER), see,
	  "find the messages that hold a text, the latest first",
	  "Several words are one text with blanks between them. Small and capital letters are the same\n"
	  "where they are ASCII. Exit 4 when nothing is found.",
	  grep_run },
	{ "top", NULL, "", 0, 0, VERB_ALONE, BIT(ONCE) | BIT(INTERVAL) | BIT(TIMES), see,
	  "watch the daemon at work; exit 3 when none runs",
	  "It reads what the daemon shows in shared memory and sends no message, so it works while\n"
	  "the daemon is stopped or busy. Keys: q ends, arrows or j and k select, Enter attaches, s\n"
	  "sorts otherwise. Without a terminal it prints one table after another. --json is one\n"
	  "object, and one each time with -d or -n.",
	  top_run },
	{ "status", NULL, "", 0, 0, VERB_LOOKS, 0, see, "show the daemon; exit 3 when none runs", NULL, see_status },
	{ "new", NULL, "[NAME]", 0, 1, VERB_STARTS,
	  BIT(TEMPLATE) | BIT(SYSTEM) | BIT(POLICY) | BIT(MARKS) | OPTION_SAMPLING, change,
	  "make a conversation and print its name", "The sampling settings become the conversation's own.",
	  change_new },
	{ "mv", "rename", "OLD NEW", 2, 2, VERB_STARTS, 0, change, "rename a conversation", NULL, change_mv },
	{ "fork", "cp", "NAME[@MESSAGE] NEW", 2, 2, VERB_STARTS, 0, change,
	  "copy a conversation, or its messages before MESSAGE", NULL, change_fork },
	{ "rewind", NULL, "NAME@MESSAGE", 1, 1, VERB_STARTS, 0, change, "forget the messages from MESSAGE on", NULL,
	  change_rewind },
	{ "rm", "remove", "NAME...", 1, -1, VERB_LOOKS, BIT(FORCE), change, "remove conversations for good",
	  "On a terminal it asks first. Names are exact.", change_rm },
	{ "pin", NULL, "NAME...", 1, -1, VERB_LOOKS, 0, change, "let conversations be the last to leave memory", NULL,
	  change_pin },
	{ "unpin", NULL, "NAME...", 1, -1, VERB_LOOKS, 0, change, "let them leave memory like others again", NULL,
	  change_unpin },
	{ "export", NULL, "NAME", 1, 1, VERB_LOOKS, BIT(OUTPUT) | BIT(FORMAT) | BIT(CACHE) | BIT(FORCE), tools,
	  "write a conversation as Markdown, as JSON or as a bundle",
	  "A bundle holds all that import needs to go on with the same words elsewhere; it is never\n"
	  "written to a terminal. --json is --format json.",
	  bundle_export },
	{ "import", NULL, "FILE|- [NAME]", 1, 2, VERB_STARTS, 0, tools,
	  "make a conversation of a bundle or a JSON export, and print its name",
	  "The messages of a JSON export are said again one by one, and read by the model.", bundle_import },
	{ "tokenize", NULL, "[TEXT|-]", 0, 1, VERB_STARTS, BIT(SPECIAL), tools, "show the tokens of a text", NULL,
	  see_tokenize },
	{ "template", NULL, "[ls|show|edit|path] [TEMPLATE]", 0, 2, VERB_ALONE, 0, tools,
	  "show and edit templates for conversations",
	  "A template is an INI file. Its keys are system, policy, marks, and the names of the sampling\n"
	  "settings; prompt, which ask puts in front of a prompt; and description. Lines that begin\n"
	  "with a blank go on, and system = @FILE reads a file beside it. What the command line says\n"
	  "comes first.",
	  template_run },
	{ "completion", NULL, "bash|zsh|fish [WORD...]", 1, -1, VERB_ALONE, 0, tools,
	  "print what makes a shell complete the words of sink",
	  "For one shell: eval \"$(sink completion bash)\". With words, what may stand for the last of\n"
	  "them, as the scripts ask for it.",
	  completion_run },
	{ "shutdown", NULL, "", 0, 0, VERB_LOOKS, 0, tools, "end the daemon", NULL, change_shutdown },
	{ "help", NULL, "[VERB]", 0, 1, VERB_ALONE, 0, tools, "show this, or the help of one verb", NULL, help_run },
	{ "stdio", NULL, "", 0, 0, VERB_STARTS, 0, bridges, "speak JSON-RPC with an editor, a message a line",
	  "`sink --stdio` is the same. Methods are the verbs of the protocol, events are notifications;\n"
	  "sink-stdio(7) tells the rest. `ssh HOST sink --stdio` works.",
	  stdio_run },
	{ "acp", NULL, "", 0, 0, VERB_STARTS,
	  BIT(CONVERSATION) | BIT(SYSTEM) | BIT(POLICY) | BIT(MARKS) | OPTION_SAMPLING, bridges,
	  "be the agent of an editor that speaks the Agent Client Protocol",
	  "A session is a conversation, named after the editor's folder; with -c it is that one.\n"
	  "sink-stdio(7) tells how editors are told of it.",
	  acp_run },
	{ 0 },
};

const struct verb *verb_find(const char *name)
{
	for (const struct verb *v = verb_rows; v->name; v++)
		if (strcmp(v->name, name) == 0 || (v->alias && strcmp(v->alias, name) == 0))
			return v;
	return NULL;
}

const char *verb_nearest(const char *name)
{
	const char *names[2 * sizeof(verb_rows) / sizeof(verb_rows[0])];
	size_t count = 0;

	for (const struct verb *v = verb_rows; v->name; v++) {
		names[count++] = v->name;
		if (v->alias)
			names[count++] = v->alias;
	}
	return nearest(name, strlen(name), names, count);
}

static void print_option(const struct option_row *row)
{
	char left[64];

	if (row->letter)
		snprintf(left, sizeof(left), "-%c, --%s%s%s", row->letter, row->name, row->value ? " " : "",
			 row->value ? row->value : "");
	else
		snprintf(left, sizeof(left), "    --%s%s%s", row->name, row->value ? " " : "",
			 row->value ? row->value : "");
	printf("  %-28s %s\n", left, row->help);
}

static void print_options(const char *title, uint64_t options)
{
	if (!options)
		return;
	printf("\n%s:\n", title);
	for (enum option i = 0; i < OPTION_COUNT; i++)
		if (options & OPTION_BIT(i))
			print_option(&option_rows[i]);
}

static void print_overview(void)
{
	const char *group = "";
	const struct fail_row *codes;
	size_t count;

	printf("sink: conversations with a language model that outlive their terminals\n\n"
	       "Usage: sink [OPTIONS] [VERB] [ARGUMENTS]      sink alone: attach to the last conversation\n");
	for (const struct verb *v = verb_rows; v->name; v++) {
		char left[64];

		if (strcmp(group, v->group) != 0)
			printf("\n%s:\n", v->group);
		group = v->group;
		snprintf(left, sizeof(left), "%s %s", v->name, v->args);
		printf("  %-28s %s\n", left, v->summary);
	}
	print_options("In place of a verb", BIT(STDIO));
	print_options("Options of every verb", OPTION_GLOBAL);
	printf("\nNames: a unique beginning is enough, except for rm and mv; =NAME is exact; - is the last used.\n");
	printf("Environment: SINK_HOST, SINK_CONVERSATION, SINKD, SINKD_MODEL, NO_COLOR\n");
	printf("\nExit codes:\n");
	codes = fail_rows(&count);
	for (size_t i = 0; i < count; i++)
		printf("  %3d  %s\n", (int)codes[i].code, codes[i].meaning);
	printf("\n`sink help VERB` tells more about one; so does sink(1).\n");
}

void verb_help(const struct verb *v)
{
	if (!v) {
		print_overview();
		return;
	}
	printf("Usage: sink %s%s%s%s\n\n%c%s.\n", v->name, " [OPTIONS]", *v->args ? " " : "", v->args,
	       v->summary[0] & ~0x20, v->summary + 1);
	if (v->text)
		printf("%s\n", v->text);
	if (v->alias)
		printf("\nAlso called: %s\n", v->alias);
	print_options("Options", v->options);
	print_options("Options of every verb", OPTION_GLOBAL);
}

static int help_run(struct cli *c)
{
	const char *name = c->o.count ? c->o.args[0] : NULL, *near;
	const struct verb *v = name ? verb_find(name) : NULL;

	if (!name || v) {
		verb_help(v);
		return 0;
	}
	near = verb_nearest(name);
	return fail(FAIL_USAGE, "There is no verb \"%s\"%s%s%s", name, near ? "; did you mean " : ".", near ? near : "",
		    near ? "?" : "");
}

struct sink_reply *verb_call(struct cli *c, const char *op, struct sink_args *a, int *code)
{
	struct sink_reply *r = sink_call(c->sink, op, a, CALL_MS);

	*code = r ? 0 : fail_sink(c->sink);
	if (r)
		verb_note(r);
	return r;
}

void verb_note(const struct sink_reply *r)
{
	const char *note = sink_str(r, "note", NULL);

	if (note)
		term_note("sink: %s\n", note);
}

int verb_json(const struct sink_reply *r, const char *member)
{
	char *text = sink_json(r);
	struct json all = { text, text ? strlen(text) : 0 }, one = all;

	if (!text)
		return fail(FAIL_FAILED, "There is not enough memory.");
	if (member)
		json_member(all, member, &one);
	term_raw(one.text, one.size);
	term_raw("\n", 1);
	free(text);
	return 0;
}

int verb_json_lines(const struct sink_reply *r, const char *member)
{
	char *text = sink_json(r);
	struct json all = { text, text ? strlen(text) : 0 }, array, one;
	size_t at = 0;

	if (!text)
		return fail(FAIL_FAILED, "There is not enough memory.");
	while (json_member(all, member, &array) && json_next(array, &at, &one)) {
		term_raw(one.text, one.size);
		term_raw("\n", 1);
	}
	free(text);
	return 0;
}
