/* Metadata files, as sd-scripts' tagging tools write them. Entries that nothing here reads
 * are left alone: those tools add their own. */
#include "io/dataset_records.h"

#include <string.h>

#include "io/file.h"
#include "io/json_tree.h"

static const char *const image_ends[] = {".png", ".jpg", ".jpeg", ".webp", ".bmp",
                                         ".PNG", ".JPG", ".JPEG", ".WEBP", ".BMP"};

bool is_image_name(const char *path) {
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    const char *dot = strrchr(name, '.');
    if (!dot || *name == '.') return false; /* hidden: ._x.png of macOS is none */
    for (size_t i = 0; i < COUNT(image_ends); i++)
        if (!strcmp(dot, image_ends[i])) return true;
    return false;
}

const char *record_completed(Arena *a, const char *path) {
    if (is_image_name(path) || file_exists(path)) return path;
    for (size_t i = 0; i < COUNT(image_ends); i++) {
        const char *full = arena_printf(a, "%s%s", path, image_ends[i]);
        if (file_exists(full)) return full;
    }
    return path;
}

static bool full_path(Arena *a, const SubsetConfig *c, const char *key, Loc at,
                      const char **out, Err *e) {
    if (!*key) return err_at(e, at, "a picture's path is empty");
    if (*key != '/' && !c->image_dir)
        return err_at(e, at, "'%s' is a relative path, and the subset has no image_dir",
                      key);
    *out = record_completed(
        a, *key == '/' ? key : arena_printf(a, "%s/%s", c->image_dir, key));
    return true;
}

/* ---- one entry ---- */
static bool text_field(const Toml *t, const char *key, const char **out, Err *e) {
    const Toml *v = toml_get(t, key);
    *out = v ? v->text : NULL;
    return !v || v->kind == TOML_TEXT ||
           err_at(e, v->loc, "'%s' must be a text: got %s", key,
                  toml_kind_name(v->kind));
}

static bool size_field(const Toml *t, const char *key, int step, int *w, int *h,
                       Err *e) {
    const Toml *v = toml_get(t, key);
    *w = *h = 0;
    if (!v) return true;
    bool pair = v->kind == TOML_ARRAY && v->n == 2 && v->item[0].kind == TOML_INT &&
                v->item[1].kind == TOML_INT;
    for (int i = 0; pair && i < 2; i++)
        pair =
            v->item[i].i >= step && v->item[i].i <= 1 << 20 && v->item[i].i % step == 0;
    if (!pair)
        return err_at(e, v->loc, "'%s' must be [width, height]%s", key,
                      step > 1 ? ", multiples of 8" : "");
    *w = (int)v->item[0].i, *h = (int)v->item[1].i;
    return true;
}

static bool read_record(Arena *a, const SubsetConfig *c, const char *key, Loc at,
                        const Toml *t, Record *r, Err *e) {
    const char *caption, *tags;
    r->loc = at;
    if (!full_path(a, c, key, at, &r->path, e) ||
        !text_field(t, "caption", &caption, e) || !text_field(t, "tags", &tags, e) ||
        !size_field(t, "image_size", 1, &r->w, &r->h, e) ||
        !size_field(t, "train_resolution", 8, &r->bucket_w, &r->bucket_h, e))
        return false;
    if (r->bucket_w > RESO_MAX || r->bucket_h > RESO_MAX)
        return err_at(e, at, "'train_resolution' is above %d", RESO_MAX);
    bool both = caption && tags && *tags;
    const char *all =
        both      ? arena_printf(a, "%s%s%s", caption, c->caption.separator, tags)
        : caption ? caption
                  : tags;
    r->caption =
        all ? caption_from_text(a, all, strlen(all), c->caption.wildcard) : NULL;
    return true;
}

/* ---- the file ---- */
static bool read_entry(Arena *a, const SubsetConfig *c, const Toml *t, bool lines,
                       Record *r, Err *e) {
    if (t->kind != TOML_TABLE)
        return err_at(e, t->loc, "a picture's entry must be an object: got %s",
                      toml_kind_name(t->kind));
    if (!lines) return read_record(a, c, t->key, t->key_loc, t, r, e);
    const Toml *path = toml_get(t, "image_path");
    if (!path || path->kind != TOML_TEXT)
        return err_at(e, path ? path->loc : t->loc,
                      "want an 'image_path' that is a text");
    return read_record(a, c, path->text, path->loc, t, r, e);
}

bool records_read(Arena *a, const SubsetConfig *c, Record **out, int *n, Err *e) {
    const Source *src =
        file_source(a, c->metadata_file, JSON_TREE_BYTES_MAX, "a metadata file", e);
    if (!src) return false;
    bool lines = ends_with(c->metadata_file, ".jsonl");
    const Toml *top = lines ? json_lines(a, src, e) : json_tree(a, src, e);
    if (!top) return false;
    if (!lines && top->kind != TOML_TABLE)
        return err_at(e, top->loc,
                      "a metadata file must be an object keyed by path: got %s",
                      toml_kind_name(top->kind));
    *out = NEW(a, Record, top->n);
    for (*n = 0; *n < top->n; ++*n)
        if (!read_entry(a, c, &top->item[*n], lines, &(*out)[*n], e)) return false;
    return true;
}
