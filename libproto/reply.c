/*
 * What callers read and write: replies by path, arguments by name. Nothing here touches a socket.
 */
#include "reply.h"

#include <stdlib.h>
#include <string.h>

struct sink_args {
	struct out *out;
};

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

struct out *args_out(struct sink_args *a)
{
	return a->out;
}

void sink_args_str(struct sink_args *a, const char *key, const char *value)
{
	out_str(a->out, key, value);
}

void sink_args_strn(struct sink_args *a, const char *key, const char *value, size_t len)
{
	out_strn(a->out, key, value, len);
}

void sink_args_int(struct sink_args *a, const char *key, int64_t value)
{
	out_int(a->out, key, value);
}

void sink_args_float(struct sink_args *a, const char *key, double value)
{
	out_float(a->out, key, value);
}

void sink_args_bool(struct sink_args *a, const char *key, bool value)
{
	out_bool(a->out, key, value);
}

void sink_args_map(struct sink_args *a, const char *key)
{
	out_map(a->out, key);
}

void sink_args_array(struct sink_args *a, const char *key)
{
	out_array(a->out, key);
}

void sink_args_end(struct sink_args *a)
{
	out_end(a->out);
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

bool sink_has(const struct sink_reply *r, const char *path)
{
	return val_type(at_path(r, path)) != VAL_NIL;
}

const char *sink_str(const struct sink_reply *r, const char *path, size_t *len)
{
	return val_str(at_path(r, path), len);
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
