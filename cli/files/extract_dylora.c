/* extract-dylora: the LoRAs of lower rank that a DyLoRA contains. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "io/lora_file.h"
#include "runtime/lora_rank.h"

typedef struct ExtractDylora {
    const char *model, *save_to, *compat;
    int64_t unit;
} ExtractDylora;

typedef struct Job {
    Arena *arena;
    const Common *common;
    const ExtractDylora *o;
    LoraFile *file;
    int64_t rank; /* of the whole */
    bool paper;   /* every part of the same scale, alpha/R */
} Job;

/* "out.safetensors" at rank 4: "out-0004.safetensors" */
static const char *part_path(Arena *a, const char *path, int64_t rank) {
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (!dot || (slash && dot < slash) || dot == path)
        return arena_printf(a, "%s-%04lld", path, (long long)rank);
    return arena_printf(a, "%.*s-%04lld%s", (int)(dot - path), path, (long long)rank,
                        dot);
}

static void metadata(const Job *j, MetaList *m, int64_t rank) {
    meta_copy(m, j->file);
    const char *old = meta_get(m, "ss_training_comment");
    meta_put(m, "ss_training_comment",
             arena_printf(m->arena, "split from DyLoRA, rank %lld to %lld; %s",
                          (long long)j->rank, (long long)rank, old ? old : ""));
    meta_put(m, "ss_network_dim", arena_printf(m->arena, "%lld", (long long)rank));
    const char *alpha = meta_get(m, "ss_network_alpha");
    char *end;
    const double x = alpha ? strtod(alpha, &end) : 0;
    if (j->paper && alpha && end != alpha && !*end)
        meta_put(m, "ss_network_alpha",
                 meta_float(m->arena, x * (double)rank / (double)j->rank));
}

static bool write_part(const Job *j, int64_t rank, Err *e) {
    Arena *a = arena_new();
    MetaList m = {.arena = a};
    TensorOut *t;
    int n;
    dylora_cut(a, j->file, rank, j->paper, &t, &n);
    metadata(j, &m, rank);
    const char *path = part_path(a, j->o->save_to, rank);
    bool ok = lora_file_write(path, t, n, LORA_KEEP, m.item, m.n, e);
    if (ok && j->common->json)
        printf("{\"file\": \"%s\", \"rank\": %lld}\n", path, (long long)rank);
    else if (ok && !j->common->quiet)
        fprintf(stderr, "%s: rank %lld of %lld\n", path, (long long)rank,
                (long long)j->rank);
    arena_free(a);
    return ok;
}

/* A file of the program's own DyLoRA says so: its strength at every rank is alpha/R. */
static bool is_paper(const Job *j) {
    const char *kind = lora_meta(j->file, "graphrun_dylora");
    return !j->o->compat && kind && !strcmp(kind, "paper");
}

/* --unit, or what the file was trained with (ss_network_args), or 1. */
static int64_t unit_of(const Job *j) {
    if (j->o->unit != UNSET_INT) return j->o->unit;
    const char *text = lora_meta(j->file, "ss_network_args");
    json_t *args = text ? json_loads(text, 0, NULL) : NULL,
           *unit = json_object_get(args, "unit");
    const char *word = json_string_value(unit);
    int64_t n = word ? strtoll(word, NULL, 10) : json_integer_value(unit);
    json_decref(args);
    return n >= 1 && n <= j->rank ? n : 1;
}

static bool split(Job *j, Err *e) {
    j->file = lora_open(j->o->model, e);
    if (!j->file || !lora_is_whole(j->file, e)) return false;
    j->rank = lora_largest_rank(j->file);
    j->paper = is_paper(j);
    const int64_t unit = unit_of(j), end = j->o->compat ? j->rank - 1 : j->rank;
    if (unit > end)
        return err_fail(e, "'%s' has rank %lld: nothing to extract with --unit %lld",
                        j->o->model, (long long)j->rank, (long long)unit);
    if (!j->common->quiet)
        fprintf(stderr, "%s: rank %lld, %s\n", j->o->model, (long long)j->rank,
                j->paper ? "trained as in the DyLoRA paper: alpha follows the rank"
                         : "sd-scripts' DyLoRA: alpha stays");
    bool ok = true;
    for (int64_t rank = unit; ok && rank <= end; rank += unit)
        ok = write_part(j, rank, e);
    return ok;
}

static bool check(const ExtractDylora *o, Err *e) {
    if (!o->model) return err_usage(e, "extract-dylora needs --model FILE");
    if (!tool_output("--save_to", o->save_to, e)) return false;
    return true;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given, (void)words;
    Job j = {.arena = arena_new(), .common = c, .o = opts};
    bool ok = check(j.o, e) && split(&j, e);
    lora_close(j.file);
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const ExtractDylora defaults = {.unit = UNSET_INT};
static const Opt options[] = {
    OPT(ExtractDylora, TEXT, model, "FILE", "the DyLoRA"),
    OPT(ExtractDylora, TEXT, save_to, "FILE",
        "the files to write: out.safetensors becomes out-0004.safetensors, ..."),
    OPT(ExtractDylora, INT, unit, "N",
        "ranks that were trained together; without it as the file says, or 1", .min = 1,
        .max = 1 << 20),
    OPT(ExtractDylora, TEXT, compat, "NAME",
        "the original's files: alpha as it is, the largest rank left out",
        .words = compat_words),
    OPT_END,
};

const Command cmd_extract_dylora = {
    .name = "extract-dylora",
    .args = "",
    .doc = "Write the LoRAs of every rank that a DyLoRA contains.",
    .options = options,
    .size = sizeof(ExtractDylora),
    .defaults = &defaults,
    .run = run,
};
