/* Extracting a LoRA (see lora_extract.h): differences of weights, each cut to a rank. */
#include "runtime/lora_extract.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/rng.h"

typedef struct Layer {
    const char *name, *lora; /* checkpoint name of the weight, LoRA's module name */
    Type type;
    const void *a, *b; /* original, tuned */
    bool text;
    double diff; /* largest difference of an element */
} Layer;

typedef struct Job {
    Arena *arena;
    const ExtractOptions *o;
    Checkpoint *original, *tuned;
    Layer *layer;
    int n, cap;
    LoraSet *set;
} Job;

/* ---- which layers ---- */

static bool has(const char *s, const char *part) {
    return strstr(s, part) != NULL;
}
/* lora.md section 1: transformers' layers and the text encoder's; with conv also those of
 * resnets and samplers. Never norms, embeddings, the first and last convolution. */
static bool is_target(const char *name, const Type *t, bool conv) {
    if ((t->rank != 2 && t->rank != 4) || !ends_with(name, ".weight")) return false;
    if (!strncmp(name, "text_encoder.", 13))
        return has(name, ".self_attn.") || has(name, ".mlp.");
    if (strncmp(name, "unet.", 5)) return false;
    if (has(name, ".attentions.")) return true;
    return conv && (has(name, ".resnets.") || has(name, ".downsamplers.") ||
                    has(name, ".upsamplers."));
}

static bool add_layer(Job *j, const char *name, const Type *t, const void *data,
                      Err *e) {
    Layer l = {.name = name, .type = *t, .a = data};
    Type other;
    if (!checkpoint_find(j->tuned, name, &other, &l.b))
        return err_fail(e, "'%s' has no tensor '%s', '%s' has",
                        checkpoint_path(j->tuned), name, checkpoint_path(j->original));
    Type same = other;
    same.dtype = t->dtype;
    if (!type_same_shape(&same, t) && type_count(&other) != type_count(t))
        return err_fail(e, "'%s' is %s in '%s' and %s in '%s'", name,
                        type_text(j->arena, t), checkpoint_path(j->original),
                        type_text(j->arena, &other), checkpoint_path(j->tuned));
    l.text = !strncmp(name, "text_encoder.", 13);
    l.lora = lora_name_of(j->arena, arena_strndup(j->arena, name, strlen(name) - 7));
    l.type.dtype = F32;
    PUSH(j->arena, j->layer, j->n, j->cap, l);
    return l.lora != NULL || err_fail(e, "'%s' has no name as a LoRA module", name);
}

static int larger_first(const void *a, const void *b) {
    const Layer *x = a, *y = b;
    const int64_t m = type_count(&x->type), n = type_count(&y->type);
    return m != n ? (m < n) - (m > n) : strcmp(x->name, y->name);
}

static bool list_layers(Job *j, Err *e) {
    int text = 0, text_tuned = 0;
    const bool conv = j->o->svd.rank.most_conv > 0;
    for (int i = 0; i < checkpoint_count(j->original); i++) {
        const char *key, *name = checkpoint_name(j->original, i, &key);
        Type t;
        const void *data;
        if (!checkpoint_find(j->original, name, &t, &data)) continue;
        if (!is_target(name, &t, conv)) continue;
        text += !strncmp(name, "text_encoder.", 13);
        if (!add_layer(j, name, &t, data, e)) return false;
    }
    for (int i = 0; i < checkpoint_count(j->tuned); i++) {
        const char *key, *name = checkpoint_name(j->tuned, i, &key);
        Type t;
        const void *data;
        if (checkpoint_find(j->tuned, name, &t, &data) && is_target(name, &t, false))
            text_tuned += !strncmp(name, "text_encoder.", 13);
    }
    if (text != text_tuned)
        return err_fail(e, "the text encoders differ: %d layers in '%s', %d in '%s'",
                        text, checkpoint_path(j->original), text_tuned,
                        checkpoint_path(j->tuned));
    if (!j->n)
        return err_fail(e, "'%s' has no layer that a LoRA could change",
                        checkpoint_path(j->original));
    qsort(j->layer, (size_t)j->n, sizeof *j->layer, larger_first);
    return true;
}

/* ---- differences ---- */

enum { PIECE = 1 << 14 };

/* Elements [at, at + n) of tuned - original, in f32. */
static void difference(const Job *j, const Layer *l, DType ta, DType tb, int64_t at,
                       int64_t n, float *out) {
    float x[PIECE];
    const DType to = j->o->cast ? j->o->svd.precision : F32;
    convert(x, F32, (const char *)l->a + (size_t)at * dtype_size(ta), ta, n);
    convert(out, F32, (const char *)l->b + (size_t)at * dtype_size(tb), tb, n);
    uint16_t half[PIECE];
    if (to == F16 || to == BF16) {
        convert(half, to, x, F32, n), convert(x, F32, half, to, n);
        convert(half, to, out, F32, n), convert(out, F32, half, to, n);
    }
    for (int64_t i = 0; i < n; i++) out[i] -= x[i];
}

static void types_of(const Job *j, const Layer *l, DType *ta, DType *tb) {
    Type t;
    const void *data;
    checkpoint_find(j->original, l->name, &t, &data);
    *ta = t.dtype;
    checkpoint_find(j->tuned, l->name, &t, &data);
    *tb = t.dtype;
}

static void release(const Job *j, const Layer *l, DType ta, DType tb) {
    const size_t n = (size_t)type_count(&l->type);
    checkpoint_release(j->original, l->a, n * dtype_size(ta));
    checkpoint_release(j->tuned, l->b, n * dtype_size(tb));
}

/* The largest difference, without making the matrix. */
static bool measure(void *ctx, int i, Device *dev, Err *e) {
    Job *j = ctx;
    Layer *l = &j->layer[i];
    DType ta, tb;
    float d[PIECE];
    (void)dev;
    types_of(j, l, &ta, &tb);
    const int64_t count = type_count(&l->type);
    for (int64_t at = 0; at < count; at += PIECE) {
        const int64_t n = count - at < PIECE ? count - at : PIECE;
        difference(j, l, ta, tb, at, n, d);
        for (int64_t k = 0; k < n; k++) {
            const double size = fabs((double)d[k]);
            if (!(size <= l->diff)) l->diff = isnan(size) ? (double)INFINITY : size;
        }
    }
    release(j, l, ta, tb);
    return isfinite(l->diff) ||
           err_fail(e, "'%s': the difference of both models is not finite", l->name);
}

static bool extract(void *ctx, int i, Device *dev, Err *e) {
    Job *j = ctx;
    Layer *l = &j->layer[i];
    LoraItem *item = &j->set->item[i];
    if (!l->lora) return true; /* left out */
    item->arena = arena_new();
    item->name = arena_strdup(item->arena, l->lora);
    Arena *t = arena_new();
    DType ta, tb;
    types_of(j, l, &ta, &tb);
    const int64_t count = type_count(&l->type), m = l->type.dim[0], n = count / m;
    float *x = NEW(t, float, count);
    for (int64_t at = 0; at < count; at += PIECE)
        difference(j, l, ta, tb, at, count - at < PIECE ? count - at : PIECE, x + at);
    release(j, l, ta, tb);
    Svd svd;
    double sum = 0;
    const bool all = j->o->svd.rank.how == RANK_CUMULATIVE;
    bool ok = svd_leading(t, dev, x, m, n, rank_most(&j->o->svd.rank, &l->type),
                          rng_stream(l->lora, "svd"), all ? &sum : NULL, &svd, e) &&
              lora_from_svd(item, &svd, &l->type, sum, &j->o->svd, e);
    arena_free(t);
    return ok;
}

/* ---- what is left out ---- */

static void summarise(const Job *j, Extracted *out) {
    for (int i = 0; i < j->n; i++) {
        const Layer *l = &j->layer[i];
        double *most = l->text ? &out->text_diff : &out->unet_diff;
        const char **at = l->text ? &out->text_at : &out->unet_at;
        ++*(l->text ? &out->text_modules : &out->unet_modules);
        if (*at && l->diff <= *most) continue;
        *most = l->diff;
        *at = arena_strdup(j->arena, l->lora);
    }
}

/* The text encoder is extracted whole or not at all. */
static bool choose(Job *j, Extracted *out, Err *e) {
    out->text_kept = out->text_diff > j->o->min_diff;
    int left = 0;
    for (int i = 0; i < j->n; i++) {
        Layer *l = &j->layer[i];
        const bool drop = l->text && !out->text_kept;
        const bool equal = l->diff == 0 && !j->o->svd.original;
        out->equal += equal && !drop;
        if (drop || equal) l->lora = NULL;
        left += l->lora != NULL;
    }
    return left > 0 ||
           err_fail(
               e,
               "'%s' and '%s' do not differ: the largest difference is %.3g in the "
               "U-Net and %.3g in the text encoder (min_diff %.3g), nothing is "
               "left to extract",
               checkpoint_path(j->original), checkpoint_path(j->tuned), out->unet_diff,
               out->text_diff, j->o->min_diff);
}

bool lora_extract(Arena *a, const char *original, const char *tuned,
                  const ExtractOptions *o, Device *dev, Extracted *out, Err *e) {
    *out = (Extracted){0};
    Job j = {.arena = a, .o = o, .original = checkpoint_open(original, e)};
    if (j.original) j.tuned = checkpoint_open(tuned, e);
    bool ok = j.tuned && list_layers(&j, e) && lora_work(dev, j.n, measure, &j, e);
    if (ok) summarise(&j, out);
    ok = ok && choose(&j, out, e);
    if (ok) out->set = j.set = lora_set_new(j.n);
    ok = ok && lora_work(dev, j.n, extract, &j, e);
    if (!ok && out->set) {
        lora_set_free(out->set);
        out->set = NULL;
    }
    if (j.original) checkpoint_close(j.original);
    if (j.tuned) checkpoint_close(j.tuned);
    return ok;
}
