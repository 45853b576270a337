/* What the metadata of a LoRA file says about the data: folders with their counts, and
 * how often each tag occurs (training.md 7.2). Written as Python's json.dumps does. */
#include <math.h>
#include <string.h>
#include <utf8proc.h>

#include "io/dataset_parts.h"

static const char *base_name(const char *path) {
    size_t n = strlen(path);
    while (n && path[n - 1] == '/')
        n--; /* Python would give "" here; a name is of more use */
    size_t from = n;
    while (from && path[from - 1] != '/') from--;
    return from || path[n] ? path + from : path;
}

static const char *folder_name(Arena *a, const SubsetConfig *s) {
    const char *base = base_name(s->metadata_file ? s->metadata_file : s->image_dir);
    return arena_strndup(a, base, strcspn(base, "/"));
}

/* ---- ordered sets of names with counts ---- */
typedef struct Count {
    const char *name;
    int n, next; /* next entry with the same hash, -1: none */
} Count;
typedef struct Counts {
    Arena *a;
    Count *item;
    int n, cap;
    int head[4096];
} Counts;

static Count *counts_get(Counts *c, const char *name, size_t n) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (uint8_t)name[i]) * 16777619u;
    int *head = &c->head[h % COUNT(c->head)];
    for (int i = *head; i >= 0; i = c->item[i].next)
        if (!strncmp(c->item[i].name, name, n) && !c->item[i].name[n])
            return &c->item[i];
    Count x = {arena_strndup(c->a, name, n), 0, *head};
    PUSH(c->a, c->item, c->n, c->cap, x);
    *head = c->n - 1;
    return &c->item[c->n - 1];
}

static Counts *counts_new(Arena *a) {
    Counts *c = NEW(a, Counts, 1);
    c->a = a;
    memset(c->head, -1, sizeof c->head);
    return c;
}

/* ---- tags: pieces between commas, stripped, lower case, empty ones left out ---- */
static void lower_text(const char *s, size_t n, Str *out) {
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t c;
        utf8proc_ssize_t used = utf8proc_iterate((const utf8proc_uint8_t *)s + i,
                                                 (utf8proc_ssize_t)(n - i), &c);
        if (used < 1) break;
        utf8proc_uint8_t to[4];
        str_addn(out, (char *)to,
                 (size_t)utf8proc_encode_char(utf8proc_tolower(c), to));
        i += (size_t)used;
    }
}

static void count_tags(Counts *c, const char *caption) {
    Str low = {0};
    for (const char *s = caption;;) {
        size_t n = strcspn(s, ","), kept = n;
        const char *tag = text_strip(s, &kept);
        low.n = 0;
        lower_text(tag, kept, &low);
        if (low.n) counts_get(c, low.s, low.n)->n++;
        if (!s[n]) break;
        s += n + 1;
    }
    str_free(&low);
}

static void put_tags(Str *out, const Counts *c) {
    str_add(out, "{");
    for (int i = 0; i < c->n; i++) {
        if (i) str_add(out, ", ");
        str_json(out, c->item[i].name);
        str_printf(out, ": %d", c->item[i].n);
    }
    str_add(out, "}");
}

/* A folder that several datasets use counts once; within one dataset the captions of
 * folders of the same name add up. */
static const char *tag_frequency(Dataset *d, Arena *scratch) {
    const Parts *p = d->priv;
    Counts *names = counts_new(scratch);
    Str out = {0};
    str_add(&out, "{");
    for (int i = 0; i < p->config.n; i++) {
        const DatasetConfig *ds = &p->config.dataset[i];
        int before = names->n;
        for (int k = 0; k < ds->n; k++) {
            const char *name = folder_name(scratch, &ds->subset[k]);
            Count *seen = counts_get(names, name, strlen(name));
            if (seen - names->item < before || seen->n++) continue;
            Counts *tags = counts_new(scratch);
            for (int j = k; j < ds->n; j++) {
                if (strcmp(folder_name(scratch, &ds->subset[j]), name)) continue;
                for (int c = 0; c < p->info[i][j].n; c++)
                    count_tags(tags, p->info[i][j].caption[c]);
            }
            if (out.n > 1) str_add(&out, ", ");
            str_json(&out, name);
            str_add(&out, ": ");
            put_tags(&out, tags);
        }
    }
    str_add(&out, "}");
    const char *text = arena_strdup(d->arena, out.s);
    str_free(&out);
    return text;
}

/* ---- folders ---- */
static void put_folder(Str *out, const char *name, const SubsetConfig *s, int images) {
    if (out->n > 1) str_add(out, ", ");
    str_json(out, name);
    str_printf(out, ": {\"n_repeats\": %d, \"img_count\": %d}", s->num_repeats, images);
}

/* With a file every subset is listed, a name that occurs again as "name (2)"; without
 * one, regularisation folders stand apart. */
static const char *folders(Dataset *d, Arena *scratch, bool reg) {
    const Parts *p = d->priv;
    Counts *names = counts_new(scratch);
    Str out = {0};
    str_add(&out, "{");
    for (int i = 0; i < p->config.n; i++) {
        const DatasetConfig *ds = &p->config.dataset[i];
        for (int k = 0; k < ds->n; k++) {
            bool there = p->config.from_file ? !reg : ds->subset[k].is_reg == reg;
            if (!there) continue;
            const char *base = folder_name(scratch, &ds->subset[k]), *name = base;
            for (int again = 2; counts_get(names, name, strlen(name))->n++; again++)
                name = arena_printf(scratch, "%s (%d)", base, again);
            put_folder(&out, name, &ds->subset[k], p->info[i][k].n);
        }
    }
    str_add(&out, "}");
    const char *text = arena_strdup(d->arena, out.s);
    str_free(&out);
    return text;
}

/* ---- buckets and datasets ---- */
static const char *kept(Dataset *d, Str *s) {
    const char *text = arena_strdup(d->arena, s->s ? s->s : "");
    str_free(s);
    return text;
}

/* Python's repr of a number of a few digits. */
static void put_number(Str *s, double x) {
    Str t = {0};
    str_double(&t, x);
    str_printf(s, "%s%s", t.s, strpbrk(t.s, ".e") ? "" : ".0");
    str_free(&t);
}

/* Pictures (with repeats) in each bucket, and how far aspect ratios are off on average. */
static void put_buckets(Str *s, const Dataset *d, int dataset) {
    double error = 0;
    int pictures = 0, listed = 0;
    str_add(s, "{\"buckets\": {");
    for (int b = 0; b < d->n_bucket; b++) {
        const int w = d->bucket[b][0], h = d->bucket[b][1];
        int64_t count = 0;
        for (int i = 0; i < d->n; i++) {
            const Sample *x = &d->sample[i];
            if (x->dataset != dataset || x->mirrored || x->bucket_w != w ||
                x->bucket_h != h)
                continue;
            count += x->repeats;
            error += fabs((double)x->w / x->h - (double)w / h);
            pictures++;
        }
        if (!count) continue;
        str_printf(s, "%s\"%d\": {\"resolution\": [%d, %d], \"count\": %lld}",
                   listed ? ", " : "", listed, w, h, (long long)count);
        listed++;
    }
    str_add(s, "}, \"mean_img_ar_error\": ");
    put_number(s, pictures ? error / pictures : 0);
    str_add(s, "}");
}

static const char *bucket_info(Dataset *d) {
    const Parts *p = d->priv;
    Str s = {0};
    if (p->config.n && p->config.dataset[0].bucket.enable)
        put_buckets(&s, d, 0);
    else
        str_add(&s, "null");
    return kept(d, &s);
}

static void put_flag(Str *s, const char *name, bool x) {
    str_printf(s, "\"%s\": %s, ", name, x ? "true" : "false");
}

static void put_subset(Str *s, const SubsetConfig *c, int images) {
    str_printf(s, "{\"img_count\": %d, \"num_repeats\": %d, ", images, c->num_repeats);
    put_flag(s, "color_aug", c->color_aug);
    put_flag(s, "flip_aug", c->flip_aug);
    put_flag(s, "random_crop", c->random_crop);
    put_flag(s, "shuffle_caption", c->caption.shuffle);
    str_printf(s, "\"keep_tokens\": %d, ", c->caption.keep_tokens);
    put_flag(s, "is_reg", c->is_reg);
    const char *key = c->metadata_file ? "metadata_file" : "image_dir";
    const char *name = base_name(c->metadata_file ? c->metadata_file : c->image_dir);
    str_printf(s, "\"%s\": ", key);
    str_json(s, name);
    str_add(s, ", \"class_tokens\": ");
    if (c->class_tokens)
        str_json(s, c->class_tokens);
    else
        str_add(s, "null");
    str_add(s, "}");
}

static void put_dataset(Str *s, const Dataset *d, int i) {
    const Parts *p = d->priv;
    const DatasetConfig *c = &p->config.dataset[i];
    int64_t train = 0, reg = 0;
    for (int k = 0; k < d->n; k++)
        if (d->sample[k].dataset == i)
            *(d->sample[k].reg ? &reg : &train) += d->sample[k].repeats;
    str_add(s, "{");
    put_flag(s, "is_dreambooth", c->n && !c->subset[0].metadata_file);
    str_printf(s,
               "\"batch_size_per_device\": %d, \"num_train_images\": %lld, "
               "\"num_reg_images\": %lld, \"resolution\": [%d, %d], ",
               c->batch_size, (long long)train, (long long)reg, c->bucket.width,
               c->bucket.height);
    put_flag(s, "enable_bucket", c->bucket.enable);
    put_flag(s, "bucket_no_upscale", c->bucket.no_upscale);
    str_printf(s, "\"min_bucket_reso\": %d, \"max_bucket_reso\": %d, \"subsets\": [",
               c->bucket.min_reso, c->bucket.max_reso);
    for (int k = 0; k < c->n; k++) {
        if (k) str_add(s, ", ");
        put_subset(s, &c->subset[k], p->info[i][k].n);
    }
    str_add(s, "], \"bucket_info\": ");
    if (c->bucket.enable)
        put_buckets(s, d, i);
    else
        str_add(s, "null");
    str_add(s, "}");
}

/* With a dataset file: all datasets with their subsets. */
static const char *datasets(Dataset *d) {
    const Parts *p = d->priv;
    if (!p->config.from_file) return NULL;
    Str s = {0};
    str_add(&s, "[");
    for (int i = 0; i < p->config.n; i++) {
        if (i) str_add(&s, ", ");
        put_dataset(&s, d, i);
    }
    str_add(&s, "]");
    return kept(d, &s);
}

void metadata_make(Dataset *d) {
    Arena *scratch = arena_new();
    d->tag_frequency_json = tag_frequency(d, scratch);
    d->metadata_dirs_json = folders(d, scratch, false);
    d->metadata_reg_dirs_json = folders(d, scratch, true);
    d->bucket_info_json = bucket_info(d);
    d->datasets_json = datasets(d);
    arena_free(scratch);
}
