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
	{ "latency", 'l', "the time of each token while the cache rolls", bench_latency },
	{ "tokenize", 'k', "token ids of texts on standard input, separated by NUL bytes", bench_tokenize },
	{ "throughput", 't', "tokens a second of reading prompts and of decoding", bench_throughput },
};

enum kind { TEXT, NUMBER, FLAG };

struct option {
	const char *name, *takes;
	const char *verbs; /* letters */
	enum kind kind;
	size_t at; /* in struct bench */
	int64_t least, most, otherwise;
	const char *text; /* default of a text */
	const char *help;
};

#define AT(field) offsetof(struct bench, field)
#define TOKENS_MOST INT64_C(1000000000)

static const struct option options[] = {
	{ "--model", "FILE", "plkt", TEXT, AT(model), 0, 0, 0, NULL, "the model, a GGUF file" },
	{ "--text", "FILE", "pl", TEXT, AT(text), 0, 0, 0, NULL, "the text to read" },
	{ "--tokens", "N", "pl", NUMBER, AT(tokens), 0, TOKENS_MOST, 0, NULL,
	  "tokens to read; 0: to the text's end (perplexity ends there anyway, latency begins again)" },
	{ "--policy", "NAME", "plt", TEXT, AT(policy), 0, 0, 0, NULL,
	  "dense, window or sink; or with its numbers, as window:W or sink:S,W (sink; throughput: dense)" },
	{ "--sinks", "S", "plt", NUMBER, AT(sinks), 0, INT32_MAX - 1, 4, NULL, "first tokens that stay for ever (4)" },
	{ "--window", "W", "plt", NUMBER, AT(window), 1, INT32_MAX - 1, 1020, NULL,
	  "most recent tokens that a token sees, itself included (1020)" },
	{ "--positions", "WHERE", "plt", TEXT, AT(positions), 0, 0, 0, "cache",
	  "cache: ranks inside the cache; text: places in the text (cache)" },
	{ "--start", "N", "p", NUMBER, AT(start), 0, INT64_C(1) << 52, 0, NULL,
	  "text position that the first token is said to have (0)" },
	{ "--chunk", "N", "p", NUMBER, AT(chunk), 1, 4096, 256, NULL, "tokens of one step (256)" },
	{ "--nll-file", "FILE", "p", TEXT, AT(nll_file), 0, 0, 0, NULL,
	  "write the negative log-probability of each token here, one a line" },
	{ "--prompt", "P", "t", NUMBER, AT(prompt), 0, TOKENS_MOST, 0, NULL,
	  "tokens to read (512, with --decode 128)" },
	{ "--decode", "N", "t", NUMBER, AT(decode), 0, TOKENS_MOST, 0, NULL, "tokens to decode, one a step" },
	{ "--depth", "D", "t", NUMBER, AT(depth), 0, TOKENS_MOST, 0, NULL, "tokens already in the cache (0)" },
	{ "--batch", "B", "t", NUMBER, AT(batch), 1, 512, 1, NULL, "conversations that move together (1)" },
	{ "--repeat", "R", "t", NUMBER, AT(repeat), 1, 1000, 5, NULL, "timed rounds; the median is told (5)" },
	{ "--kernels", "NAME", "plt", TEXT, AT(kernels), 0, 0, 0, "auto", "auto, or a backend by name (auto)" },
	{ "--precision", "NAME", "plt", TEXT, AT(precision), 0, 0, 0, "exact",
	  "of activations: exact, sixteen bits, or fast, eight (exact)" },
	{ "--threads", "T", "plt", NUMBER, AT(threads), 0, 1024, 0, NULL, "threads; 0: one a core (0)" },
	{ "--kv", "TYPE", "plt", TEXT, AT(kv), 0, 0, 0, "auto",
	  "keys and values as f16 or f32; auto: as the backend likes" },
	{ "--json", NULL, "plkt", FLAG, AT(json), 0, 1, 0, NULL, "print one JSON object" },
	{ "--help", NULL, "plkt", FLAG, AT(help), 0, 1, 0, NULL, "print this help" },
	{ "--version", NULL, "plkt", FLAG, AT(version), 0, 1, 0, NULL, "print the version" },
};

enum { VERBS = sizeof(verbs) / sizeof(verbs[0]), OPTIONS = sizeof(options) / sizeof(options[0]) };

static void print_help(const struct verb *v)
{
	printf("usage: sinkd-bench %s --model FILE [option]...\n\n", v ? v->name : "VERB");
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

static int set_option(struct bench *o, const struct option *option, const char *value, struct err *e)
{
	char *at = (char *)o + option->at, *end;
	long long n;

	if (option->kind == TEXT) {
		*(const char **)at = value;
		return 0;
	}
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
		else
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
	const char *name = o->policy ? o->policy : v->run == bench_throughput ? "dense" : "sink";
	char text[96];

	if (strcmp(name, "window") == 0)
		snprintf(text, sizeof(text), "window:%lld", (long long)o->window);
	else if (strcmp(name, "sink") == 0)
		snprintf(text, sizeof(text), "sink:%lld,%lld", (long long)o->sinks, (long long)o->window);
	else
		snprintf(text, sizeof(text), "%s", name);
	return policy_parse(text, &o->chosen, e);
}

static int check(struct bench *o, const struct verb *v, struct err *e)
{
	int r;

	if (!v)
		return err_set(e, SINK_EINVAL, "A verb is needed: perplexity, latency, tokenize or throughput.");
	if (!o->model)
		return err_set(e, SINK_EINVAL, "--model is needed.");
	if (!o->text && strchr("pl", v->letter))
		return err_set(e, SINK_EINVAL, "--text is needed.");
	if (strcmp(o->positions, "cache") != 0 && strcmp(o->positions, "text") != 0)
		return err_set(e, SINK_EINVAL, "--positions takes cache or text, not \"%s\".", o->positions);
	if (strcmp(o->kv, "auto") != 0 && strcmp(o->kv, "f16") != 0 && strcmp(o->kv, "f32") != 0)
		return err_set(e, SINK_EINVAL, "--kv takes auto, f16 or f32, not \"%s\".", o->kv);
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
