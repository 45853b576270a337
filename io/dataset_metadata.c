/* What the metadata of a LoRA file says about the data: folders with their counts, and
 * how often each tag occurs (training.md 7.2). Written as Python's json.dumps does. */
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

void metadata_make(Dataset *d) {
    Arena *scratch = arena_new();
    d->tag_frequency_json = tag_frequency(d, scratch);
    d->metadata_dirs_json = folders(d, scratch, false);
    d->metadata_reg_dirs_json = folders(d, scratch, true);
    arena_free(scratch);
}
