/*
 * The daemon's settings: one table of options, each with its name, type, default as text, range and help. The table is
 * what reads the configuration file and the command line, what checks, and what --help and --print-config print; the
 * man pages and contrib/sinkd.conf are compared with it.
 *
 * Later sources win: the defaults, $SINKD_MODEL (the model alone), the configuration file, the command line. The file
 * is the one given by -f, else $XDG_CONFIG_HOME/sinkd/sinkd.conf (or ~/.config/…), else /etc/sinkd/sinkd.conf; only the
 * first of the last two that exists is read. It has lines `name = value`, comments from # or ; on, and at most one
 * section, [sinkd].
 */
#ifndef DAEMON_CONF_H
#define DAEMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "error.h"
#include "policy.h"
#include "settings.h"

struct conf {
	char model[4096];
	char listen[4096]; /* an endpoint of ZeroMQ; a path alone is written as ipc:// before it */
	char kernels[32];
	char device[16];
	int64_t gpu_memory;
	bool batch_invariant;
	char precision[8];
	char cache_type[8];
	int64_t threads; /* 0: all cores */
	bool pin_threads;
	int64_t cache;		  /* bytes for the pages of all conversations */
	char policy[POLICY_TEXT]; /* USUAL_AUTO, or one: see usual_policy() */
	/* Lists of ids (engine/marks.h); "": the vocabulary's own. */
	char separator_ids[4096], anchors[4096];
	double pin_system;	  /* share of a policy's budget, 0..0.9 */
	struct settings sampling; /* of new conversations; without seed and stop strings */
	int64_t batch;		  /* rows of a step */
	double gap;		  /* milliseconds between two tokens of a stream while prompts are read */
	int64_t speculation;	  /* drafts of a stream; DRAFTS_AUTO: as many as pay */
	int64_t conversations, clients, attachments;
	bool status_segment;
	int64_t message_bytes, log_bytes, log_tokens;
	char state[4096]; /* the directory of what is kept; "none": nothing is */
	int64_t event_bytes;
	bool sync_tokens; /* each token is on the disk before it is told */
	bool restore_at_start;
	int64_t cache_idle;		 /* seconds; 0: never */
	int64_t cache_files, free_space; /* bytes */
	int64_t stop_seconds;
	int64_t log_level; /* enum log_level */
};

enum conf_action { CONF_RUN, CONF_TEST, CONF_PRINT, CONF_CHECK, CONF_REPAIR, CONF_HELP, CONF_VERSION };

/* What the command line says beside options. */
struct conf_call {
	enum conf_action action;
	char file[4096]; /* the file that was read, or "" */
};

/*
 * Reads all sources. SINK_EINVAL names the option and the file's line; SINK_ENOENT: the file given by -f cannot be
 * read. *ret and *call are written on success only. Values of `listen` and `state` are filled in where
 * none was given.
 */
int conf_load(int argc, char *const *argv, struct conf *ret, struct conf_call *call, struct err *e);

/*
 * Takes over from `fresh` the options that may change while the daemon runs. The names of those that differ but need a
 * restart are written to `restart`, separated by blanks.
 */
void conf_reload(struct conf *c, const struct conf *fresh, char *restart, size_t size);

/* The table as usage for --help, and as a configuration file with the values of `c`. */
void conf_help(FILE *to);
void conf_print(const struct conf *c, FILE *to);

/* One option from its text, as the file and the command line set it. SINK_EINVAL. */
int conf_set(struct conf *c, const char *name, const char *value, struct err *e);
void conf_defaults(struct conf *c);

#endif
