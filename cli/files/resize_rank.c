/* resize-rank: a LoRA cut to another rank by singular value decomposition. */
#include <stdio.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "runtime/exec.h"
#include "runtime/lora_rank.h"

typedef struct ResizeRank {
    const char *model, *save_to, *save_precision, *device, *dynamic_method, *compat;
    int64_t new_rank, new_conv_rank;
    double dynamic_param;
} ResizeRank;

typedef struct Job {
    Arena *arena;
    const Common *common;
    const ResizeRank *o;
    LoraFile *file;
    Device *dev;
    MetaList meta;
} Job;

static void metadata(Job *j, const LoraSet *s) {
    MetaList *m = &j->meta;
    const ResizeRank *o = j->o;
    meta_copy(m, j->file);
    const char *old = meta_get(m, "ss_training_comment");
    if (!old) old = "";
    const long long from = lora_largest_rank(j->file), to = o->new_rank;
    if (o->dynamic_method) {
        meta_put(m, "ss_training_comment",
                 arena_printf(m->arena, "Dynamic resize with %s: %s from %lld; %s",
                              o->dynamic_method, meta_float(m->arena, o->dynamic_param),
                              from, old));
        meta_put(m, "ss_network_dim", "Dynamic");
        meta_put(m, "ss_network_alpha", "Dynamic");
    } else {
        meta_put(m, "ss_training_comment",
                 arena_printf(m->arena, "dimension is resized from %lld to %lld; %s",
                              from, to, old));
        meta_put(m, "ss_network_dim", arena_printf(m->arena, "%lld", to));
        meta_put(m, "ss_network_alpha", meta_float(m->arena, s->item[s->n - 1].alpha));
    }
}

static bool resize(Job *j, Err *e) {
    const ResizeRank *o = j->o;
    j->file = lora_open(o->model, e);
    if (!j->file || !lora_is_whole(j->file, e)) return false;
    SvdOptions svd = {.precision = F32, .original = o->compat != NULL, .clamp = 1};
    svd.rank =
        rank_rule(o->dynamic_method, o->dynamic_param, o->new_rank,
                  o->new_conv_rank == UNSET_INT ? o->new_rank : o->new_conv_rank);
    LoraSet *s;
    if (!lora_resize(j->file, &svd, j->dev, &s, e)) return false;
    metadata(j, s);
    LoraSetSave save = {.path = o->save_to,
                        .type = precision_of(o->save_precision, F32),
                        .meta = j->meta.item,
                        .n_meta = j->meta.n};
    bool ok = lora_set_write(s, &save, e);
    if (ok) tool_report_energy(j->common, s, o->save_to);
    lora_set_free(s);
    return ok;
}

static bool check(const ResizeRank *o, Err *e) {
    if (!o->model) return err_usage(e, "resize-rank needs --model FILE");
    if (!tool_output("--save_to", o->save_to, e)) return false;
    if (!o->dynamic_method != isnan(o->dynamic_param))
        return err_usage(e, "--dynamic_method and --dynamic_param go together");
    return true;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given, (void)words;
    Job j = {.arena = arena_new(), .common = c, .o = opts};
    j.meta.arena = j.arena;
    bool ok =
        check(j.o, e) && (j.dev = tool_device(c, j.o->device, e)) && resize(&j, e);
    lora_close(j.file);
    cpu_close(j.dev);
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const ResizeRank defaults = {.device = "cpu",
                                    .new_rank = 4,
                                    .new_conv_rank = UNSET_INT,
                                    .dynamic_param = UNSET_FLOAT};
static const Opt options[] = {
    OPT(ResizeRank, TEXT, model, "FILE", "the LoRA"),
    OPT(ResizeRank, TEXT, save_to, "FILE",
        "the file to write: .safetensors, or .ckpt, .pt"),
    OPT(ResizeRank, INT, new_rank, "N", "rank; with --dynamic_method the largest",
        .min = 1, .max = 1 << 20),
    OPT(ResizeRank, INT, new_conv_rank, "N",
        "rank of 3x3 convolutions; without it that of the others", .min = 1,
        .max = 1 << 20),
    OPT(ResizeRank, TEXT, dynamic_method, "RULE",
        "choose each rank by singular values: those above largest/X (sv_ratio), X of "
        "the "
        "norm (sv_fro), X of the sum (sv_cumulative)",
        .words = dynamic_words),
    OPT(ResizeRank, FLOAT, dynamic_param, "X", "X of --dynamic_method", .min = 1e-9,
        .max = 1e9),
    OPT(ResizeRank, TEXT, save_precision, "TYPE", "of the file; without it float",
        .words = precision_words),
    OPT(ResizeRank, TEXT, device, "NAME", "cpu or cuda"),
    OPT(ResizeRank, TEXT, compat, "NAME",
        "the original's numbers: --new_conv_rank for 1x1 convolutions too",
        .words = compat_words),
    OPT_END,
};

const Command cmd_resize_rank = {
    .name = "resize-rank",
    .args = "",
    .doc = "Cut a LoRA to another rank, fixed or chosen by its singular values.",
    .options = options,
    .size = sizeof(ResizeRank),
    .defaults = &defaults,
    .run = run,
};
