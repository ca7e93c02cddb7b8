/*
 * The command sinkd-bench: its verbs and options are the two tables below, from which the command line is read and the
 * help is printed. Exit codes: 0, 2 for a wrong command line, 4 for a missing file, 6 for a model that cannot be
 * loaded, 1 for anything else.
 */
#include "bench.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { EXIT_USAGE = 2, EXIT_MISSING = 4, EXIT_MODEL = 6 };

struct verb {
	const char *name;
	char letter; /* as options name those that take them */
	const char *about;
	int (*run)(const struct bench *o, struct err *e);
};

static const struct verb verbs[] = {
	{ "perplexity", 'p', "how well the model foretells a text, under a policy of the cache", bench_perplexity },
	{ "compare", 'c', "every policy at the same budgets: perplexity, time a token, memory", bench_compare },
	{ "sinks", 's', "how many sinks this model needs", bench_sinks },
	{ "streameval", 'e', "what is remembered of a stream of lines, by distance", bench_streameval },
	{ "chat", 'a', "the turns of many prompts as one endless conversation", bench_chat },
	{ "latency", 'l', "the time of each token while the cache rolls", bench_latency },
	{ "tokenize", 'k', "token ids of texts on standard input, separated by NUL bytes", bench_tokenize },
	{ "throughput", 't', "tokens a second of reading prompts and of decoding", bench_throughput },
	{ "restore", 'r', "how soon a conversation goes on after its process was killed", bench_restore },
	{ "load", 'o', "the time until a model is ready, and the memory that it takes", bench_load },
	{ "roofline", 'm', "what this machine does at best: memory, caches, products", bench_roofline },
	{ "make-random", 'g', "a model of a known one's shape, with random weights", bench_make_random },
};

enum kind { TEXT, NUMBER, LIST, FLAG };

struct option {
	const char *name, *takes;
	const char *verbs; /* letters */
	enum kind kind;
	size_t at; /* in struct bench */
	int64_t least, most, otherwise;
	const char *text; /* default of a text or a list */
	const char *help;
};

#define AT(field) offsetof(struct bench, field)
#define TOKENS_MOST INT64_C(1000000000)

static const struct option options[] = {
	{ "--model", "FILE", "pcsealktro", TEXT, AT(model), 0, 0, 0, NULL, "the model, a GGUF file" },
	{ "--text", "FILE", "pcslr", TEXT, AT(text), 0, 0, 0, NULL, "the text to read" },
	{ "--tokens", "N", "pcslr", NUMBER, AT(tokens), 0, TOKENS_MOST, 0, NULL,
	  "tokens to read; 0: to the text's end (compare and sinks: 4096; restore: 1968, then 3000), where latency "
	  "begins again" },
	{ "--policy", "NAME", "pealtr", TEXT, AT(policy), 0, 0, 0, NULL,
	  "dense, window, recompute, sink, separator or anchor; or with its numbers, as window:W, sink:S,W or "
	  "separator:S,K,W (sink; throughput: dense; restore: sink:4,2044)" },
	{ "--sinks", "S", "pcealt", NUMBER, AT(sinks), 0, INT32_MAX - 1, 4, NULL,
	  "first tokens that stay for ever (4)" },
	{ "--window", "W", "pealt", NUMBER, AT(window), 1, INT32_MAX - 1, 1020, NULL,
	  "most recent tokens that a token sees, itself included (1020)" },
	{ "--separators", "K", "pcealt", NUMBER, AT(separators), 0, INT32_MAX - 1, -1, NULL,
	  "most recent separators or anchors kept beside the window (separator: 64; anchor: all)" },
	{ "--separator-ids", "FILE|LIST", "pcealt", TEXT, AT(separator_ids), 0, 0, 0, NULL,
	  "token ids of separators (all tokens that are . , ; : ? or !, or end a line)" },
	{ "--anchors", "LIST", "pcealt", TEXT, AT(anchors), 0, 0, 0, NULL,
	  "token ids of anchors, or a file of them (<AC>, or all tokens that are . ? or !)" },
	{ "--sink-token", "ID", "pcsl", NUMBER, AT(sink_token), 0, INT32_MAX - 1, -1, NULL,
	  "begin the text with this token, for a model trained with one" },
	{ "--budget", "LIST", "cs", LIST, AT(budget), 1, INT32_MAX - 1, 0, NULL,
	  "rows that a cache holds; several for compare (256,512,1024; sinks: 512)" },
	{ "--policies", "LIST", "c", TEXT, AT(policies), 0, 0, 0, "dense,window,recompute,sink,separator,anchor",
	  "names of the policies to compare (all)" },
	{ "--positions", "WHERE", "pcsealtr", TEXT, AT(positions), 0, 0, 0, "cache",
	  "cache: ranks inside the cache; text: places in the text (cache)" },
	{ "--start", "N", "p", NUMBER, AT(start), 0, INT64_C(1) << 52, 0, NULL,
	  "text position that the first token is said to have (0)" },
	{ "--chunk", "N", "pcsetar", NUMBER, AT(chunk), 1, 4096, 0, NULL,
	  "tokens of one step (256; throughput: 512; compare: 64, which its caches have as slack)" },
	{ "--every", "N", "pce", NUMBER, AT(every), 1, TOKENS_MOST, 0, NULL,
	  "count each Nth prediction only, from the first with a full budget (1; compare: recompute alone, 64 in all); "
	  "streameval: lines from question to question (10)" },
	{ "--by", "N", "p", NUMBER, AT(by), 1, TOKENS_MOST, 0, NULL, "a row of figures for each N tokens" },
	{ "--timed", "N", "pc", NUMBER, AT(timed), 1, TOKENS_MOST, 0, NULL,
	  "time N tokens, read one by one: the first with a full budget and the last (compare: the last 128)" },
	{ "--nll-file", "FILE", "p", TEXT, AT(nll_file), 0, 0, 0, NULL,
	  "write the negative log-probability of each token here, one a line" },
	{ "--save", NULL, "s", FLAG, AT(save), 0, 1, 0, NULL,
	  "write what is recommended to a file beside the model, which sinkd follows" },
	{ "--tsv", "FILE", "c", TEXT, AT(tsv), 0, 0, 0, NULL, "write the rows here too, with tabs between" },
	{ "--lines", "N", "e", NUMBER, AT(lines), 1, 10000000, 500, NULL, "lines of the stream (500)" },
	{ "--back", "LIST", "e", LIST, AT(back), 1, 1000000, 0, "20", "how many lines back the questions ask (20)" },
	{ "--prompts", "FILE", "a", TEXT, AT(prompts), 0, 0, 0, NULL,
	  "a JSON object a line, its \"turns\" what the user says" },
	{ "--answer", "N", "a", NUMBER, AT(answer), 1, 100000, 256, NULL, "longest answer in tokens (256)" },
	{ "--prompt", "P", "t", NUMBER, AT(prompt), 0, TOKENS_MOST, 0, NULL,
	  "tokens to read (512, with --decode 128)" },
	{ "--decode", "N", "t", NUMBER, AT(decode), 0, TOKENS_MOST, 0, NULL, "tokens to decode, one a step" },
	{ "--depth", "D", "to", NUMBER, AT(depth), 0, TOKENS_MOST, 0, NULL,
	  "tokens already in the cache (0); load: tokens of the conversation (1024)" },
	{ "--batch", "B", "t", NUMBER, AT(batch), 1, 512, 1, NULL, "conversations that move together (1)" },
	{ "--bandwidth", "GBPS", "t", NUMBER, AT(bandwidth), 1, 1000000, 0, NULL,
	  "what memory gives all threads, in GB/s (measured)" },
	{ "--repeat", "R", "tro", NUMBER, AT(repeat), 1, 1000, 5, NULL, "timed rounds; the median is told (5)" },
	{ "--kernels", "NAME", "pcsealtrom", TEXT, AT(kernels), 0, 0, 0, "auto", "auto, or a backend by name (auto)" },
	{ "--device", "NAME", "pcsealtro", TEXT, AT(device), 0, 0, 0, "cpu",
	  "where to compute: cpu, cuda:N, or auto for a card where there is one (cpu)" },
	{ "--gpu-memory", "MIB", "pcsealtro", NUMBER, AT(gpu_memory), 0, INT64_C(1) << 30, 0, NULL,
	  "most memory of the card that is taken, in MiB; 0: what is free (0)" },
	{ "--batch-invariant", NULL, "pcsealtro", FLAG, AT(invariant), 0, 1, 0, NULL,
	  "on a card: a row's bits shall not depend on the rows that travel with it" },
	{ "--precision", "NAME", "pcsealtro", TEXT, AT(precision), 0, 0, 0, "exact",
	  "of activations: exact, fifteen bits, or fast, eight (exact)" },
	{ "--threads", "T", "pcsealtrom", NUMBER, AT(threads), 0, 1024, 0, NULL, "threads; 0: one a core (0)" },
	{ "--kv", "TYPE", "pcsealtro", TEXT, AT(kv), 0, 0, 0, "auto",
	  "keys and values as f16, q8_0 or f32; auto: as the backend likes" },
	{ "--shape", "NAME", "g", TEXT, AT(shape), 0, 0, 0, NULL, "llama2-7b, llama3-8b or smollm2-135m" },
	{ "--type", "NAME", "g", TEXT, AT(type), 0, 0, 0, "f16", "of the matrices: f16, q8_0 or q4_0 (f16)" },
	{ "--out", "FILE", "g", TEXT, AT(out), 0, 0, 0, NULL, "the file to write" },
	{ "--layers", "N", "g", NUMBER, AT(layers), 0, 1024, 0, NULL, "layers; 0: as many as the shape has (0)" },
	{ "--seed", "N", "g", NUMBER, AT(seed), 0, INT64_MAX, 0, NULL, "what the weights are drawn from (0)" },
	{ "--json", NULL, "pcsealktromg", FLAG, AT(json), 0, 1, 0, NULL, "print one JSON object" },
	{ "--help", NULL, "pcsealktromg", FLAG, AT(help), 0, 1, 0, NULL, "print this help" },
	{ "--version", NULL, "pcsealktromg", FLAG, AT(version), 0, 1, 0, NULL, "print the version" },
};

enum { VERBS = sizeof(verbs) / sizeof(verbs[0]), OPTIONS = sizeof(options) / sizeof(options[0]) };

static bool needs_model(const struct verb *v)
{
	return v->run != bench_roofline && v->run != bench_make_random;
}

static void print_help(const struct verb *v)
{
	printf("usage: sinkd-bench %s%s [option]...\n\n", v ? v->name : "VERB",
	       v && !needs_model(v) ? "" : " --model FILE");
	for (size_t i = 0; i < VERBS; i++)
		if (!v || v == &verbs[i])
			printf("  %-22s %s\n", verbs[i].name, verbs[i].about);
	printf("\n");
	for (size_t i = 0; i < OPTIONS; i++) {
		char name[32];

		if (v && !strchr(options[i].verbs, v->letter))
			continue;
		snprintf(name, sizeof(name), "%s%s%s", options[i].name, options[i].takes ? " " : "",
			 options[i].takes ? options[i].takes : "");
		printf("  %-22s %s\n", name, options[i].help);
	}
}

static int set_list(struct bench_list *list, const struct option *option, const char *value, struct err *e)
{
	const char *from = value;
	char *end;

	list->count = 0;
	do {
		long long n;

		errno = 0;
		n = strtoll(from, &end, 10);
		if (list->count == BENCH_LIST || *from < '0' || *from > '9' || errno || n < option->least ||
		    n > option->most || (*end && *end != ','))
			return err_set(e, SINK_EINVAL,
				       "%s takes at most %d numbers within %lld and %lld with commas, not \"%s\".",
				       option->name, BENCH_LIST, (long long)option->least, (long long)option->most,
				       value);
		list->at[list->count++] = n;
		from = end + 1;
	} while (*end);
	return 0;
}

static int set_option(struct bench *o, const struct option *option, const char *value, struct err *e)
{
	char *at = (char *)o + option->at, *end;
	long long n;

	if (option->kind == TEXT) {
		*(const char **)at = value;
		return 0;
	}
	if (option->kind == LIST)
		return set_list((struct bench_list *)(void *)at, option, value, e);
	errno = 0;
	n = strtoll(value, &end, 10);
	if (end == value || *end || errno || n < option->least || n > option->most)
		return err_set(e, SINK_EINVAL, "%s takes a number within %lld and %lld, not \"%s\".", option->name,
			       (long long)option->least, (long long)option->most, value);
	*(int64_t *)at = n;
	return 0;
}

static const struct option *find_option(const char *arg, size_t len)
{
	for (size_t i = 0; i < OPTIONS; i++)
		if (strlen(options[i].name) == len && memcmp(options[i].name, arg, len) == 0)
			return &options[i];
	return NULL;
}

static void set_defaults(struct bench *o)
{
	memset(o, 0, sizeof(*o));
	for (size_t i = 0; i < OPTIONS; i++) {
		char *at = (char *)o + options[i].at;

		if (options[i].kind == TEXT)
			*(const char **)at = options[i].text;
		else if (options[i].kind == LIST && options[i].text)
			set_list((struct bench_list *)(void *)at, &options[i], options[i].text, NULL);
		else if (options[i].kind != LIST)
			*(int64_t *)at = options[i].otherwise;
	}
}

/* Reads "--name value", "--name=value" and flags; the verb is the argument that is none. */
static int read_arguments(struct bench *o, const struct verb **verb, int argc, char **argv, struct err *e)
{
	int r = 0;

	for (int i = 1; !r && i < argc; i++) {
		const size_t len = strcspn(argv[i], "=");
		const struct option *option = find_option(argv[i], len);
		const char *value = argv[i][len] ? argv[i] + len + 1 : NULL;

		if (argv[i][0] != '-' && !*verb) {
			for (size_t k = 0; k < VERBS; k++)
				if (strcmp(verbs[k].name, argv[i]) == 0)
					*verb = &verbs[k];
			if (!*verb)
				return err_set(e, SINK_EINVAL, "There is no verb \"%s\".", argv[i]);
			continue;
		}
		if (!option)
			return err_set(e, SINK_EINVAL, "There is no option \"%s\".", argv[i]);
		if (!*verb && option->kind != FLAG)
			return err_set(e, SINK_EINVAL, "The verb comes before option %s.", option->name);
		if (*verb && !strchr(option->verbs, (*verb)->letter))
			return err_set(e, SINK_EINVAL, "%s takes no option %s.", (*verb)->name, option->name);
		if (option->kind == FLAG && value)
			return err_set(e, SINK_EINVAL, "%s takes no value.", option->name);
		if (option->kind != FLAG && !value && i + 1 == argc)
			return err_set(e, SINK_EINVAL, "%s needs a value.", option->name);
		if (!value)
			value = option->kind == FLAG ? "1" : argv[++i];
		r = set_option(o, option, value, e);
	}
	return r;
}

/* The policy, from its name and the numbers beside it. */
static int choose_policy(struct bench *o, const struct verb *v, struct err *e)
{
	const char *name = o->policy						? o->policy
			   : v->run == bench_throughput || v->run == bench_load ? "dense"
			   : v->run == bench_restore				? "sink:4,2044"
										: "sink";
	char text[96], token[32] = "", kept[24] = "";
	int r;

	if (o->sink_token >= 0)
		snprintf(token, sizeof(token), ",token=%lld", (long long)o->sink_token);
	if (strcmp(name, "separator") == 0)
		snprintf(kept, sizeof(kept), "%lld,", (long long)(o->separators >= 0 ? o->separators : 64));
	else if (strcmp(name, "anchor") == 0 && o->separators < 0)
		snprintf(kept, sizeof(kept), "all,");
	else if (strcmp(name, "anchor") == 0)
		snprintf(kept, sizeof(kept), "%lld,", (long long)o->separators);
	if (strcmp(name, "window") == 0 || strcmp(name, "recompute") == 0)
		snprintf(text, sizeof(text), "%s:%lld", name, (long long)o->window);
	else if (strcmp(name, "sink") == 0 || *kept)
		snprintf(text, sizeof(text), "%s:%lld,%s%lld%s", name, (long long)o->sinks, kept, (long long)o->window,
			 token);
	else
		snprintf(text, sizeof(text), "%s", name);
	r = policy_parse(text, &o->chosen, e);
	if (!r && o->chosen.token >= 0)
		o->sink_token = o->chosen.token;
	if (!r && (v->run == bench_throughput || v->run == bench_restore) && policy_begins_anew(&o->chosen))
		r = err_set(e, SINK_EINVAL, "%s knows no %s; latency and compare time it.", v->name, name);
	return r;
}

/* What an option is when it was not given and its verb has a usual value of its own. */
static void set_usual(struct bench *o, const struct verb *v)
{
	const struct option budget = { .least = 1, .most = INT32_MAX - 1 };

	if (!o->every)
		o->every = v->run == bench_streameval ? 10 : v->run == bench_perplexity ? 1 : 0;
	if (!o->tokens && (v->run == bench_compare || v->run == bench_sinks))
		o->tokens = 4096;
	if (!o->budget.count)
		set_list(&o->budget, &budget, v->run == bench_compare ? "256,512,1024" : "512", NULL);
	if (!o->depth && v->run == bench_load)
		o->depth = 1024;
	if (!o->timed && v->run == bench_compare)
		o->timed = 128;
	if (!o->chunk)
		o->chunk = v->run == bench_compare ? 64 : v->run == bench_throughput ? 512 : 256;
}

static int check(struct bench *o, const struct verb *v, struct err *e)
{
	enum dtype type;
	int r;

	if (!v)
		return err_set(e, SINK_EINVAL, "A verb is needed; --help lists them.");
	if (v->run == bench_make_random)
		return bench_check_random(o, e);
	if (!o->model && needs_model(v))
		return err_set(e, SINK_EINVAL, "--model is needed.");
	if (!o->text && strchr("pcslr", v->letter))
		return err_set(e, SINK_EINVAL, "--text is needed.");
	if (!o->prompts && v->run == bench_chat)
		return err_set(e, SINK_EINVAL, "--prompts is needed.");
	if (o->budget.count > 1 && v->run == bench_sinks)
		return err_set(e, SINK_EINVAL, "sinks takes one --budget.");
	if (o->save && strcmp(o->positions, "cache") != 0)
		return err_set(e, SINK_EINVAL, "--save is of positions in the cache, which sinkd uses.");
	if (strcmp(o->positions, "cache") != 0 && strcmp(o->positions, "text") != 0)
		return err_set(e, SINK_EINVAL, "--positions takes cache or text, not \"%s\".", o->positions);
	set_usual(o, v);
	if (page_type_find(o->kv, DTYPE_F16, &type, NULL))
		return err_set(e, SINK_EINVAL, "--kv takes auto, f16, q8_0 or f32, not \"%s\".", o->kv);
	r = precision_find(o->precision, &o->activations, e);
	if (!r)
		r = choose_policy(o, v, e);
	if (!r && !kernels_find(o->kernels, e) && e->code == SINK_EINVAL)
		r = SINK_EINVAL;
	return r;
}

static int exit_code(int r)
{
	return r == SINK_ENOENT ? EXIT_MISSING : r == SINK_EFORMAT ? EXIT_MODEL : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	const struct verb *v = NULL;
	struct err e = { 0 };
	struct bench o;
	int r;

	set_defaults(&o);
	r = read_arguments(&o, &v, argc, argv, &e);
	if (!r && o.help) {
		print_help(v);
		return EXIT_SUCCESS;
	}
	if (!r && o.version) {
		printf("sinkd-bench %s\n", PACKAGE_VERSION);
		return EXIT_SUCCESS;
	}
	if (!r)
		r = check(&o, v, &e);
	if (r) {
		fprintf(stderr, "sinkd-bench: %s Try sinkd-bench --help.\n", e.text);
		return EXIT_USAGE;
	}
	r = v->run(&o, &e);
	if (!r && (fflush(stdout) || ferror(stdout)))
		r = err_set(&e, SINK_EIO, "Writing to standard output failed: %s.", strerror(errno));
	if (!r)
		return EXIT_SUCCESS;
	fprintf(stderr, "sinkd-bench: %s\n", e.text);
	return exit_code(r);
}
