/*
 * Inside the verbs: the functions of the table in verb.c, and what they share.
 *
 * Each function returns 0 when it has replied or keeps the request for later, or a negative code: then the error is the
 * reply, and the request is freed by the caller.
 */
#ifndef DAEMON_VERB_TABLE_H
#define DAEMON_VERB_TABLE_H

#include "core.h"

/* What must be so before a verb can be served. */
enum {
	NEEDS_NOTHING,
	NEEDS_TEXT = 1,	  /* the conversation's text is in memory */
	NEEDS_HOME = 2,	  /* no batch, no tokenizer and no proof has the conversation */
	NEEDS_CACHES = 4, /* no batch is away at all */
	NEEDS_CACHE = 8,  /* the conversation's cache is as good as it can be made */
	NEEDS_FREE = 16,  /* nothing of it is being read or written */
	NEEDS_FILE = 64,  /* the file of its cache is as good as the cache, if it is asked for */
	NEEDS_FORK = 32,  /* what will not change of its text is in the store */
};

typedef int verb_function(struct core *c, struct request *r, struct err *e);

verb_function verb_new, verb_say;						 /* verb_talk.c */
verb_function verb_regenerate, verb_generate, verb_rewind, verb_fork, verb_stop; /* verb_again.c */
verb_function verb_list, verb_show, verb_log, verb_rename, verb_remove, verb_attach, verb_detach,
	verb_credit;						     /* verb_see.c */
verb_function verb_feed, verb_tokenize, verb_detokenize, verb_score; /* verb_text.c */

verb_function verb_pin, verb_search, verb_bundle, verb_bundle_read, verb_bundle_new, verb_bundle_write,
	verb_bundle_import, verb_bundle_close; /* verb_keep.c */

/* The conversation that the request names. SINK_EINVAL, SINK_ENOENT. */
int verb_conversation(struct core *c, const struct request *r, struct conversation **ret, struct err *e);

/* A new conversation with the fields of the request; the caller removes it when it goes no further. */
int verb_make(struct core *c, const struct request *r, const char *name, size_t len, struct conversation **ret,
	      struct err *e);

/* Writes the conversation's info and, once, the note that its making has left. */
void verb_write_made(struct conversation *v, struct out *o);

/* The list `key` of a request, at most `most` ids, each checked against the vocabulary. *ret is the caller's. */
int verb_read_ids(const struct core *c, const struct request *r, const char *key, size_t most, struct tokens *ret,
		  struct err *e);

/* What `attach` and `credit` of a say, regenerate or generate ask for. */
struct follow {
	bool attach;
	int64_t credit;
};
enum { CREDIT_USUAL = 262144, CREDIT_MOST = 1 << 30 };
int verb_follow(const struct request *r, struct follow *ret, struct err *e);

/*
 * Attaches the client of the request from event `from` on. A client has one attachment a conversation: one that it has
 * is moved there, or left where it is (`stay`) with at least this credit. 0 with NULL when the client is gone.
 */
int verb_attach_at(struct core *c, const struct request *r, struct conversation *v, int64_t from, int64_t credit,
		   bool stay, struct attachment **ret, struct err *e);

/* The reply of say, regenerate and generate, with the attachment asked for. */
void verb_reply_said(struct core *c, struct request *r, struct conversation *v, const struct follow *f, int64_t message,
		     int64_t seq);

/* Puts the tokens of an encode job into the log, and its messages behind each other. */
int verb_write_pieces(struct core *c, struct conversation *v, const struct encode *n, struct err *e);

/* The text of an encode job is back: its conversation is at home again. */
void verb_text_home(struct core *c, struct encode *n);

/* Serves a request that was kept, or lets it wait. */
void verb_admit(struct core *c, struct request *r);

#endif
