/*
 * The verbs of `sink`: one table, from which come dispatch, help, "did you mean", and the manual's test.
 *
 * A new verb is a row in verb.c and a function here. The function finds its arguments counted, its options checked, and
 * the daemon connected (or started) as the row asks; it returns an exit code of fail.h and has said why.
 */
#ifndef CLIENT_VERB_H
#define CLIENT_VERB_H

#include <stdint.h>

#include "buf.h"
#include "fail.h"
#include "option.h"
#include "sink.h"

enum verb_daemon {
	VERB_ALONE,  /* needs no daemon */
	VERB_LOOKS,  /* talks to one that runs; "no daemon is running" otherwise */
	VERB_STARTS, /* starts one when none runs and a model is known */
};

struct cli {
	const struct verb *verb;
	struct options o;
	struct sink *sink; /* connected unless the verb is VERB_ALONE */
	struct buf prefix; /* what a template puts in front of a prompt */
	char endpoint[160];
};

struct verb {
	const char *name, *alias; /* alias: NULL when there is none */
	const char *args;	  /* as the usage line shows them */
	int least, most;	  /* how many arguments; most -1: any number */
	enum verb_daemon daemon;
	uint64_t options;    /* bits beyond OPTION_GLOBAL */
	const char *group;   /* the heading of the overview under which it stands */
	const char *summary; /* one line */
	const char *text;    /* what the help adds; NULL: nothing */
	int (*run)(struct cli *c);
};

/* All verbs in the order of the overview; the row after the last has no name. */
extern const struct verb verb_rows[];

const struct verb *verb_find(const char *name); /* by name or alias; NULL: none */
const char *verb_nearest(const char *name);	/* NULL when none is near */
void verb_help(const struct verb *v);		/* to standard output; NULL: the overview */

/* A call with the time limit that every short verb has. NULL: the error was said; *code is the exit code. */
struct sink_reply *verb_call(struct cli *c, const char *op, struct sink_args *a, int *code);

/* Tells the note that a reply may carry; verb_call() has done it. */
void verb_note(const struct sink_reply *r);

/* Prints a reply's member (NULL: the whole) as a line of JSON. */
int verb_json(const struct sink_reply *r, const char *member);

/* Prints each element of a reply's array as a line of JSON. */
int verb_json_lines(const struct sink_reply *r, const char *member);

/* ask.c */
int ask_run(struct cli *c);
int ask_regen(struct cli *c);
/* chat.c */
int chat_run(struct cli *c);
/* see.c */
int see_ls(struct cli *c);
int see_show(struct cli *c);
int see_info(struct cli *c, const char *name);
int see_status(struct cli *c);
int see_tokenize(struct cli *c);
/* acp.c */
int acp_run(struct cli *c);
/* stdio.c */
int stdio_run(struct cli *c);
/* top.c */
int top_run(struct cli *c);
/* log.c */
int log_run(struct cli *c);
int log_watch(struct cli *c, const char *name); /* attach where there is no terminal */
/* change.c */
int change_new(struct cli *c);
int change_stop(struct cli *c);
int change_wait(struct cli *c);
int change_rm(struct cli *c);
int change_mv(struct cli *c);
int change_fork(struct cli *c);
int change_rewind(struct cli *c);
int change_rewind_to(struct cli *c, const char *name, int64_t message);
int change_pin(struct cli *c);
int change_unpin(struct cli *c);
int change_pin_one(struct cli *c, const char *name, bool pin);
int change_shutdown(struct cli *c);
/* grep.c; `name` NULL: all conversations, `count` 0: as many as the daemon likes */
int grep_run(struct cli *c);
int grep_text(struct cli *c, const char *name, const char *text, int64_t count);
/* template.c */
int template_run(struct cli *c);
/* completion.c */
int completion_run(struct cli *c);
/* bundle.c */
int bundle_export(struct cli *c);
int bundle_export_to(struct cli *c, const char *name, const char *path); /* JSON to *.json, else Markdown */
int bundle_import(struct cli *c);
/* What a file is by its first bytes; JSON and others are text, which has no NUL. */
enum bundle_kind { BUNDLE_JSON, BUNDLE_BYTES, BUNDLE_OTHER };
enum bundle_kind bundle_kind(const char *data, size_t size);

#endif
