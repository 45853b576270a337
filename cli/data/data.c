/* `graphrun data`: looks at a data set as `train` would, and trains nothing. */
#include "cli/data/data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/dataset_keys.h"
#include "io/file.h"
#include "io/tensors.h"

enum { NAMED = 8 /* pictures that a warning names */ };

#define AT_LEAST(n) .min = (n), .max = HUGE_VAL
#define T(kind, field, value, help, ...)                                               \
    OPT(TrainOptions, kind, field, value, help, __VA_ARGS__)
/* clang-format off */
static const Opt options[] = {
    OPT_GROUP("the report"),
    T(TEXT, html, "FILE", "a contact sheet: the first draws as they are trained, with their captions"),
    T(INT, samples, "N", "draws of the first epoch that are shown", .min = 0, .max = 100000),

#include "cli/data/data_options.def"
    OPT_GROUP("training: the run"),
    T(INT, gradient_accumulation_steps, "N", "micro-batches per update", AT_LEAST(1)),
    T(INT, seed, "N", "of the draws; unset: 0", AT_LEAST(0)),
    OPT_GROUP("model"),
    T(FLAG, v2, NULL, "captions are padded as for Stable Diffusion 2.x"),
    OPT_END,
};
/* clang-format on */

static void warn(DataReport *r, const char *text) {
    PUSH(r->arena, r->warning, r->n_warning, r->cap_warning, text);
}

/* "N pictures …: a, b and 3 more", of those for which is(r, i) holds. */
static void warn_of(DataReport *r, const char *what,
                    bool (*is)(const DataReport *r, int i)) {
    Str s = {0};
    int n = 0;
    for (int i = 0; i < r->d->n; i++) {
        if (r->d->sample[i].mirrored || !is(r, i)) continue;
        if (n++ < NAMED) str_printf(&s, "\n  %s", r->d->sample[i].path);
    }
    if (n > NAMED) str_printf(&s, "\n  and %d more", n - NAMED);
    if (n) warn(r, arena_printf(r->arena, "%d %s%s", n, what, s.s));
    str_free(&s);
}

/* ---- counts ---- */
static void count_subsets(DataReport *r) {
    r->subset = NEW(r->arena, SubsetRow *, r->config->n);
    for (int i = 0; i < r->config->n; i++)
        r->subset[i] = NEW(r->arena, SubsetRow, r->config->dataset[i].n);
    for (int i = 0; i < r->d->n; i++) {
        const Sample *s = &r->d->sample[i];
        if (s->mirrored) continue;
        r->subset[s->dataset][s->subset].images++;
        r->subset[s->dataset][s->subset].captions += *s->caption != 0;
    }
}

static BucketRow *bucket_row(DataReport *r, const Sample *s, int *cap) {
    for (int i = 0; i < r->n_bucket; i++) {
        BucketRow *b = &r->bucket[i];
        if (b->dataset == s->dataset && b->w == s->bucket_w && b->h == s->bucket_h)
            return b;
    }
    BucketRow b = {s->dataset, s->bucket_w, s->bucket_h, 0, 0, 0};
    PUSH(r->arena, r->bucket, r->n_bucket, *cap, b);
    return &r->bucket[r->n_bucket - 1];
}

static int by_place(const void *x, const void *y) {
    const BucketRow *a = x, *b = y;
    if (a->dataset != b->dataset) return a->dataset - b->dataset;
    return a->w != b->w ? a->w - b->w : a->h - b->h;
}

static void count_buckets(DataReport *r) {
    int cap = 0;
    for (int i = 0; i < r->d->n; i++) {
        const Sample *s = &r->d->sample[i];
        if (s->mirrored) continue;
        BucketRow *b = bucket_row(r, s, &cap);
        b->images++;
        b->draws += s->repeats;
    }
    for (int i = 0; i < r->n_bucket; i++) {
        int size = r->config->dataset[r->bucket[i].dataset].batch_size;
        r->bucket[i].batches = (r->bucket[i].draws + size - 1) / size;
    }
    if (r->n_bucket) qsort(r->bucket, (size_t)r->n_bucket, sizeof *r->bucket, by_place);
}

/* ---- tokens and draws ---- */
static int count_tokens(const DataReport *r, const Tokenizer *t, const char *caption,
                        int32_t pad, int32_t *ids) {
    return tokenizer_chunks(t, caption, r->chunks, pad, ids);
}

static void token_counts(DataReport *r, const Tokenizer *t, int32_t pad) {
    int32_t *ids = NEW(r->arena, int32_t, r->chunks * TOKEN_ROW);
    r->tokens = NEW(r->arena, int, r->d->n);
    for (int i = 0; i < r->d->n; i++) {
        r->tokens[i] = count_tokens(r, t, r->d->sample[i].caption, pad, ids);
        if (r->tokens[i] > r->longest) r->longest = r->tokens[i];
        r->too_long +=
            !r->d->sample[i].mirrored && r->tokens[i] > r->chunks * TOKEN_INNER;
    }
}

static bool draw(DataReport *r, const Tokenizer *t, int32_t pad, int64_t most, Err *e) {
    int cap = 0;
    for (int k = 0; k < r->d->batches_per_epoch && r->n_drawn < most; k++) {
        Batch b;
        if (!dataset_batch(r->d, 1, k, r->arena, &b, e)) return false;
        for (int i = 0; i < b.n; i++) {
            int32_t *ids = NEW(r->arena, int32_t, r->chunks * TOKEN_ROW);
            Drawn x = {k, b.view[i], b.caption[i], 0, ids};
            x.tokens = count_tokens(r, t, x.caption, pad, ids);
            PUSH(r->arena, r->drawn, r->n_drawn, cap, x);
        }
    }
    return true;
}

/* ---- warnings ---- */
static bool has_no_caption(const DataReport *r, int i) {
    return !*r->d->sample[i].caption;
}

static bool is_tiny(const DataReport *r, int i) {
    const Sample *s = &r->d->sample[i];
    return s->resized_w > s->w + s->w / 4 || s->resized_h > s->h + s->h / 4;
}

static bool is_too_long(const DataReport *r, int i) {
    return r->tokens[i] > r->chunks * TOKEN_INNER;
}

typedef struct FileHash {
    uint64_t hash;
    int sample;
} FileHash;

static int by_hash(const void *x, const void *y) {
    const FileHash *a = x, *b = y;
    if (a->hash != b->hash) return a->hash < b->hash ? -1 : 1;
    return a->sample - b->sample;
}

/* Files with the same bytes, pair by pair. */
static void warn_duplicates(DataReport *r) {
    FileHash *h = NEW(r->arena, FileHash, r->d->n);
    int n = 0, pairs = 0;
    for (int i = 0; i < r->d->n; i++) {
        void *map;
        size_t bytes;
        Err ignored = {0};
        if (r->d->sample[i].mirrored ||
            !file_map(r->d->sample[i].path, &map, &bytes, &ignored))
            continue;
        h[n++] = (FileHash){XXH3_64bits(map, bytes), i};
        file_unmap(map, bytes);
    }
    if (n) qsort(h, (size_t)n, sizeof *h, by_hash);
    Str s = {0};
    for (int i = 1; i < n; i++) {
        const char *first = r->d->sample[h[i - 1].sample].path,
                   *second = r->d->sample[h[i].sample].path;
        if (h[i].hash != h[i - 1].hash || !strcmp(first, second)) continue;
        if (pairs++ < NAMED) str_printf(&s, "\n  %s = %s", second, first);
    }
    if (pairs > NAMED) str_printf(&s, "\n  and %d more", pairs - NAMED);
    if (pairs)
        warn(r, arena_printf(r->arena, "%d pictures are there twice%s", pairs, s.s));
    str_free(&s);
}

static void find_warnings(DataReport *r) {
    const Dataset *d = r->d;
    for (int i = 0; i < d->n_note; i++) warn(r, d->note[i]);
    for (int i = 0; i < d->n_bad; i++)
        warn(r, arena_printf(r->arena, "%s cannot be used: %s", d->bad_path[i],
                             d->bad_reason[i]));
    warn_of(r, "pictures have no caption and no class tokens", has_no_caption);
    warn_of(r, "pictures are enlarged by more than a quarter", is_tiny);
    warn_of(r,
            arena_printf(
                r->arena, "captions have more than %d tokens: the rest is cut off%s",
                r->chunks * TOKEN_INNER, r->chunks < 3 ? " (--max_token_length)" : ""),
            is_too_long);
    warn_duplicates(r);
}

/* ---- the command ---- */
static bool gather(DataReport *r, const TrainOptions *o, Err *e) {
    int32_t pad = o->v2 ? 0 : PAD_END;
    r->config = dataset_config(r->d);
    r->accumulate = (int)o->gradient_accumulation_steps;
    r->chunks = o->max_token_length == 225 ? 3 : o->max_token_length == 150 ? 2 : 1;
    dataset_pace(r->d, r->accumulate, o->max_train_steps);
    Tokenizer *t = tokenizer_open(NULL, e);
    if (!t) return false;
    count_subsets(r);
    count_buckets(r);
    token_counts(r, t, pad);
    bool ok = draw(r, t, pad, o->samples, e);
    tokenizer_close(t);
    find_warnings(r);
    return ok;
}

static bool write_html(const DataReport *r, const char *path, Err *e) {
    Str s = {0};
    bool ok = data_html(&s, r, e) && file_write(path, s.s, s.n, e);
    str_free(&s);
    return ok;
}

static int show(const Common *c, const TrainOptions *o, DataReport *r, Err *e) {
    if (!gather(r, o, e) || (o->html && !write_html(r, o->html, e))) return e->code;
    Str s = {0};
    if (c->json)
        data_json(&s, r, NULL);
    else
        data_text(&s, r);
    fputs(s.s, stdout);
    str_free(&s);
    if (!r->d->n_bad || o->skip_bad_images) return EXIT_DONE;
    err_fail(e, "%d of %d images cannot be used", r->d->n_bad, r->d->n_bad + r->d->n);
    return e->code;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    TrainOptions o = *(const TrainOptions *)opts;
    WordList notes = {0};
    DataReport r = {.arena = arena_new()};
    DataOptions d;
    if (words->n) o.dataset_config = words->word[0];
    int code = EXIT_MISUSE;
    if (train_options_check(r.arena, &o, given, &notes, e) &&
        train_data_options(&o, &d, e)) {
        d.seed = o.seed == UNSET_INT ? 0 : (uint64_t)o.seed;
        d.skip_bad_images = d.allow_missing_captions = true;
        r.d = dataset_open(&d, e);
        code = r.d ? show(c, &o, &r, e) : e->code;
    }
    dataset_close(r.d);
    arena_free(r.arena);
    return code;
}

const Command cmd_data = {
    .name = "data",
    .args = "[DATASET]",
    .doc = "Shows a data set as train sees it: pictures, buckets, captions, batches.",
    .options = options,
    .size = sizeof(TrainOptions),
    .defaults = &train_defaults,
    .min_words = 0,
    .max_words = 1,
    .run = run,
};
