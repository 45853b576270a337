/* `graphrun info` of a LoRA: a table and a bar chart by block, or every module as JSON.
 *
 * The norm of a module is the Frobenius norm of what it adds to its weight at strength 1,
 * alpha/rank * up @ down; of a block, the root of the sum of their squares. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/info.h"

enum { TEXT_ROW = LORA_BLOCKS, OTHER_ROW, ROWS };

typedef struct Row {
    int modules;
    int64_t rank_low, rank_high;
    double alpha_low, alpha_high, scale_low, scale_high;
    double square; /* of the norm */
} Row;

typedef struct Hashes {
    const char *model_said, *legacy_said; /* NULL: not in the file */
    char model[65], legacy[9];
} Hashes;

static int row_of(const LoraModule *m) {
    return m->net != LORA_UNET ? TEXT_ROW : m->block < 0 ? OTHER_ROW : m->block;
}

static void widen(double *low, double *high, double x, bool first) {
    if (first || x < *low) *low = x;
    if (first || x > *high) *high = x;
}

static void add(Row *r, const LoraModule *m, double square) {
    bool first = !r->modules++;
    if (first || m->rank < r->rank_low) r->rank_low = m->rank;
    if (first || m->rank > r->rank_high) r->rank_high = m->rank;
    widen(&r->alpha_low, &r->alpha_high, m->alpha, first);
    widen(&r->scale_low, &r->scale_high, m->alpha / (double)m->rank, first);
    r->square += square;
}

/* ---- hashes ---- */
static bool make_hashes(const LoraFile *f, Hashes *h, Err *e) {
    const TensorFile *t = f->file;
    h->model_said = lora_meta(f, "sshs_model_hash");
    h->legacy_said = lora_meta(f, "sshs_legacy_hash");
    TensorOut *out = NEW(f->arena, TensorOut, t->n);
    Meta *meta = NEW(f->arena, Meta, t->n_meta + 1);
    for (int i = 0; i < t->n; i++)
        out[i] = (TensorOut){t->entry[i].name, t->entry[i].type, t->entry[i].data};
    for (int i = 0; i < t->n_meta; i++)
        meta[i] = (Meta){t->meta_key[i], t->meta_value[i]};
    return lora_hashes(out, t->n, meta, t->n_meta, h->model, h->legacy, e);
}

/* sd-scripts writes the full hash; the first 12 digits are what some programs show. */
static const char *verdict(const char *said, const char *is) {
    return !said ? "not in the file" : !strcmp(said, is) ? "matches" : "differs";
}

static void put_hash(Str *s, const char *name, const char *said, const char *is) {
    str_printf(s, "%s: %s, %s", name, is, verdict(said, is));
    if (said && strcmp(said, is)) str_printf(s, ": the file says %.80s", said);
    str_add(s, "\n");
}

/* ---- text ---- */
static void put_range(Str *s, double low, double high, int width) {
    Str t = {0};
    str_float(&t, (float)low);
    if (low != high) {
        str_add(&t, "-");
        str_float(&t, (float)high);
    }
    str_printf(s, " %-*s", width, t.s);
    str_free(&t);
}

static void put_bar(Str *s, double norm, double largest) {
    enum { WIDTH = 32 };
    int n = largest > 0 ? (int)lround(norm / largest * WIDTH) : 0;
    for (int i = 0; i < n; i++) str_add(s, "#");
}

static void put_rows(Str *s, Arena *a, const Row *row) {
    double largest = 0;
    for (int i = 0; i < ROWS; i++) largest = fmax(largest, sqrt(row[i].square));
    str_printf(s, "%-6s %7s %-9s %-9s %-9s %s\n", "block", "modules", "rank", "alpha",
               "scale", "norm");
    static const int order[] = {TEXT_ROW, OTHER_ROW};
    for (int i = -1; i <= LORA_BLOCKS; i++) {
        int k = i < 0 ? order[0] : i == LORA_BLOCKS ? order[1] : i;
        const Row *r = &row[k];
        if (!r->modules) continue;
        const char *name = k == TEXT_ROW    ? "TEXT"
                           : k == OTHER_ROW ? "other"
                                            : lora_block_name(a, k);
        str_printf(s, "%-6s %7d", name, r->modules);
        put_range(s, (double)r->rank_low, (double)r->rank_high, 9);
        put_range(s, r->alpha_low, r->alpha_high, 9);
        put_range(s, r->scale_low, r->scale_high, 9);
        str_printf(s, " %-10.4g ", sqrt(r->square));
        put_bar(s, sqrt(r->square), largest);
        str_add(s, "\n");
    }
}

static void put_text(Str *s, const LoraFile *f, const Row *row, const Hashes *h) {
    uint64_t parameters = 0;
    int conv = 0, text = 0;
    for (int i = 0; i < f->n; i++) {
        parameters += (uint64_t)(type_count(&f->module[i].down.type) +
                                 type_count(&f->module[i].up.type));
        conv += f->module[i].kernel_h * f->module[i].kernel_w > 1;
        text += f->module[i].net != LORA_UNET;
    }
    str_printf(s, "%s: a LoRA, names of %s, %s\n", f->file->path,
               lora_form_name(f->form),
               f->family ? f->family : "family not told by shapes");
    str_printf(s,
               "%d modules (%d text encoder, %d U-Net, %d of them larger than 1x1), "
               "%llu parameters, %s\n",
               f->n, text, f->n - text, conv, (unsigned long long)parameters,
               dtype_name(f->module[0].down.type.dtype));
    put_rows(s, f->arena, row);
    put_hash(s, "sshs_model_hash", h->model_said, h->model);
    put_hash(s, "sshs_legacy_hash", h->legacy_said, h->legacy);
    for (int i = 0; i < f->n_unknown; i++)
        str_printf(s, "no part of a module: %s\n", f->unknown[i]);
    info_meta(s, f->file);
}

/* ---- JSON ---- */
static void put_number(Str *s, const char *key, double x) {
    str_printf(s, ", \"%s\": ", key);
    if (isfinite(x))
        str_double(s, x);
    else
        str_add(s, "null");
}

static void put_module(Str *s, const LoraFile *f, const LoraModule *m, double square) {
    str_add(s, "{\"name\": ");
    str_json(s, m->name);
    str_add(s, ", \"block\": ");
    str_json(s, m->net != LORA_UNET ? "TEXT"
                : m->block < 0      ? "other"
                                    : lora_block_name(f->arena, m->block));
    str_printf(s, ", \"rank\": %lld", (long long)m->rank);
    put_number(s, "alpha", m->alpha);
    put_number(s, "scale", m->alpha / (double)m->rank);
    str_printf(s,
               ", \"alpha_in_file\": %s, \"in\": %lld, \"out\": %lld, \"kernel\": "
               "[%lld, %lld]",
               m->has_alpha ? "true" : "false", (long long)m->in, (long long)m->out,
               (long long)m->kernel_h, (long long)m->kernel_w);
    str_printf(s, ", \"dtype\": \"%s\"", dtype_name(m->down.type.dtype));
    put_number(s, "norm", sqrt(square));
    str_add(s, "}");
}

static void put_hash_json(Str *s, const char *name, const char *said, const char *is) {
    str_printf(s, ", \"%s\": {\"computed\": \"%s\", \"in_file\": ", name, is);
    if (said)
        str_json(s, said);
    else
        str_add(s, "null");
    str_printf(s, ", \"matches\": %s}",
               !said              ? "null"
               : strcmp(said, is) ? "false"
                                  : "true");
}

static void put_json(Str *s, const LoraFile *f, const double *square, const Hashes *h) {
    str_add(s, "{\"file\": ");
    str_json(s, f->file->path);
    str_printf(s, ", \"kind\": \"lora\", \"names\": \"%s\", \"family\": ",
               lora_form_name(f->form));
    str_json(s, f->family ? f->family : "");
    str_add(s, ", \"modules\": [");
    for (int i = 0; i < f->n; i++) {
        if (i) str_add(s, ", ");
        put_module(s, f, &f->module[i], square[i]);
    }
    str_add(s, "], \"unknown_keys\": [");
    for (int i = 0; i < f->n_unknown; i++) {
        if (i) str_add(s, ", ");
        str_json(s, f->unknown[i]);
    }
    str_add(s, "]");
    put_hash_json(s, "sshs_model_hash", h->model_said, h->model);
    put_hash_json(s, "sshs_legacy_hash", h->legacy_said, h->legacy);
    str_add(s, ", ");
    info_meta_json(s, f->file);
    str_add(s, "}\n");
}

bool info_lora(const Common *c, const LoraFile *f, Err *e) {
    Hashes h = {0};
    if (!make_hashes(f, &h, e)) return false;
    Row row[ROWS] = {0};
    double *square = NEW(f->arena, double, f->n);
    for (int i = 0; i < f->n; i++) {
        square[i] = lora_dot(&f->module[i], &f->module[i]);
        if (square[i] < 0) square[i] = 0; /* rounding around 0 */
        add(&row[row_of(&f->module[i])], &f->module[i], square[i]);
    }
    Str s = {0};
    if (c->json)
        put_json(&s, f, square, &h);
    else
        put_text(&s, f, row, &h);
    fputs(s.s, stdout);
    str_free(&s);
    return true;
}
