/* svd-merge: the weighted sum of LoRAs, cut to a rank by singular value decomposition. */
#include <stdio.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "runtime/exec.h"

typedef struct SvdMergeCommand {
    const char *save_to, *precision, *save_precision, *device, *compat;
    WordList models, ratios, lbws;
    int64_t new_rank, new_conv_rank;
    double clamp_quantile;
    bool no_metadata;
} SvdMergeCommand;

typedef struct Job {
    Arena *arena;
    const Common *common;
    const SvdMergeCommand *o;
    MergeFiles files;
    Device *dev;
    MetaList meta;
} Job;

static void metadata(Job *j) {
    const long long rank = j->o->new_rank, conv = j->o->new_conv_rank == UNSET_INT
                                                      ? j->o->new_rank
                                                      : j->o->new_conv_rank;
    MetaList *m = &j->meta;
    meta_origin(m, &j->files);
    meta_put(m, "ss_network_module", "networks.lora");
    meta_put(m, "ss_network_dim", arena_printf(m->arena, "%lld", rank));
    meta_put(m, "ss_network_alpha", arena_printf(m->arena, "%lld", rank));
    meta_put(m, "ss_network_args",
             arena_printf(m->arena, "{\"conv_dim\": %lld, \"conv_alpha\": %lld}", conv,
                          conv));
    const char *v2 = meta_get(m, "ss_v2");
    const bool is_v2 = v2 && !strcmp(v2, "True");
    if (!j->o->no_metadata)
        meta_modelspec(m, &(ModelSpec){.save_to = j->o->save_to,
                                       .lora = true,
                                       .v2 = is_v2,
                                       .v_prediction = is_v2,
                                       .merged_from = meta_merged_from(m->arena, NULL,
                                                                       &j->files)});
}

static bool merge(Job *j, Err *e) {
    const SvdMergeCommand *o = j->o;
    const DType precision = precision_of(o->precision, F32);
    const bool original = o->compat != NULL;
    SvdOptions svd = {.precision = precision, .original = original};
    svd.rank.most = o->new_rank;
    svd.rank.most_conv = o->new_conv_rank == UNSET_INT ? o->new_rank : o->new_conv_rank;
    svd.clamp = !isnan(o->clamp_quantile) ? o->clamp_quantile : original ? 0.99 : 1;
    LoraSet *s;
    if (!lora_svd_merge(j->files.in, j->files.n, &svd, j->dev, &s, e)) return false;
    metadata(j);
    LoraSetSave save = {.path = o->save_to,
                        .type = precision_of(o->save_precision, precision),
                        .integer_alpha = original,
                        .meta = j->meta.item,
                        .n_meta = j->meta.n};
    bool ok = lora_set_write(s, &save, e);
    if (ok) tool_report_energy(j->common, s, o->save_to);
    lora_set_free(s);
    return ok;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given, (void)words;
    Job j = {.arena = arena_new(), .common = c, .o = opts};
    j.meta.arena = j.arena;
    const MergeWords words_of = {
        .models = j.o->models, .ratios = j.o->ratios, .lbws = j.o->lbws};
    bool ok = tool_output("--save_to", j.o->save_to, e) &&
              (j.dev = tool_device(c, j.o->device, e)) &&
              merge_files_open(j.arena, &words_of, false, &j.files, e) && merge(&j, e);
    merge_files_close(&j.files);
    cpu_close(j.dev);
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const SvdMergeCommand defaults = {.precision = "float",
                                         .device = "cpu",
                                         .new_rank = 4,
                                         .new_conv_rank = UNSET_INT,
                                         .clamp_quantile = UNSET_FLOAT};
static const Opt options[] = {
    OPT(SvdMergeCommand, TEXT, save_to, "FILE",
        "the file to write: .safetensors, or .ckpt, .pt"),
    OPT(SvdMergeCommand, LIST, models, "FILE..", "LoRA files"),
    OPT(SvdMergeCommand, LIST, ratios, "X..", "weight of each"),
    OPT(SvdMergeCommand, LIST, lbws, "LIST..",
        "weights by block for each, as JSON: 12, 17, 20, 25 or 26 numbers"),
    OPT(SvdMergeCommand, INT, new_rank, "N", "rank of the result", .min = 1,
        .max = 1 << 20),
    OPT(SvdMergeCommand, INT, new_conv_rank, "N",
        "rank of its 3x3 convolutions; without it that of the others", .min = 1,
        .max = 1 << 20),
    OPT(SvdMergeCommand, TEXT, precision, "TYPE", "of the LoRAs as they are read",
        .words = precision_words),
    OPT(SvdMergeCommand, TEXT, save_precision, "TYPE",
        "of the file; without it that of --precision", .words = precision_words),
    OPT(SvdMergeCommand, FLOAT, clamp_quantile, "X",
        "clamp the factors to this quantile of their entries; without it not at all "
        "(sd-scripts: 0.99)",
        .min = 0, .max = 1),
    OPT(SvdMergeCommand, FLAG, no_metadata, NULL,
        "only the few entries that programs need"),
    OPT(SvdMergeCommand, TEXT, device, "NAME", "cpu or cuda"),
    OPT(SvdMergeCommand, TEXT, compat, "NAME",
        "the original's numbers: factors clamped, ranks without energy filled up",
        .words = compat_words),
    OPT_END,
};

const Command cmd_svd_merge = {
    .name = "svd-merge",
    .args = "",
    .doc = "Merge LoRAs of any ranks into one of a given rank, by SVD.",
    .options = options,
    .size = sizeof(SvdMergeCommand),
    .defaults = &defaults,
    .run = run,
};
