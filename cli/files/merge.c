/* merge: LoRAs into a model's weights, or into one LoRA. */
#include <stdio.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "io/file.h"
#include "io/torch_file.h"
#include "runtime/exec.h"
#include "runtime/model_merge.h"

typedef struct MergeCommand {
    const char *sd_model, *save_to, *precision, *save_precision, *device, *compat;
    WordList models, ratios, lbws, adapter, set;
    bool v2, concat, shuffle, no_metadata;
} MergeCommand;

typedef struct Job {
    Arena *arena;
    const Common *common;
    const MergeCommand *o;
    MergeFiles files;
    Device *dev;
    MetaList meta;
    DType precision, save;
} Job;

static void report_unmatched(const Job *j, const ModelMerged *r) {
    if (!r->n_unmatched || j->common->quiet) return;
    fprintf(stderr, "warning: %d modules are not in the model and were left out:\n",
            r->n_unmatched);
    for (int i = 0; i < r->n_unmatched; i++) fprintf(stderr, "  %s\n", r->unmatched[i]);
}

static bool tell_tokenizer(const Job *j, Err *e) {
    if (!path_is_tensors(j->o->save_to) || j->common->quiet) return true;
    Checkpoint *c = checkpoint_open(j->o->sd_model, e);
    if (c) tool_tell_tokenizer(c, j->o->save_to), checkpoint_close(c);
    return c != NULL;
}

static bool into_model(Job *j, Err *e) {
    const char *from = meta_merged_from(j->arena, j->o->sd_model, &j->files);
    if (!j->o->no_metadata)
        meta_modelspec(&j->meta, &(ModelSpec){.save_to = j->o->save_to,
                                              .v2 = j->o->v2,
                                              .v_prediction = j->o->v2,
                                              .merged_from = from});
    ModelMerge m = {.model = j->o->sd_model,
                    .in = j->files.in,
                    .n = j->files.n,
                    .precision = j->precision,
                    .save = j->save,
                    .save_to = j->o->save_to,
                    .v_prediction = j->o->v2,
                    .meta = j->meta.item,
                    .n_meta = j->meta.n};
    ModelMerged r;
    if (!model_merge(j->arena, &m, j->dev, &r, e) || !tell_tokenizer(j, e))
        return false;
    report_unmatched(j, &r);
    tool_tell_overflow(r.overflow);
    if (!j->common->quiet)
        fprintf(stderr, "%s: %d modules merged, %d tensors\n", j->o->save_to, r.modules,
                r.tensors);
    return true;
}

static bool into_lora(Job *j, Err *e) {
    MergeOptions o = {.precision = j->precision,
                      .original = j->o->compat != NULL,
                      .concat = j->o->concat,
                      .shuffle = j->o->shuffle};
    LoraSet *s;
    if (!lora_merge(j->files.in, j->files.n, &o, j->dev, &s, e)) return false;
    meta_origin(&j->meta, &j->files);
    meta_network(&j->meta, s);
    const char *v2 = meta_get(&j->meta, "ss_v2");
    const bool is_v2 = v2 && !strcmp(v2, "True");
    const char *from = meta_merged_from(j->arena, NULL, &j->files);
    if (!j->o->no_metadata)
        meta_modelspec(&j->meta, &(ModelSpec){.save_to = j->o->save_to,
                                              .lora = true,
                                              .v2 = is_v2,
                                              .v_prediction = is_v2,
                                              .merged_from = from});
    LoraSetSave save = {.path = j->o->save_to,
                        .type = j->save,
                        .meta = j->meta.item,
                        .n_meta = j->meta.n};
    bool ok = lora_set_write(s, &save, e);
    if (ok && !j->common->quiet)
        fprintf(stderr, "%s: %d modules, rank %s, alpha %s\n", j->o->save_to, s->n,
                meta_get(&j->meta, "ss_network_dim"),
                meta_get(&j->meta, "ss_network_alpha"));
    lora_set_free(s);
    return ok;
}

static bool check(const MergeCommand *o, Err *e) {
    bool folder;
    if (o->sd_model ? !tool_output_model("--save_to", o->save_to, &folder, e)
                    : !tool_output("--save_to", o->save_to, e))
        return false;
    if (!o->sd_model && (o->adapter.n || o->set.n))
        return err_usage(e, "--adapter and --set are for merging into a model, with "
                            "--sd_model");
    if (o->sd_model && (o->concat || o->shuffle))
        return err_usage(e, "--concat and --shuffle are for merging LoRAs with each "
                            "other, without --sd_model");
    return true;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given, (void)words;
    Job j = {.arena = arena_new(), .common = c, .o = opts};
    j.meta.arena = j.arena;
    j.precision = precision_of(j.o->precision, F32);
    j.save = precision_of(j.o->save_precision, j.precision);
    const MergeWords words_of = {.models = j.o->models,
                                 .ratios = j.o->ratios,
                                 .lbws = j.o->lbws,
                                 .adapter = j.o->adapter,
                                 .set = j.o->set};
    bool ok =
        check(j.o, e) && (j.dev = tool_device(c, j.o->device, e)) &&
        merge_files_open(j.arena, &words_of, j.o->sd_model != NULL, &j.files, e) &&
        (j.o->sd_model ? into_model(&j, e) : into_lora(&j, e));
    merge_files_close(&j.files);
    cpu_close(j.dev);
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const MergeCommand defaults = {.precision = "float", .device = "cpu"};
static const Opt options[] = {
    OPT(MergeCommand, TEXT, sd_model, "FILE",
        "model to merge into (a checkpoint or a Diffusers folder); without it the "
        "LoRAs "
        "are merged into one"),
    OPT(MergeCommand, TEXT, save_to, "FILE",
        "the file to write: .safetensors, or .ckpt, .pt; with --sd_model a name "
        "without "
        "an ending makes a Diffusers folder"),
    OPT(MergeCommand, LIST, models, "FILE..", "LoRA files"),
    OPT(MergeCommand, LIST, ratios, "X..", "weight of each"),
    OPT(MergeCommand, LIST, lbws, "LIST..",
        "weights by block for each, as JSON: 12, 17, 20, 25 or 26 numbers"),
    OPT(MergeCommand, LIST, adapter, "GRAPH..",
        "with --sd_model: the adapter's graph file, by name or path, one for all "
        "--models or one each; \"auto\" or nothing: told by the file's keys"),
    OPT(MergeCommand, EACH, set, "KEY=VALUE",
        "an argument of the adapter that the file does not tell (lokr's factor)"),
    OPT(MergeCommand, TEXT, precision, "TYPE", "of the arithmetic",
        .words = precision_words),
    OPT(MergeCommand, TEXT, save_precision, "TYPE",
        "of the file; without it that of --precision", .words = precision_words),
    OPT(MergeCommand, FLAG, v2, NULL,
        "the model is Stable Diffusion 2.x (for its metadata)"),
    OPT(MergeCommand, FLAG, concat, NULL,
        "put LoRAs of different ranks side by side; always so without --compat"),
    OPT(MergeCommand, FLAG, shuffle, NULL, "bring the rank axis into random order"),
    OPT(MergeCommand, FLAG, no_metadata, NULL,
        "only the few entries that programs need"),
    OPT(MergeCommand, TEXT, device, "NAME", "cpu or cuda"),
    OPT(MergeCommand, TEXT, compat, "NAME",
        "the original's numbers: LoRAs merged by adding their factors, ratios squared",
        .words = compat_words),
    OPT_END,
};

const Command cmd_merge = {
    .name = "merge",
    .args = "",
    .doc = "Merge LoRAs into a model, or into one LoRA: the exact weighted sum.",
    .options = options,
    .size = sizeof(MergeCommand),
    .defaults = &defaults,
    .run = run,
};
