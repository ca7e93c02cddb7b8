/*
 * What device.cu, stage.cu, graph.cu and pages.cu know of each other, and no kernel: the parts of a device. A part is
 * made when the device is opened; NULL may be freed.
 */
#ifndef CUDA_PARTS_H
#define CUDA_PARTS_H

#include "cuda.h"

namespace CUDA_SPACE
{

/* stage.cu. The arrays of a step, as if it had `n` rows and `wanted` of logits: those that it has not see nothing and
 * go nowhere. They are at the same addresses for all steps of up to STAGE_FEW rows, as long as staging_moved() is the
 * same number. */
enum { STAGE_FEW = 64 };
int staging_new(struct device *d, struct staging **ret, struct err *e);
void staging_free(struct staging *s);
void staging_begin(struct device *d, const struct step *s, size_t n, size_t wanted);
void staging_end(struct device *d);
uint64_t staging_moved(const struct device *d);
/* No row of the step at hand sees more pages; rounded up. */
int32_t staging_pages_most(const struct device *d);
/* From here on, arrays that are no step's are kept where they are put: a graph names them. */
void staging_keep(struct device *d, bool keep);

/* graph.cu: begin() and end() of a step, for all but the last synchronisation. */
int graphs_new(struct device *d, struct graphs **ret, struct err *e);
void graphs_free(struct graphs *g);
void graphs_begin(struct device *d, const struct step *s, size_t *n, size_t *wanted);
void graphs_end(struct device *d);

/* pages.cu */
int saves_new(struct device *d, struct saves **ret, struct err *e);
void saves_free(struct saves *s);
int pages_attach(struct device *d, void *host, size_t bytes, struct err *e);
void pages_detach(struct device *d);
size_t pages_room(struct device *d, size_t other);
void page_copy(struct device *d, void *to, const void *from, size_t bytes);
void page_load(struct device *d, void *page, size_t bytes);
uint64_t page_save(struct device *d, void *page, size_t bytes);
bool page_saved(struct device *d, uint64_t save, bool wait);
/* The device's address of a page, from the host's. */
uint8_t *page_on_card(const struct device *d, const void *page);

} // namespace CUDA_SPACE

#endif
