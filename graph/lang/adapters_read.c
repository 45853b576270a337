/* Arguments of a module from the tensors that a file holds of it (language.md section 7,
 * "Loading"). Nothing here knows an adapter: a `save:` line leads from a key to a node or
 * to an argument, and the shapes that the node declares name the arguments. */
#include "graph/lang/adapters_private.h"

#include <math.h>
#include <string.h>

typedef struct Reading {
    Arena *arena;
    const Doc *doc;
    const YNode *save; /* of the scheme */
    Args *out;
} Reading;

static const StoredTensor *stored_find(const StoredTensor *t, int n, const char *key) {
    for (int i = 0; i < n; i++)
        if (!strcmp(t[i].key, key)) return &t[i];
    return NULL;
}

/* "$rank" -> "rank", if the adapter declares it; else NULL. */
static const char *lone_argument(const Reading *r, const YNode *slot) {
    const char *text = slot && slot->kind == Y_SCALAR ? slot->s : "";
    const YNode *args = yaml_get(r->doc->root, "args");
    if (text[0] != '$' || !args || !yaml_get(args, text + 1)) return NULL;
    return text + 1;
}

/* A number as what the argument's declaration has: a switch, a whole number, any. */
static void give_number(Reading *r, const char *name, double x) {
    const YNode *decl = yaml_get(yaml_get(r->doc->root, "args"), name);
    const char *text = decl->kind == Y_SCALAR ? decl->s : "";
    const bool flag =
        !strcmp(text, "bool") || !strcmp(text, "true") || !strcmp(text, "false");
    const bool whole = x == floor(x) && fabs(x) < 1e15;
    args_set(r->out, name,
             flag    ? val_bool(x != 0)
             : whole ? val_int((int64_t)x)
                     : val_float(x));
}

/* Lists in a shape that stand for none or two dimensions. */
static bool is_window(const YNode *item) {
    return item->kind == Y_SCALAR &&
           (!strcmp(item->s, "$taps") || !strcmp(item->s, "$point"));
}

/* Dimensions of a `shape:` that are an argument alone: from the left up to a window, whose
 * own are left open, and from the right down to it. */
static void read_shape(Reading *r, const YNode *shape, const Type *t) {
    for (int i = 0; i < shape->n && i < t->rank && !is_window(shape->item[i]); i++) {
        const char *name = lone_argument(r, shape->item[i]);
        if (name) give_number(r, name, (double)t->dim[i]);
    }
    for (int i = shape->n - 1, d = t->rank - 1;
         i >= 0 && d >= 0 && !is_window(shape->item[i]); i--, d--) {
        const char *name = lone_argument(r, shape->item[i]);
        if (name) give_number(r, name, (double)t->dim[d]);
    }
}

/* The node that owns the tensor `path`: its key, or its key and the input's. */
static const YNode *owner(const Doc *d, const char *path) {
    const YNode *nodes = yaml_get(d->root, "nodes");
    for (int i = 0; nodes && i < nodes->n; i++) {
        const size_t n = strlen(nodes->key[i]->s);
        if (!strncmp(path, nodes->key[i]->s, n) &&
            (!path[n] || (path[n] == '.' && !strchr(path + n + 1, '.'))))
            return nodes->item[i];
    }
    return NULL;
}

static void read_tensor(Reading *r, const char *path, const Type *t) {
    const YNode *node = owner(r->doc, path);
    if (!node || node->kind != Y_MAP) return;
    const YNode *shape = yaml_get(node, "shape"), *out = yaml_get(node, "out");
    const char *name = out && t->rank ? lone_argument(r, out) : NULL;
    if (shape && shape->kind == Y_LIST) read_shape(r, shape, t);
    if (name) give_number(r, name, (double)t->dim[0]); /* weights: [out, ...] */
}

static void read_scalar(Reading *r, const char *key, const YNode *slot, double x) {
    const YNode *args = yaml_get(r->doc->root, "args");
    const char *name = lone_argument(r, slot);
    if (!name && args && yaml_get(args, key)) name = key;
    if (name) give_number(r, name, x);
}

bool module_args_read(Arena *a, const Doc *adapter, const char *scheme,
                      const StoredTensor *t, int n, Args *out, Err *e) {
    const YNode *save = yaml_get(adapter->root, "save"),
                *absent = yaml_get(adapter->root, "absent");
    Reading r = {a, adapter, save ? yaml_get(save, scheme) : NULL, out};
    if (!r.save)
        return err_at(e, adapter->root->loc,
                      "adapter '%s' has no names under 'save: %s'", adapter->name,
                      scheme);
    for (int i = 0; i < r.save->n; i++) {
        const YNode *slot = r.save->item[i];
        const StoredTensor *x = stored_find(t, n, r.save->key[i]->s);
        if (!x || slot->kind != Y_SCALAR) continue;
        if (strchr(slot->s, '$'))
            read_scalar(&r, x->key, slot, x->number);
        else
            read_tensor(&r, slot->s, &x->type);
    }
    Args *bound = args_new(a); /* with defaults */
    const char *what = arena_printf(a, "adapter '%s'", adapter->name);
    if (absent && !args_bind(a, yaml_get(adapter->root, "args"), out, what,
                             adapter->root->loc, bound, e))
        return false;
    Env env = {.args = bound};
    for (int i = 0; absent && i < absent->n; i++) {
        const char *key = absent->key[i]->s;
        Val v;
        double x;
        if (stored_find(t, n, key)) continue;
        if (!slot_eval(a, absent->item[i], &env, &v, e)) return false;
        if (val_number(&v, &x)) read_scalar(&r, key, yaml_get(r.save, key), x);
    }
    return true;
}

/* May a file lack this line of `save:`? */
static bool may_lack(const Doc *d, const char *key, const YNode *slot) {
    const YNode *absent = yaml_get(d->root, "absent");
    if (absent && yaml_get(absent, key)) return true;
    const YNode *node = slot->kind == Y_SCALAR ? owner(d, slot->s) : NULL;
    const YNode *shared = node && node->kind == Y_MAP ? yaml_get(node, "shared") : NULL;
    return node && node->kind == Y_MAP && (yaml_get(node, "when") || shared);
}

bool module_keys_fit(const Doc *adapter, const char *scheme, const StoredTensor *t,
                     int n) {
    const YNode *save = yaml_get(adapter->root, "save"),
                *map = save ? yaml_get(save, scheme) : NULL;
    int known = 0;
    for (int i = 0; map && i < map->n; i++) {
        const char *key = map->key[i]->s;
        if (stored_find(t, n, key))
            known++;
        else if (!may_lack(adapter, key, map->item[i]))
            return false;
    }
    return map && known == n;
}
