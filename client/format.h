/* Numbers as people read them. Pure: each writes a string into `ret` and returns it. */
#ifndef CLIENT_FORMAT_H
#define CLIENT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

/* A span of seconds in one unit: "now" below one, 42s, 5m, 3h, 2d, 7w. */
const char *format_age(double seconds, char *ret, size_t size);

/*
 * The moment, in Unix seconds, that a person means at `now`: 90s, 10m, 3h, 2d, 1w ago, or 2026-01-31, with 12:30 or
 * 12:30:59 behind a blank or a T, in local time. -1 when it is neither.
 */
double format_moment(const char *text, double now);

/* 512 B, 1.5 kB, 94.0 MB: steps of 1000. */
const char *format_bytes(double bytes, char *ret, size_t size);

/* What `done` tells about an answer. */
struct format_usage {
	int64_t prompt, cached, generated, evicted, kept, window, pinned;
	int64_t capacity;   /* tokens that the window can hold; 0 when it has no end */
	double per_s;	    /* tokens written a second; 0 when unknown */
	const char *finish; /* "end", "length", …; told unless "end" */
};

/* "31 prompt (0 cached) · 12 new · window 43/1020, 4 pinned, 0 evicted · 58 t/s"; kept rows are told when there are. */
const char *format_footer(const struct format_usage *u, char *ret, size_t size);

/* The window's size in a policy's text: its last number, as 1020 in "sink:4,1020,token=0"; 0 when it names none. */
int64_t format_capacity(const char *policy);

/* The line that stands where the model's memory begins: `kept` rows of what is above it are left under this policy. */
const char *format_horizon(int64_t kept, const char *policy, char *ret, size_t size);

#endif
