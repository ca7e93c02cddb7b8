/*
 * A device apart from the host for tests: the plain CPU kernels, with pages in a memory of their own, of which the host
 * gets copies late and torn, as far as backend.page_save() allows. As there is one in a process, what it does is told
 * here.
 */
#ifndef TESTS_APART_H
#define TESTS_APART_H

#include "kernels.h"

/* Made when it is asked for first. */
const struct backend *apart_backend(void);

/* Saves are complete after so many further calls of the device, or when they are waited for. */
void apart_delay(unsigned calls);

/* The device fails in the n-th step from now on, 1 and up, and stays so; 0: it works. */
void apart_fail(unsigned n);

/* Whom to call at each call of the device, before it does anything; NULL: nobody. */
void apart_watch(void (*call)(void));

/* What pages_room() says from now on. */
void apart_room(size_t bytes);

#endif
