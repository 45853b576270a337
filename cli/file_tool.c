/* Common parts of the commands on model and LoRA files (see file_tool.h). */
#include "cli/file_tool.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/exec.h"
#include "runtime/lora_blocks.h"

const char *const precision_words[] = {"float", "fp16", "bf16", NULL};
const char *const compat_words[] = {"sd-scripts", NULL};

const char *const dynamic_words[] = {"sv_ratio", "sv_fro", "sv_cumulative", NULL};

RankRule rank_rule(const char *method, double param, int64_t most, int64_t most_conv) {
    RankRule r = {.limit = param, .most = most, .most_conv = most_conv};
    r.how = !method                       ? RANK_FIXED
            : !strcmp(method, "sv_ratio") ? RANK_RATIO
            : !strcmp(method, "sv_fro")   ? RANK_FRO
                                          : RANK_CUMULATIVE;
    return r;
}

DType precision_of(const char *word, DType absent) {
    if (!word) return absent;
    return !strcmp(word, "fp16") ? F16 : !strcmp(word, "bf16") ? BF16 : F32;
}

Device *tool_device(const Common *c, const char *name, Err *e) {
    if (name && strcmp(name, "cpu")) {
        err_fail(e, "--device %s: this program is built for the CPU only", name);
        return NULL;
    }
    Device *d = cpu_open((int)c->threads);
    if (!d) err_fail(e, "no memory for the device's threads");
    return d;
}

/* ---- inputs of a merge ---- */

static bool read_number(const char *word, double *x) {
    char *end;
    *x = strtod(word, &end);
    return end != word && !*end && isfinite(*x);
}

static bool read_weights(Arena *a, const char *text, MergeInput *in, Err *e) {
    json_error_t why;
    json_t *list = json_loads(text, 0, &why);
    const size_t n = json_is_array(list) ? json_array_size(list) : 0;
    bool ok = n < 1000 && lora_blocks_known((int)n);
    double *x = NEW(a, double, n);
    for (size_t i = 0; ok && i < n; i++) {
        json_t *v = json_array_get(list, i);
        ok = json_is_number(v);
        x[i] = ok ? json_number_value(v) : 0;
    }
    json_decref(list);
    in->weight = x;
    in->n_weight = (int)n;
    return ok || err_usage(e,
                           "--lbws: got '%s', want a list of 12, 17, 20, 25 or 26 "
                           "numbers, [1, 0.5, ...]",
                           text);
}

bool merge_files_open(Arena *a, const WordList *models, const WordList *ratios,
                      const WordList *lbws, MergeFiles *out, Err *e) {
    *out = (MergeFiles){NEW(a, MergeInput, models->n + 1), 0};
    if (!models->n) return err_usage(e, "--models wants at least one LoRA file");
    if (ratios->n != models->n)
        return err_usage(e, "got %d --ratios for %d --models, want one each", ratios->n,
                         models->n);
    if (lbws && lbws->n && lbws->n != models->n)
        return err_usage(e, "got %d --lbws for %d --models, want one each", lbws->n,
                         models->n);
    for (int i = 0; i < models->n; i++) {
        if (!read_number(ratios->word[i], &out->in[i].ratio))
            return err_usage(e, "--ratios: got '%s', want a number", ratios->word[i]);
        if (lbws && lbws->n && !read_weights(a, lbws->word[i], &out->in[i], e))
            return false;
        if (lbws && i && lbws->n && out->in[i].n_weight != out->in[0].n_weight)
            return err_usage(e, "--lbws: lists of %d and %d numbers, want one length",
                             out->in[0].n_weight, out->in[i].n_weight);
    }
    for (int i = 0; i < models->n; i++, out->n++) {
        const LoraFile *f = out->in[i].file = lora_open(models->word[i], e);
        if (!f) return false;
        if (f->n_unknown) /* an adapter with tensors of its own would lose them */
            return err_fail(e,
                            "'%s': %d tensors are no part of a LoRA and would be lost, "
                            "the first is '%s'",
                            models->word[i], f->n_unknown, f->unknown[0]);
    }
    return true;
}

void merge_files_close(MergeFiles *f) {
    for (int i = 0; i < f->n; i++) lora_close((LoraFile *)f->in[i].file);
    f->n = 0;
}

/* ---- what was kept ---- */

static double share(const LoraItem *m) {
    return m->energy > 0 ? m->kept / m->energy : 1;
}

static void energy_json(const LoraSet *s, const char *file, double kept,
                        double energy) {
    Str t = {0};
    str_add(&t, "{\"file\": ");
    str_json(&t, file);
    str_printf(&t, ", \"energy_kept\": %.9g, \"modules\": [",
               energy > 0 ? kept / energy : 1.0);
    const char *comma = "";
    for (int i = 0; i < s->n; i++) {
        const LoraItem *m = &s->item[i];
        if (!m->arena) continue;
        str_printf(&t,
                   "%s\n  {\"name\": \"%s\", \"rank\": %lld, \"energy_kept\": %.9g}",
                   comma, m->name, (long long)lora_item_rank(m), share(m));
        comma = ",";
    }
    str_add(&t, "\n]}\n");
    fputs(t.s, stdout);
    str_free(&t);
}

void tool_report_energy(const Common *c, const LoraSet *s, const char *file) {
    double kept = 0, energy = 0;
    const LoraItem *worst = NULL;
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        const LoraItem *m = &s->item[i];
        if (!m->arena) continue;
        n++;
        kept += m->kept, energy += m->energy;
        if (!worst || share(m) < share(worst)) worst = m;
        if (c->verbose && !c->json)
            fprintf(stderr, "%-72s rank %4lld  energy %8.4f %%\n", m->name,
                    (long long)lora_item_rank(m), 100 * share(m));
    }
    if (c->json)
        energy_json(s, file, kept, energy);
    else if (!c->quiet && worst)
        fprintf(stderr,
                "%s: %d modules, %.4f %% of the energy kept; least %.4f %%, in %s\n",
                file, n, energy > 0 ? 100 * kept / energy : 100.0, 100 * share(worst),
                worst->name);
}
