/*
 * The stand-in's streams, which have always just finished, and graphs, which are lists of what a stream was asked for;
 * see standin_runtime.h.
 */
#include "standin_card.h"

#include <time.h>

using namespace standin;

namespace
{

standin_stream *stream_of(cudaStream_t s)
{
	return s ? s : &card.standard;
}

void add(standin_graph *g, void (*run)(const void *), const void *arguments, size_t bytes)
{
	if (g->n == g->room) {
		g->room = g->room ? 2 * g->room : 64;
		g->tasks = static_cast<task *>(realloc(g->tasks, g->room * sizeof(task)));
	}
	if (!g->tasks)
		standin::die("no memory for a graph");
	task *t = &g->tasks[g->n++];

	*t = task{ run, malloc(bytes), bytes };
	if (!t->arguments)
		standin::die("no memory for a graph");
	memcpy(t->arguments, arguments, bytes);
}

void forget(standin_graph *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->tasks[i].arguments);
	free(g->tasks);
	*g = standin_graph{};
}

struct host_arguments {
	cudaHostFn_t function;
	void *data;
};

void run_host(const void *arguments)
{
	const host_arguments *h = static_cast<const host_arguments *>(arguments);

	h->function(h->data);
}

/* A kernel's start, and behind it its arguments. */
void run_start(const void *arguments)
{
	standin::execute(*static_cast<const standin::start *>(arguments),
			 static_cast<const unsigned char *>(arguments) + sizeof(standin::start));
}

struct record_arguments {
	cudaEvent_t e;
};

void run_record(const void *arguments)
{
	cudaEvent_t e = static_cast<const record_arguments *>(arguments)->e;

	clock_gettime(CLOCK_MONOTONIC, &e->when);
}

standin_stream *stream_new()
{
	standin_stream *s = static_cast<standin_stream *>(calloc(1, sizeof(*s)));

	if (!s)
		standin::die("no memory");
	s->next = card.streams;
	card.streams = s;
	card.objects++;
	return s;
}

void copy_tasks(standin_graph *to, const standin_graph *from)
{
	*to = standin_graph{};
	for (size_t i = 0; i < from->n; i++)
		add(to, from->tasks[i].run, from->tasks[i].arguments, from->tasks[i].bytes);
}

} // namespace

cudaError_t standin::enqueue(cudaStream_t stream, void (*run)(const void *), const void *arguments, size_t bytes)
{
	standin_stream *s = stream_of(stream);

	if (s->capture && s->origin->spoilt)
		return kept(cudaErrorStreamCaptureInvalidated);
	if (s->capture)
		add(s->capture, run, arguments, bytes);
	else
		run(arguments);
	return cudaSuccess;
}

bool standin::spoils_captures()
{
	bool spoilt = false;

	for (standin_stream *s = card.streams; s; s = s->next)
		if (s->capture && s->mode != cudaStreamCaptureModeRelaxed)
			spoilt = s->origin->spoilt = true;
	return spoilt;
}

cudaError_t standin::launch(const start &s, const void *closure, cudaStream_t stream)
{
	alignas(16) unsigned char arguments[sizeof(start) + 4096];
	const dim3 b = s.block, g = s.grid;

	CALLED();
	if (!card.has_code)
		return kept(cudaErrorNoKernelImageForDevice);
	if (b.x == 0 || b.y == 0 || b.z == 0 || b.x > THREADS_MOST || b.y > THREADS_MOST || b.z > 64 ||
	    static_cast<uint64_t>(b.x) * b.y * b.z > THREADS_MOST || g.x == 0 || g.y == 0 || g.z == 0 ||
	    g.x > INT32_MAX || g.y > UINT16_MAX || g.z > UINT16_MAX)
		return kept(cudaErrorInvalidConfiguration);
	if (s.shared > shared_asked(s.kernel) || s.closure_bytes > 4096)
		return kept(cudaErrorInvalidValue);
	memcpy(arguments, &s, sizeof(s));
	memcpy(arguments + sizeof(s), closure, s.closure_bytes);
	return enqueue(stream, run_start, arguments, sizeof(s) + s.closure_bytes);
}

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
	CALLED();
	*s = stream_new();
	return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
	return cudaStreamCreate(s);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *s, unsigned, int)
{
	return cudaStreamCreate(s);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
	CALLED();
	*least = 0;
	*greatest = -5;
	return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
	standin_stream **at = &card.streams;

	while (*at && *at != s)
		at = &(*at)->next;
	if (*at) {
		*at = s->next;
		free(s);
		card.objects--;
	}
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
	CALLED();
	if (!stream_of(s)->capture)
		return cudaSuccess;
	stream_of(s)->origin->spoilt = true;
	return kept(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaStreamQuery(cudaStream_t s)
{
	return cudaStreamSynchronize(s);
}

/* A stream that waits for an event of a captured one is captured too. */
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t e, unsigned)
{
	standin_stream *s = stream_of(stream);

	CALLED();
	if (e->captured && e->captured->capture && !s->capture) {
		s->capture = e->captured->capture;
		s->origin = e->captured->origin;
		s->mode = e->captured->mode;
	}
	return cudaSuccess;
}

cudaError_t cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t function, void *data)
{
	const host_arguments h = { function, data };

	CALLED();
	return enqueue(s, run_host, &h, sizeof(h));
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *ret, unsigned flags)
{
	CALLED();
	standin_event *e = static_cast<standin_event *>(calloc(1, sizeof(*e)));

	if (!e)
		standin::die("no memory");
	e->timed = !(flags & cudaEventDisableTiming);
	card.objects++;
	*ret = e;
	return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
	return cudaEventCreateWithFlags(e, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
	if (e)
		card.objects--;
	free(e);
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
	const record_arguments a = { e };

	CALLED();
	e->captured = stream_of(s)->capture ? stream_of(s) : nullptr;
	return enqueue(s, run_record, &a, sizeof(a));
}

cudaError_t cudaEventQuery(cudaEvent_t e)
{
	CALLED();
	return e->captured && e->captured->capture ? kept(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
	return cudaEventQuery(e);
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
	CALLED();
	if (!from->timed || !to->timed)
		return kept(cudaErrorInvalidResourceHandle);
	*milliseconds = static_cast<float>(static_cast<double>(to->when.tv_sec - from->when.tv_sec) * 1e3 +
					   static_cast<double>(to->when.tv_nsec - from->when.tv_nsec) * 1e-6);
	return cudaSuccess;
}

/* Graphs. */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode)
{
	CALLED();
	if (!s || s->capture)
		return kept(s ? cudaErrorIllegalState : cudaErrorStreamCaptureUnsupported);
	s->capture = static_cast<standin_graph *>(calloc(1, sizeof(*s->capture)));
	if (!s->capture)
		standin::die("no memory");
	s->origin = s;
	s->mode = mode;
	s->spoilt = false;
	card.objects++;
	return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *ret)
{
	standin_graph *g = s->capture;

	*ret = nullptr;
	if (!g || s->origin != s) {
		CALLED();
		return kept(cudaErrorIllegalState);
	}
	for (standin_stream *other = card.streams; other; other = other->next)
		if (other->capture == g)
			other->capture = nullptr;
	if (s->spoilt || card.failed) {
		forget(g);
		free(g);
		card.objects--;
		CALLED();
		return kept(cudaErrorStreamCaptureInvalidated);
	}
	*ret = g;
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status)
{
	CALLED();
	*status = !stream_of(s)->capture	 ? cudaStreamCaptureStatusNone
		  : stream_of(s)->origin->spoilt ? cudaStreamCaptureStatusInvalidated
						 : cudaStreamCaptureStatusActive;
	return cudaSuccess;
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, void *, size_t *count)
{
	CALLED();
	*count = graph->n;
	return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph, unsigned long long)
{
	CALLED();
	standin_exec *exec = static_cast<standin_exec *>(calloc(1, sizeof(*exec)));

	if (!exec)
		standin::die("no memory");
	copy_tasks(&exec->graph, graph);
	card.objects++;
	*ret = exec;
	return cudaSuccess;
}

/* A graph of the same calls takes the other's place. */
cudaError_t cudaGraphExecUpdate(cudaGraphExec_t exec, cudaGraph_t graph, cudaGraphExecUpdateResultInfo *info)
{
	bool same = exec->graph.n == graph->n;

	CALLED();
	for (size_t i = 0; same && i < graph->n; i++)
		same = graph->tasks[i].run == exec->graph.tasks[i].run;
	info->result = !same;
	if (!same)
		return kept(cudaErrorGraphExecUpdateFailure);
	forget(&exec->graph);
	copy_tasks(&exec->graph, graph);
	return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
	CALLED();
	for (size_t i = 0; i < exec->graph.n; i++) {
		const task *t = &exec->graph.tasks[i];
		const cudaError_t e = enqueue(s, t->run, t->arguments, t->bytes);

		if (e != cudaSuccess)
			return e;
	}
	return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
	if (exec) {
		forget(&exec->graph);
		card.objects--;
	}
	free(exec);
	CALLED();
	return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
	if (graph) {
		forget(graph);
		card.objects--;
	}
	free(graph);
	CALLED();
	return cudaSuccess;
}
