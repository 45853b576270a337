/* extract: the difference of two models as a LoRA. */
#include <stdio.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "io/file.h"
#include "runtime/exec.h"
#include "runtime/lora_extract.h"

typedef struct ExtractCommand {
    const char *model_org, *model_tuned, *save_to, *load_precision, *save_precision,
        *device, *dynamic_method, *compat;
    int64_t dim, conv_dim;
    double clamp_quantile, min_diff, dynamic_param;
    bool v2, v_parameterization, no_metadata;
} ExtractCommand;

typedef struct Job {
    Arena *arena;
    const Common *common;
    const ExtractCommand *o;
    Device *dev;
    MetaList meta;
} Job;

static void metadata(Job *j, const LoraSet *s) {
    const ExtractCommand *o = j->o;
    MetaList *m = &j->meta;
    const bool v = o->v_parameterization || o->v2;
    meta_put(m, "ss_v2", o->v2 ? "True" : "False");
    meta_put(m, "ss_base_model_version",
             arena_printf(m->arena, "%s%s", o->v2 ? "sd_v2" : "sd_v1", v ? "_v" : ""));
    meta_network(m, s);
    if (!o->dynamic_method) {
        meta_put(m, "ss_network_dim",
                 arena_printf(m->arena, "%lld", (long long)o->dim));
        meta_put(m, "ss_network_alpha", meta_float(m->arena, (double)o->dim));
    }
    meta_put(m, "ss_network_args",
             o->conv_dim == UNSET_INT
                 ? "{}"
                 : arena_printf(m->arena,
                                "{\"conv_dim\": \"%lld\", \"conv_alpha\": \"%s\"}",
                                (long long)o->conv_dim,
                                meta_float(m->arena, (double)o->conv_dim)));
    if (!o->no_metadata)
        meta_modelspec(m, &(ModelSpec){.save_to = o->save_to,
                                       .lora = true,
                                       .v2 = o->v2,
                                       .v_prediction = v});
}

static void report(const Job *j, const Extracted *x) {
    if (j->common->quiet) return;
    if (x->text_modules)
        fprintf(stderr,
                "text encoder: largest difference %.3g (%s), min_diff %.3g: %s\n",
                x->text_diff, x->text_at, j->o->min_diff,
                x->text_kept ? "extracted" : "the same, left out");
    fprintf(stderr, "U-Net: largest difference %.3g (%s)\n", x->unet_diff,
            x->unet_at ? x->unet_at : "no layers");
    if (x->equal)
        fprintf(stderr, "%d layers are equal in both models and were left out\n",
                x->equal);
}

static bool make_folder(const char *path, Err *e) {
    Arena *a = arena_new();
    const char *slash = strrchr(path, '/');
    bool ok = !slash || slash == path ||
              folder_make(arena_strndup(a, path, (size_t)(slash - path)), e);
    arena_free(a);
    return ok;
}

static bool extract(Job *j, Err *e) {
    const ExtractCommand *o = j->o;
    const bool original = o->compat != NULL;
    ExtractOptions x = {.cast = o->load_precision != NULL, .min_diff = o->min_diff};
    x.svd.original = original;
    x.svd.precision = precision_of(o->load_precision, F32);
    x.svd.rank = rank_rule(o->dynamic_method, o->dynamic_param, o->dim,
                           o->conv_dim == UNSET_INT ? 0 : o->conv_dim);
    x.svd.clamp = !isnan(o->clamp_quantile) ? o->clamp_quantile : original ? 0.99 : 1;
    Extracted got;
    if (!lora_extract(j->arena, o->model_org, o->model_tuned, &x, j->dev, &got, e))
        return false;
    report(j, &got);
    metadata(j, got.set);
    LoraSetSave save = {.path = o->save_to,
                        .type = precision_of(o->save_precision, F32),
                        .meta = j->meta.item,
                        .n_meta = j->meta.n};
    bool ok = make_folder(o->save_to, e) && lora_set_write(got.set, &save, e);
    if (ok) tool_report_energy(j->common, got.set, o->save_to);
    lora_set_free(got.set);
    return ok;
}

static bool check(const ExtractCommand *o, Err *e) {
    if (!o->model_org) return err_usage(e, "extract needs --model_org FILE");
    if (!o->model_tuned) return err_usage(e, "extract needs --model_tuned FILE");
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
        check(j.o, e) && (j.dev = tool_device(c, j.o->device, e)) && extract(&j, e);
    cpu_close(j.dev);
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const ExtractCommand defaults = {.device = "cpu",
                                        .dim = 4,
                                        .conv_dim = UNSET_INT,
                                        .clamp_quantile = UNSET_FLOAT,
                                        .min_diff = 0.01,
                                        .dynamic_param = UNSET_FLOAT};
static const Opt options[] = {
    OPT(ExtractCommand, TEXT, model_org, "FILE",
        "the model to start from: a checkpoint or a Diffusers folder"),
    OPT(ExtractCommand, TEXT, model_tuned, "FILE", "the model to arrive at"),
    OPT(ExtractCommand, TEXT, save_to, "FILE",
        "the file to write: .safetensors, or .ckpt, .pt"),
    OPT(ExtractCommand, INT, dim, "N", "rank", .min = 1, .max = 1 << 20),
    OPT(ExtractCommand, INT, conv_dim, "N",
        "rank of 3x3 convolutions; without it they and the rest of resnets and "
        "samplers "
        "are left out",
        .min = 1, .max = 1 << 20),
    OPT(ExtractCommand, TEXT, dynamic_method, "RULE",
        "choose each rank by singular values, at most --dim: those above largest/X "
        "(sv_ratio), X of the norm (sv_fro), X of the sum (sv_cumulative)",
        .words = dynamic_words),
    OPT(ExtractCommand, FLOAT, dynamic_param, "X", "X of --dynamic_method", .min = 1e-9,
        .max = 1e9),
    OPT(ExtractCommand, FLOAT, min_diff, "X",
        "a text encoder that differs less than this everywhere is left out", .min = 0,
        .max = 1e30),
    OPT(ExtractCommand, FLOAT, clamp_quantile, "X",
        "clamp the factors to this quantile of their entries; without it not at all "
        "(sd-scripts: 0.99)",
        .min = 0, .max = 1),
    OPT(ExtractCommand, TEXT, load_precision, "TYPE",
        "cast both models to this type first", .words = precision_words),
    OPT(ExtractCommand, TEXT, save_precision, "TYPE", "of the file; without it float",
        .words = precision_words),
    OPT(ExtractCommand, FLAG, v2, NULL,
        "the models are Stable Diffusion 2.x (for the metadata)"),
    OPT(ExtractCommand, FLAG, v_parameterization, NULL,
        "the models predict v (for the metadata)"),
    OPT(ExtractCommand, FLAG, no_metadata, NULL,
        "only the few entries that programs need"),
    OPT_REFUSED("sdxl", FLAG, NULL, "SDXL is not supported"),
    OPT(ExtractCommand, TEXT, device, "NAME", "cpu or cuda"),
    OPT(ExtractCommand, TEXT, compat, "NAME",
        "the original's numbers: factors clamped, layers without a difference kept",
        .words = compat_words),
    OPT_END,
};

const Command cmd_extract = {
    .name = "extract",
    .args = "",
    .doc = "Extract the difference of two models as a LoRA.",
    .options = options,
    .size = sizeof(ExtractCommand),
    .defaults = &defaults,
    .run = run,
};
