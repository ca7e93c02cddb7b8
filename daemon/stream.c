/*
 * Owns the events of one conversation: a list of segments of memory, each with whole records one behind the other. The
 * oldest segment is dropped as a whole, so keeping the log bounded costs nothing an event; readers whose cursor lies in
 * it are marked as lost.
 *
 * This file knows three facts of MessagePack, to put the name into a stored map: the forms of a small map, of a string,
 * and that a map is its pairs one after another.
 */
#include "stream.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { SEGMENT_FIRST = 2048, SEGMENT_MOST = 256 * 1024, PAIRS_MOST = 12, SCRATCH_KEPT = 4096 };

struct segment {
	TAILQ_ENTRY(segment) link;
	int64_t first; /* number of its first event */
	size_t used, room;
	char bytes[];
};

struct stream {
	TAILQ_HEAD(segment_list, segment) segments;
	LIST_HEAD(, attachment) readers;
	size_t readers_count;
	size_t bytes, limit;
	int64_t first, next; /* of those in memory, and of the next one */
	int64_t kept, safe;  /* on the disk are those from `kept` on, below `safe` */
	int64_t published;   /* those from here on are not sent yet */
	bool keeps;
	bool closed;
	char *scratch; /* the frame being sent */
	size_t scratch_room;
};

int stream_new(size_t limit, struct stream **ret, struct err *e)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, SINK_ENOMEM, "There is no memory for an event log.");
	TAILQ_INIT(&s->segments);
	LIST_INIT(&s->readers);
	s->limit = limit;
	s->first = s->next = s->kept = 1;
	s->published = INT64_MAX;
	*ret = s;
	return 0;
}

void stream_keep(struct stream *s, int64_t first, int64_t next)
{
	assert(TAILQ_EMPTY(&s->segments));
	s->keeps = true;
	s->kept = first;
	s->first = s->next = s->safe = s->published = next;
}

void stream_publish(struct stream *s, int64_t up_to)
{
	s->safe = s->published = up_to;
}

void stream_publish_all(struct stream *s)
{
	s->published = INT64_MAX;
}

void stream_kept_from(struct stream *s, int64_t first)
{
	s->kept = first;
}

static void free_stream(struct stream *s)
{
	struct segment *g;

	while ((g = TAILQ_FIRST(&s->segments))) {
		TAILQ_REMOVE(&s->segments, g, link);
		free(g);
	}
	free(s->scratch);
	free(s);
}

void stream_close(struct stream *s)
{
	if (!s)
		return;
	s->closed = true;
	s->published = INT64_MAX;
	if (!s->readers_count)
		free_stream(s);
}

int64_t stream_first(const struct stream *s)
{
	return s->keeps ? s->kept : s->first;
}

int64_t stream_next(const struct stream *s)
{
	return s->next;
}

size_t stream_readers(const struct stream *s)
{
	return s->readers_count;
}

static void drop_oldest(struct stream *s)
{
	struct segment *g = TAILQ_FIRST(&s->segments), *after = TAILQ_NEXT(g, link);
	struct attachment *a;

	LIST_FOREACH(a, &s->readers, of_stream)
	{
		if (a->piece || (a->segment && a->segment != g))
			continue;
		if (a->next < after->first) {
			a->lost = !s->keeps;
			a->segment = NULL;
		} else if (a->segment) { /* it has read all of this one */
			a->segment = after;
			a->offset = 0;
		}
	}
	TAILQ_REMOVE(&s->segments, g, link);
	s->bytes -= g->room;
	s->first = after->first;
	free(g);
}

/* The oldest segment may go unless it holds events that are nowhere else yet. */
static bool may_drop(const struct stream *s)
{
	const struct segment *after = TAILQ_NEXT(TAILQ_FIRST(&s->segments), link);

	return !s->keeps || after->first <= s->safe;
}

/* A segment with `size` bytes free at its end. Sizes double, so that a quiet conversation costs little. */
static struct segment *make_room(struct stream *s, size_t size)
{
	struct segment *last = TAILQ_LAST(&s->segments, segment_list), *g;
	size_t room;

	if (last && last->room - last->used >= size)
		return last;
	room = last ? 2 * last->room : SEGMENT_FIRST;
	if (room > SEGMENT_MOST)
		room = SEGMENT_MOST;
	if (room > s->limit / 4)
		room = s->limit / 4;
	if (room < size)
		room = size;
	g = malloc(sizeof(*g) + room);
	if (!g)
		return NULL;
	g->first = s->next;
	g->used = 0;
	g->room = room;
	TAILQ_INSERT_TAIL(&s->segments, g, link);
	s->bytes += room;
	while (s->bytes > s->limit && TAILQ_FIRST(&s->segments) != g && may_drop(s))
		drop_oldest(s);
	return g;
}

/* The map's pairs: how many, and where they begin behind the header. */
static size_t open_map(const uint8_t *frame, size_t size, size_t *pairs)
{
	if (size >= 1 && (frame[0] & 0xf0) == 0x80) {
		*pairs = frame[0] & 0x0f;
		return 1;
	}
	if (size >= 3 && frame[0] == 0xde) {
		*pairs = (size_t)frame[1] << 8 | frame[2];
		return 3;
	}
	assert(size >= 5 && frame[0] == 0xdf);
	*pairs = (size_t)frame[1] << 24 | (size_t)frame[2] << 16 | (size_t)frame[3] << 8 | frame[4];
	return 5;
}

int stream_append(struct stream *s, const void *frame, size_t size, const char *to, struct err *e)
{
	size_t pairs, head = open_map(frame, size, &pairs), to_len = to ? strlen(to) : 0;
	struct record r = { (uint32_t)(size - head), (uint8_t)pairs, (uint8_t)to_len, { 0 } };
	struct segment *g;

	assert(!s->closed && pairs <= PAIRS_MOST && to_len <= STREAM_NAME);
	if (size > UINT32_MAX / 2)
		return err_set(e, SINK_EINVAL, "An event of %zu bytes is too long.", size);
	g = make_room(s, sizeof(r) + to_len + r.size);
	if (!g)
		return err_set(e, SINK_ENOMEM, "There is no memory for an event of %zu bytes.", size);
	memcpy(g->bytes + g->used, &r, sizeof(r));
	g->used += sizeof(r);
	if (to)
		memcpy(g->bytes + g->used, to, to_len);
	memcpy(g->bytes + g->used + to_len, (const char *)frame + head, r.size);
	g->used += to_len + r.size;
	s->next++;
	return 0;
}

static struct record record_at(const struct segment *g, size_t offset)
{
	struct record r;

	memcpy(&r, g->bytes + offset, sizeof(r));
	return r;
}

static size_t record_size(const struct record *r)
{
	return sizeof(*r) + r->to + r->size;
}

/* Points the cursor at event `a->next`, if that is in memory. */
static void find_place(struct attachment *a)
{
	struct segment *g = TAILQ_LAST(&a->stream->segments, segment_list);

	while (g && g->first > a->next)
		g = TAILQ_PREV(g, segment_list, link);
	a->segment = g;
	a->offset = 0;
	for (int64_t n = g ? g->first : a->next; n < a->next; n++) {
		struct record r = record_at(g, a->offset);

		a->offset += record_size(&r);
	}
}

static void drop_piece(struct attachment *a)
{
	free(a->piece);
	a->piece = NULL;
	a->segment = NULL;
}

int stream_seek(struct attachment *a, const char *name, int64_t from, struct err *e)
{
	struct stream *s = a->stream;

	if (from < stream_first(s))
		return err_set(e, SINK_EGONE, "Event %lld is no longer kept; the oldest is %lld.", (long long)from,
			       (long long)stream_first(s));
	if (from > s->next)
		return err_set(e, SINK_EINVAL, "\"from\" is %lld, but the next event is %lld.", (long long)from,
			       (long long)s->next);
	drop_piece(a);
	a->next = from;
	find_place(a);
	a->since = s->next;
	a->lost = false;
	memcpy(a->name, name, strlen(name) + 1);
	return 0;
}

int stream_attach(struct stream *s, const char *name, int64_t from, struct attachment **ret, struct err *e)
{
	struct attachment *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return err_set(e, SINK_ENOMEM, "There is no memory for an attachment.");
	a->stream = s;
	rc = stream_seek(a, name, from, e);
	if (rc < 0) {
		free(a);
		return rc;
	}
	LIST_INSERT_HEAD(&s->readers, a, of_stream);
	s->readers_count++;
	*ret = a;
	return 0;
}

void stream_detach(struct attachment *a)
{
	struct stream *s = a->stream;

	LIST_REMOVE(a, of_stream);
	free(a->piece);
	free(a);
	if (!--s->readers_count && s->closed)
		free_stream(s);
}

static size_t put_string(char *at, const char *text, size_t len)
{
	size_t head = 0;

	if (len < 32) {
		at[head++] = (char)(0xa0 | len);
	} else {
		at[head++] = (char)0xd9;
		at[head++] = (char)len;
	}
	memcpy(at + head, text, len);
	return head + len;
}

static char *reserve_scratch(struct stream *s, size_t size)
{
	if (s->scratch_room > SCRATCH_KEPT) { /* one long event leaves no mark */
		free(s->scratch);
		s->scratch = NULL;
		s->scratch_room = 0;
	}
	if (size > s->scratch_room) {
		char *more = realloc(s->scratch, size);

		if (!more)
			return NULL;
		s->scratch = more;
		s->scratch_room = size;
	}
	return s->scratch;
}

/* The frame of the record at the reader's cursor; a rename that is no news is sent as one to the name it has. */
static int build_frame(struct attachment *a, const struct record *r, size_t *size)
{
	const char *to = a->segment->bytes + a->offset + sizeof(*r), *body = to + r->to;
	char *frame = reserve_scratch(a->stream, r->size + 2 * (size_t)STREAM_NAME + 32);
	size_t n = 0;

	if (!frame)
		return SINK_EBUSY;
	frame[n++] = (char)(0x80 | (r->pairs + 1 + (r->to > 0)));
	n += put_string(frame + n, "conversation", 12);
	n += put_string(frame + n, a->name, strlen(a->name));
	if (r->to) {
		bool news = a->next >= a->since;

		n += put_string(frame + n, "to", 2);
		n += put_string(frame + n, news ? to : a->name, news ? r->to : strlen(a->name));
	}
	memcpy(frame + n, body, r->size);
	*size = n + r->size;
	return 0;
}

/* The cursor goes on by one event. */
static void move_on(struct attachment *a, const struct record *r)
{
	if (r->to && a->next >= a->since) {
		memcpy(a->name, a->segment->bytes + a->offset + sizeof(*r), r->to);
		a->name[r->to] = '\0';
	}
	a->offset += record_size(r);
	a->next++;
}

/* Makes the cursor point at a record: 0; SINK_ENOENT: there is none to be sent yet; STREAM_WANTS: it is on the disk. */
static int find_record(struct attachment *a)
{
	struct stream *s = a->stream;

	if (a->next >= s->next || a->next >= s->published)
		return SINK_ENOENT;
	if (a->piece && a->offset == a->piece->used)
		drop_piece(a);
	if (a->piece)
		return 0;
	if (a->next < s->first)
		return STREAM_WANTS;
	if (!a->segment)
		find_place(a);
	if (a->offset == a->segment->used) {
		a->segment = TAILQ_NEXT(a->segment, link);
		a->offset = 0;
	}
	return 0;
}

int stream_pump(struct attachment *a, stream_send *send, void *arg)
{
	if (a->lost)
		return SINK_EGONE;
	while (a->credit > 0) {
		int rc = find_record(a);
		struct record r;
		size_t size;

		if (rc == STREAM_WANTS)
			return rc;
		if (rc < 0)
			break;
		r = record_at(a->segment, a->offset);
		rc = build_frame(a, &r, &size);
		if (rc == 0)
			rc = send(arg, a->peer, a->stream->scratch, size);
		if (rc < 0)
			return rc;
		a->credit -= (int64_t)size;
		move_on(a, &r);
	}
	return a->stream->closed && a->next == a->stream->next ? SINK_ENOENT : 0;
}

size_t stream_unsafe(const struct stream *s)
{
	const struct segment *g = TAILQ_LAST(&s->segments, segment_list);
	size_t bytes = 0;

	if (!s->keeps)
		return 0;
	for (; g && s->safe < s->next; g = TAILQ_PREV(g, segment_list, link)) {
		bytes += g->used;
		if (g->first <= s->safe)
			break;
	}
	return bytes;
}

int stream_copy(const struct stream *s, int64_t from, void **ret, size_t *size, struct err *e)
{
	struct attachment at = { .stream = (struct stream *)s, .next = from };
	const struct segment *g;
	size_t offset;
	char *to;

	assert(from >= s->first && from < s->next);
	find_place(&at);
	*size = at.segment->used - at.offset;
	for (g = TAILQ_NEXT(at.segment, link); g; g = TAILQ_NEXT(g, link))
		*size += g->used;
	*ret = to = malloc(*size);
	if (!to)
		return err_set(e, SINK_ENOMEM, "There is no memory for %zu bytes of events.", *size);
	offset = at.offset;
	for (g = at.segment; g; g = TAILQ_NEXT(g, link)) {
		memcpy(to, g->bytes + offset, g->used - offset);
		to += g->used - offset;
		offset = 0;
	}
	return 0;
}

/* Whether these bytes are that many whole records. */
static bool are_records(const char *bytes, size_t size, int64_t events)
{
	for (; events > 0; events--) {
		struct record r;

		if (size < sizeof(r))
			return false;
		memcpy(&r, bytes, sizeof(r));
		if (r.pairs > PAIRS_MOST || r.to > STREAM_NAME || r.size > size || record_size(&r) > size)
			return false;
		bytes += record_size(&r);
		size -= record_size(&r);
	}
	return size == 0;
}

int stream_give(struct attachment *a, int64_t from, const void *record, size_t size, int64_t events, struct err *e)
{
	struct segment *g;

	if (a->next != from || a->piece)
		return 0;
	if (events < 1 || !are_records(record, size, events))
		return err_set(e, SINK_EFORMAT, "What is kept of the events from %lld on is damaged.", (long long)from);
	g = malloc(sizeof(*g) + size);
	if (!g)
		return err_set(e, SINK_ENOMEM, "There is no memory for %zu bytes of events.", size);
	g->first = from;
	g->used = g->room = size;
	memcpy(g->bytes, record, size);
	a->piece = a->segment = g;
	a->offset = 0;
	return 0;
}
