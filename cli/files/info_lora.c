/* `graphrun info` of a LoRA: a table and a bar chart by block, or every module as JSON.
 *
 * The norm of a module is the Frobenius norm of what it adds to its weight at strength 1,
 * alpha/rank * up @ down; of a block, the root of the sum of their squares. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/files/info.h"

typedef struct Row {
    int modules;
    int64_t rank_low, rank_high;
    double alpha_low, alpha_high, scale_low, scale_high;
    double square; /* of the norm */
} Row;

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

/* ---- text ---- */
static void put_rows(Str *s, Arena *a, const Row *row) {
    double largest = 0;
    for (int i = 0; i < INFO_ROWS; i++) largest = fmax(largest, sqrt(row[i].square));
    str_printf(s, "%-6s %7s %-9s %-9s %-9s %s\n", "block", "modules", "rank", "alpha",
               "scale", "norm");
    for (int i = 0; i < INFO_ROWS; i++) {
        const int k = info_row_at(i);
        const Row *r = &row[k];
        if (!r->modules) continue;
        str_printf(s, "%-6s %7d", info_row_name(a, k), r->modules);
        info_range(s, (double)r->rank_low, (double)r->rank_high, 9);
        info_range(s, r->alpha_low, r->alpha_high, 9);
        info_range(s, r->scale_low, r->scale_high, 9);
        str_printf(s, " %-10.4g ", sqrt(r->square));
        info_bar(s, sqrt(r->square), largest);
        str_add(s, "\n");
    }
}

static void put_text(Str *s, const LoraFile *f, const Row *row, const InfoHashes *h) {
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
    info_hashes_text(s, h);
    for (int i = 0; i < f->n_unknown; i++)
        str_printf(s, "no part of a module: %s\n", f->unknown[i]);
    info_meta(s, f->file);
}

/* ---- JSON ---- */
static void put_number(Str *s, const char *key, double x) {
    str_printf(s, ", \"%s\": ", key);
    str_json_number(s, x);
}

static void put_module(Str *s, const LoraFile *f, const LoraModule *m, double square) {
    str_add(s, "{\"name\": ");
    str_json(s, m->name);
    str_add(s, ", \"block\": ");
    str_json(s, info_row_name(f->arena, info_row(m->name)));
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

static void put_json(Str *s, const LoraFile *f, const double *square,
                     const InfoHashes *h) {
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
    info_hashes_json(s, h);
    str_add(s, ", ");
    info_meta_json(s, f->file);
    str_add(s, "}\n");
}

bool info_lora(const Common *c, const LoraFile *f, Err *e) {
    InfoHashes h;
    if (!info_hashes(f->file, &h, e)) return false;
    Row row[INFO_ROWS] = {0};
    double *square = NEW(f->arena, double, f->n);
    for (int i = 0; i < f->n; i++) {
        square[i] = lora_dot(&f->module[i], &f->module[i]);
        if (square[i] < 0) square[i] = 0; /* rounding around 0 */
        add(&row[info_row(f->module[i].name)], &f->module[i], square[i]);
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
