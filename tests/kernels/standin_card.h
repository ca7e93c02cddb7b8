/*
 * What the files of the stand-in's runtime share: the state of the card and of its streams. Not for those who use it.
 */
#ifndef TESTS_KERNELS_STANDIN_CARD_H
#define TESTS_KERNELS_STANDIN_CARD_H

#include "standin.h"

/* One thing that a stream was asked for: a call of run() with these bytes. */
struct task {
	void (*run)(const void *arguments);
	void *arguments;
	size_t bytes;
};

struct standin_graph {
	task *tasks;
	size_t n, room;
};

struct standin_exec {
	standin_graph graph;
};

struct standin_stream {
	standin_graph *capture; /* NULL: work is done */
	standin_stream *origin; /* where that began */
	bool spoilt;
	cudaStreamCaptureMode mode;
	standin_stream *next;
};

struct standin_event {
	standin_stream *captured; /* recorded into this stream's graph */
	bool timed;
	timespec when;
};

namespace standin
{

constexpr size_t MEMORY = static_cast<size_t>(4) << 30;

struct card {
	int cards = 1, driver = 13000;
	bool has_code = true;
	size_t memory = MEMORY, taken, taken_host, objects;
	unsigned long calls, fails_at;
	bool failed;
	cudaError_t last;
	standin_stream *streams;
	standin_stream standard; /* stream 0 */
};
extern struct card card;

/* Keeps an error for cudaGetLastError(). */
cudaError_t kept(cudaError_t e);
/* What each call begins with: faults that were ordered. */
cudaError_t called();
/* Calls that a capture does not bear end it. */
bool spoils_captures();
/* Does it, or keeps it for later when the stream is captured. */
cudaError_t enqueue(cudaStream_t stream, void (*run)(const void *), const void *arguments, size_t bytes);
/* Bytes of dynamic shared memory that a kernel may have. */
size_t shared_asked(const void *kernel);

} // namespace standin

#define CALLED()                                                                                                       \
	do {                                                                                                           \
		const cudaError_t called_ = standin::called();                                                         \
		if (called_ != cudaSuccess)                                                                            \
			return called_;                                                                                \
	} while (0)

#endif
