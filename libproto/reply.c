/*
 * What callers read and write: replies by path, arguments by name. Nothing here touches a socket.
 */
#include "reply.h"

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "cursor.h"

struct sink_args {
	struct out *out;
	int depth;  /* maps and arrays that are open inside */
	bool keyed; /* the caller gave a key */
};

struct err *err_alone(void)
{
	static _Thread_local struct err e;

	return &e;
}

const char *sink_error_name(int code)
{
	return err_name(code);
}

const char *sink_version(void)
{
	return PACKAGE_VERSION;
}

/* ---- arguments ---- */

struct sink_args *sink_args_new(void)
{
	struct sink_args *a = calloc(1, sizeof(*a));

	if (!a || out_new(&a->out, NULL)) {
		free(a);
		return NULL;
	}
	out_map(a->out, NULL);
	return a;
}

void sink_args_free(struct sink_args *a)
{
	if (!a)
		return;
	out_free(a->out);
	free(a);
}

/* Where the next value goes. A key of the request itself is noticed: the library adds none of its own then. */
static struct out *at(struct sink_args *a, const char *key)
{
	if (a->depth == 0 && key && strcmp(key, "key") == 0)
		a->keyed = true;
	return a->out;
}

void sink_args_str(struct sink_args *a, const char *key, const char *value)
{
	out_str(at(a, key), key, value);
}

void sink_args_strn(struct sink_args *a, const char *key, const char *value, size_t len)
{
	out_strn(at(a, key), key, value, len);
}

void sink_args_int(struct sink_args *a, const char *key, int64_t value)
{
	out_int(at(a, key), key, value);
}

void sink_args_float(struct sink_args *a, const char *key, double value)
{
	out_float(at(a, key), key, value);
}

void sink_args_bool(struct sink_args *a, const char *key, bool value)
{
	out_bool(at(a, key), key, value);
}

void sink_args_bin(struct sink_args *a, const char *key, const void *data, size_t size)
{
	out_bin(at(a, key), key, data, size);
}

void sink_args_map(struct sink_args *a, const char *key)
{
	out_map(at(a, key), key);
	a->depth++;
}

void sink_args_array(struct sink_args *a, const char *key)
{
	out_array(at(a, key), key);
	a->depth++;
}

void sink_args_end(struct sink_args *a)
{
	out_end(a->out);
	a->depth--;
}

/* ---- requests ---- */

/* What becomes of a request whose connection is lost before its reply. */
enum again {
	AGAIN_KEYED,	/* it changes something: sent again, a key keeps it from being carried out twice */
	AGAIN_HARMLESS, /* twice it does no more than once: sent again as it is */
	AGAIN_NEVER,	/* it is about this connection, or this daemon alone */
};

/* Verbs that are not named here get a key; so do those of a newer daemon. */
static enum again again_of(const char *op)
{
	static const struct {
		const char *op;
		enum again again;
	} rows[] = {
		{ "list", AGAIN_HARMLESS },	  { "show", AGAIN_HARMLESS },	   { "log", AGAIN_HARMLESS },
		{ "search", AGAIN_HARMLESS },	  { "status", AGAIN_HARMLESS },	   { "models", AGAIN_HARMLESS },
		{ "tokenize", AGAIN_HARMLESS },	  { "score", AGAIN_HARMLESS },	   { "stop", AGAIN_HARMLESS },
		{ "detokenize", AGAIN_HARMLESS }, { "attach", AGAIN_HARMLESS },	   { "bundle", AGAIN_HARMLESS },
		{ "bundle_new", AGAIN_HARMLESS }, { "hello", AGAIN_NEVER },	   { "detach", AGAIN_NEVER },
		{ "credit", AGAIN_NEVER },	  { "shutdown", AGAIN_NEVER },	   { "bundle_read", AGAIN_NEVER },
		{ "bundle_write", AGAIN_NEVER },  { "bundle_close", AGAIN_NEVER },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strcmp(rows[i].op, op) == 0)
			return rows[i].again;
	return AGAIN_KEYED;
}

/* 1 .. 2^63 - 1. */
static int random_key(int64_t *key, struct err *e)
{
	uint64_t bits;

	if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
		return err_set(e, SINK_EIO, "The system gives no random number.");
	*key = (int64_t)(bits >> 1);
	if (!*key)
		*key = 1;
	return 0;
}

/* The frame is ours, but its fields are the caller's: what the call asks for is read back from it. */
static int read_back(const char *op, struct request *q, struct err *e)
{
	const struct val *root;
	struct msg *m;
	int rc = msg_parse(q->frame, q->size, &m, e);

	if (rc == SINK_EFORMAT && e)
		e->code = SINK_EINVAL; /* here it is the caller's mistake, not a peer's */
	if (rc)
		return rc == SINK_EFORMAT ? SINK_EINVAL : rc;
	root = msg_root(m);
	q->repeat = again_of(op) == AGAIN_HARMLESS || val_get(root, "key");
	q->attaches = strcmp(op, "attach") == 0 || val_bool(val_get(root, "attach"), false);
	q->credit = val_int(val_get(root, "credit"), CURSOR_CREDIT);
	q->detaches = strcmp(op, "detach") == 0 ? val_int(val_get(root, "attachment"), 0) : 0;
	msg_free(m);
	return 0;
}

int args_finish(struct sink_args *a, const char *op, uint64_t id, struct request *ret, struct err *e)
{
	int64_t key = 0;
	int rc = 0;

	out_str(a->out, "op", op);
	out_int(a->out, "id", (int64_t)id);
	if (!a->keyed && again_of(op) == AGAIN_KEYED)
		rc = random_key(&key, e);
	if (key)
		out_int(a->out, "key", key);
	out_end(a->out);
	if (!rc)
		rc = out_check(a->out, e);
	if (rc)
		return rc;
	ret->frame = out_data(a->out, &ret->size);
	return read_back(op, ret, e);
}

/* ---- replies ---- */

int reply_new(const void *frame, size_t size, struct sink_reply **ret, struct err *e)
{
	struct sink_reply *r = calloc(1, sizeof(*r));
	const struct val *root, *error;
	int rc;

	if (!r)
		return err_set(e, SINK_ENOMEM, "There is no memory for a reply.");
	rc = msg_parse(frame, size, &r->msg, e);
	if (rc) {
		free(r);
		return rc;
	}
	root = msg_root(r->msg);
	r->top = val_get(root, "ev") ? root : val_get(root, "ok");
	error = val_get(root, "error");
	if (error) {
		const char *code = val_str(val_get(error, "code"), NULL);
		const char *text = val_str(val_get(error, "text"), NULL);

		err_set(&r->error, err_code(code ? code : ""), "%s", text ? text : "The daemon gives no reason.");
	}
	*ret = r;
	return 0;
}

struct sink_reply *reply_new_error(const struct err *why)
{
	struct sink_reply *r = calloc(1, sizeof(*r));

	if (r)
		r->error = *why;
	return r;
}

void sink_reply_free(struct sink_reply *r)
{
	if (!r)
		return;
	msg_free(r->msg);
	free(r);
}

/* ---- queues ---- */

void reply_push(struct reply_queue *q, struct sink_reply *r)
{
	r->next = NULL;
	*q->end = r;
	q->end = &r->next;
}

struct sink_reply *reply_pop(struct reply_queue *q)
{
	struct sink_reply *r = q->first;

	if (!r)
		return NULL;
	q->first = r->next;
	if (!q->first)
		q->end = &q->first;
	r->next = NULL;
	return r;
}

void reply_init(struct reply_queue *q)
{
	q->first = NULL;
	q->end = &q->first;
}

void reply_clear(struct reply_queue *q)
{
	struct sink_reply *r;

	while ((r = reply_pop(q)))
		sink_reply_free(r);
}

void reply_drop(struct reply_queue *q, uint64_t cursor)
{
	struct reply_queue old = *q;
	struct sink_reply *r;

	if (!q->first)
		return;
	reply_init(q);
	while ((r = reply_pop(&old))) {
		if (r->cursor == cursor)
			sink_reply_free(r);
		else
			reply_push(q, r);
	}
}

/* ---- paths ---- */

/* The member of `v` that a part of a path names: a key of a map, an index of an array. */
static const struct val *member(const struct val *v, const char *part, size_t len)
{
	size_t index = 0;

	if (val_type(v) == VAL_MAP) {
		for (size_t i = 0; i < val_count(v); i++) {
			const char *key;
			size_t key_len;
			const struct val *of = val_pair(v, i, &key, &key_len);

			if (key_len == len && memcmp(key, part, len) == 0)
				return val_type(of) == VAL_NIL ? NULL : of;
		}
		return NULL;
	}
	if (len == 0 || len > 9)
		return NULL;
	for (size_t i = 0; i < len; i++) {
		if (part[i] < '0' || part[i] > '9')
			return NULL;
		index = index * 10 + (size_t)(part[i] - '0');
	}
	return val_at(v, index);
}

static const struct val *at_path(const struct sink_reply *r, const char *path)
{
	const struct val *v = r ? r->top : NULL;

	while (v) {
		size_t len = strcspn(path, ".");

		v = member(v, path, len);
		if (!path[len])
			break;
		path += len + 1;
	}
	return v;
}

int64_t sink_reply_request(const struct sink_reply *r)
{
	return r ? r->request : 0;
}

int sink_reply_error(const struct sink_reply *r, const char **text)
{
	if (text)
		*text = r ? r->error.text : "";
	return r ? r->error.code : 0;
}

bool sink_has(const struct sink_reply *r, const char *path)
{
	return val_type(at_path(r, path)) != VAL_NIL;
}

const char *sink_str(const struct sink_reply *r, const char *path, size_t *len)
{
	return val_str(at_path(r, path), len);
}

const void *sink_bin(const struct sink_reply *r, const char *path, size_t *size)
{
	return val_bin(at_path(r, path), size);
}

int64_t sink_int(const struct sink_reply *r, const char *path, int64_t otherwise)
{
	return val_int(at_path(r, path), otherwise);
}

double sink_float(const struct sink_reply *r, const char *path, double otherwise)
{
	return val_float(at_path(r, path), otherwise);
}

bool sink_bool(const struct sink_reply *r, const char *path, bool otherwise)
{
	return val_bool(at_path(r, path), otherwise);
}

size_t sink_count(const struct sink_reply *r, const char *path)
{
	return val_count(at_path(r, path));
}
