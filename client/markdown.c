/*
 * The styler: bytes wait in `held` until the rule for the first of them can decide. A rule takes at least one byte off
 * and gives it a style, or asks for more by taking none; told that no more comes, it must decide. Rules see only what
 * is held and the state, never where a piece ends, which is why cuts make no difference.
 */
#include "markdown.h"

#include <string.h>

enum {
	BOLD = 1,
	DIM = 2,
	ITALIC = 4,
	UNDERLINE = 8,
	CODE = 16,
	HEADING = 32,
	RULE = 64, /* of lines only: dim while nothing else stands in it */
};

/* Emphasis that is open, by the mark that opened it. */
enum { STAR_ITALIC = 1, STAR_BOLD = 2, BAR_ITALIC = 4, BAR_BOLD = 8 };

enum { FENCE_INFO, FENCE_LINE_START, FENCE_LINE, FENCE_END };

static bool blank(unsigned char c)
{
	return c == ' ' || c == '\t';
}

static bool ends_word(unsigned char c)
{
	return !c || c == '\n' || blank(c);
}

static bool punctuation(unsigned char c)
{
	return c > 0x20 && c < 0x7f && !(c >= '0' && c <= '9') && !((c | 0x20) >= 'a' && (c | 0x20) <= 'z');
}

static void set_style(struct markdown *m, unsigned style, struct buf *b)
{
	static const struct {
		unsigned bit;
		const char *code;
	} codes[] = {
		{ BOLD, ";1" },	     { DIM | RULE, ";2" }, { ITALIC, ";3" },
		{ UNDERLINE, ";4" }, { CODE, ";36" },	   { HEADING, ";1;35" },
	};

	if (style == m->now)
		return;
	m->now = style;
	buf_adds(b, "\033[0");
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (style & codes[i].bit)
			buf_adds(b, codes[i].code);
	buf_adds(b, "m");
}

/* Writes the first bytes that are held; returns how many, so that a rule can end with it. */
static size_t emit(struct markdown *m, size_t n, unsigned style, struct buf *b)
{
	set_style(m, style, b);
	buf_add(b, m->held, n);
	m->before = (unsigned char)m->held[n - 1];
	m->count -= n;
	memmove(m->held, m->held + n, m->count);
	return n;
}

/* How often the first byte that is held stands there. */
static size_t run(const struct markdown *m)
{
	size_t n = 1;

	while (n < m->count && m->held[n] == m->held[0])
		n++;
	return n;
}

/* The byte behind the first `n`; a newline where nothing more comes. */
static unsigned char after(const struct markdown *m, size_t n)
{
	return n < m->count ? (unsigned char)m->held[n] : '\n';
}

static unsigned text_style(const struct markdown *m)
{
	return m->line | (m->inside & (STAR_BOLD | BAR_BOLD) ? BOLD : 0) |
	       (m->inside & (STAR_ITALIC | BAR_ITALIC) ? ITALIC : 0);
}

static size_t end_line(struct markdown *m, struct buf *b)
{
	m->middle = m->escaped = m->bracket = m->link = false;
	m->line = m->inside = 0;
	m->ticks = m->indent = 0;
	emit(m, 1, 0, b);
	m->before = 0;
	return 1;
}

/* ---- within a line ---- */

static size_t emphasis(struct markdown *m, bool last, struct buf *b)
{
	size_t n = run(m);
	bool star = m->held[0] == '*', left, right;
	unsigned char before = m->before, next = after(m, n);
	unsigned bits = (unsigned)(n & 3) << (star ? 0 : 2);

	if (n == m->count && !last)
		return 0;
	if (n > 3)
		return emit(m, n, text_style(m), b);
	left = !ends_word(next) && (!punctuation(next) || ends_word(before) || punctuation(before));
	right = !ends_word(before) && (!punctuation(before) || ends_word(next) || punctuation(next));
	if (!star && left && right) { /* snake_case is a word */
		left = punctuation(before);
		right = punctuation(next);
	}
	if (right && (m->inside & bits)) {
		m->inside &= ~bits;
		return emit(m, n, m->line | DIM, b);
	}
	if (left) {
		m->inside |= bits;
		return emit(m, n, m->line | DIM, b);
	}
	return emit(m, n, text_style(m), b);
}

/* Ticks: they open a code span, and as many end it. */
static size_t ticks(struct markdown *m, bool last, struct buf *b)
{
	size_t n = run(m);

	if (n == m->count && !last)
		return 0;
	if (!m->ticks)
		m->ticks = n;
	else if (m->ticks == n)
		m->ticks = 0;
	return emit(m, n, m->line | CODE, b);
}

/* A whole character, since a style between its bytes would break it. */
static size_t character(struct markdown *m, unsigned style, bool last, struct buf *b)
{
	unsigned char c = (unsigned char)m->held[0];
	size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

	if (n > m->count) {
		if (!last)
			return 0;
		n = m->count;
	}
	return emit(m, n, style, b);
}

static size_t link_text(struct markdown *m, bool last, struct buf *b)
{
	if (m->count == 1 && !last)
		return 0;
	if (!m->bracket || after(m, 1) != '(')
		return emit(m, 1, text_style(m), b);
	m->bracket = false;
	m->link = true;
	return emit(m, 2, text_style(m), b);
}

static bool rules(char c)
{
	return c == '-' || c == '*' || c == '_';
}

static size_t within_line(struct markdown *m, bool last, struct buf *b)
{
	char c = m->held[0];

	if (c == '\n')
		return end_line(m, b);
	if ((m->line & RULE) && (rules(c) || blank((unsigned char)c)))
		return emit(m, 1, m->line, b);
	m->line &= ~(unsigned)RULE;
	if (m->ticks)
		return c == '`' ? ticks(m, last, b) : character(m, m->line | CODE, last, b);
	if (m->link && c != ')' && !blank((unsigned char)c))
		return character(m, m->line | DIM | UNDERLINE, last, b);
	m->link = false;
	if (m->escaped) {
		m->escaped = false;
		return character(m, text_style(m), last, b);
	}
	switch (c) {
	case '\\':
		m->escaped = true;
		break;
	case '[':
		m->bracket = true;
		break;
	case '`':
		return ticks(m, last, b);
	case '*':
	case '_':
		return emphasis(m, last, b);
	case ']':
		return link_text(m, last, b);
	default:
		break;
	}
	return character(m, text_style(m), last, b);
}

/* ---- where a line begins ---- */

static size_t heading(struct markdown *m, bool last, struct buf *b)
{
	size_t n = run(m);

	if (n == m->count && n <= 6 && !last)
		return 0;
	m->middle = true;
	if (n > 6 || !ends_word(after(m, n)))
		return within_line(m, last, b);
	m->line = HEADING;
	return emit(m, n, m->line, b);
}

static size_t fence(struct markdown *m, bool last, struct buf *b)
{
	size_t n = run(m);

	if (n == m->count && !last)
		return 0;
	m->middle = true;
	if (n < 3)
		return within_line(m, last, b);
	m->fence = m->held[0];
	m->fence_length = n;
	m->fence_indent = m->indent;
	m->fence_part = FENCE_INFO;
	return emit(m, n, m->line | DIM, b);
}

/* A list's mark, a rule, or emphasis. */
static size_t mark(struct markdown *m, bool last, struct buf *b)
{
	size_t n = run(m);
	char c = m->held[0];

	if (n == m->count && !last && !(rules(c) && n > 3))
		return 0;
	if (n == 1 && c != '_' && blank(after(m, 1)))
		return emit(m, 1, m->line | BOLD, b);
	m->middle = true;
	if (!rules(c) || n < 3 || (n == 3 && !ends_word(after(m, n))))
		return within_line(m, last, b);
	m->line |= RULE;
	return emit(m, n, m->line, b);
}

static size_t number(struct markdown *m, bool last, struct buf *b)
{
	size_t n = 0;
	bool pointed;

	while (n < m->count && m->held[n] >= '0' && m->held[n] <= '9')
		n++;
	pointed = after(m, n) == '.' || after(m, n) == ')';
	if (n <= 9 && !last && (n == m->count || (n + 1 == m->count && pointed)))
		return 0;
	if (n <= 9 && pointed && blank(after(m, n + 1)))
		return emit(m, n + 1, m->line | BOLD, b);
	m->middle = true;
	return emit(m, n, text_style(m), b);
}

static size_t line_start(struct markdown *m, bool last, struct buf *b)
{
	char c = m->held[0];

	if (blank((unsigned char)c)) {
		m->indent++;
		return emit(m, 1, m->line, b);
	}
	if (c == '>') {
		m->line = ITALIC;
		return emit(m, 1, m->line | DIM, b);
	}
	if (c == '#')
		return heading(m, last, b);
	if (c == '`' || c == '~')
		return fence(m, last, b);
	if (c == '-' || c == '*' || c == '_' || c == '+')
		return mark(m, last, b);
	if (c >= '0' && c <= '9')
		return number(m, last, b);
	m->middle = true;
	return within_line(m, last, b);
}

/* ---- within a fence ---- */

/* What may end it: as many marks as began it, or more, alone in a line. */
static size_t fence_end(struct markdown *m, bool last, struct buf *b)
{
	size_t n = run(m);

	if (n == m->count && !last)
		return 0;
	if (n < m->fence_length || !ends_word(after(m, n)) || m->indent > m->fence_indent + 3) {
		m->fence_part = FENCE_LINE;
		return emit(m, n, CODE, b);
	}
	m->fence_part = FENCE_END;
	return emit(m, n, DIM, b);
}

static size_t fence_newline(struct markdown *m, struct buf *b)
{
	if (m->fence_part == FENCE_END)
		m->fence = '\0';
	m->fence_part = FENCE_LINE_START;
	return end_line(m, b);
}

static size_t within_fence(struct markdown *m, bool last, struct buf *b)
{
	char c = m->held[0];

	if (c == '\n')
		return fence_newline(m, b);
	switch (m->fence_part) {
	case FENCE_INFO:
		if (c != '`' || m->fence != '`')
			return character(m, m->line | DIM, last, b);
		m->fence = '\0'; /* it was a code span: a fence has no tick beside it */
		m->ticks = m->fence_length;
		return within_line(m, last, b);
	case FENCE_LINE_START:
		if (blank((unsigned char)c)) {
			m->indent++;
			return emit(m, 1, CODE, b);
		}
		if (c == m->fence)
			return fence_end(m, last, b);
		m->fence_part = FENCE_LINE;
		return character(m, CODE, last, b);
	case FENCE_LINE:
		return character(m, CODE, last, b);
	default:
		return character(m, DIM, last, b);
	}
}

/* Lets the rules take what they can. */
static void decide(struct markdown *m, bool last, struct buf *b)
{
	size_t taken = 1;

	while (m->count && taken) {
		if (m->fence)
			taken = within_fence(m, last, b);
		else
			taken = m->middle ? within_line(m, last, b) : line_start(m, last, b);
	}
}

void markdown_add(struct markdown *m, const char *text, size_t len, struct buf *b)
{
	for (size_t i = 0; i < len; i++) {
		m->held[m->count++] = text[i];
		decide(m, m->count == MARKDOWN_HELD, b);
	}
	set_style(m, 0, b);
}

void markdown_flush(struct markdown *m, struct buf *b)
{
	decide(m, true, b);
	set_style(m, 0, b);
}
