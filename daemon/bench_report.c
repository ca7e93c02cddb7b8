/* What sinkd-bench prints: one JSON object, or a list and a table for people. */
#include "bench.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

void report_begin(struct report *r, bool json)
{
	*r = (struct report){ .json = json };
	if (json)
		printf("{");
}

/* Appends to a line of a table; what does not fit is cut. */
static void add(char *line, size_t size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void add(char *line, size_t size, const char *fmt, ...)
{
	size_t used = strlen(line);
	va_list args;

	va_start(args, fmt);
	vsnprintf(line + used, size - used, fmt, args);
	va_end(args);
}

/* One field. `quoted`: the value as JSON; `plain`: as people read it. */
static void field(struct report *r, const char *name, const char *quoted, const char *plain)
{
	if (r->tsv && r->in_row) {
		add(r->tsv_head, sizeof(r->tsv_head), "%s%s", *r->tsv_head ? "\t" : "", name);
		add(r->tsv_line, sizeof(r->tsv_line), "%s%s", *r->tsv_line ? "\t" : "", plain);
	}
	if (r->json) {
		printf("%s\"%s\": %s", r->began ? ", " : "", name, quoted);
	} else if (r->in_row) {
		int width = (int)strlen(name) > 12 ? (int)strlen(name) : 12;

		add(r->head, sizeof(r->head), "%*s  ", width, name);
		add(r->line, sizeof(r->line), "%*s  ", width, plain);
	} else {
		printf("%-20s %s\n", name, plain);
	}
	r->began = true;
}

void report_text(struct report *r, const char *name, const char *value)
{
	char quoted[1024] = "\"";

	for (const char *c = value; *c && strlen(quoted) < sizeof(quoted) - 10; c++) {
		if (*c == '"' || *c == '\\')
			add(quoted, sizeof(quoted), "\\%c", *c);
		else if ((unsigned char)*c < 0x20)
			add(quoted, sizeof(quoted), "\\u%04x", (unsigned)*c);
		else
			add(quoted, sizeof(quoted), "%c", *c);
	}
	add(quoted, sizeof(quoted), "\"");
	field(r, name, quoted, value);
}

void report_count(struct report *r, const char *name, int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", (long long)value);
	field(r, name, text, text);
}

void report_number(struct report *r, const char *name, int decimals, double value)
{
	char text[400] = "null";

	if (isfinite(value))
		snprintf(text, sizeof(text), "%.*f", decimals, value);
	field(r, name, text, text);
}

void report_list(struct report *r, const char *name, int decimals, const double *value, size_t n)
{
	char text[1024] = "[", plain[1024] = "";

	for (size_t i = 0; i < n && strlen(text) < sizeof(text) - 50; i++) {
		add(text, sizeof(text), "%s%.*f", i ? ", " : "", decimals, value[i]);
		add(plain, sizeof(plain), "%s%.*f", i ? "," : "", decimals, value[i]);
	}
	add(text, sizeof(text), "]");
	field(r, name, text, plain);
}

static void end_row(struct report *r)
{
	if (r->tsv && r->rows == 1)
		fprintf(r->tsv, "%s\n", r->tsv_head);
	if (r->tsv)
		fprintf(r->tsv, "%s\n", r->tsv_line);
	r->tsv_head[0] = r->tsv_line[0] = '\0';
	if (r->json) {
		printf("}");
	} else {
		if (r->rows == 1)
			printf("\n%s\n", r->head);
		printf("%s\n", r->line);
		r->head[0] = r->line[0] = '\0';
	}
}

void report_row(struct report *r)
{
	if (r->in_row)
		end_row(r);
	if (r->json)
		printf("%s", r->rows ? ", {" : r->began ? ", \"rows\": [{" : "\"rows\": [{");
	r->rows++;
	r->in_row = true;
	r->began = false;
}

void report_end(struct report *r)
{
	if (r->in_row)
		end_row(r);
	if (r->json)
		printf(r->rows ? "]}\n" : "}\n");
}
