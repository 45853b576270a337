/* Common parts of the commands on model and LoRA files (see file_tool.h). */
#include "cli/files/file_tool.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/job/setting.h"
#include "io/file.h"
#include "io/tokenizer_write.h"
#include "io/torch_file.h"
#include "runtime/device.h"
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

int precision_of(const char *word, int absent) {
    if (!word) return absent;
    return !strcmp(word, "fp16") ? F16 : !strcmp(word, "bf16") ? BF16 : F32;
}

bool tool_output(const char *option, const char *path, Err *e) {
    if (!path) return err_usage(e, "%s FILE is missing: where shall it go?", option);
    return path_is_tensors(path) ||
           err_usage(e,
                     "%s: got '%s', want a name that ends with .safetensors, .ckpt, "
                     ".pt, .pth or .bin",
                     option, path);
}

/* Has the last part of the path an ending? */
static bool has_ending(const char *path) {
    const char *slash = strrchr(path, '/');
    return strchr(slash ? slash + 1 : path, '.') != NULL;
}

bool tool_output_model(const char *option, const char *path, bool *folder, Err *e) {
    *folder = path && *path && !path_is_tensors(path) &&
              (folder_exists(path) || !has_ending(path));
    return *folder || tool_output(option, path, e) ||
           (err_note(e, "note: a Diffusers folder is written where the name has no "
                        "ending, or a slash behind it"),
            false);
}

Device *step_device(const Common *c, const char *name, Err *e) {
    if (name && !strcmp(name, "cuda")) {
        Device *gpu = cuda_open(e);
        if (gpu && !c->quiet)
            fputs(
                "note: --device cuda has never run on a real GPU, only on a simulated "
                "one (docs/gpu.md)\n",
                stderr);
        return gpu;
    }
    if (name && strcmp(name, "cpu")) {
        err_usage(e, "--device: got '%s', want cpu or cuda", name);
        return NULL;
    }
    Device *d = cpu_open((int)c->threads);
    if (!d) err_fail(e, "no memory for the device's threads");
    return d;
}

Device *tool_device(const Common *c, const char *name, Err *e) {
    Device *d = step_device(c, name, e);
    if (!d || !device_is_cuda(d)) return d;
    cuda_close(d);
    err_fail(e, "--device cuda: tools for files work on the CPU only");
    return NULL;
}

/* ---- tensors ---- */

static void piece(double *to, const TensorEntry *x, int64_t at, int64_t n) {
    const char *data = x->data;
    convert(to, F64, data + (size_t)at * dtype_size(x->type.dtype), x->type.dtype, n);
}

TensorSquares tensor_squares(const TensorEntry *a, const TensorEntry *b) {
    enum { PIECE = 2048 };
    double u[PIECE] = {0}, v[PIECE] = {0};
    const int64_t n = type_count(a ? &a->type : &b->type);
    TensorSquares s = {0};
    for (int64_t at = 0; at < n; at += PIECE) {
        const int64_t m = n - at < PIECE ? n - at : PIECE;
        if (a) piece(u, a, at, m);
        if (b) piece(v, b, at, m);
        for (int64_t i = 0; i < m; i++) {
            s.a += u[i] * u[i];
            s.b += v[i] * v[i];
            s.difference += (u[i] - v[i]) * (u[i] - v[i]);
        }
    }
    return s;
}

void tool_tell_overflow(int64_t numbers) {
    if (numbers)
        fprintf(stderr,
                "warning: %lld numbers are larger than fp16 can hold and became "
                "infinite\n",
                (long long)numbers);
}

void tool_tell_tokenizer(const Checkpoint *c, const char *file) {
    Type t;
    const void *data;
    if (!checkpoint_tokenizer(c) ||
        !checkpoint_find(c, "text_encoder.text_model.embeddings.token_embedding.weight",
                         &t, &data) ||
        t.rank != 2 || t.dim[0] == CLIP_VOCABULARY)
        return;
    fprintf(
        stderr,
        "warning: '%s' is one file and holds no tokenizer; that of '%s' is its own, of "
        "%lld tokens: a folder keeps it\n",
        file, checkpoint_path(c), (long long)t.dim[0]);
}

/* ---- inputs of a merge ---- */

static bool read_number(const char *word, double *x) {
    char *end;
    *x = strtod(word, &end);
    return end != word && !*end && isfinite(*x);
}

bool block_weights(Arena *a, const char *text, const double **weight, int *count,
                   Err *e) {
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
    *weight = x;
    *count = (int)n;
    return ok || err_usage(e,
                           "--lbws: got '%s', want a list of 12, 17, 20, 25 or 26 "
                           "numbers, [1, 0.5, ...]",
                           text);
}

static bool one_each(const char *option, const WordList *words, int models, Err *e) {
    return words->n == models ||
           err_usage(e, "got %d %s for %d --models, want one each", words->n, option,
                     models);
}

static bool read_words(Arena *a, const MergeWords *w, MergeInput *in, Err *e) {
    const int n = w->models.n;
    if (!n) return err_usage(e, "--models wants at least one LoRA file");
    if (!one_each("--ratios", &w->ratios, n, e) ||
        (w->lbws.n && !one_each("--lbws", &w->lbws, n, e)) ||
        (w->adapter.n > 1 && !one_each("--adapter", &w->adapter, n, e)))
        return false;
    for (int i = 0; i < n; i++) {
        if (!read_number(w->ratios.word[i], &in[i].ratio))
            return err_usage(e, "--ratios: got '%s', want a number", w->ratios.word[i]);
        if (w->lbws.n &&
            !block_weights(a, w->lbws.word[i], &in[i].weight, &in[i].n_weight, e))
            return false;
        if (in[i].n_weight != in[0].n_weight)
            return err_usage(e, "--lbws: lists of %d and %d numbers, want one length",
                             in[0].n_weight, in[i].n_weight);
    }
    return true;
}

static bool open_model(const MergeWords *w, int i, bool own, const Args *set,
                       MergeFiles *out, Err *e) {
    const char *adapter = adapter_word(&w->adapter, i), *path = w->models.word[i];
    TensorFile *t = tensors_open(path, e);
    if (!t) return false;
    if (own && (adapter || !lora_only(t))) {
        AdapterFile *f = out->adapter[i] = adapter_file_open(t, adapter, set, e);
        if (f) out->in[i].adapter = adapter_file_layers(f);
        return f != NULL;
    }
    LoraFile *f = lora_from(t, e);
    out->in[i].file = f;
    if (!f) return false;
    if (lora_is_whole(f, e)) return true;
    lora_close(f);
    return false;
}

bool merge_files_open(Arena *a, const MergeWords *w, bool own, MergeFiles *out,
                      Err *e) {
    const size_t n = (size_t)w->models.n + 1;
    *out = (MergeFiles){NEW(a, MergeInput, n), NEW(a, AdapterFile *, n), 0};
    Args *set = args_new(a);
    if (!read_words(a, w, out->in, e) || !settings(a, &w->set, "--set", set, e))
        return false;
    for (int i = 0; i < w->models.n; i++, out->n++)
        if (!open_model(w, i, own, set, out, e)) return false;
    return true;
}

void merge_files_close(MergeFiles *f) {
    for (int i = 0; i < f->n; i++)
        if (f->adapter[i])
            adapter_file_close(f->adapter[i]);
        else
            lora_close((LoraFile *)f->in[i].file);
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
