/*
 * Owns the segment of the board and decides when it is written. All that is written is copied from what the loop has at
 * hand: a look at a thousand conversations takes a fifth of a millisecond, and a writing some microseconds.
 */
#include "publish.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "board.h"
#include "keep.h"
#include "log.h"
#include "step.h"
#include "tier.h"
#include "utf8.h"

static_assert((int)BOARD_BUCKETS == SCHED_BUCKETS, "times of steps are counted alike");
static_assert(STATE_IDLE == 0 && STATE_FAILED == 4 && TIER_FOUND == 2 && TIER_REPLAY == 4, "as the board has them");

enum {
	LEAST_MS = 200, /* between two writings */
	LOOK_MS = 5000, /* between two looks whether the name is still there */
	LIMIT_PATH = 4096,
};

struct publish {
	struct core *core;
	char name[BOARD_NAME];
	struct board_header header;
	int fd;
	void *segment;
	mode_t mode;
	gid_t group;
	double at, look_at;
	uint64_t written_of; /* what seemed to be so when it was written last */
	int64_t steps;	     /* then */
	struct board_state state;
	struct board_row row[BOARD_ROWS];
};

/* Who may read it. */

/* The right to write to a socket is the right to connect, and that is the right to read the board. */
static mode_t readers_of(mode_t socket)
{
	return (socket & 0222) << 1;
}

/* A folder on the way lets in whom it lets in. */
static mode_t pass(mode_t mode, const char *folder, gid_t group)
{
	struct stat st;

	if (stat(folder, &st) < 0)
		return mode & 0400;
	if (!(st.st_mode & S_IXOTH))
		mode &= ~(mode_t)0004;
	if (!(st.st_mode & S_IXOTH) && !(st.st_gid == group && (st.st_mode & S_IXGRP)))
		mode &= ~(mode_t)0040;
	return mode;
}

/*
 * The rights of the socket file and of all folders above it, since the segment has none above it; those of the owner
 * where the endpoint has no file.
 */
static void find_readers(struct publish *p, const char *endpoint)
{
	char path[LIMIT_PATH];
	struct stat st;
	char *slash;

	p->mode = 0400;
	p->group = getegid();
	if (strncmp(endpoint, "ipc:///", 7) != 0 || stat(endpoint + 6, &st) < 0)
		return;
	p->mode |= readers_of(st.st_mode);
	p->group = st.st_gid;
	snprintf(path, sizeof(path), "%s", endpoint + 6);
	while ((slash = strrchr(path, '/'))) {
		slash[slash == path] = '\0';
		p->mode = pass(p->mode, path, p->group);
		if (slash == path)
			break;
	}
}

static int set_readers(const struct publish *p, struct err *e)
{
	mode_t mode = p->mode;

	if (p->group != getegid() && fchown(p->fd, (uid_t)-1, p->group) < 0)
		mode &= ~(mode_t)0040;
	return fchmod(p->fd, mode) < 0 ? err_set(e, SINK_EIO, "its rights cannot be set: %s.", strerror(errno)) : 0;
}

/* The segment. */

static struct flock whole_file(short type)
{
	return (struct flock){ .l_type = type, .l_whence = SEEK_SET };
}

/* What a dead daemon has left goes. SINK_EBUSY: a living one has it. */
static int remove_stale(const char *name, struct err *e)
{
	struct flock lock = whole_file(F_RDLCK);
	int fd = shm_open(name, O_RDONLY, 0);
	bool held = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;

	if (fd >= 0)
		close(fd);
	if (held)
		return err_set(e, SINK_EBUSY, "another daemon has it.");
	if (shm_unlink(name) < 0 && errno != ENOENT)
		return err_set(e, SINK_EIO, "what is there cannot be removed: %s.", strerror(errno));
	return 0;
}

static int make_file(struct publish *p, struct err *e)
{
	struct flock lock = whole_file(F_WRLCK);
	int error;

	p->fd = shm_open(p->name, O_RDWR | O_CREAT | O_EXCL, 0400);
	if (p->fd < 0)
		return err_set(e, SINK_EIO, "it cannot be made: %s.", strerror(errno));
	/* Memory that is missing must be missed here: later it would end the process. */
	if (fcntl(p->fd, F_OFD_SETLK, &lock) < 0 || ftruncate(p->fd, (off_t)board_size()) < 0)
		return err_set(e, SINK_EIO, "it cannot be made: %s.", strerror(errno));
	error = posix_fallocate(p->fd, 0, (off_t)board_size());
	if (error)
		return err_set(e, SINK_EIO, "it has no memory: %s.", strerror(error));
	return set_readers(p, e);
}

static void drop_segment(struct publish *p, bool remove)
{
	if (p->segment)
		munmap(p->segment, board_size());
	if (p->fd >= 0 && remove)
		shm_unlink(p->name);
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
	p->segment = NULL;
}

static int make_segment(struct publish *p, struct err *e)
{
	int rc = remove_stale(p->name, e);

	if (rc < 0)
		return rc;
	rc = make_file(p, e);
	if (rc == 0) {
		p->segment = mmap(NULL, board_size(), PROT_READ | PROT_WRITE, MAP_SHARED, p->fd, 0);
		if (p->segment == MAP_FAILED) {
			p->segment = NULL;
			rc = err_set(e, SINK_EIO, "it cannot be mapped: %s.", strerror(errno));
		}
	}
	if (rc < 0)
		drop_segment(p, true);
	else
		board_begin(p->segment, &p->header);
	return rc;
}

/*
 * A system may take away what a user has in shared memory when the user's last session ends, or somebody may tidy up:
 * then it is made anew.
 */
static void look_after(struct publish *p, double now)
{
	struct stat st;
	struct err e;

	p->look_at = now + LOOK_MS;
	if (p->segment && fstat(p->fd, &st) == 0 && st.st_nlink > 0)
		return;
	drop_segment(p, false);
	if (make_segment(p, &e) < 0)
		log_debug("The status segment %s is gone, and %s", p->name, e.text);
}

/* Text. */

/* As much of it as fits, in whole characters; the rest of the field is zeros. */
static void put_text(char *to, size_t size, const char *text)
{
	size_t len = strlen(text);

	if (len >= size)
		len = utf8_valid(text, size - 1);
	memcpy(to, text, len);
	memset(to + len, 0, size - len);
}

/* Field 22 of a process's line; its name, which stands in parentheses, may hold anything. */
static int64_t process_started(void)
{
	char line[1024] = "";
	FILE *from = fopen("/proc/self/stat", "re");
	const char *at;
	int64_t n = 0;

	if (!from)
		return 0;
	at = fgets(line, sizeof(line), from) ? strrchr(line, ')') : NULL;
	fclose(from);
	for (int field = 3; at && field <= 22; field++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, " %" SCNd64, &n) == 1 ? n : 0;
}

/* What is written. */

static void fill_model(const struct core *c, struct board_state *s)
{
	const struct model_info *m = c->model ? model_info(c->model) : NULL;
	const struct arena *a = c->model ? model_arena(c->model) : NULL;

	if (!m)
		return;
	put_text(s->model_name, sizeof(s->model_name), m->name);
	put_text(s->model_arch, sizeof(s->model_arch), m->arch);
	put_text(s->model_device, sizeof(s->model_device), m->device);
	put_text(s->model_kernels, sizeof(s->model_kernels), m->kernels);
	s->model_threads = m->threads;
	s->model_bytes = (int64_t)m->bytes;
	s->model_context = (int64_t)m->context;
	s->pages = (int64_t)arena_pages(a);
	s->pages_free = (int64_t)c->pages_free;
	s->page_bytes = (int64_t)arena_page_bytes(a);
}

static void fill_steps(struct publish *p, const struct sched *sched, struct board_state *s)
{
	struct sched_times t;

	s->steps = sched->steps;
	s->step_sum = sched->sum_ms;
	for (size_t i = 0; i < BOARD_BUCKETS; i++)
		s->step_buckets[i] = sched->bucket[i];
	if (sched->steps == p->steps)
		return; /* sorting is what costs here */
	sched_times(sched, &t);
	s->step_median = t.median;
	s->step_p99 = t.p99;
	s->step_max = t.max;
	p->steps = sched->steps;
}

static void fill_store(struct core *c, struct board_state *s)
{
	struct tier_figures f;

	tier_figures(c, &f);
	s->store = !keep_is_on(c) ? BOARD_OFF : keep_has_stopped(c) ? BOARD_STOPPED : BOARD_SAVING;
	put_text(s->store_text, sizeof(s->store_text),
		 keep_has_stopped(c) ? keep_trouble(c)->text
		 : f.trouble	     ? f.trouble->text
				     : "");
	if (!keep_is_on(c))
		return;
	s->store_bytes = keep_bytes(c);
	s->store_caches = f.files;
	s->store_cache_bytes = f.bytes;
	s->store_free_bytes = f.free_bytes;
}

static void fill_state(struct publish *p, double now)
{
	struct core *c = p->core;
	struct board_state *s = &p->state;
	struct core_counts n;

	core_count(c, &n);
	s->time = clock_unix();
	s->clock = now;
	s->uptime = (now - c->started) / 1e3;
	s->phase = c->phase == PHASE_LOADING ? BOARD_LOADING : c->phase == PHASE_READY ? BOARD_READY : BOARD_STOPPING;
	s->conversations = (int64_t)c->table.count;
	s->answering = (int64_t)n.answering;
	s->queued = (int64_t)n.queued;
	s->waiting = (int64_t)c->waiting_count;
	s->clients = (int64_t)c->peers.count;
	s->attachments = (int64_t)c->peers.attachments;
	s->resident_bytes = core_resident_bytes();
	pulse_beat(&c->pulse, now);
	s->tokens_read = c->pulse.read;
	s->tokens_written = c->pulse.written;
	s->read_per_s = c->pulse.read_per_s;
	s->written_per_s = c->pulse.written_per_s;
	s->drafted = c->drafted;
	s->accepted = c->accepted;
	fill_model(c, s);
	fill_steps(p, &c->sched, s);
	fill_store(c, s);
}

static void fill_row(struct conversation *v, struct board_row *r, double now)
{
	const struct kv_info *i = conversation_cache(v);

	pulse_beat(&v->pulse, now);
	put_text(r->name, sizeof(r->name), v->name);
	memset(r->policy, 0, sizeof(r->policy));
	policy_format(&v->keeps.policy, r->policy, sizeof(r->policy));
	r->state = v->state;
	r->tier = v->tier == TIER_FOUND ? TIER_MEMORY : v->tier > TIER_FOUND ? (uint32_t)v->tier - 1 : v->tier;
	r->pin = v->pin;
	r->place = v->state == STATE_QUEUED && v->runner.listed ? (uint32_t)v->place : 0;
	r->clients = (int64_t)stream_readers(v->stream);
	r->messages = v->absent ? v->absent_messages : (int64_t)v->messages;
	r->tokens = i->tokens;
	r->waiting = conversation_tokens(v) - i->tokens;
	r->pinned = i->pinned;
	r->kept = i->kept;
	r->window = i->window;
	r->evicted = i->evicted;
	r->cache_bytes = (int64_t)v->seen.bytes;
	r->generated = conversation_busy(v) ? v->work.generated : 0;
	r->read_per_s = (float)v->pulse.read_per_s;
	r->written_per_s = (float)v->pulse.written_per_s;
	r->created = v->created;
	r->used = v->used;
}

/* Those at work first, since one that answers for long may be used less lately than all that fit; then by use. */
static void fill_rows(struct publish *p, double now)
{
	struct core *c = p->core;
	struct conversation *v;
	struct runner *r;
	size_t place = 0;
	uint32_t n = 0;

	TAILQ_FOREACH(r, &c->sched.runners, link)
	{
		v = r->owner;
		if (r->kind != RUNS_CONVERSATION)
			continue;
		if (v->state == STATE_QUEUED)
			v->place = ++place;
		if (n < BOARD_ROWS)
			fill_row(v, &p->row[n++], now);
	}
	TAILQ_FOREACH(v, &c->table.by_use, by_use)
	{
		if (n == BOARD_ROWS)
			break;
		if (!v->runner.listed)
			fill_row(v, &p->row[n++], now);
	}
	p->state.rows = n;
}

static void write_board(struct publish *p, double now)
{
	p->at = now;
	if (!p->segment)
		return;
	fill_state(p, now);
	fill_rows(p, now);
	board_write(p->segment, &p->state, p->row);
}

/* Something that changes when anything changes that a person would want to see at once. */
static uint64_t seems(const struct core *c)
{
	const uint64_t all[] = { c->phase,
				 c->table.happened,
				 c->table.count,
				 c->peers.count,
				 c->peers.attachments,
				 c->waiting_count,
				 c->pages_free,
				 (uint64_t)c->pulse.read,
				 (uint64_t)c->pulse.written,
				 (uint64_t)c->sched.steps,
				 keep_has_stopped(c) };
	uint64_t h = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		h = h * UINT64_C(0x9e3779b97f4a7c15) + all[i];
	return h;
}

static double next_at(const struct publish *p)
{
	return p->at + (seems(p->core) == p->written_of ? BOARD_PERIOD_MS : LEAST_MS);
}

void publish_turn(struct publish *p, double now)
{
	if (!p || now < next_at(p))
		return;
	if (now >= p->look_at)
		look_after(p, now);
	p->written_of = seems(p->core);
	write_board(p, now);
}

double publish_due(const struct publish *p)
{
	return p ? next_at(p) : 0;
}

struct publish *publish_open(struct core *c, const char *endpoint)
{
	struct publish *p = calloc(1, sizeof(*p));
	struct err e;

	if (!p)
		return NULL;
	p->core = c;
	p->fd = -1;
	find_readers(p, endpoint);
	p->header.pid = getpid();
	p->header.started = process_started();
	p->header.instance = (int64_t)c->instance;
	put_text(p->header.server, sizeof(p->header.server), "sinkd " PACKAGE_VERSION);
	if (board_name(endpoint, p->header.endpoint, p->name, &e) < 0 || make_segment(p, &e) < 0) {
		log_warning("There is no status segment: %s", e.text);
		free(p);
		return NULL;
	}
	p->look_at = clock_ms() + LOOK_MS;
	write_board(p, clock_ms());
	return p;
}

void publish_close(struct publish *p)
{
	if (!p)
		return;
	drop_segment(p, true);
	free(p);
}
