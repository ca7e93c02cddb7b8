/* Owns the report of `sinkd -t`. The model is opened as the daemon would open it, and closed again. */
#include "check.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "model.h"
#include "policy.h"
#include "retention.h"
#include "ring.h"
#include "store.h"
#include "usual.h"

static void print_kernels(const struct model_info *m, FILE *to)
{
	for (const struct backend *const *b = kernels_all; *b; b++) {
		struct err e;
		int rc = (*b)->probe(&e);

		fprintf(to, "kernels %-8s %s%s\n", (*b)->name, rc < 0 ? e.text : (*b)->about,
			rc == 0 && strcmp((*b)->name, m->kernels) == 0 ? " (chosen)" : "");
	}
}

static void print_devices(const struct model_info *m, FILE *to)
{
	char about[160];

	fprintf(to, "device          %s%s%s\n", m->device, *m->device_note ? ": " : "", m->device_note);
	for (int card = 0; kernels_card(card, about, sizeof(about)); card++)
		fprintf(to, "card cuda:%-5d %s\n", card, about);
}

static void print_model(const struct model_info *m, FILE *to)
{
	fprintf(to, "model           %s\n", m->path);
	fprintf(to, "name            %s\n", m->name);
	fprintf(to, "architecture    %s, %s, %.1f million parameters, %lld layers\n", m->arch, m->quantization,
		(double)m->parameters / 1e6, (long long)m->layers);
	fprintf(to, "vocabulary      %lld tokens, trained on %lld at once\n", (long long)m->vocab,
		(long long)m->context);
	fprintf(to, "turns           %s\n", m->turns);
	fprintf(to, "threads         %d\n", m->threads);
}

static void print_cache(const struct conf *conf, const struct retention *keeps, const struct usual *u, struct model *m,
			FILE *to)
{
	const struct policy *p = &keeps->policy;
	size_t token = model_info(m)->token_bytes;
	int64_t rows;

	fprintf(to, "cache           %.1f MiB in %zu pages of %s\n", (double)conf->cache / 0x1p20,
		arena_pages(model_arena(m)), model_info(m)->cache_type);
	fprintf(to, "policy          %s (%s)\n", usual_policy(u, conf), usual_source(u, conf));
	if (policy_marking(p) != MARKING_NONE)
		fprintf(to, "marks           %zu tokens of the vocabulary\n",
			keeps->marks.count ? keeps->marks.count : model_marks(m, policy_marking(p))->count);
	if (!policy_is_endless(p))
		return;
	rows = policy_budget(p) + conf->batch;
	if (policy_marking(p) != MARKING_NONE)
		rows += p->window + 2 * conf->batch; /* a text of marks alone, each of which lies in two places */
	fprintf(to, "a conversation  at most %.1f MiB (%zu bytes a token)\n", (double)token * (double)rows / 0x1p20,
		token);
}

/* The settings of new conversations, and what they mean with this model. */
static int check_retention(const struct conf *conf, struct model *m, FILE *to, struct err *e)
{
	struct retention keeps = { 0 };
	const char *note, *policy;
	struct usual usual;
	int rc;

	usual_find(m, conf->model, &usual);
	policy = usual_policy(&usual, conf);
	rc = retention_check(conf, m, policy, e);
	if (rc == 0)
		rc = retention_choose(conf, m, policy, NULL, &keeps, e);
	if (rc < 0)
		return rc;
	print_cache(conf, &keeps, &usual, m, to);
	if (usual.trouble.code)
		log_warning("%s", usual.trouble.text);
	note = retention_note(&keeps.policy, m);
	if (note)
		log_warning("%s", note);
	retention_release(&keeps);
	return 0;
}

int check_print(const struct conf *conf, const char *file, FILE *to)
{
	struct model_options o = {
		.path = conf->model,
		.device = conf->device,
		.kernels = conf->kernels,
		.gpu_memory = (size_t)conf->gpu_memory,
		.invariant = conf->batch_invariant,
		.threads = (int)conf->threads,
		.pin = conf->pin_threads,
		.max_rows = (size_t)conf->batch,
		.max_logits = 1,
		.cache_bytes = (size_t)conf->cache,
		.cache_type = conf->cache_type,
	};
	struct model *m;
	struct err e;
	int rc;

	fprintf(to, "configuration   %s\n", *file ? file : "no file");
	fprintf(to, "listen          %s\n", conf->listen);
	fflush(to);
	if (!*conf->model) {
		log_error("No model is given: say sinkd -t -m FILE, or set model in the configuration file.");
		return SINK_ENOENT;
	}
	rc = precision_find(conf->precision, &o.precision, &e);
	if (!rc)
		rc = model_open(&o, &m, &e);
	if (rc < 0) {
		log_error("%s", e.text);
		return rc;
	}
	print_model(model_info(m), to);
	print_kernels(model_info(m), to);
	print_devices(model_info(m), to);
	if (*model_note(m))
		log_warning("%s", model_note(m));
	rc = check_retention(conf, m, to, &e);
	if (rc < 0)
		log_error("%s", e.text);
	model_close(m);
	return rc;
}

/* The store. */

static void tell(void *arg, const char *text)
{
	fprintf(arg, "%s\n", text);
}

static bool is_file(const char *name)
{
	const char *end = strrchr(name, '.');

	return end && strcmp(end, ".kv") == 0;
}

/* The files of caches: each by itself; whether its conversation is there is the store's to say. */
static int check_files(const char *dir, bool repair, FILE *to)
{
	struct ring_identity identity;
	char path[4096 + 300];
	struct dirent *entry;
	int findings = 0;
	struct err e;
	DIR *d = opendir(dir);

	while (d && (entry = readdir(d))) {
		int rc;

		if (!is_file(entry->d_name))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
		rc = ring_check(path, &identity, tell, to, &e);
		if (rc < 0)
			fprintf(to, "%s\n", e.text);
		if (rc && repair && rc != SINK_EPROTO) {
			ring_set_aside(path);
			fprintf(to, "%s is set aside; the conversation is read anew from its text.\n", path);
			rc = 0;
		}
		findings += rc != 0;
	}
	if (d)
		closedir(d);
	return findings;
}

int check_store(const struct conf *conf, bool repair, FILE *to)
{
	char dir[sizeof(conf->state) + 16];
	struct err e;
	int found, files;

	if (strcmp(conf->state, "none") == 0) {
		log_error("Nothing is kept (state = none).");
		return SINK_EINVAL;
	}
	found = store_check(conf->state, repair, tell, to, &e);
	if (found < 0) {
		log_error("%s", e.text);
		return found;
	}
	snprintf(dir, sizeof(dir), "%s/caches", conf->state);
	files = check_files(dir, repair, to);
	fprintf(to, found + files ? "%s: %d findings in the store, %d bad files of caches\n" : "%s: all is well\n",
		conf->state, found, files);
	return found + files;
}
