/* `sink top`: looks at the daemon again and again, on a screen with keys, or into a file. */
#include "top.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "screen.h"
#include "start.h"
#include "term.h"
#include "verb.h"

enum { STARTING_MS = 500, NAP_MS = 10, LONGEST_S = 86400 };

struct top {
	struct cli *c;
	struct top_view view;
	int interval_ms;
	int64_t times; /* looks that are left; -1: no end */
	bool attach;   /* the end is to talk in the selected conversation */
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool is_starting(void)
{
	return strcmp(sink_error_name(sink_error(NULL)), "eformat") == 0;
}

/* One that has just made its segment has written nothing yet. */
static struct sink_reply *look(const struct top *t)
{
	struct sink_reply *r = sink_board(t->c->endpoint);

	for (int ms = 0; !r && is_starting() && ms < STARTING_MS; ms += NAP_MS) {
		usleep(NAP_MS * 1000);
		r = sink_board(t->c->endpoint);
	}
	return r;
}

/* Why there is nothing to be seen; a daemon that runs all the same is told from none. */
static int fail_look(const struct cli *c)
{
	if (strcmp(sink_error_name(sink_error(NULL)), "econn") != 0)
		return fail_sink(NULL);
	if (start_present(c->endpoint))
		return fail(FAIL_FAILED, "The daemon at %s does not show its state (its option status-segment).",
			    c->endpoint);
	return fail(FAIL_UNREACHABLE, "No daemon is running at %s.", c->endpoint);
}

/* Into a file or pipe. */

static int print_look(struct top *t, struct sink_reply *r)
{
	struct buf b = { 0 };
	bool json = t->c->o.v[OPTION_JSON].given;
	int code = json ? verb_json(r, NULL) : 0;

	t->view.now = now();
	t->view.columns = term_is(STDOUT_FILENO) ? term_columns() : 0;
	if (!top_take(&t->view, r))
		return fail(FAIL_FAILED, "There is not enough memory.");
	if (!json) {
		top_draw(&t->view, &b);
		if (t->times != 0)
			buf_adds(&b, "\n");
		term_raw(buf_text(&b), b.size);
	}
	buf_release(&b);
	return code;
}

static int print(struct top *t)
{
	int code = 0;

	while (!code && t->times != 0 && !term_broken()) {
		struct sink_reply *r = look(t);

		t->times -= t->times > 0;
		code = r ? print_look(t, r) : fail_look(t->c);
		if (!code && t->times != 0)
			usleep((useconds_t)t->interval_ms * 1000);
	}
	return code;
}

/* On a screen. */

/* False: the screen is to be left. */
static bool press(struct top *t, int key)
{
	struct top_view *v = &t->view;

	if (key == 'q' || key == 'Q') {
		return false;
	} else if (key == 's') {
		v->order = (enum top_order)((v->order + 1) % TOP_ORDERS);
		top_sort(v);
	} else if (key == SCREEN_UP || key == 'k') {
		top_move(v, -1);
	} else if (key == SCREEN_DOWN || key == 'j') {
		top_move(v, 1);
	} else if (key == SCREEN_PAGE_UP) {
		top_move(v, -(long)top_page(v));
	} else if (key == SCREEN_PAGE_DOWN || key == ' ') {
		top_move(v, (long)top_page(v));
	} else if (key == SCREEN_FIRST || key == 'g') {
		top_move(v, -(long)v->count);
	} else if (key == SCREEN_LAST || key == 'G') {
		top_move(v, (long)v->count);
	} else if ((key == '\r' || key == '\n') && v->count) {
		t->attach = true;
		return false;
	}
	return true;
}

static void draw(struct top *t)
{
	struct buf b = { 0 };

	t->view.now = now();
	t->view.columns = term_columns();
	t->view.rows = term_rows();
	top_draw(&t->view, &b);
	screen_draw(&b);
	buf_release(&b);
}

static int watch(struct top *t, struct sink_reply *first)
{
	struct sink_reply *r = first;
	enum screen_what what = SCREEN_TIME;
	int which = 0;

	for (;;) {
		if (what == SCREEN_TIME && !top_take(&t->view, r))
			return FAIL_FAILED;
		draw(t);
		if (term_broken())
			return 0;
		what = screen_wait(t->interval_ms, &which);
		if (what == SCREEN_END)
			return 128 + which;
		if (what == SCREEN_KEY && !press(t, which))
			return 0;
		if (what == SCREEN_TIME) {
			r = look(t);
			t->view.why = r ? NULL : sink_error_text(NULL);
		}
	}
}

/* The terminal is free again: the verb is `attach` from here on. */
static int attach(struct top *t)
{
	struct cli *c = t->c;
	char name[TARGET_SIZE + 1];
	int code;

	snprintf(name, sizeof(name), "=%s", top_selected(&t->view));
	free(c->o.args);
	c->o.args = malloc(sizeof(*c->o.args));
	if (!c->o.args)
		return fail(FAIL_FAILED, "There is not enough memory.");
	c->o.args[0] = name;
	c->o.count = 1;
	c->verb = verb_find("attach");
	code = start_connect(c);
	return code ? code : c->verb->run(c);
}

static int show(struct top *t)
{
	struct sink_reply *r = look(t);
	int code;

	if (!r)
		return fail_look(t->c);
	if (!screen_open()) {
		sink_reply_free(r);
		return fail(FAIL_FAILED, "The terminal cannot be set: %s.", strerror(errno));
	}
	code = watch(t, r);
	screen_close();
	return t->attach ? attach(t) : code;
}

static int read_options(struct top *t)
{
	const struct option_value *v = t->c->o.v;
	double seconds = v[OPTION_INTERVAL].given ? v[OPTION_INTERVAL].real : 1;

	if (seconds < 0.01 || seconds > LONGEST_S)
		return fail(FAIL_USAGE, "Option --interval takes 0.01 to %d seconds.", LONGEST_S);
	if (v[OPTION_TIMES].given && v[OPTION_TIMES].number < 1)
		return fail(FAIL_USAGE, "Option --times takes a number from 1 on.");
	t->interval_ms = (int)lround(seconds * 1e3);
	t->times = -1;
	if (v[OPTION_TIMES].given)
		t->times = v[OPTION_TIMES].number;
	else if (v[OPTION_ONCE].given || (v[OPTION_JSON].given && !v[OPTION_INTERVAL].given))
		t->times = 1;
	return 0;
}

int top_run(struct cli *c)
{
	struct top t = { .c = c };
	int code = read_options(&t);

	if (!code)
		code = start_find(c);
	if (code)
		return code;
	code = t.times < 0 && !c->o.v[OPTION_JSON].given && screen_able() ? show(&t) : print(&t);
	top_release(&t.view);
	return code;
}
