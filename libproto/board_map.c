/*
 * A look at the board of a daemon (board.h), as a map like those of replies. Nothing is kept between two looks: opening
 * the segment anew costs microseconds, and a daemon that was started again is found without being missed first.
 */
#include "board.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "endpoint.h"
#include "reply.h"

enum { KEY_MOST = 32 };

struct look {
	struct board_header header;
	struct board_state state;
	struct board_row row[BOARD_ROWS];
};

static double clock_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

/*
 * Any user can make a segment of any name, so it must be of somebody who could have made the socket: root, this user,
 * the owner of the socket, or one of the group whom the socket lets in.
 */
static int check_owner(const struct stat *segment, const char *endpoint, struct err *e)
{
	struct stat socket;

	if (segment->st_uid == 0 || segment->st_uid == geteuid())
		return 0;
	if (strncmp(endpoint, "ipc:///", 7) == 0 && stat(endpoint + 6, &socket) == 0 &&
	    (segment->st_uid == socket.st_uid || (segment->st_gid == socket.st_gid && (socket.st_mode & S_IWGRP))))
		return 0;
	return err_set(e, SINK_EIO, "The status segment of %s belongs to user %lu, who has no part in its socket.",
		       endpoint, (unsigned long)segment->st_uid);
}

/* Whether the one who writes it lives. */
static bool is_held(int fd)
{
	struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET };

	return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

static int map_and_read(int fd, size_t size, struct look *l, struct err *e)
{
	void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	int rc;

	if (at == MAP_FAILED)
		return err_set(e, SINK_EIO, "The status segment cannot be mapped: %s.", strerror(errno));
	rc = board_read(at, size, &l->header, &l->state, l->row, e);
	munmap(at, size);
	return rc;
}

static int look_at(int fd, const char *endpoint, const char *canonical, struct look *l, struct err *e)
{
	struct stat st;
	int rc;

	if (fstat(fd, &st) < 0)
		return err_set(e, SINK_EIO, "The status segment cannot be read: %s.", strerror(errno));
	if ((rc = check_owner(&st, endpoint, e)) < 0)
		return rc;
	if (!is_held(fd))
		return err_set(e, SINK_ECONN, "No daemon is running at %s; its last one was killed.", endpoint);
	if ((rc = map_and_read(fd, (size_t)st.st_size, l, e)) < 0)
		return rc;
	if (strncmp(l->header.endpoint, canonical, sizeof(l->header.endpoint)) != 0)
		return err_set(e, SINK_ECONN, "No daemon publishes its state for %s.", endpoint);
	return 0;
}

static int look(const char *given, struct look *l, struct err *e)
{
	char endpoint[4096], canonical[BOARD_ENDPOINT], name[BOARD_NAME];
	int rc = endpoint_find(given, endpoint, sizeof(endpoint), e), fd;

	if (rc < 0 || (rc = board_name(endpoint, canonical, name, e)) < 0)
		return rc;
	fd = shm_open(name, O_RDONLY, 0);
	if (fd < 0 && errno == ENOENT)
		return err_set(e, SINK_ECONN, "No daemon publishes its state for %s.", endpoint);
	if (fd < 0)
		return err_set(e, SINK_EIO, "The status segment of %s cannot be opened: %s.", endpoint,
			       strerror(errno));
	rc = look_at(fd, endpoint, canonical, l, e);
	close(fd);
	return rc;
}

/* Fields. */

static uint32_t u32_at(const char *at)
{
	uint32_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static int64_t i64_at(const char *at)
{
	int64_t v;

	memcpy(&v, at, sizeof(v));
	return v;
}

static double float_at(const char *at, bool wide)
{
	double v;
	float f;

	if (wide) {
		memcpy(&v, at, sizeof(v));
		return v;
	}
	memcpy(&f, at, sizeof(f));
	return (double)f;
}

static const char *word_of(const struct board_field *f, uint32_t number)
{
	for (uint32_t i = 0; f->words[i]; i++)
		if (i == number)
			return f->words[i];
	return "unknown";
}

static void write_counts(struct out *o, const char *key, const char *at, size_t size)
{
	out_array(o, key);
	for (size_t i = 0; i < size; i += sizeof(int64_t))
		out_int(o, NULL, i64_at(at + i));
	out_end(o);
}

static void write_field(struct out *o, const struct board_field *f, const char *key, const char *at)
{
	switch (f->type) {
	case BOARD_U32:
		out_int(o, key, u32_at(at));
		break;
	case BOARD_I64:
		out_int(o, key, i64_at(at));
		break;
	case BOARD_F32:
	case BOARD_F64:
		out_float(o, key, float_at(at, f->type == BOARD_F64));
		break;
	case BOARD_TEXT:
		out_strn(o, key, at, strnlen(at, f->size));
		break;
	case BOARD_COUNTS:
		write_counts(o, key, at, f->size);
		break;
	case BOARD_BOOL:
		out_bool(o, key, u32_at(at) != 0);
		break;
	case BOARD_WORD:
		out_str(o, key, word_of(f, u32_at(at)));
		break;
	}
}

/* Neighbours whose names have the same beginning before a dot are one map. */
static void write_fields(struct out *o, const struct board_field *f, const void *at)
{
	char group[KEY_MOST] = "";

	for (; f->name; f++) {
		const char *dot = strchr(f->name, '.');
		const size_t len = dot ? (size_t)(dot - f->name) : 0;

		if (dot == f->name)
			continue;
		if (*group && (strncmp(group, f->name, len) != 0 || group[len])) {
			out_end(o);
			*group = '\0';
		}
		if (dot && !*group) {
			memcpy(group, f->name, len);
			group[len] = '\0';
			out_map(o, group);
		}
		write_field(o, f, dot ? dot + 1 : f->name, (const char *)at + f->offset);
	}
	if (*group)
		out_end(o);
}

static void write_look(struct out *o, const struct look *l)
{
	const double age = (clock_ms() - l->state.clock) / 1e3;

	out_map(o, NULL);
	out_map(o, "ok");
	write_fields(o, board_header_fields, &l->header);
	out_float(o, "age", age > 0 ? age : 0);
	write_fields(o, board_state_fields, &l->state);
	out_array(o, "latest");
	for (uint32_t i = 0; i < l->state.rows; i++) {
		out_map(o, NULL);
		write_fields(o, board_row_fields, &l->row[i]);
		out_end(o);
	}
	out_end(o);
	out_end(o);
	out_end(o);
}

static int reply_of(const struct look *l, struct sink_reply **ret, struct err *e)
{
	const void *frame;
	struct out *o;
	size_t size;
	int rc = out_new(&o, e);

	if (rc < 0)
		return rc;
	write_look(o, l);
	rc = out_check(o, e);
	if (rc == 0) {
		frame = out_data(o, &size);
		rc = reply_new(frame, size, ret, e);
	}
	out_free(o);
	return rc;
}

struct sink_reply *sink_board(const char *endpoint)
{
	struct err *e = err_alone();
	struct look *l = calloc(1, sizeof(*l));
	struct sink_reply *r = NULL;

	*e = (struct err){ 0 };
	if (!l) {
		err_set(e, SINK_ENOMEM, "There is no memory for the daemon's state.");
		return NULL;
	}
	if (look(endpoint, l, e) == 0)
		reply_of(l, &r, e);
	free(l);
	return r;
}
