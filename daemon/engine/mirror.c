/*
 * Owns what is known of the host's copies of pages, and the threads that seal them. Of a copy the lock guards what
 * these write: its seal, and whether it is in their queue.
 */
#include "mirror.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "seal.h"

enum { SEALERS = 2 };

struct copy {
	uint64_t save; /* the last that was begun; 0: none was */
	uint64_t seal; /* 0: not known */
	int64_t number;
	uint32_t next; /* in the queue: its place, from 1 on */
	uint8_t run;
	uint8_t rows;	/* the first of the page, that the host has */
	uint8_t coming; /* that it will have when `save` is complete; 0: nothing is under way that counts */
	bool absent;	/* the device has nothing of it */
	bool queued;	/* for its seal, or being sealed */
	bool stale;	/* which is of what the page was before */
};

struct mirror {
	const struct backend *b;
	struct device *d;
	struct page_shape shape;
	size_t bytes;
	char *base;
	struct copy *copy;

	pthread_mutex_t lock;
	pthread_cond_t work, sealed;
	uint32_t first, last; /* the queue; 0: it is empty */
	bool ends;
	pthread_t sealer[SEALERS];
	size_t sealers;
};

static struct copy *copy_of(const struct mirror *m, const void *page)
{
	return &m->copy[(size_t)((const char *)page - m->base) / m->bytes];
}

static char *page_at(const struct mirror *m, const struct copy *c)
{
	return m->base + (size_t)(c - m->copy) * m->bytes;
}

/* Called with the lock, and returns with it. */
static void seal_copy(struct mirror *m, struct copy *c)
{
	const int run = c->run;
	const int64_t number = c->number;
	uint64_t seal;

	pthread_mutex_unlock(&m->lock);
	seal = seal_page(&m->shape, page_at(m, c), run, number);
	pthread_mutex_lock(&m->lock);
	c->queued = false;
	if (!c->stale)
		c->seal = seal;
	pthread_cond_broadcast(&m->sealed);
}

static void *sealer(void *arg)
{
	struct mirror *m = arg;

	pthread_mutex_lock(&m->lock);
	while (!m->ends) {
		struct copy *c = m->first ? &m->copy[m->first - 1] : NULL;

		if (c) {
			m->first = c->next;
			seal_copy(m, c);
		} else {
			pthread_cond_wait(&m->work, &m->lock);
		}
	}
	pthread_mutex_unlock(&m->lock);
	return NULL;
}

/* With the lock. Where the system has no thread it is done at once. */
static void queue(struct mirror *m, struct copy *c, int run, int64_t number)
{
	const uint32_t place = (uint32_t)(c - m->copy) + 1;

	c->run = (uint8_t)run;
	c->number = number;
	c->queued = true;
	c->stale = false;
	while (m->sealers < SEALERS && pthread_create(&m->sealer[m->sealers], NULL, sealer, m) == 0)
		m->sealers++;
	if (!m->sealers) {
		seal_copy(m, c);
		return;
	}
	c->next = 0;
	if (m->first)
		m->copy[m->last - 1].next = place;
	else
		m->first = place;
	m->last = place;
	pthread_cond_signal(&m->work);
}

int mirror_new(const struct backend *b, struct device *d, const struct page_shape *shape, char *base, size_t pages,
	       struct mirror **ret, struct err *e)
{
	struct mirror *m = calloc(1, sizeof(*m));

	if (m)
		m->copy = calloc(pages, sizeof(*m->copy));
	if (!m || !m->copy) {
		free(m);
		return err_set(e, SINK_ENOMEM, "Out of memory for the records of %zu pages.", pages);
	}
	m->b = b;
	m->d = d;
	m->shape = *shape;
	m->bytes = page_bytes(shape);
	m->base = base;
	pthread_mutex_init(&m->lock, NULL);
	pthread_cond_init(&m->work, NULL);
	pthread_cond_init(&m->sealed, NULL);
	*ret = m;
	return 0;
}

void mirror_free(struct mirror *m)
{
	if (!m)
		return;
	pthread_mutex_lock(&m->lock);
	m->ends = true;
	pthread_cond_broadcast(&m->work);
	pthread_mutex_unlock(&m->lock);
	for (size_t i = 0; i < m->sealers; i++)
		pthread_join(m->sealer[i], NULL);
	pthread_cond_destroy(&m->sealed);
	pthread_cond_destroy(&m->work);
	pthread_mutex_destroy(&m->lock);
	free(m->copy);
	free(m);
}

static void unseal(struct mirror *m, struct copy *c, uint64_t seal)
{
	pthread_mutex_lock(&m->lock);
	c->seal = seal;
	c->stale = true;
	pthread_mutex_unlock(&m->lock);
}

/* Its bytes at the host will change: nobody shall be reading them. */
static void wait_sealed(struct mirror *m, const struct copy *c)
{
	pthread_mutex_lock(&m->lock);
	while (c->queued)
		pthread_cond_wait(&m->sealed, &m->lock);
	pthread_mutex_unlock(&m->lock);
}

void mirror_touch(struct mirror *m, const void *page, size_t from)
{
	struct copy *c = copy_of(m, page);

	c->absent = false;
	c->rows = from < c->rows ? (uint8_t)from : c->rows;
	c->coming = from < c->coming ? (uint8_t)from : c->coming;
	unseal(m, c, 0);
}

void mirror_copied(struct mirror *m, void *to, const void *from, bool host)
{
	struct copy *c = copy_of(m, to);

	mirror_touch(m, to, 0);
	if (!host)
		return;
	wait_sealed(m, c);
	m->b->page_saved(m->d, c->save, true); /* of an owner before us */
	memcpy(to, from, m->bytes);
	c->rows = copy_of(m, from)->rows;
}

void mirror_absent(struct mirror *m, void *page)
{
	struct copy *c = copy_of(m, page);

	mirror_touch(m, page, 0);
	wait_sealed(m, c);
	m->b->page_saved(m->d, c->save, true);
	c->absent = true;
}

void mirror_load(struct mirror *m, void *page, size_t rows, uint64_t seal)
{
	struct copy *c = copy_of(m, page);

	if (!c->absent)
		return;
	m->b->page_load(m->d, page, m->bytes);
	c->absent = false;
	c->rows = (uint8_t)rows;
	unseal(m, c, seal);
}

/* Notes what has come to the host. */
static void arrive(struct mirror *m, struct copy *c, bool wait)
{
	if (!c->coming || !m->b->page_saved(m->d, c->save, wait))
		return;
	c->rows = c->coming;
	c->coming = 0;
}

bool mirror_rows(struct mirror *m, void *page, size_t want, size_t has, bool wait)
{
	struct copy *c = copy_of(m, page);

	arrive(m, c, false);
	if (c->absent || c->rows >= want)
		return true;
	if (c->coming < want) {
		wait_sealed(m, c);
		c->save = m->b->page_save(m->d, page, m->bytes);
		c->coming = (uint8_t)has;
	}
	if (wait)
		arrive(m, c, true);
	return c->rows >= want;
}

uint64_t mirror_seal(struct mirror *m, void *page, int run, int64_t number, bool wait)
{
	struct copy *c = copy_of(m, page);
	uint64_t seal;

	if (!mirror_rows(m, page, PAGE_TOKENS, PAGE_TOKENS, wait))
		return 0;
	pthread_mutex_lock(&m->lock);
	for (;;) {
		if (!c->seal && !c->queued)
			queue(m, c, run, number);
		if (c->seal || !wait)
			break;
		pthread_cond_wait(&m->sealed, &m->lock);
	}
	seal = c->seal;
	pthread_mutex_unlock(&m->lock);
	return seal;
}
