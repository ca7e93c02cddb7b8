/*
 * Owns the picture of `sink top`: which line says what, which columns give way on a narrow terminal, and which rows are
 * in sight. Every line is made as text first and then cut to the terminal, styles being put around it, so that no name
 * can break the picture.
 */
#include "top.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "format.h"
#include "term.h"

enum {
	NO_LIMIT = 10000,  /* cells of a line that goes into a file */
	NAME_LEAST = 12,   /* cells for which other columns give way */
	ROWS_FOR_ALL = 16, /* of a terminal on which all of the head is shown */
	PERIODS = 3,	   /* after so many without a writing the daemon does not answer */
	LINE_MOST = 512,
};

static const char *text_at(const struct sink_reply *r, const char *path)
{
	const char *text = sink_str(r, path, NULL);

	return text ? text : "";
}

/* Rows. */

static void take_row(const struct sink_reply *r, size_t i, struct top_row *row)
{
	char path[64];

#define PATH(key) (snprintf(path, sizeof(path), "latest.%zu.%s", i, key), path)
	row->name = text_at(r, PATH("name"));
	row->state = text_at(r, PATH("state"));
	row->tier = text_at(r, PATH("tier"));
	row->clients = sink_int(r, PATH("clients"), 0);
	row->tokens = sink_int(r, PATH("tokens"), 0);
	row->window = sink_int(r, PATH("window"), 0);
	row->evicted = sink_int(r, PATH("evicted"), 0);
	row->cache_bytes = sink_int(r, PATH("cache_bytes"), 0);
	row->place = sink_int(r, PATH("place"), 0);
	row->read_per_s = sink_float(r, PATH("read_per_s"), 0);
	row->written_per_s = sink_float(r, PATH("written_per_s"), 0);
	row->used = sink_float(r, PATH("used"), 0);
#undef PATH
}

void top_release(struct top_view *v)
{
	sink_reply_free((struct sink_reply *)v->look);
	free(v->row);
	v->look = NULL;
	v->row = NULL;
	v->count = 0;
}

bool top_take(struct top_view *v, struct sink_reply *look)
{
	const size_t count = sink_count(look, "latest");

	top_release(v);
	v->look = look;
	v->row = calloc(count + 1, sizeof(*v->row));
	if (!v->row)
		return false;
	v->count = count;
	for (size_t i = 0; i < count; i++)
		take_row(look, i, &v->row[i]);
	top_sort(v);
	return true;
}

/* Those that work before all others. */
static int rank(const struct top_row *r)
{
	static const char *const states[] = { "answering", "reading", "queued" };

	for (int i = 0; i < 3; i++)
		if (strcmp(r->state, states[i]) == 0)
			return i;
	return 3;
}

static int compare(double a, double b)
{
	return (a < b) - (a > b);
}

static int by_name(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int by_activity(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;
	int order = rank(x) - rank(y);

	if (!order)
		order = -compare((double)x->place, (double)y->place);
	if (!order)
		order = compare(x->used, y->used);
	return order ? order : by_name(a, b);
}

static int by_tokens(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;
	int order = compare((double)x->tokens, (double)y->tokens);

	return order ? order : by_name(a, b);
}

static int by_memory(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;
	int order = compare((double)x->cache_bytes, (double)y->cache_bytes);

	return order ? order : by_name(a, b);
}

static const struct {
	const char *name;
	int (*compare)(const void *a, const void *b);
} orders[TOP_ORDERS] = {
	[TOP_BY_ACTIVITY] = { "activity", by_activity },
	[TOP_BY_TOKENS] = { "tokens", by_tokens },
	[TOP_BY_MEMORY] = { "memory", by_memory },
	[TOP_BY_NAME] = { "name", by_name },
};

void top_sort(struct top_view *v)
{
	if (v->count)
		qsort(v->row, v->count, sizeof(*v->row), orders[v->order].compare);
}

/* Where the selected row is; the first one when it is gone. */
static size_t selected(const struct top_view *v)
{
	for (size_t i = 0; i < v->count; i++)
		if (strcmp(v->row[i].name, v->selected) == 0)
			return i;
	return 0;
}

const char *top_selected(const struct top_view *v)
{
	return v->count ? v->row[selected(v)].name : NULL;
}

void top_move(struct top_view *v, long by)
{
	const long last = (long)v->count - 1;
	long to = (long)selected(v) + by;

	to = to > last ? last : to;
	snprintf(v->selected, sizeof(v->selected), "%s", to > 0 ? v->row[to].name : "");
}

/* Lines. */

static size_t cells(const struct top_view *v)
{
	return v->columns ? v->columns : NO_LIMIT;
}

/* A line of the head, cut to the terminal. */
static __attribute__((format(printf, 4, 5))) void add(const struct top_view *v, struct buf *b, enum term_style style,
						      const char *fmt, ...)
{
	char text[LINE_MOST];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (style != TERM_PLAIN)
		buf_adds(b, term_style(STDOUT_FILENO, style));
	term_fit(b, text, cells(v), false);
	if (style != TERM_PLAIN)
		buf_adds(b, term_style(STDOUT_FILENO, TERM_PLAIN));
	buf_adds(b, "\n");
}

static void add_daemon(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	const double age = sink_float(r, "age", 0), limit = PERIODS * sink_float(r, "period_ms", 1000) / 1e3;
	const char *state = text_at(r, "state");
	char ago[32];

	if (age > limit)
		add(v, b, TERM_RED, "● %s, pid %" PRId64 ": NOT ANSWERING for %s; what is shown is so old",
		    text_at(r, "server"), sink_int(r, "pid", 0), format_age(age, ago, sizeof(ago)));
	else
		add(v, b, strcmp(state, "ready") == 0 ? TERM_GREEN : TERM_RED, "● %s, pid %" PRId64 ": %s for %s",
		    text_at(r, "server"), sink_int(r, "pid", 0), state,
		    format_age(sink_float(r, "uptime", 0), ago, sizeof(ago)));
}

static void add_model(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	char size[32];

	if (*text_at(r, "model.name"))
		add(v, b, TERM_PLAIN, "  Model: %s, %s; %s on %s, %" PRId64 " threads", text_at(r, "model.name"),
		    format_bytes(sink_float(r, "model.bytes", 0), size, sizeof(size)), text_at(r, "model.kernels"),
		    text_at(r, "model.device"), sink_int(r, "model.threads", 0));
	else
		add(v, b, TERM_PLAIN, "  Model: none is loaded yet");
}

/* Tokens of a second, as few digits as say something. */
static const char *speed(double per_s, char *ret, size_t size)
{
	snprintf(ret, size, "%.*f", per_s > 0 && per_s < 9.95 ? 1 : 0, per_s);
	return ret;
}

static void add_speed(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	char written[32], read[32];

	add(v, b, TERM_PLAIN, "  Speed: %s tokens/s written, %s read; %" PRId64 " written and %" PRId64 " read in all",
	    speed(sink_float(r, "written_per_s", 0), written, sizeof(written)),
	    speed(sink_float(r, "read_per_s", 0), read, sizeof(read)), sink_int(r, "tokens_written", 0),
	    sink_int(r, "tokens_read", 0));
}

static int64_t bucket(const struct sink_reply *r, size_t i)
{
	char path[40];

	snprintf(path, sizeof(path), "step_ms.buckets.%zu", i);
	return sink_int(r, path, 0);
}

/* Upper ends of the counts are 1/16, 1/8, … ms. */
static double bucket_end(size_t i)
{
	return ldexp(1, (int)i - 4);
}

/* The times of all steps, a column for each power of two from the shortest to the longest. */
static void draw_steps(const struct sink_reply *r, struct buf *b)
{
	static const char *const bars[] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
	const size_t count = sink_count(r, "step_ms.buckets");
	size_t first = count, last = 0;
	int64_t most = 0;

	for (size_t i = 0; i < count; i++) {
		const int64_t n = bucket(r, i);

		if (n && first == count)
			first = i;
		last = n ? i : last;
		most = n > most ? n : most;
	}
	if (!most)
		return;
	buf_addf(b, "; %g ", first ? bucket_end(first - 1) : 0);
	for (size_t i = first; i <= last; i++)
		buf_adds(b, bars[(bucket(r, i) * 8 + most - 1) / most]);
	buf_addf(b, " %g ms", bucket_end(last));
}

static void add_steps(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	struct buf picture = { 0 };

	draw_steps(r, &picture);
	add(v, b, TERM_PLAIN, "  Steps: %" PRId64 ", median %.1f ms, p99 %.1f, longest %.1f%s", sink_int(r, "steps", 0),
	    sink_float(r, "step_ms.median", 0), sink_float(r, "step_ms.p99", 0), sink_float(r, "step_ms.max", 0),
	    buf_text(&picture));
	buf_release(&picture);
}

static void add_memory(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	const int64_t pages = sink_int(r, "pages", 0);
	char all[32], each[32];

	add(v, b, TERM_PLAIN, " Memory: %s; %" PRId64 " of %" PRId64 " cache pages in use, %s each",
	    format_bytes(sink_float(r, "resident_bytes", 0), all, sizeof(all)), pages - sink_int(r, "pages_free", 0),
	    pages, format_bytes(sink_float(r, "page_bytes", 0), each, sizeof(each)));
}

static void add_store(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	const char *state = text_at(r, "store.state");
	char bytes[32], caches[32], left[32];

	if (strcmp(state, "off") == 0)
		add(v, b, TERM_PLAIN, "  Store: off; conversations end with the daemon");
	else if (strcmp(state, "stopped") == 0)
		add(v, b, TERM_RED, "  Store: SAVING HAS STOPPED: %s", text_at(r, "store.text"));
	else
		add(v, b, TERM_PLAIN, "  Store: %s; %" PRId64 " caches, %s; %s free",
		    format_bytes(sink_float(r, "store.bytes", 0), bytes, sizeof(bytes)), sink_int(r, "store.caches", 0),
		    format_bytes(sink_float(r, "store.cache_bytes", 0), caches, sizeof(caches)),
		    format_bytes(sink_float(r, "store.free_bytes", 0), left, sizeof(left)));
}

static void add_talks(const struct top_view *v, struct buf *b)
{
	const struct sink_reply *r = v->look;
	const int64_t all = sink_int(r, "conversations", 0);
	char shown[48] = "";

	if (all > (int64_t)v->count)
		snprintf(shown, sizeof(shown), " (%zu shown)", v->count);
	add(v, b, TERM_PLAIN, "  Talks: %" PRId64 "%s, %" PRId64 " answering, %" PRId64 " queued; %" PRId64 " clients",
	    all, shown, sink_int(r, "answering", 0), sink_int(r, "queued", 0), sink_int(r, "clients", 0));
}

/* On a low terminal the lines further down give way to rows. */
static size_t add_head(const struct top_view *v, struct buf *b)
{
	static void (*const all[])(const struct top_view *v, struct buf *b) = {
		add_daemon, add_speed, add_talks, add_memory, add_steps, add_store, add_model,
	};
	const size_t count = sizeof(all) / sizeof(all[0]);
	size_t most = !v->rows || v->rows >= ROWS_FOR_ALL ? count : v->rows / 4 + 1;

	if (!v->look) {
		add(v, b, TERM_RED, "● %s", v->why ? v->why : "");
		return 1;
	}
	for (size_t i = 0; i < most; i++)
		all[i](v, b);
	return most;
}

/* The table. */

enum column { STATE, SPEED, TOKENS, WINDOW, EVICTED, MEMORY, TIER, CLIENTS, LAST, COLUMNS };

static const struct {
	const char *title;
	int width; /* negative: text, which stands at the left */
	int stays; /* those with less give way first */
} column_rows[COLUMNS] = {
	[STATE] = { "STATE", -9, 9 },  [SPEED] = { "TOKEN/S", 7, 8 },	[TOKENS] = { "TOKENS", 8, 7 },
	[WINDOW] = { "WINDOW", 7, 5 }, [EVICTED] = { "EVICTED", 8, 2 }, [MEMORY] = { "MEMORY", 8, 1 },
	[TIER] = { "TIER", -6, 3 },    [CLIENTS] = { "CL", 3, 4 },	[LAST] = { "LAST", -4, 6 },
};

static size_t width_of(enum column c)
{
	return (size_t)abs(column_rows[c].width);
}

/* Which columns are shown; returns the cells that are left for names. */
static size_t choose(const struct top_view *v, bool shown[COLUMNS])
{
	size_t longest = strlen("NAME"), taken = 0, least;

	for (size_t i = 0; i < v->count; i++) {
		const size_t width = term_width(v->row[i].name);

		longest = width > longest ? width : longest;
	}
	for (enum column c = 0; c < COLUMNS; c++) {
		shown[c] = true;
		taken += width_of(c) + 2;
	}
	least = longest < NAME_LEAST ? longest : NAME_LEAST;
	for (int stays = 1; taken + least > cells(v) && stays <= COLUMNS; stays++)
		for (enum column c = 0; c < COLUMNS; c++)
			if (column_rows[c].stays == stays) {
				shown[c] = false;
				taken -= width_of(c) + 2;
			}
	return taken + longest > cells(v) ? cells(v) - taken : longest;
}

static const char *cell(const struct top_view *v, const struct top_row *r, enum column c, char *ret, size_t size)
{
	int64_t number = 0;

	switch (c) {
	case STATE:
		return r->state;
	case SPEED:
		if (r->place)
			snprintf(ret, size, "#%" PRId64, r->place);
		else
			speed(strcmp(r->state, "reading") == 0 ? r->read_per_s : r->written_per_s, ret, size);
		return strcmp(ret, "0") == 0 ? "-" : ret;
	case MEMORY:
		return r->cache_bytes ? format_bytes((double)r->cache_bytes, ret, size) : "-";
	case TIER:
		return strcmp(r->tier, "none") == 0 ? "-" : r->tier;
	case LAST:
		return format_age(v->now - r->used, ret, size);
	case TOKENS:
		number = r->tokens;
		break;
	case WINDOW:
		number = r->window;
		break;
	case EVICTED:
		number = r->evicted;
		break;
	case CLIENTS:
	case COLUMNS:
		number = r->clients;
		break;
	}
	snprintf(ret, size, "%" PRId64, number);
	return ret;
}

/* One line of the table; `r` NULL: its titles. */
static void add_row(const struct top_view *v, struct buf *b, const struct top_row *r, size_t name_cells,
		    const bool shown[COLUMNS])
{
	char text[48];

	term_fit(b, r ? r->name : "NAME", name_cells, true);
	for (enum column c = 0; c < COLUMNS; c++) {
		const char *said = r ? cell(v, r, c, text, sizeof(text)) : column_rows[c].title;
		const size_t width = width_of(c), used = term_width(said);

		if (!shown[c])
			continue;
		buf_adds(b, "  ");
		for (size_t i = used; column_rows[c].width > 0 && i < width; i++)
			buf_adds(b, " ");
		term_fit(b, said, width, column_rows[c].width < 0 && c != LAST);
	}
}

static void add_styled(const struct top_view *v, struct buf *b, const struct top_row *r, bool chosen, size_t name_cells,
		       const bool shown[COLUMNS])
{
	const bool busy = r && rank(r) < 3;
	const char *style = term_style(STDOUT_FILENO, !r || chosen ? TERM_BOLD : TERM_GREEN);

	if (!r || chosen || busy)
		buf_adds(b, style);
	if (v->rows)
		buf_adds(b, chosen ? "> " : "  ");
	add_row(v, b, r, name_cells, shown);
	if (!r || chosen || busy)
		buf_adds(b, term_style(STDOUT_FILENO, TERM_PLAIN));
	buf_adds(b, "\n");
}

/* The selected row stays in sight. */
static void scroll(struct top_view *v, size_t page)
{
	const size_t at = selected(v);

	if (at < v->first)
		v->first = at;
	else if (at >= v->first + page)
		v->first = at + 1 - page;
	if (v->first + page > v->count)
		v->first = v->count > page ? v->count - page : 0;
}

/* Lines of the picture beside the rows: an empty one, the titles, and the keys. */
static size_t rows_left(const struct top_view *v, size_t head)
{
	const size_t other = head + 3;

	if (!v->rows)
		return v->count;
	return v->rows > other ? v->rows - other : 1;
}

size_t top_page(const struct top_view *v)
{
	struct buf b = { 0 };
	size_t page = rows_left(v, add_head(v, &b));

	buf_release(&b);
	return page;
}

void top_draw(struct top_view *v, struct buf *b)
{
	const size_t head = add_head(v, b), page = rows_left(v, head), columns = v->columns;
	bool shown[COLUMNS];
	size_t name_cells;

	if (v->rows)
		scroll(v, page);
	buf_adds(b, "\n");
	v->columns = v->rows && columns > 2 ? columns - 2 : columns; /* the mark in front */
	name_cells = choose(v, shown);
	v->columns = columns;
	if (v->count)
		add_styled(v, b, NULL, false, name_cells, shown);
	for (size_t i = v->rows ? v->first : 0; i < v->count && i < v->first + page; i++)
		add_styled(v, b, &v->row[i], v->rows && i == selected(v), name_cells, shown);
	if (v->rows)
		add(v, b, TERM_DIM, "q ends  ↑↓ select  Enter attaches  s sorts: %s", orders[v->order].name);
}
