/* Presets: arguments by block. A value is one for all blocks, a list with one entry per
 * block, or parts {from, to, is} that together cover every block once. */
#include "graph/lang/schema.h"
#include <string.h>

void preset_init(Arena *a, const Doc *doc, const YNode *blocks, Preset *p) {
    const char **name = NEW(a, const char *, blocks->n + 1);
    p->doc = doc;
    p->n_block = blocks->n;
    p->block = name;
    p->at = NEW(a, Args *, blocks->n + 1);
    for (int i = 0; i < blocks->n; i++) {
        name[i] = blocks->item[i]->s;
        p->at[i] = args_new(a);
    }
}

/* One argument of a preset while its values are spread over the blocks. */
typedef struct Spread {
    Arena *arena;
    const char *what, *name;
    Preset *p;
    Val *val; /* per block; VAL_NONE: not set */
    Err *e;
} Spread;

/* In a part, the bare name i is the block's number, counted from `from`. */
static void bind_index(Expr *x) {
    if (x->kind == EX_NAME && !strcmp(x->name, "i")) x->kind = EX_ARG;
    for (int k = 0; k < x->n; k++) bind_index(x->arg[k]);
}

static int block_index(Spread *s, const YNode *n) {
    for (int i = 0; i < s->p->n_block; i++)
        if (!strcmp(s->p->block[i], n->s)) return i;
    err_at(s->e, n->loc, "no block '%.60s'%s", n->s,
           did_you_mean(s->arena, n->s, s->p->block));
    return -1;
}

static bool set_block(Spread *s, int block, Val v, Loc loc) {
    if (s->val[block].kind != VAL_NONE)
        return err_at(s->e, loc, "%s: '%s' is given twice for block %s", s->what,
                      s->name, s->p->block[block]);
    s->val[block] = v;
    return true;
}

static bool spread_list(Spread *s, const Val *list, int from, int to, const char *of,
                        Loc loc) {
    if (list->list.n != to - from + 1)
        return err_at(s->e, loc, "%s: '%s' has %d values for %d blocks%s", s->what,
                      s->name, list->list.n, to - from + 1, of);
    for (int i = from; i <= to; i++)
        if (!set_block(s, i, list->list.item[i - from], loc)) return false;
    return true;
}

static bool spread_part(Spread *s, const YNode *part) {
    const YNode *is = yaml_get(part, "is"), *to_name = yaml_get(part, "to");
    int from = block_index(s, yaml_get(part, "from")),
        to = from < 0 ? -1 : block_index(s, to_name);
    if (to < 0) return false;
    if (to < from)
        return err_at(s->e, to_name->loc, "block %s stands before %s", s->p->block[to],
                      s->p->block[from]);
    Env env = {.args = args_new(s->arena)};
    args_set((Args *)env.args, "i", val_int(0));
    Val v;
    if (is->kind == Y_LIST)
        return slot_eval(s->arena, is, &env, &v, s->e) &&
               spread_list(s, &v, from, to, " of the part", is->loc);
    Expr *x = expr_parse(s->arena, is, s->e);
    if (!x) return false;
    bind_index(x);
    for (int i = from; i <= to; i++) {
        args_set((Args *)env.args, "i", val_int(i - from));
        if (!expr_eval(s->arena, x, &env, &v, s->e) || !set_block(s, i, v, is->loc))
            return false;
    }
    return true;
}

static bool spread_parts(Spread *s, const YNode *list) {
    for (int i = 0; i < list->n; i++) {
        if (list->item[i]->kind != Y_MAP)
            return err_at(s->e, list->item[i]->loc,
                          "%s: '%s' mixes parts {from, to, is} with single values",
                          s->what, s->name);
        if (!spread_part(s, list->item[i])) return false;
    }
    for (int i = 0; i < s->p->n_block; i++)
        if (s->val[i].kind == VAL_NONE)
            return err_at(s->e, list->loc, "%s: '%s' has no value for block %s",
                          s->what, s->name, s->p->block[i]);
    return true;
}

static bool has_part(const YNode *n) {
    for (int i = 0; n->kind == Y_LIST && i < n->n; i++)
        if (n->item[i]->kind == Y_MAP) return true;
    return false;
}

static bool spread(Spread *s, const YNode *n, const Args *args) {
    Env env = {.args = args};
    Val v;
    if (has_part(n)) return spread_parts(s, n);
    if (!slot_eval(s->arena, n, &env, &v, s->e)) return false;
    if (v.kind == VAL_LIST && !v.list.n && n->kind == Y_SCALAR) return true;
    if (v.kind == VAL_LIST)
        return spread_list(s, &v, 0, s->p->n_block - 1, "", value_loc(n, args));
    for (int i = 0; i < s->p->n_block; i++) s->val[i] = v;
    return true;
}

bool preset_values(Arena *a, const YNode *values, const char *what, const Args *args,
                   Preset *p, Err *e) {
    for (int i = 0; i < values->n; i++) {
        if (!strcmp(values->key[i]->s, "use")) continue; /* a preset inside a recipe */
        Spread s = {a, what, values->key[i]->s, p, NEW(a, Val, p->n_block + 1), e};
        if (!spread(&s, values->item[i], args)) return false;
        for (int b = 0; b < p->n_block; b++)
            if (s.val[b].kind != VAL_NONE) args_set(p->at[b], s.name, s.val[b]);
    }
    return true;
}

bool preset_eval(Arena *a, const Doc *doc, Preset *out, Err *e) {
    preset_init(a, doc, yaml_get(doc->root, "blocks"), out);
    const char *what = arena_printf(a, "preset '%s'", doc->name);
    return preset_values(a, yaml_get(doc->root, "values"), what, args_new(a), out, e);
}
