/*
 * The verb `restore`: how soon a conversation goes on after its process was killed. The three ways back are timed in
 * turns, in rounds; each ends with the logits of the first new token, whose bits must be the same.
 *
 * A process that is to be killed is forked before this one has a model, since threads do not survive a fork. It sends
 * the files of its arena through a socket, as a service manager would keep them. Memory that nobody owns is given back
 * to the system before each way, but for the stock that a process has from its beginning on (arena_warm()).
 */
#include "bench.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring.h"

enum { FILES = 2, TOKENS_FEW = 1968, TOKENS_FULL = 3000 };

static const size_t cache_bytes = (size_t)4 << 30;
static const struct kv_owner owner = { 1, 1 };

/* The stretches of the ways back, in milliseconds; each way is the sum of its own. */
enum stretch { REPLAY, ADOPT, VERIFY_MEMORY, FIRST_MEMORY, HEAD, FILL, VERIFY_DISK, FIRST_DISK, LOAD, STRETCHES };

static const char *const stretch_names[STRETCHES] = { "replay_ms",	 "adopt_ms",	  "verify_memory_ms",
						      "first_memory_ms", "head_ms",	  "fill_ms",
						      "verify_disk_ms",	 "first_disk_ms", "load_ms" };

struct bed {
	const struct bench *o;
	struct model *m;
	struct tokens text;
	struct kv_options options;
	int64_t tokens; /* that were read before the process was killed; one more is new */
	char dir[64], path[80];
	double *ms[STRETCHES]; /* [repeat] */
	size_t round;
	float *logits; /* of the first new token, of the first way */
	int64_t restored, file_bytes;
};

static int open_model(struct bed *b, const struct arena_files *adopt, struct err *e)
{
	const struct bench *o = b->o;
	const struct model_options options = { .path = o->model,
					       .device = o->device,
					       .kernels = o->kernels,
					       .threads = (int)o->threads,
					       .precision = o->activations,
					       .max_rows = (size_t)o->chunk,
					       .max_logits = 1,
					       .cache_bytes = cache_bytes,
					       .cache_type = o->kv,
					       .outlives = true,
					       .adopt = *adopt };
	int r = model_open(&options, &b->m, e);

	if (r == SINK_ENOENT || r == SINK_EDEVICE)
		return r;
	if (r)
		return SINK_EFORMAT;
	if (*model_refusal(b->m))
		return err_set(e, SINK_EIO, "The memory of the killed process was not adopted: %s",
			       model_refusal(b->m));
	b->options =
		(struct kv_options){ .policy = o->chosen,
				     .positions = strcmp(o->positions, "text") == 0 ? POSITIONS_TEXT : POSITIONS_CACHE,
				     .step = (size_t)o->chunk,
				     .limit = b->tokens + 1,
				     .mark = model_marks(b->m, policy_marking(&o->chosen))->id,
				     .marks = model_marks(b->m, policy_marking(&o->chosen))->count };
	return 0;
}

static void close_model(struct bed *b)
{
	model_close(b->m);
	b->m = NULL;
}

/* The text's tokens as far as they are needed; it begins again where it ends. */
static int read_text(struct bed *b, struct err *e)
{
	int r = b->text.count ? 0 : bench_text(b->o, b->m, &b->text, e);

	for (size_t i = 0; !r && (int64_t)b->text.count <= b->tokens; i++)
		r = tokens_add(&b->text, b->text.id[i], e);
	return r;
}

/* What goes through the socket: why it failed, or the arena's files. */
static bool send_files(int to, const struct err *e, struct arena_files files)
{
	const int fds[FILES] = { files.pages, files.records };
	union {
		char bytes[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control = { { 0 } };
	struct iovec part = { (void *)(uintptr_t)e, sizeof(*e) };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

	if (!e->code) {
		m.msg_control = control.bytes;
		m.msg_controllen = sizeof(control.bytes);
		*CMSG_FIRSTHDR(&m) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
						       .cmsg_type = SCM_RIGHTS,
						       .cmsg_len = CMSG_LEN(sizeof(fds)) };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&m)), fds, sizeof(fds));
	}
	return sendmsg(to, &m, MSG_NOSIGNAL) == (ssize_t)sizeof(*e);
}

static int receive_files(int from, struct arena_files *ret, struct err *e)
{
	int fds[FILES];
	union {
		char bytes[CMSG_SPACE(sizeof(fds))];
		struct cmsghdr align;
	} control;
	struct err why = { 0 };
	struct iovec part = { &why, sizeof(why) };
	struct msghdr m = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)
	};

	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC) != (ssize_t)sizeof(why))
		return err_set(e, SINK_EIO, "The process that was to be killed ended before.");
	if (why.code)
		return err_set(e, why.code, "%s", why.text);
	if (!CMSG_FIRSTHDR(&m) || CMSG_FIRSTHDR(&m)->cmsg_len != CMSG_LEN(sizeof(fds)))
		return err_set(e, SINK_EIO, "The process that was to be killed sent no files.");
	memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fds));
	*ret = (struct arena_files){ fds[0], fds[1] };
	return 0;
}

/* The process that is killed: reads the text and waits. */
static void live(struct bed *b, int to)
{
	struct arena_files files = { -1, -1 };
	struct err e = { 0 };
	struct kv *kv;
	int r = open_model(b, &files, &e);

	if (!r)
		r = read_text(b, &e);
	if (!r)
		r = kv_new(model_arena(b->m), &b->options, &kv, &e);
	if (!r) {
		kv_own(kv, owner);
		r = bench_read_to(b->m, kv, b->text.id, b->tokens, (size_t)b->o->chunk, &e);
	}
	if (!r) {
		e.code = 0; /* what was tried on the way, and did not matter */
		files = arena_files(model_arena(b->m));
	}
	if (!send_files(to, &e, files) || r)
		_exit(1);
	for (;;)
		pause();
}

static int live_and_die(struct bed *b, struct arena_files *ret, struct err *e)
{
	int pair[2], r;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return err_set(e, SINK_EIO, "There is no socket for a second process: %s.", strerror(errno));
	child = fork();
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pair[0]);
		live(b, pair[1]);
	}
	close(pair[1]);
	r = child < 0 ? err_set(e, SINK_EIO, "There is no second process: %s.", strerror(errno))
		      : receive_files(pair[0], ret, e);
	close(pair[0]);
	if (child > 0) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	return r;
}

/* Notes the time since *since, and begins anew. */
static void note(struct bed *b, enum stretch stretch, double *since)
{
	const double now = bench_seconds();

	b->ms[stretch][b->round] = (now - *since) * 1000;
	*since = bench_seconds();
}

/* What is left to read and the first new token; its logits must be those of the way before. */
static int go_on(struct bed *b, struct kv *kv, enum stretch stretch, double *since, struct err *e)
{
	const size_t vocab = (size_t)model_info(b->m)->vocab, bytes = vocab * sizeof(float);
	int r = bench_read_to(b->m, kv, b->text.id, b->tokens + 1, (size_t)b->o->chunk, e);

	if (r)
		return r;
	note(b, stretch, since);
	if (!b->logits) {
		b->logits = malloc(bytes);
		if (!b->logits)
			return err_set(e, SINK_ENOMEM, "Out of memory for logits.");
		memcpy(b->logits, model_logits(b->m, 0), bytes);
	}
	if (memcmp(b->logits, model_logits(b->m, 0), bytes) != 0)
		return err_set(e, SINK_EFORMAT, "The logits of the first new token differ between the ways back (%s).",
			       stretch_names[stretch]);
	return 0;
}

/* How many tokens a way has brought back: the fewest of all of them is told. */
static void note_restored(struct bed *b, const struct kv *kv)
{
	struct kv_info info;

	kv_info(kv, &info);
	if (b->restored < 0 || info.tokens < b->restored)
		b->restored = info.tokens;
}

static int from_memory(struct bed *b, struct err *e)
{
	size_t cursor = 0;
	double since = bench_seconds();
	struct kv *kv = kv_adopt(model_arena(b->m), &cursor);
	int r;

	note(b, ADOPT, &since);
	if (!kv)
		return err_set(e, SINK_ENOENT, "The memory of the killed process holds no cache.");
	r = kv_verify(kv, &b->options, b->text.id, b->text.count, e);
	note(b, VERIFY_MEMORY, &since);
	if (!r) {
		note_restored(b, kv);
		r = go_on(b, kv, FIRST_MEMORY, &since, e);
	}
	kv_free(kv);
	return r;
}

static struct ring_identity identify(struct bed *b)
{
	struct ring_identity id = { .owner = owner,
				    .fingerprint = model_fingerprint(b->m),
				    .shape = *arena_shape(model_arena(b->m)) };

	policy_format(&b->o->chosen, id.policy, sizeof(id.policy));
	id.marks = b->options.marks ? kv_text(0, b->options.mark, b->options.marks) : 0;
	return id;
}

/* Reads the text anew; before the token that is new, the file is written (which is not counted). */
static int replay(struct bed *b, struct err *e)
{
	const struct ring_identity id = identify(b);
	struct kv_part *part = NULL;
	struct ring ring = { 0 };
	struct kv_state state;
	struct kv *kv = NULL;
	double since, writing;
	int r;

	arena_trim(model_arena(b->m));
	since = bench_seconds();
	r = kv_new(model_arena(b->m), &b->options, &kv, e);
	if (!r)
		r = bench_read_to(b->m, kv, b->text.id, b->tokens, (size_t)b->o->chunk, e);
	writing = bench_seconds();
	if (!r) {
		part = calloc(kv_parts_most(kv) + 1, sizeof(*part));
		kv_state(kv, &state);
		r = part ? 0 : err_set(e, SINK_ENOMEM, "Out of memory for the parts of a cache.");
	}
	if (!r)
		r = ring_write(b->path, &id, &state, part, kv_parts(kv, part, false), false, &ring, e);
	b->file_bytes = ring.bytes;
	since += bench_seconds() - writing;
	if (!r)
		r = go_on(b, kv, REPLAY, &since, e);
	kv_free(kv);
	ring_release(&ring);
	free(part);
	return r;
}

/* Takes pages for the parts of a file and fills them. */
static int fill(struct bed *b, const struct ring *ring, struct kv **ret, struct err *e)
{
	struct kv_part *part = calloc(ring->parts + 1, sizeof(*part));
	void **page = calloc(ring->parts + 1, sizeof(*page));
	int r = part && page ? 0 : err_set(e, SINK_ENOMEM, "Out of memory for the parts of a cache.");

	for (size_t i = 0; !r && i < ring->parts; i++)
		part[i] = (struct kv_part){ .run = ring->part[i].run,
					    .number = ring->part[i].number,
					    .sum = ring->part[i].sum };
	if (!r)
		r = kv_restore(model_arena(b->m), &b->options, &ring->state, b->text.id, part, ring->parts, ret, e);
	for (size_t i = 0; !r && i < ring->parts; i++)
		page[i] = part[i].page;
	if (!r)
		r = ring_fill(b->path, ring, page, e);
	free(page);
	free(part);
	return r;
}

static int from_disk(struct bed *b, struct err *e)
{
	const struct ring_identity id = identify(b);
	struct ring ring = { 0 };
	struct kv *kv = NULL;
	double since;
	int r;

	arena_trim(model_arena(b->m));
	since = bench_seconds();
	r = ring_read(b->path, &id, false, &ring, e);
	note(b, HEAD, &since);
	if (!r && ring.state.tokens > b->tokens)
		r = err_set(e, SINK_EFORMAT, "The cache file %s tells of more tokens than were read.", b->path);
	if (!r)
		r = fill(b, &ring, &kv, e);
	note(b, FILL, &since);
	if (!r)
		r = kv_accept(kv, &b->options, b->text.id, b->text.count, e);
	note(b, VERIFY_DISK, &since);
	if (!r) {
		note_restored(b, kv);
		r = go_on(b, kv, FIRST_DISK, &since, e);
	}
	kv_free(kv);
	ring_release(&ring);
	return r;
}

static int one_round(struct bed *b, struct err *e)
{
	struct arena_files files = { -1, -1 };
	double since;
	int r = live_and_die(b, &files, e);

	since = bench_seconds();
	if (r)
		return r;
	r = open_model(b, &files, e);
	note(b, LOAD, &since);
	if (!r)
		r = read_text(b, e);
	if (!r) { /* the fingerprint reads the whole file, once */
		model_fingerprint(b->m);
		r = from_memory(b, e);
	}
	if (!r)
		r = replay(b, e);
	if (!r)
		r = from_disk(b, e);
	return r;
}

static double median(const struct bed *b, enum stretch first, enum stretch last)
{
	const size_t repeat = (size_t)b->o->repeat;
	double *sum, ret;

	if (bench_numbers(repeat, &sum, NULL))
		return 0;
	for (size_t i = 0; i < repeat; i++) {
		sum[i] = 0;
		for (int s = (int)first; s <= (int)last; s++)
			sum[i] += b->ms[s][i];
	}
	ret = bench_quantile(sum, repeat, 0.5);
	free(sum);
	return ret;
}

static void report_restore(const struct bed *b, struct report *r, bool began)
{
	char text[POLICY_TEXT];

	if (!began) {
		report_begin(r, b->o->json);
		bench_report(b->o, b->m, r);
		policy_format(&b->o->chosen, text, sizeof(text));
		report_text(r, "policy", text);
		report_count(r, "rounds", b->o->repeat);
	}
	report_row(r);
	report_count(r, "tokens", b->tokens);
	report_number(r, "replay_ms", 2, median(b, REPLAY, REPLAY));
	report_number(r, "memory_ms", 2, median(b, ADOPT, FIRST_MEMORY));
	report_number(r, "disk_ms", 2, median(b, HEAD, FIRST_DISK));
	report_text(r, "logits", "identical");
	report_count(r, "restored", b->restored);
	report_count(r, "recomputed", b->tokens - b->restored);
	report_count(r, "file_bytes", b->file_bytes);
	for (int s = ADOPT; s < STRETCHES; s++)
		report_number(r, stretch_names[s], 2, median(b, (enum stretch)s, (enum stretch)s));
}

/* All rounds with this many tokens, and their row. */
static int measure(struct bed *b, int64_t tokens, struct report *report, bool began, struct err *e)
{
	int r = 0;

	b->tokens = tokens;
	b->restored = -1;
	for (b->round = 0; !r && b->round < (size_t)b->o->repeat; b->round++) {
		close_model(b);
		r = one_round(b, e);
	}
	if (!r)
		report_restore(b, report, began);
	unlink(b->path);
	close_model(b);
	free(b->logits);
	b->logits = NULL;
	return r;
}

int bench_restore(const struct bench *o, struct err *e)
{
	const char *tmp = getenv("TMPDIR");
	struct bed b = { .o = o };
	struct report report;
	int r = 0;

	snprintf(b.dir, sizeof(b.dir), "%.40s/sinkd-bench.XXXXXX", tmp && *tmp ? tmp : "/tmp");
	if (!mkdtemp(b.dir))
		return err_set(e, SINK_EIO, "The directory %s cannot be made: %s.", b.dir, strerror(errno));
	snprintf(b.path, sizeof(b.path), "%s/1.kv", b.dir);
	for (int i = 0; !r && i < STRETCHES; i++)
		r = bench_numbers((size_t)o->repeat, &b.ms[i], e);
	if (!r)
		r = measure(&b, o->tokens ? o->tokens : TOKENS_FEW, &report, false, e);
	if (!r && !o->tokens)
		r = measure(&b, TOKENS_FULL, &report, true, e);
	if (!r)
		report_end(&report);
	for (int i = 0; i < STRETCHES; i++)
		free(b.ms[i]);
	tokens_release(&b.text);
	rmdir(b.dir);
	return r;
}
