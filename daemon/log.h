/*
 * The daemon's log: one line a fact to standard error, in four levels. Only main.c, server.c, verb*.c and the files of
 * the loop log; libraries and the engine return a `struct err` instead.
 *
 * Where standard error is the journal ($JOURNAL_STREAM is set) each line begins with its priority, "<4>" and the like,
 * and the journal files it by level; on a terminal it begins with the level's word.
 */
#ifndef DAEMON_LOG_H
#define DAEMON_LOG_H

#include <stdbool.h>

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG, LOG_LEVELS };

/* The level's word ("warning"), and the level of a word; -1 for a word that is none. */
const char *log_level_name(enum log_level level);
int log_level_find(const char *name);

void log_set_level(enum log_level most);
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

#endif
