/*
 * Owns how the file is found, made, opened and wiped, and what is said when that fails.
 *
 * A new file is made beside its place and renamed, in rollback mode; only then it is switched to WAL. So the version in
 * the main file's first page is always the truth, and can be read without SQLite, which would begin by recovering the
 * log. One lock for the directory is held for life, over moments when the file is closed, and makes SQLite's own
 * exclusive mode safe, which needs no shared memory beside the file.
 */
#include "store_file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
	APPLICATION = 0x73696e6b, /* "sink" */
	LOG_LIMIT = 8 << 20,	  /* bytes that the log may keep when it begins anew */
	HEAD = 100,		  /* of an SQLite file */
	AT_FORMATS = 18,
	AT_VERSION = 60,
	AT_APPLICATION = 68,
	OLDEST_SQLITE = 3038000,
	TIDY_PAGES = 256,
	PATH_MOST = 4000, /* of the directory: names of files in it fit in 4096 bytes */
};

/*
 * Version 1. Names of conversations are not UNIQUE for SQLite: one commit may move a name from one to another in any
 * order, and a damaged row, which is not shown, must not keep its name from being used.
 */
static const char *const first_schema[] = {
	"CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER, sum INTEGER) WITHOUT ROWID",
	"CREATE TABLE conversation(id INTEGER PRIMARY KEY, segment INTEGER, name TEXT, created REAL, used REAL, "
	"state BLOB, sum INTEGER)",
	"CREATE INDEX conversation_segment ON conversation(segment)",
	"CREATE TABLE segment(id INTEGER PRIMARY KEY, parent INTEGER, tokens INTEGER, messages INTEGER, "
	"least_tokens INTEGER, least_messages INTEGER, sum INTEGER)",
	"CREATE INDEX segment_parent ON segment(parent)",
	"CREATE TABLE message(id INTEGER PRIMARY KEY, segment INTEGER, number INTEGER, role INTEGER, "
	"first_token INTEGER, tokens INTEGER, time REAL, finish TEXT, raw INTEGER, text TEXT, sum INTEGER)",
	"CREATE UNIQUE INDEX message_number ON message(segment, number)",
	"CREATE INDEX message_strange ON message(id) WHERE typeof(text) = 'blob'",
	"CREATE TABLE token(segment INTEGER, first INTEGER, ids BLOB, sum INTEGER, PRIMARY KEY(segment, first)) "
	"WITHOUT ROWID",
	"CREATE TABLE event(conversation INTEGER, seq INTEGER, count INTEGER, at INTEGER, records BLOB, "
	"sum INTEGER, PRIMARY KEY(conversation, seq)) WITHOUT ROWID",
	"CREATE TABLE reply(n INTEGER PRIMARY KEY, key INTEGER UNIQUE, frame BLOB, sum INTEGER)",
	"CREATE VIRTUAL TABLE search USING fts5(text, content='message', content_rowid='id', tokenize='trigram', "
	"detail='none', columnsize=0)",
	NULL,
};

/* Row v takes a file from version v to the next; an empty file is version 0. */
static const char *const *const upgrade[STORE_VERSION] = { first_schema };

#define STORE_STATEMENT_TEXT(name, text) text,
static const char *const text[STORE_STATEMENTS] = { STORE_STATEMENT_LIST(STORE_STATEMENT_TEXT) };

int store_damaged(const struct store *s, struct err *e, const char *fmt, ...)
{
	char what[160];
	va_list args;

	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);
	return err_set(e, SINK_EFORMAT, "%s is damaged: %s.", s->path, what);
}

int store_no_memory(const struct store *s, struct err *e)
{
	return err_set(e, SINK_ENOMEM, "There is no memory for what is in %s.", s->path);
}

int store_fail(struct store *s, int rc, struct err *e)
{
	int plain = rc & 0xff, why = s->db ? sqlite3_system_errno(s->db) : errno;
	const char *says = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(rc);

	if (plain == SQLITE_ERROR && why) /* the index says so of tables that it could not read */
		plain = SQLITE_IOERR;
	if (plain == SQLITE_IOERR ||
	    plain == SQLITE_NOMEM) /* what the connection has in memory is not to be relied on */
		s->failed = true;
	if (plain == SQLITE_NOMEM || rc == SQLITE_IOERR_NOMEM)
		return store_no_memory(s, e);
	if (plain == SQLITE_FULL || (plain == SQLITE_IOERR && (why == ENOSPC || why == EDQUOT)))
		return err_set(e, SINK_EBUSY, "%s cannot grow: the disk is full, or a quota is.", s->path);
	if (plain == SQLITE_BUSY || plain == SQLITE_LOCKED)
		return err_set(e, SINK_EBUSY, "Another process has %s open.", s->path);
	/* The statements are sound, so an error in one is a schema that is not. */
	if (plain == SQLITE_CORRUPT || plain == SQLITE_NOTADB || plain == SQLITE_ERROR)
		return store_damaged(s, e, "%s", says);
	if (plain == SQLITE_IOERR && why)
		return err_set(e, SINK_EIO, "%s cannot be used: %s (%s).", s->path, says, strerror(why));
	return err_set(e, SINK_EIO, "%s cannot be used: %s.", s->path, says);
}

int store_exec(struct store *s, const char *sql, struct err *e)
{
	int rc = sqlite3_exec(s->db, sql, NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : store_fail(s, rc, e);
}

int store_begin(struct store *s, struct err *e)
{
	sqlite3_reset(s->statement[STORE_BEGIN]);
	return store_run(s, STORE_BEGIN, e);
}

int store_end(struct store *s, int rc, struct err *e)
{
	if (rc == 0)
		rc = store_run(s, STORE_COMMIT, e);
	if (rc < 0 && !sqlite3_get_autocommit(s->db))
		store_run(s, STORE_ROLLBACK, NULL);
	return rc;
}

sqlite3_stmt *store_bind(struct store *s, enum store_statement which, int count, const int64_t *value)
{
	sqlite3_stmt *st = s->statement[which];

	sqlite3_reset(st);
	for (int i = 0; i < count; i++)
		sqlite3_bind_int64(st, i + 1, value[i]);
	return st;
}

int store_step(struct store *s, sqlite3_stmt *st, struct err *e)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	rc = rc == SQLITE_DONE ? 0 : store_fail(s, rc, e);
	sqlite3_reset(st);
	return rc;
}

int store_run(struct store *s, enum store_statement which, struct err *e)
{
	int rc = store_step(s, s->statement[which], e);

	assert(rc <= 0);
	return rc;
}

int store_file_new(const char *dir, struct store **ret, struct err *e)
{
	struct store *s = calloc(1, sizeof(*s));
	size_t size = strlen(dir) + sizeof("/sinkd.db");

	if (s) {
		s->lock = -1;
		s->dir = strdup(dir);
		s->path = malloc(size);
	}
	if (!s || !s->dir || !s->path) {
		store_file_free(s);
		return err_set(e, SINK_ENOMEM, "There is no memory for a store.");
	}
	snprintf(s->path, size, "%s/sinkd.db", dir);
	*ret = s;
	return 0;
}

void store_file_free(struct store *s)
{
	if (!s)
		return;
	store_file_close(s);
	if (s->lock >= 0)
		close(s->lock);
	free(s->loose);
	free(s->path);
	free(s->dir);
	free(s);
}

int store_file_lock(struct store *s, struct err *e)
{
	char name[4096];
	struct stat st;

	if (stat(s->dir, &st) < 0)
		return err_set(e, SINK_EIO, "The directory %s cannot be used: %s.", s->dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return err_set(e, SINK_EIO, "%s is no directory.", s->dir);
	if (st.st_uid != geteuid())
		return err_set(e, SINK_EIO, "The directory %s belongs to another user (%lu).", s->dir,
			       (unsigned long)st.st_uid);
	if (strlen(s->dir) > PATH_MOST)
		return err_set(e, SINK_EIO, "The path of the directory %s is too long.", s->dir);
	snprintf(name, sizeof(name), "%s/sinkd.lock", s->dir);
	s->lock = open(name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->lock < 0)
		return err_set(e, SINK_EIO, "The lock file %s cannot be opened: %s.", name, strerror(errno));
	if (flock(s->lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(e, SINK_EBUSY, "Another sinkd uses the directory %s.", s->dir);
	return 0;
}

static uint32_t big_endian(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* Without its file a log belongs to nothing, and SQLite would put it into the next file of that name. */
static int find_orphan(const struct store *s, struct err *e)
{
	char name[4096];
	struct stat st;

	snprintf(name, sizeof(name), "%s-wal", s->path);
	if (lstat(name, &st) == 0)
		return store_damaged(s, e, "it is gone, and its log is there");
	return err_set(e, SINK_ENOENT, "There is no store in %s.", s->dir);
}

int store_file_peek(const struct store *s, struct err *e)
{
	int fd = open(s->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	uint8_t head[HEAD];
	struct stat st;
	ssize_t n;

	if (fd < 0 && errno == ENOENT)
		return find_orphan(s, e);
	if (fd < 0)
		return err_set(e, SINK_EIO, "%s cannot be opened: %s.", s->path,
			       errno == ELOOP ? "it is a symbolic link" : strerror(errno));
	n = fstat(fd, &st) < 0 ? -1 : pread(fd, head, sizeof(head), 0);
	close(fd);
	if (n < 0 || !S_ISREG(st.st_mode))
		return err_set(e, SINK_EIO, "%s cannot be read: %s.", s->path,
			       n < 0 ? strerror(errno) : "it is no file");
	if (st.st_uid != geteuid())
		return err_set(e, SINK_EIO, "%s belongs to another user (%lu).", s->path, (unsigned long)st.st_uid);
	if (n == 0)
		return store_damaged(s, e, "it is empty");
	if (n < HEAD || memcmp(head, "SQLite format 3", 16) != 0 || head[AT_FORMATS] > 2 || head[AT_FORMATS + 1] > 2 ||
	    big_endian(head + AT_APPLICATION) != APPLICATION || big_endian(head + AT_VERSION) == 0)
		return store_damaged(s, e, "it is no database of sinkd's");
	if (big_endian(head + AT_VERSION) > STORE_VERSION)
		return err_set(e, SINK_EPROTO, "%s is of version %lu, and this sinkd knows %d; a newer one reads it.",
			       s->path, (unsigned long)big_endian(head + AT_VERSION), STORE_VERSION);
	return 0;
}

int store_file_set_aside(const struct store *s, char *name, size_t size, struct err *e)
{
	static const char *const parts[] = { "-wal", "-journal", "" };
	char from[4096], to[4096];
	long long now = (long long)time(NULL);
	struct stat st;

	do
		snprintf(name, size, "%s.bad-%lld", s->path, now++);
	while (lstat(name, &st) == 0);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(from, sizeof(from), "%s%s", s->path, parts[i]);
		snprintf(to, sizeof(to), "%s%s", name, parts[i]);
		if (rename(from, to) < 0 && errno != ENOENT)
			return err_set(e, SINK_EIO, "%s cannot be renamed: %s.", from, strerror(errno));
	}
	return 0;
}

/* Takes the file to this version, in rollback mode. */
static int bring_up(struct store *s, int version, struct err *e)
{
	char sql[100];
	int rc;

	if (version == STORE_VERSION)
		return 0;
	rc = store_exec(s, "PRAGMA journal_mode = DELETE; BEGIN", e);
	for (; rc == 0 && version < STORE_VERSION; version++)
		for (const char *const *at = upgrade[version]; rc == 0 && *at; at++)
			rc = store_exec(s, *at, e);
	snprintf(sql, sizeof(sql), "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", APPLICATION,
		 STORE_VERSION);
	return rc < 0 ? rc : store_exec(s, sql, e);
}

static int connect_file(struct store *s, struct err *e)
{
	int rc;

	if (sqlite3_libversion_number() < OLDEST_SQLITE)
		return err_set(e, SINK_EIO, "This system's SQLite (%s) is too old for %s.", sqlite3_libversion(),
			       s->path);
	rc = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
	if (rc != SQLITE_OK)
		return store_fail(s, rc, e);
	sqlite3_extended_result_codes(s->db, 1);
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	return store_exec(s,
			  "PRAGMA locking_mode = EXCLUSIVE; PRAGMA secure_delete = ON; PRAGMA temp_store = MEMORY; "
			  "PRAGMA cache_size = -8000; PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF",
			  e);
}

int store_number(struct store *s, const char *sql, const char *argument, int64_t *ret, struct err *e)
{
	sqlite3_stmt *st;
	int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);

	if (rc != SQLITE_OK)
		return store_fail(s, rc, e);
	if (argument)
		sqlite3_bind_text(st, 1, argument, -1, SQLITE_STATIC);
	rc = store_step(s, st, e);
	*ret = rc > 0 ? sqlite3_column_int64(st, 0) : 0;
	sqlite3_finalize(st);
	return rc < 0 ? rc : 0;
}

static int need_search(struct store *s, struct err *e)
{
	int64_t found;
	int rc = store_number(s, "SELECT count(*) FROM pragma_module_list WHERE name = 'fts5'", NULL, &found, e);

	if (rc < 0 || found)
		return rc;
	return err_set(e, SINK_EIO, "This system's SQLite has no FTS5, which %s needs.", s->path);
}

static int prepare(struct store *s, enum store_statement which, struct err *e)
{
	int rc = sqlite3_prepare_v3(s->db, text[which], -1, SQLITE_PREPARE_PERSISTENT, &s->statement[which], NULL);

	return rc == SQLITE_OK ? 0 : store_fail(s, rc, e);
}

int store_file_number(struct store *s, struct err *e)
{
	s->id = 0;
	while (s->id == 0)
		if (getrandom(&s->id, sizeof(s->id), 0) != sizeof(s->id))
			return err_set(e, SINK_EIO, "The system gives no random number: %s.", strerror(errno));
	return store_meta_put(s, "id", (int64_t)s->id, e);
}

static int begin_file(struct store *s, struct err *e)
{
	int rc = connect_file(s, e);

	rc = rc < 0 ? rc : need_search(s, e);
	rc = rc < 0 ? rc : store_exec(s, "PRAGMA auto_vacuum = INCREMENTAL", e);
	rc = rc < 0 ? rc : bring_up(s, 0, e);
	rc = rc < 0 ? rc : prepare(s, STORE_META_PUT, e);
	rc = rc < 0 ? rc : store_file_number(s, e);
	return rc < 0 ? rc : store_meta_put(s, "last", 0, e);
}

static void unlink_new(const char *path)
{
	char name[4096 + 16];

	unlink(path);
	snprintf(name, sizeof(name), "%s-journal", path);
	unlink(name);
}

static int sync_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc;

	if (fd < 0)
		return -1;
	rc = fsync(fd);
	close(fd);
	return rc;
}

int store_file_make(const struct store *s, int (*fill)(void *arg, struct store *empty, struct err *e), void *arg,
		    struct err *e)
{
	char path[4096];
	struct store new = { .path = path, .lock = -1 };
	int fd, rc;

	snprintf(path, sizeof(path), "%s.new", s->path);
	unlink_new(path);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_set(e, errno == ENOSPC || errno == EDQUOT ? SINK_EBUSY : SINK_EIO, "%s cannot be made: %s.",
			       path, strerror(errno));
	fchmod(fd, 0600);
	close(fd);
	rc = begin_file(&new, e);
	if (rc == 0 && fill)
		rc = fill(arg, &new, e);
	store_file_close(&new);
	if (rc == 0 && (rename(path, s->path) < 0 || sync_directory(s->dir) < 0))
		rc = err_set(e, SINK_EIO, "%s cannot be renamed: %s.", path, strerror(errno));
	if (rc < 0)
		unlink_new(path);
	return rc;
}

static int on_commit(void *arg, sqlite3 *db, const char *name, int pages)
{
	struct store *s = arg;

	(void)db;
	(void)name;
	s->log_pages = pages;
	return SQLITE_OK;
}

static int open_file(struct store *s, struct err *e)
{
	int64_t value;
	int rc = connect_file(s, e);

	rc = rc < 0 ? rc : need_search(s, e);
	rc = rc < 0 ? rc : store_number(s, "PRAGMA user_version", NULL, &value, e);
	rc = rc < 0 ? rc : bring_up(s, (int)value, e);
	rc = rc < 0 ? rc : store_exec(s, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL", e);
	if (rc == 0)
		sqlite3_wal_hook(s->db, on_commit, s);
	for (const char *const *at = first_schema; rc == 0 && *at; at++) {
		rc = store_number(s, "SELECT count(*) FROM sqlite_schema WHERE sql = ?1", *at, &value, e);
		if (rc == 0 && value != 1)
			rc = store_damaged(s, e, "it has no %.40s", *at + strlen("CREATE "));
	}
	for (int i = 0; rc == 0 && i < STORE_STATEMENTS; i++)
		rc = prepare(s, i, e);
	return rc;
}

int store_file_open(struct store *s, struct err *e)
{
	char sql[64];
	int64_t number;
	int rc;

	chmod(s->path, 0600);
	rc = open_file(s, e);
	snprintf(sql, sizeof(sql), "PRAGMA journal_size_limit = %d", LOG_LIMIT);
	rc = rc < 0 ? rc : store_exec(s, sql, e);
	rc = rc < 0 ? rc : store_meta_get(s, "id", &number, e);
	s->id = rc > 0 ? (uint64_t)number : 0;
	rc = rc < 0 ? rc : store_meta_get(s, "untidy", &number, e);
	s->untidy = rc > 0 && number != 0;
	rc = rc < 0 ? rc : store_meta_get(s, "last", &number, e);
	s->last = rc > 0 && number > s->last ? number : s->last;
	if (rc < 0)
		store_file_close(s);
	return rc < 0 ? rc : 0;
}

void store_file_close(struct store *s)
{
	for (int i = 0; i < STORE_STATEMENTS; i++) {
		sqlite3_finalize(s->statement[i]);
		s->statement[i] = NULL;
	}
	sqlite3_close(s->db);
	s->db = NULL;
	s->failed = s->full = false;
	s->log_pages = 0;
}

int store_checkpoint(struct store *s, bool whole, struct err *e)
{
	int rc = sqlite3_wal_checkpoint_v2(s->db, "main",
					   whole ? SQLITE_CHECKPOINT_TRUNCATE : SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);

	if (rc != SQLITE_OK)
		return store_fail(s, rc, e);
	s->log_pages = 0;
	return 0;
}

int store_ready(struct store *s, struct err *e)
{
	int rc;

	if (s->db && !s->failed)
		return 0;
	store_file_close(s);
	rc = store_file_open(s, e);
	if (rc < 0)
		return rc;
	/* What the system may have lost when it failed is written again, before anything is called durable. */
	rc = store_checkpoint(s, true, e);
	if (rc < 0)
		store_file_close(s);
	return rc;
}

/* Opens the file; what cannot be read is set aside, and a new one made. */
static int open_or_make(struct store *s, char *note, size_t size, struct err *e)
{
	struct err why = { 0 };
	char name[4096];
	int rc = store_file_peek(s, &why);

	rc = rc < 0 ? rc : store_file_open(s, &why);
	if (rc == SINK_EFORMAT) {
		rc = store_file_set_aside(s, name, sizeof(name), &why);
		if (rc == 0) {
			snprintf(note, size, "%s It was renamed to %s, and a new one was made.", why.text, name);
			rc = SINK_ENOENT;
		}
	}
	if (rc == SINK_ENOENT) {
		rc = store_file_make(s, NULL, NULL, &why);
		rc = rc < 0 ? rc : store_file_open(s, &why);
	}
	return rc < 0 ? err_set(e, rc, "%s", why.text) : 0;
}

int store_open(const struct store_options *o, struct store **ret, char *note, size_t size, struct err *e)
{
	struct store *s;
	int rc = store_file_new(o->dir, &s, e);

	note[0] = '\0';
	if (rc < 0)
		return rc;
	s->event_bytes = o->event_bytes;
	rc = store_file_lock(s, e);
	if (rc == 0 && (rc = open_or_make(s, note, size, e)) == SINK_EBUSY)
		rc = SINK_EIO; /* the lock is ours, so the disk is full */
	if (rc == 0 && s->id == 0)
		rc = store_file_number(s, e);
	if (rc < 0) {
		store_file_free(s);
		return rc;
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	store_file_free(s);
}

uint64_t store_id(const struct store *s)
{
	return s->id;
}

int64_t store_bytes(struct store *s)
{
	char log[4096];
	struct stat st;
	int64_t bytes = 0;

	snprintf(log, sizeof(log), "%s-wal", s->path);
	if (stat(s->path, &st) == 0)
		bytes += st.st_size;
	if (stat(log, &st) == 0)
		bytes += st.st_size;
	return bytes;
}

int store_tidy(struct store *s, bool *more, struct err *e)
{
	int64_t free_pages, left = 0;
	int before, rc = store_ready(s, e);

	*more = false;
	if (rc < 0 || !s->untidy)
		return rc;
	*more = true;
	before = sqlite3_total_changes(s->db);
	rc = store_step(s, STORE_BIND(s, STORE_INDEX_MERGE, -TIDY_PAGES), e);
	/* FTS5 counts one change for the command itself. */
	if (rc < 0 || sqlite3_total_changes(s->db) - before >= 2)
		return rc;
	rc = store_number(s, "PRAGMA freelist_count", NULL, &free_pages, e);
	if (rc == 0 && free_pages > 0) {
		rc = store_exec(s, "PRAGMA incremental_vacuum(256)", e);
		rc = rc < 0 ? rc : store_number(s, "PRAGMA freelist_count", NULL, &left, e);
		if (rc < 0 || left < free_pages)
			return rc;
	}
	rc = rc < 0 ? rc : store_checkpoint(s, true, e);
	rc = rc < 0 ? rc : store_meta_put(s, "untidy", 0, e);
	if (rc == 0)
		s->untidy = *more = false;
	return rc;
}
