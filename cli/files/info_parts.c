/* What the tables of `graphrun info` have in common: rows by block, ranges, bars, and the
 * hashes that a file carries of itself. */
#include <math.h>
#include <string.h>

#include "cli/files/info.h"

/* ---- rows ---- */

int info_row(const char *module) {
    const int block = starts_with(module, "lora_unet_") ? lora_block(module) : -1;
    return block >= 0 ? block : starts_with(module, "lora_te") ? INFO_TEXT : INFO_OTHER;
}

int info_row_at(int i) {
    return !i ? INFO_TEXT : i <= LORA_BLOCKS ? i - 1 : INFO_OTHER;
}

const char *info_row_name(Arena *a, int row) {
    return row == INFO_TEXT    ? "TEXT"
           : row == INFO_OTHER ? "other"
                               : lora_block_name(a, row);
}

void info_range(Str *s, double low, double high, int width) {
    Str t = {0};
    str_float(&t, (float)low);
    if (low != high) {
        str_add(&t, "-");
        str_float(&t, (float)high);
    }
    str_printf(s, " %-*s", width, t.s);
    str_free(&t);
}

void info_bar(Str *s, double norm, double largest) {
    enum { WIDTH = 32 };
    int n = largest > 0 ? (int)lround(norm / largest * WIDTH) : 0;
    for (int i = 0; i < n; i++) str_add(s, "#");
}

/* ---- hashes ---- */

bool info_hashes(const TensorFile *f, InfoHashes *h, Err *e) {
    Arena *a = arena_new();
    *h = (InfoHashes){.model_said = tensors_meta(f, "sshs_model_hash"),
                      .legacy_said = tensors_meta(f, "sshs_legacy_hash")};
    TensorOut *out = NEW(a, TensorOut, f->n + 1);
    Meta *meta = NEW(a, Meta, f->n_meta + 1);
    for (int i = 0; i < f->n; i++)
        out[i] = (TensorOut){f->entry[i].name, f->entry[i].type, f->entry[i].data};
    for (int i = 0; i < f->n_meta; i++)
        meta[i] = (Meta){f->meta_key[i], f->meta_value[i]};
    bool ok = lora_hashes(out, f->n, meta, f->n_meta, h->model, h->legacy, e);
    arena_free(a);
    return ok;
}

static const char *verdict(const char *said, const char *is) {
    return !said ? "not in the file" : !strcmp(said, is) ? "matches" : "differs";
}

static void put_text(Str *s, const char *name, const char *said, const char *is) {
    str_printf(s, "%s: %s, %s", name, is, verdict(said, is));
    if (said && strcmp(said, is)) str_printf(s, ": the file says %.80s", said);
    str_add(s, "\n");
}

void info_hashes_text(Str *s, const InfoHashes *h) {
    put_text(s, "sshs_model_hash", h->model_said, h->model);
    put_text(s, "sshs_legacy_hash", h->legacy_said, h->legacy);
}

static void put_json(Str *s, const char *name, const char *said, const char *is) {
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

void info_hashes_json(Str *s, const InfoHashes *h) {
    put_json(s, "sshs_model_hash", h->model_said, h->model);
    put_json(s, "sshs_legacy_hash", h->legacy_said, h->legacy);
}
