/* What the tests of the store share: see the header. */
#include "storing.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { EVENT_BYTES = 200 * 1024 };

char *storing_folder(void)
{
	const char *tmp = getenv("TMPDIR");
	char path[4096];

	snprintf(path, sizeof(path), "%s/sinkd-store.XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(path));
	return strdup(path);
}

static void each_file(const char *dir, void (*each)(const char *path, void *arg), void *arg)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	char path[4096];

	assert_non_null(d);
	while ((entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		storing_path(dir, entry->d_name, path);
		each(path, arg);
	}
	closedir(d);
}

static void remove_one(const char *path, void *arg)
{
	(void)arg;
	assert_int_equal(unlink(path), 0);
}

void storing_remove(char *dir)
{
	each_file(dir, remove_one, NULL);
	assert_int_equal(rmdir(dir), 0);
	free(dir);
}

void storing_path(const char *dir, const char *name, char path[4096])
{
	snprintf(path, 4096, "%s/%s", dir, name);
}

void *storing_read(const char *path, size_t *size)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *data;

	assert_non_null(f);
	assert_int_equal(fstat(fileno(f), &st), 0);
	*size = (size_t)st.st_size;
	data = malloc(*size + 1);
	assert_non_null(data);
	assert_int_equal(fread(data, 1, *size, f), *size);
	fclose(f);
	return data;
}

void storing_write(const char *path, const void *data, size_t size)
{
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
}

struct wanted {
	const void *bytes;
	size_t size;
	bool found;
};

static void look_for(const char *path, void *arg)
{
	struct wanted *w = arg;
	size_t size;
	char *data = storing_read(path, &size);

	if (memmem(data, size, w->bytes, w->size))
		w->found = true;
	free(data);
}

bool storing_has(const char *dir, const void *bytes, size_t size)
{
	struct wanted w = { bytes, size, false };

	each_file(dir, look_for, &w);
	return w.found;
}

struct store *storing_open(const char *dir)
{
	const struct store_options o = { dir, EVENT_BYTES };
	struct store *s = NULL;
	struct err e = { 0 };
	char note[512];

	if (store_open(&o, &s, note, sizeof(note), &e) < 0)
		fail_msg("%s", e.text);
	assert_string_equal(note, "");
	return s;
}

int storing_try(const char *dir, char *note, struct err *e)
{
	struct store *s = NULL;
	char none[512];
	int rc = store_open(&(struct store_options){ dir, EVENT_BYTES }, &s, note ? note : none, sizeof(none), e);

	store_close(s);
	return rc;
}

static sqlite3 *open_raw(const char *dir)
{
	char path[4096];
	sqlite3 *db;

	storing_path(dir, "sinkd.db", path);
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	sqlite3_exec(db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL);
	return db;
}

void storing_sql(const char *dir, const char *sql)
{
	sqlite3 *db = open_raw(dir);

	if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
		fail_msg("%s: %s", sql, sqlite3_errmsg(db));
	sqlite3_close(db);
}

int64_t storing_number(const char *dir, const char *sql)
{
	sqlite3 *db = open_raw(dir);
	sqlite3_stmt *st;
	int64_t number;

	assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &st, NULL), SQLITE_OK);
	assert_int_equal(sqlite3_step(st), SQLITE_ROW);
	number = sqlite3_column_int64(st, 0);
	sqlite3_finalize(st);
	sqlite3_close(db);
	return number;
}

uint64_t storing_random(uint64_t *state, uint64_t below)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (*state >> 33) % below;
}

void *storing_records(int64_t id, int64_t from, int64_t count, size_t *size)
{
	struct record r = { .size = STORING_EVENT - sizeof(r), .pairs = 2 };
	char *all, *at, body[STORING_EVENT + 32];

	*size = (size_t)count * STORING_EVENT;
	at = all = malloc(*size + 1);
	assert_non_null(all);
	for (int64_t n = from; n < from + count; n++, at += STORING_EVENT) {
		memset(body, '.', sizeof(body));
		snprintf(body, sizeof(body), "event %lld of conversation %lld", (long long)n, (long long)id);
		memcpy(at, &r, sizeof(r));
		memcpy(at + sizeof(r), body, r.size);
	}
	return all;
}

struct storing_world *storing_world(uint64_t seed)
{
	struct storing_world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->count = STORING_CONVERSATIONS;
	w->random = seed * 977 + 1;
	return w;
}

void storing_world_free(struct storing_world *w)
{
	for (int i = 0; i < STORING_CONVERSATIONS; i++)
		free(w->conversation[i].token);
	free(w);
}

static int32_t *copy_tokens(const struct storing_conversation *c)
{
	int32_t *copy = malloc((c->tokens + 1) * sizeof(*copy));

	assert_non_null(copy);
	if (c->tokens)
		memcpy(copy, c->token, c->tokens * sizeof(*copy));
	return copy;
}

struct storing_world *storing_copy(const struct storing_world *w)
{
	struct storing_world *copy = malloc(sizeof(*copy));

	assert_non_null(copy);
	*copy = *w;
	for (int i = 0; i < STORING_CONVERSATIONS; i++)
		copy->conversation[i].token = copy_tokens(&w->conversation[i]);
	return copy;
}

/* A commit in the making. */
struct draft {
	struct storing_world *w;
	struct store_change change[3];
	size_t changes;
	struct store_message message[3][4];
	void *record[3];
};

static struct store_change *change_of(struct draft *d, const struct storing_conversation *c)
{
	struct store_change *h = &d->change[d->changes++];

	h->id = c->id;
	h->segment = c->segment;
	return h;
}

static void write_row(struct draft *d, struct storing_conversation *c, struct store_change *h)
{
	c->used = d->w->now += 1;
	h->writes_row = true;
	h->row = (struct store_conversation){ .id = c->id,
					      .segment = c->segment,
					      .created = 1.5,
					      .used = c->used,
					      .state = c->state,
					      .state_size = strlen(c->state) };
	memcpy(h->row.name, c->name, sizeof(c->name));
}

static void append_events(struct draft *d, struct storing_conversation *c, struct store_change *h, int64_t count)
{
	void *record = storing_records(c->id, c->seq, count, &h->record_size);

	d->record[h - d->change] = record;
	h->record = record;
	h->first_seq = c->seq;
	h->events = count;
	c->seq += count;
}

static void append_tokens(struct draft *d, struct storing_conversation *c, struct store_change *h, size_t count)
{
	c->token = realloc(c->token, (c->tokens + count + 1) * sizeof(*c->token));
	assert_non_null(c->token);
	h->first_token = (int64_t)c->tokens;
	for (size_t i = 0; i < count; i++)
		c->token[c->tokens++] = (int32_t)storing_random(&d->w->random, 50000);
	h->id_list = c->token + h->first_token;
	h->ids = count;
}

static void write_message(struct draft *d, struct storing_conversation *c, struct store_change *h, size_t number)
{
	struct storing_message *m = &c->message[number];
	static const char *const word[] = { "lighthouse", "sea", "Keeper", "\xc3\xa9tude", "100%", "a_b", "storm" };
	size_t len = 0;

	if (number == c->messages) {
		c->messages++;
		m->role = (int)storing_random(&d->w->random, 3);
	}
	m->first_token = number ? m[-1].first_token + m[-1].tokens : 0;
	m->tokens = (int64_t)c->tokens - m->first_token;
	for (uint64_t i = storing_random(&d->w->random, 5) + 1; i > 0; i--)
		len += (size_t)snprintf(m->text + len, sizeof(m->text) - len, "%s ",
					word[storing_random(&d->w->random, 7)]);
	d->message[h - d->change][h->messages++] = (struct store_message){ .number = (int64_t)number,
									   .role = m->role,
									   .first_token = m->first_token,
									   .tokens = m->tokens,
									   .time = (double)number,
									   .finish = number % 2 ? "end" : NULL,
									   .raw = number % 3 == 0,
									   .text = m->text,
									   .len = len };
	h->message = d->message[h - d->change];
}

static void begin(struct draft *d, struct storing_conversation *c)
{
	struct store_change *h;

	memset(c, 0, sizeof(*c));
	c->id = ++d->w->last;
	c->segment = ++d->w->last;
	c->seq = 1;
	snprintf(c->name, sizeof(c->name), "chat %lld", (long long)c->id);
	snprintf(c->state, sizeof(c->state), "state of %lld", (long long)c->id);
	h = change_of(d, c);
	h->begins = true;
	write_row(d, c, h);
	append_tokens(d, c, h, storing_random(&d->w->random, 30));
	write_message(d, c, h, 0);
	append_events(d, c, h, 2);
}

static void go_on(struct draft *d, struct storing_conversation *c)
{
	struct store_change *h = change_of(d, c);
	uint64_t kind = storing_random(&d->w->random, 10);

	append_tokens(d, c, h, kind == 0 ? 9000 : storing_random(&d->w->random, 4));
	append_events(d, c, h, (int64_t)storing_random(&d->w->random, 3) + 1);
	if (kind < 3 && c->messages < STORING_MESSAGES)
		write_message(d, c, h, c->messages);
	else if (kind == 3)
		write_message(d, c, h, c->messages - 1);
	if (kind == 4)
		write_row(d, c, h);
	h->merges = kind == 5;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static void cut_to(struct storing_conversation *c, size_t messages)
{
	c->messages = messages;
	c->tokens = smaller(c->tokens,
			    messages ? (size_t)(c->message[messages - 1].first_token + c->message[messages - 1].tokens)
				     : 0);
}

static void cut(struct draft *d, struct storing_conversation *c)
{
	struct store_change *h = change_of(d, c);

	cut_to(c, (size_t)storing_random(&d->w->random, c->messages) + 1);
	h->cuts = true;
	h->cut_tokens = (int64_t)c->tokens;
	h->cut_messages = (int64_t)c->messages;
	append_tokens(d, c, h, storing_random(&d->w->random, 5));
	append_events(d, c, h, 1);
}

static void begin_behind(struct store_change *h, int64_t parent, const struct storing_conversation *c)
{
	h->begins = true;
	h->parent = parent;
	h->base_tokens = (int64_t)c->tokens;
	h->base_messages = (int64_t)c->messages;
}

static void fork_off(struct draft *d, struct storing_conversation *from, struct storing_conversation *to)
{
	int64_t parent = from->segment;
	struct store_change *h;

	*to = *from;
	to->token = copy_tokens(from);
	to->id = ++d->w->last;
	to->segment = ++d->w->last;
	to->seq = 1;
	snprintf(to->name, sizeof(to->name), "fork %lld", (long long)to->id);
	cut_to(to, (size_t)storing_random(&d->w->random, from->messages) + 1);
	from->segment = ++d->w->last;
	h = change_of(d, from);
	begin_behind(h, parent, from);
	write_row(d, from, h);
	h = change_of(d, to);
	begin_behind(h, parent, to);
	write_row(d, to, h);
	append_tokens(d, to, h, storing_random(&d->w->random, 3));
	append_events(d, to, h, 1);
}

static void take_away(struct draft *d, struct storing_conversation *c)
{
	change_of(d, c)->removes = true;
	free(c->token);
	memset(c, 0, sizeof(*c));
}

int storing_step(struct storing_world *w, struct store *s, struct err *e)
{
	struct draft d = { .w = w };
	struct storing_conversation *c = &w->conversation[storing_random(&w->random, w->count)];
	struct storing_conversation *other = &w->conversation[storing_random(&w->random, w->count)];
	uint64_t kind = storing_random(&w->random, 40);
	int rc;

	if (!c->id)
		begin(&d, c);
	else if (kind == 0)
		take_away(&d, c);
	else if (kind < 4)
		cut(&d, c);
	else if (kind < 8 && !other->id)
		fork_off(&d, c, other);
	else
		go_on(&d, c);
	rc = store_commit(s, d.change, d.changes, NULL, 0, kind % 8 == 0, e);
	for (int i = 0; i < 3; i++)
		free(d.record[i]);
	return rc;
}

void storing_die_after(struct storing_world *w, const char *dir, int steps)
{
	char *other = storing_folder();
	struct store *s;
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	s = storing_open(child == 0 ? dir : other);
	for (int i = 0; i < steps; i++)
		if (storing_step(w, s, NULL) < 0 && child == 0)
			_exit(1);
	if (child == 0)
		kill(getpid(), SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	store_close(s);
	storing_remove(other);
}

struct comparing {
	const struct storing_world *w;
	struct store *s;
	char *why;
	size_t size, rows;
	bool same;
};

static void differs(struct comparing *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void differs(struct comparing *q, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	if (q->same)
		vsnprintf(q->why, q->size, fmt, args);
	va_end(args);
	q->same = false;
}

static void compare_row(void *arg, const struct store_conversation *row)
{
	struct comparing *q = arg;
	const struct storing_conversation *c = NULL;

	for (int i = 0; i < STORING_CONVERSATIONS; i++)
		if (q->w->conversation[i].id == row->id)
			c = &q->w->conversation[i];
	q->rows++;
	if (!c)
		differs(q, "conversation %lld is there", (long long)row->id);
	else if (row->segment != c->segment || strcmp(row->name, c->name) != 0 || row->used != c->used ||
		 row->state_size != strlen(c->state) || memcmp(row->state, c->state, row->state_size) != 0)
		differs(q, "row of %s", c->name);
	else if (row->tokens != (int64_t)c->tokens || row->messages != (int64_t)c->messages || row->seq != c->seq)
		differs(q, "counts of %s: %lld %lld %lld, not %zu %zu %lld", c->name, (long long)row->tokens,
			(long long)row->messages, (long long)row->seq, c->tokens, c->messages, (long long)c->seq);
}

static void compare_body(struct comparing *q, const struct storing_conversation *c)
{
	struct store_body b = { 0 };
	struct err e = { 0 };

	if (store_load(q->s, c->segment, &b, &e) < 0) {
		differs(q, "%s cannot be loaded: %s", c->name, e.text);
		return;
	}
	if (b.ids != c->tokens || (b.ids && memcmp(b.id, c->token, b.ids * sizeof(*b.id)) != 0))
		differs(q, "tokens of %s: %zu, not %zu", c->name, b.ids, c->tokens);
	if (b.messages != c->messages)
		differs(q, "%s has %zu messages, not %zu", c->name, b.messages, c->messages);
	for (size_t i = 0; i < b.messages && i < c->messages; i++) {
		const struct store_message *m = &b.message[i];
		const struct storing_message *n = &c->message[i];

		if (m->len != strlen(n->text) || strcmp(m->text, n->text) != 0 || m->role != n->role ||
		    m->first_token != n->first_token || m->tokens != n->tokens || m->raw != (i % 3 == 0) ||
		    (i % 2 ? !m->finish || strcmp(m->finish, "end") != 0 : m->finish != NULL))
			differs(q, "message %zu of %s", i, c->name);
	}
	store_body_release(&b);
}

static void compare_events(struct comparing *q, const struct storing_conversation *c)
{
	int64_t count, at = c->seq > 40 ? c->seq - 40 : 1;
	void *got, *wanted;
	struct err e = { 0 };
	size_t size, right;

	for (; at < c->seq; at += count) {
		if (store_events(q->s, c->id, at, 500, &got, &size, &count, &e) < 0 || count < 1) {
			differs(q, "event %lld of %s: %s", (long long)at, c->name, e.text);
			return;
		}
		wanted = storing_records(c->id, at, count, &right);
		if (size != right || memcmp(got, wanted, size) != 0)
			differs(q, "events %lld of %s", (long long)at, c->name);
		free(wanted);
		free(got);
	}
}

bool storing_same(const struct storing_world *w, struct store *s, char *why, size_t size)
{
	struct comparing q = { w, s, why, size, 0, true };
	struct err e = { 0 };
	int64_t last;
	int rc = store_list(s, compare_row, &q, &last, &e);

	if (rc != 0)
		differs(&q, "the list: %d %s", rc, e.text);
	for (int i = 0; i < STORING_CONVERSATIONS && q.same; i++) {
		if (!w->conversation[i].id)
			continue;
		q.rows--;
		compare_body(&q, &w->conversation[i]);
		compare_events(&q, &w->conversation[i]);
	}
	if (q.same && q.rows != 0)
		differs(&q, "%zd rows too many", (ssize_t)q.rows);
	if (q.same && last < w->last)
		differs(&q, "the last number is %lld, not %lld", (long long)last, (long long)w->last);
	return q.same;
}

void storing_expect(const struct storing_world *w, struct store *s)
{
	char why[400];

	if (!storing_same(w, s, why, sizeof(why)))
		fail_msg("%s", why);
}

static void tell(void *arg, const char *text)
{
	(void)arg;
	if (getenv("SINKD_TELL"))
		fprintf(stderr, "found: %s\n", text);
}

int storing_check(const char *dir, bool repair, struct err *e)
{
	return store_check(dir, repair, tell, NULL, e);
}
