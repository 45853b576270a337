/* Prompts from a file: lines, or sd-scripts' tables (see prompt_line.h). What a table says
 * that is no option of a prompt, or of another type, is a located error: nothing of it is
 * left out in silence. */
#include <math.h>
#include <string.h>

#include "graph/lang/yaml.h"
#include "io/file.h"
#include "io/json_tree.h"
#include "io/prompt_line.h"

enum { MOST_STEPS = 1000, MOST_SIDE = 1 << 20 };

typedef struct Reader {
    Arena *arena;
    bool while_training;
    PromptLine *out;
    int n, cap;
    Err *e;
} Reader;

static bool wrong(Reader *r, const Toml *v, const char *want) {
    return err_at(r->e, v->loc, "'%s' is %s, want %s", v->key, toml_kind_name(v->kind),
                  want);
}

static bool text(Reader *r, const Toml *v, const char **out) {
    if (v->kind != TOML_TEXT) return wrong(r, v, "a text");
    *out = v->text;
    return true;
}

static bool whole(Reader *r, const Toml *v, int64_t least, int64_t most, int64_t *out) {
    if (v->kind != TOML_INT) return wrong(r, v, "an integer");
    *out = v->i;
    return (v->i >= least && v->i <= most) ||
           err_at(r->e, v->loc, "'%s' is %lld, want %lld … %lld", v->key,
                  (long long)v->i, (long long)least, (long long)most);
}

static bool take_prompt(Reader *r, const Toml *v, PromptLine *p) {
    return text(r, v, &p->prompt);
}
static bool take_negative(Reader *r, const Toml *v, PromptLine *p) {
    return text(r, v, &p->negative);
}
static bool take_sampler(Reader *r, const Toml *v, PromptLine *p) {
    return text(r, v, &p->sampler);
}
static bool take_width(Reader *r, const Toml *v, PromptLine *p) {
    return whole(r, v, 1, MOST_SIDE, &p->w);
}
static bool take_height(Reader *r, const Toml *v, PromptLine *p) {
    return whole(r, v, 1, MOST_SIDE, &p->h);
}
static bool take_steps(Reader *r, const Toml *v, PromptLine *p) {
    return whole(r, v, 1, MOST_STEPS, &p->steps);
}
static bool take_seed(Reader *r, const Toml *v, PromptLine *p) {
    p->n_seed = 1;
    return whole(r, v, 0, INT64_MAX, &p->seed[0]);
}
static bool take_scale(Reader *r, const Toml *v, PromptLine *p) {
    if (v->kind != TOML_INT && v->kind != TOML_FLOAT) return wrong(r, v, "a number");
    p->scale = v->x;
    return (v->x >= 0 && v->x <= 1000) ||
           err_at(r->e, v->loc, "'%s' is %g, want 0 … 1000", v->key, v->x);
}

static const struct {
    const char *name;
    bool (*take)(Reader *r, const Toml *v, PromptLine *p);
} keys[] = {{"prompt", take_prompt},      {"negative_prompt", take_negative},
            {"width", take_width},        {"height", take_height},
            {"sample_steps", take_steps}, {"scale", take_scale},
            {"seed", take_seed},          {"sample_sampler", take_sampler}};

static bool unknown(Reader *r, const Toml *v) {
    const char *names[COUNT(keys) + 1] = {0};
    for (size_t i = 0; i < COUNT(keys); i++) names[i] = keys[i].name;
    return err_at(r->e, v->key_loc, "no key '%.60s' in a prompt%s", v->key,
                  did_you_mean(r->arena, v->key, names));
}

/* Over what p says already. nested: entries of this name are no option, but further
 * tables. */
static bool take_table(Reader *r, const Toml *table, const char *nested,
                       PromptLine *p) {
    for (int i = 0; i < table->n; i++) {
        const Toml *v = &table->item[i];
        if (nested && !strcmp(v->key, nested)) continue;
        size_t k = 0;
        while (k < COUNT(keys) && strcmp(keys[k].name, v->key)) k++;
        if (k == COUNT(keys)) return unknown(r, v);
        if (!keys[k].take(r, v, p)) return false;
    }
    return true;
}

static void add(Reader *r, PromptLine *p) {
    if (!p->prompt) p->prompt = "";
    PUSH(r->arena, r->out, r->n, r->cap, *p);
}

/* [prompt] says what all have in common, each [[prompt.subset]] is one. */
static bool from_toml(Reader *r, const char *path) {
    const Toml *top = toml_read(r->arena, path, r->e);
    if (!top) return false;
    for (int i = 0; i < top->n; i++)
        if (strcmp(top->item[i].key, "prompt"))
            return err_at(r->e, top->item[i].key_loc,
                          "no table '%.60s' in a file of prompts, want [prompt] and "
                          "[[prompt.subset]]",
                          top->item[i].key);
    const Toml *all = toml_get(top, "prompt");
    if (!all || all->kind != TOML_TABLE)
        return err_at(r->e, all ? all->loc : top->loc,
                      "'%s' has no table [prompt] with [[prompt.subset]]", path);
    const Toml *subset = toml_get(all, "subset");
    if (!subset || subset->kind != TOML_ARRAY || !subset->n)
        return err_at(r->e, subset ? subset->loc : all->loc,
                      "[prompt] has no [[prompt.subset]]");
    PromptLine common = prompt_unset();
    if (!take_table(r, all, "subset", &common)) return false;
    for (int i = 0; i < subset->n; i++) {
        PromptLine p = common;
        if (subset->item[i].kind != TOML_TABLE)
            return err_at(r->e, subset->item[i].loc, "'subset' holds %s, want tables",
                          toml_kind_name(subset->item[i].kind));
        if (!take_table(r, &subset->item[i], NULL, &p)) return false;
        add(r, &p);
    }
    return true;
}

/* A list of lines and of tables. */
static bool from_json(Reader *r, const char *path) {
    const Source *src = source_read(r->arena, path, r->e);
    const Toml *top = src ? json_tree(r->arena, src, r->e) : NULL;
    if (!top) return false;
    if (top->kind != TOML_ARRAY)
        return err_at(r->e, top->loc, "got %s, want a list of prompts",
                      toml_kind_name(top->kind));
    for (int i = 0; i < top->n; i++) {
        const Toml *v = &top->item[i];
        PromptLine p = prompt_unset();
        if (v->kind == TOML_TEXT)
            prompt_line(r->arena, v->text, r->while_training, &p);
        else if (v->kind != TOML_TABLE)
            return err_at(r->e, v->loc, "got %s, want a prompt: a text or a table",
                          toml_kind_name(v->kind));
        else if (!take_table(r, v, NULL, &p))
            return false;
        add(r, &p);
    }
    return true;
}

static bool from_lines(Reader *r, const char *path) {
    void *map;
    size_t n;
    if (!file_map(path, &map, &n, r->e)) return false;
    const char **line = prompt_lines(r->arena, map, n);
    file_unmap(map, n);
    for (; *line; line++) {
        PromptLine p;
        prompt_line(r->arena, *line, r->while_training, &p);
        add(r, &p);
    }
    return true;
}

bool prompt_file(Arena *a, const char *path, bool while_training, PromptLine **out,
                 int *n, Err *e) {
    Reader r = {.arena = a, .while_training = while_training, .e = e};
    bool ok = ends_with(path, ".toml")   ? from_toml(&r, path)
              : ends_with(path, ".json") ? from_json(&r, path)
                                         : from_lines(&r, path);
    *out = r.out;
    *n = r.n;
    return ok && (r.n > 0 || err_fail(e, "'%s' has no prompts", path));
}
