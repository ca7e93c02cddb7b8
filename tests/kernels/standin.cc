/*
 * The stand-in's processor: blocks of threads as fibers, their barriers and exchanges; see standin.h.
 *
 * A fiber is a stack that runs one thread after the other as long as none has to wait. One that waits leaves its stack
 * to it, and the next thread begins on another; so a kernel without barriers costs a function call a thread.
 */
#include "standin.h"

#include <stdarg.h>
#include <sys/mman.h>
#include <unistd.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#if defined(__SANITIZE_ADDRESS__)
#define STANDIN_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STANDIN_ASAN 1
#endif
#endif
#ifdef STANDIN_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

extern "C" {
/* The bounds of all static shared memory, by the linker. */
extern unsigned char __start_standin_shared[] __attribute__((weak));
extern unsigned char __stop_standin_shared[] __attribute__((weak));
}

namespace standin
{

#ifdef STANDIN_ASAN
constexpr size_t STACK = 512 << 10;
#else
constexpr size_t STACK = 128 << 10;
#endif
constexpr size_t GUARD = 4096, COPY = 16;
constexpr unsigned LANES = 32;

/* A copy_begin() that is not complete. */
struct copy {
	void *to;
	const void *from;
	unsigned group;
};

struct fiber {
#ifdef __x86_64__
	void *sp;
#else
	ucontext_t context;
#endif
	fiber *next; /* in the list of those that can go on, or that are free */
	unsigned thread;
	uint3 index;
	bool waited; /* for the grid */
	unsigned group;
	size_t copies, copies_room;
	struct copy *copy;
	unsigned char *stack;
#ifdef STANDIN_ASAN
	void *fake;
	const void *bottom;
	size_t bytes;
#endif
};

/* Where a thread waits, and for whom. */
struct waiting {
	struct fiber *fiber;
	uint32_t mask;
	action act;
	void *mine;
	place at;
};

static struct {
	const start *s;
	const void *closure;
	unsigned threads, begun, ended;
	bool backwards;
	fiber main, *now;
	fiber *ready, **ready_end, *free;
	size_t fibers;
	/* of warps */
	uint32_t in_warp[THREADS_MOST / LANES];
	waiting lane[THREADS_MOST];
	/* of the block */
	unsigned at_barrier;
	int votes, result;
	place barrier;
	unsigned char *shared, *shared_end;
	unsigned starts;
} block;

void die(const char *format, ...)
{
	va_list args;

	fflush(nullptr);
	fprintf(stderr, "stand-in: ");
	if (block.s)
		fprintf(stderr, "%s, block (%u, %u, %u), thread (%u, %u, %u): ", block.s->name, blockIdx.x, blockIdx.y,
			blockIdx.z, threadIdx.x, threadIdx.y, threadIdx.z);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	_exit(70);
}

unsigned thread()
{
	return block.now->thread;
}

/* Switching: all that a call need not keep is forgotten, the rest stands on the stack that is left. */
#ifdef __x86_64__
extern "C" void standin_switch(void **leave, void *enter);
asm(".text\n"
    ".globl standin_switch\n"
    ".hidden standin_switch\n"
    ".type standin_switch, @function\n"
    "standin_switch:\n"
    "	pushq %rbp\n"
    "	pushq %rbx\n"
    "	pushq %r12\n"
    "	pushq %r13\n"
    "	pushq %r14\n"
    "	pushq %r15\n"
    "	movq %rsp, (%rdi)\n"
    "	movq %rsi, %rsp\n"
    "	popq %r15\n"
    "	popq %r14\n"
    "	popq %r13\n"
    "	popq %r12\n"
    "	popq %rbx\n"
    "	popq %rbp\n"
    "	ret\n"
    ".size standin_switch, . - standin_switch\n");
#endif

static void go(fiber *to)
{
	fiber *from = block.now;

	block.now = to;
	threadIdx = to->index;
#ifdef STANDIN_ASAN
	__sanitizer_start_switch_fiber(&from->fake, to->bottom, to->bytes);
#endif
#ifdef __x86_64__
	standin_switch(&from->sp, to->sp);
#else
	swapcontext(&from->context, &to->context);
#endif
#ifdef STANDIN_ASAN
	__sanitizer_finish_switch_fiber(from->fake, nullptr, nullptr);
#endif
}

static void run_threads();

static fiber *fiber_new()
{
	fiber *f = static_cast<fiber *>(calloc(1, sizeof(*f)));
	void *stack = mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);

	if (!f || stack == MAP_FAILED || mprotect(stack, GUARD, PROT_NONE) != 0)
		die("no memory for a thread's stack");
	f->stack = static_cast<unsigned char *>(stack) + GUARD;
#ifdef STANDIN_ASAN
	f->bottom = f->stack;
	f->bytes = STACK;
#endif
#ifdef __x86_64__
	/* Stacks begin at different places of a page, so that a cache holds the tops of many. */
	void **top = reinterpret_cast<void **>(f->stack + STACK - block.fibers++ % 16 * 256);

	*--top = nullptr;
	*--top = reinterpret_cast<void *>(run_threads);
	f->sp = top - 6;
#else
	getcontext(&f->context);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK;
	makecontext(&f->context, run_threads, 0);
#endif
	return f;
}

static void say_where(const char *who, unsigned count, const place &at)
{
	fprintf(stderr, "stand-in:   %u %s %s at %s:%d\n", count, who, at.what, at.file, at.line);
}

/* Nobody can go on: says who waits where, each place once. */
[[noreturn]] static void die_of_divergence()
{
	fflush(nullptr);
	fprintf(stderr, "stand-in: %s, block (%u, %u, %u) of %u threads: not all of them reach the same place;\n",
		block.s->name, blockIdx.x, blockIdx.y, blockIdx.z, block.threads);
	if (block.ended > 0)
		fprintf(stderr, "stand-in:   %u have ended\n", block.ended);
	if (block.at_barrier > 0)
		say_where("wait for the block in", block.at_barrier, block.barrier);
	for (unsigned t = 0; t < block.threads; t++) {
		const waiting &w = block.lane[t];
		const uint32_t here = block.in_warp[t / LANES];
		uint32_t same = 0;

		if (!(here >> t % LANES & 1))
			continue;
		for (unsigned l = 0; l < LANES; l++) {
			const waiting &o = block.lane[t / LANES * LANES + l];

			if (here >> l & 1 && o.mask == w.mask && o.at.line == w.at.line && o.at.file == w.at.file)
				same |= 1u << l;
		}
		if (same & ((1u << t % LANES) - 1))
			continue;
		fprintf(stderr, "stand-in:   warp %u, lanes %08x wait for lanes %08x in %s at %s:%d\n", t / LANES, same,
			w.mask, w.at.what, w.at.file, w.at.line);
	}
	_exit(70);
}

/* Gives the processor to whoever can use it. */
static void leave()
{
	fiber *to = block.ready;

	if (to) {
		block.ready = to->next;
		if (!block.ready)
			block.ready_end = &block.ready;
	} else if (block.begun < block.threads) {
		to = block.free;
		if (to)
			block.free = to->next;
		else
			to = fiber_new();
	} else if (block.ended == block.threads) {
		to = &block.main;
	} else {
		die_of_divergence();
	}
	go(to);
}

static void can_go_on(fiber *f)
{
	f->next = nullptr;
	*block.ready_end = f;
	block.ready_end = &f->next;
}

static void complete(fiber *f, unsigned before)
{
	size_t done = 0;

	while (done < f->copies && f->copy[done].group < before) {
		memcpy(f->copy[done].to, f->copy[done].from, COPY);
		done++;
	}
	f->copies -= done;
	memmove(f->copy, f->copy + done, f->copies * sizeof(*f->copy));
}

/* Threads from the first to the last that has not begun; those that wait in the middle keep this stack until they have
 * ended. */
static void run_threads()
{
#ifdef STANDIN_ASAN
	const void *bottom;
	size_t bytes;

	__sanitizer_finish_switch_fiber(nullptr, &bottom, &bytes);
	if (!block.main.bottom) {
		block.main.bottom = bottom;
		block.main.bytes = bytes;
	}
#endif
	for (;;) {
		fiber *me = block.now;

		while (block.begun < block.threads && !block.ready) {
			const unsigned n = block.begun++, t = block.backwards ? block.threads - 1 - n : n;

			me->thread = t;
			me->index.x = t % blockDim.x;
			me->index.y = t / blockDim.x % blockDim.y;
			me->index.z = t / blockDim.x / blockDim.y;
			threadIdx = me->index;
			me->waited = false;
			me->group = 0;
			block.s->run(block.closure);
			if (!me->waited)
				die("the thread ended without grid_wait()");
			if (me->copies)
				complete(me, me->group + 1);
			block.ended++;
		}
		me->next = block.free;
		block.free = me;
		leave();
	}
}

static bool same_place(const place &a, const place &b)
{
	return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0);
}

static bool agree(const waiting &a, const waiting &b)
{
	return a.mask == b.mask && a.act == b.act && (!a.act || same_place(a.at, b.at));
}

void meet(uint32_t mask, action act, void *mine, place at)
{
	const unsigned t = block.now->thread, first = t & ~(LANES - 1), me = t % LANES;
	waiting *const lane = block.lane + first;
	uint32_t *const here = &block.in_warp[t / LANES];
	void *all[LANES] = {};

	if (!(mask >> me & 1))
		die("%s at %s:%d: lane %u is not in the mask %08x that it gives", at.what, at.file, at.line, me, mask);
	lane[me] = waiting{ block.now, mask, act, mine, at };
	*here |= 1u << me;
	bool ready = (*here & mask) == mask;
	for (uint32_t rest = mask; ready && rest; rest &= rest - 1)
		ready = agree(lane[__builtin_ctz(rest)], lane[me]);
	if (!ready) {
		leave();
		return;
	}
	if (act) {
		for (uint32_t rest = mask; rest; rest &= rest - 1)
			all[__builtin_ctz(rest)] = lane[__builtin_ctz(rest)].mine;
		act(mask, all);
	}
	*here &= ~mask;
	for (uint32_t rest = mask & ~(1u << me); rest; rest &= rest - 1)
		can_go_on(lane[__builtin_ctz(rest)].fiber);
}

static fiber *barrier_first, **barrier_end = &barrier_first;

int barrier(bool vote, place at)
{
	if (block.at_barrier == 0)
		block.barrier = at;
	else if (!same_place(block.barrier, at))
		die("%s at %s:%d, while others of the block wait in %s at %s:%d", at.what, at.file, at.line,
		    block.barrier.what, block.barrier.file, block.barrier.line);
	block.votes += vote;
	if (++block.at_barrier < block.threads) {
		block.now->next = nullptr;
		*barrier_end = block.now;
		barrier_end = &block.now->next;
		leave();
		return block.result;
	}
	block.result = block.votes;
	block.at_barrier = 0;
	block.votes = 0;
	if (barrier_first) {
		*block.ready_end = barrier_first;
		block.ready_end = barrier_end;
		barrier_first = nullptr;
		barrier_end = &barrier_first;
	}
	return block.result;
}

uint64_t shuffle(uint32_t mask, uint64_t value, int from, place at)
{
	swap mine = { value, 0, from };

	if (!(mask >> from & 1))
		die("%s at %s:%d: reads lane %d, which the mask %08x has not", at.what, at.file, at.line, from, mask);
	meet(
		mask,
		[](uint32_t m, void *const *lane) {
			for (uint32_t rest = m; rest; rest &= rest - 1) {
				swap *to = static_cast<swap *>(lane[__builtin_ctz(rest)]);

				to->got = static_cast<swap *>(lane[to->from])->value;
			}
		},
		&mine, at);
	return mine.got;
}

uint32_t ballot(uint32_t mask, bool vote, place at)
{
	uint32_t mine = vote;

	meet(
		mask,
		[](uint32_t m, void *const *lane) {
			uint32_t votes = 0;

			for (uint32_t rest = m; rest; rest &= rest - 1)
				votes |= *static_cast<uint32_t *>(lane[__builtin_ctz(rest)]) << __builtin_ctz(rest);
			for (uint32_t rest = m; rest; rest &= rest - 1)
				*static_cast<uint32_t *>(lane[__builtin_ctz(rest)]) = votes;
		},
		&mine, at);
	return mine;
}

uint32_t match(uint32_t mask, uint64_t value, place at)
{
	swap mine = { value, 0, 0 };

	meet(
		mask,
		[](uint32_t m, void *const *lane) {
			for (uint32_t rest = m; rest; rest &= rest - 1) {
				swap *to = static_cast<swap *>(lane[__builtin_ctz(rest)]);

				for (uint32_t o = m; o; o &= o - 1)
					if (static_cast<swap *>(lane[__builtin_ctz(o)])->value == to->value)
						to->got |= 1u << __builtin_ctz(o);
			}
		},
		&mine, at);
	return static_cast<uint32_t>(mine.got);
}

void waited_for_grid()
{
	block.now->waited = true;
}

void *dynamic_shared()
{
	return block.shared_end - (block.s->shared + 15) / 16 * 16;
}

bool is_shared(const void *p)
{
	const unsigned char *at = static_cast<const unsigned char *>(p);

	return (at >= __start_standin_shared && at < __stop_standin_shared) ||
	       (at >= dynamic_shared() && at < block.shared_end);
}

/* What is copied to holds nothing of use until the copy is complete. */
void copy_begin(void *shared, const void *from, place at)
{
	fiber *f = block.now;

	if (!is_shared(shared) || (reinterpret_cast<uintptr_t>(shared) | reinterpret_cast<uintptr_t>(from)) % COPY != 0)
		die("%s at %s:%d: %p is not shared memory, or it or %p not aligned to 16", at.what, at.file, at.line,
		    shared, from);
	if (f->copies == f->copies_room) {
		f->copies_room = f->copies_room ? 2 * f->copies_room : 16;
		f->copy = static_cast<copy *>(realloc(f->copy, f->copies_room * sizeof(*f->copy)));
		if (!f->copy)
			die("no memory for copies");
	}
	memset(shared, 0xff, COPY);
	f->copy[f->copies++] = copy{ shared, from, f->group };
}

void copy_group()
{
	block.now->group++;
}

void copy_wait(int groups)
{
	fiber *f = block.now;

	if (f->group >= static_cast<unsigned>(groups))
		complete(f, f->group - static_cast<unsigned>(groups));
}

static void run_block()
{
	const unsigned char *const begin = static_cast<unsigned char *>(dynamic_shared());

	memset(const_cast<unsigned char *>(begin), 0xff, static_cast<size_t>(block.shared_end - begin));
	block.begun = block.ended = block.at_barrier = 0;
	block.votes = 0;
	block.ready = nullptr;
	block.ready_end = &block.ready;
	block.now = &block.main;
	leave();
}

void execute(const start &s, const void *closure)
{
	const size_t blocks = static_cast<size_t>(s.grid.x) * s.grid.y * s.grid.z;

	if (!block.shared) {
		void *p =
			mmap(nullptr, SHARED_MOST + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (p == MAP_FAILED)
			die("no memory to share");
		block.shared = static_cast<unsigned char *>(p);
		block.shared_end = block.shared + SHARED_MOST;
		mprotect(block.shared_end, GUARD, PROT_NONE);
	}
	block.s = &s;
	block.closure = closure;
	block.threads = s.block.x * s.block.y * s.block.z;
	block.backwards = block.starts & 1;
	blockDim = s.block;
	gridDim = s.grid;
	memset(__start_standin_shared, 0xff, static_cast<size_t>(__stop_standin_shared - __start_standin_shared));
	memset(block.in_warp, 0, sizeof(block.in_warp));
	for (size_t i = 0; i < blocks; i++) {
		const size_t b = block.starts & 2 ? blocks - 1 - i : i;

		blockIdx.x = static_cast<unsigned>(b % s.grid.x);
		blockIdx.y = static_cast<unsigned>(b / s.grid.x % s.grid.y);
		blockIdx.z = static_cast<unsigned>(b / s.grid.x / s.grid.y);
		run_block();
	}
	block.starts++;
	block.s = nullptr;
}

} // namespace standin
