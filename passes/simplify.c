/* simplify: constants folded, equal nodes merged, nodes that change nothing removed.
 *
 * Needs: a verified graph. Guarantees: values of outputs are the same bits, except that a
 * scaling by one no longer turns a signalling NaN into a quiet one. Ends because it is one
 * walk; a second run changes nothing, since every rule looks through what the first
 * already rewrote. Random draws and effects are left alone. */
#include "ops/ops.h"
#include "passes/private.h"

#include <string.h>

enum { MOST_FOLDED = 1 << 20 /* elements of one constant that folding may make */ };

typedef struct Entry { /* a node or constant that was emitted, by its key */
    const char *key;
    const Id *out;
    int n_out;
} Entry;

typedef struct Simplify {
    const Graph *old;
    Graph *g;
    Id *map;
    Entry *entry; /* hash table */
    uint32_t n_entry, cap_entry;
    Str key; /* reused */
    uint32_t folded, merged, removed;
} Simplify;

/* ---- table of what was emitted ---- */

static uint32_t slot_of(const Simplify *s, const char *key) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (const char *c = key; *c; c++) h = (h ^ (uint8_t)*c) * 16777619u;
    uint32_t i = h & (s->cap_entry - 1);
    while (s->entry[i].key && strcmp(s->entry[i].key, key))
        i = (i + 1) & (s->cap_entry - 1);
    return i;
}

static const Entry *seen(const Simplify *s, const char *key) {
    if (!s->cap_entry) return NULL;
    const Entry *x = &s->entry[slot_of(s, key)];
    return x->key ? x : NULL;
}

static void remember(Simplify *s, const char *key, const Id *out, int n_out) {
    if (2 * (s->n_entry + 1) > s->cap_entry) {
        Entry *old = s->entry;
        uint32_t n = s->cap_entry;
        s->cap_entry = n ? 2 * n : 256;
        s->entry = NEW(s->g->arena, Entry, s->cap_entry);
        for (uint32_t i = 0; i < n; i++)
            if (old[i].key) s->entry[slot_of(s, old[i].key)] = old[i];
    }
    s->entry[slot_of(s, key)] = (Entry){arena_strdup(s->g->arena, key), out, n_out};
    s->n_entry++;
}

static const char *node_key(Simplify *s, const Op *op, const void *attrs, int n,
                            const Id *in) {
    s->key.n = 0;
    str_add(&s->key, op->name);
    for (int i = 0; i < n; i++) str_printf(&s->key, " %u", in[i]);
    if (op->attrs) attrs_print(&s->key, op, attrs);
    return s->key.s;
}

/* ---- constants ---- */

static const char *const_key(Simplify *s, const Value *v) {
    s->key.n = 0;
    str_add(&s->key, "const ");
    type_print(&s->key, &v->type);
    int64_t n = type_count(&v->type);
    if (n > 64) { /* compared in full below; the key only has to be likely */
        uint64_t h = 14695981039346656037u;
        const unsigned char *b = (const unsigned char *)v->data;
        for (int64_t i = 0; i < n * 8; i++) h = (h ^ b[i]) * 1099511628211u;
        str_printf(&s->key, " #%016llx", (unsigned long long)h);
    } else {
        for (int64_t i = 0; i < n; i++) {
            uint64_t bits;
            memcpy(&bits, &v->data[i], sizeof bits);
            str_printf(&s->key, " %llx", (unsigned long long)bits);
        }
    }
    return s->key.s;
}

/* The constant that already has these bits, or v itself. */
static Id one_const(Simplify *s, Id id) {
    const Value *v = s->g->value[id];
    const char *key = const_key(s, v);
    const Entry *x = seen(s, key);
    if (x) {
        const Value *w = s->g->value[x->out[0]];
        size_t bytes = (size_t)type_count(&v->type) * sizeof(double);
        return w->batch == v->batch && !memcmp(w->data, v->data, bytes) ? w->id : id;
    }
    Id *out = NEW(s->g->arena, Id, 1);
    *out = id;
    remember(s, key, out, 1);
    return id;
}

static void to_tensor(Arena *a, const Value *v, Tensor *t) {
    int64_t n = type_count(&v->type);
    void *data = arena_alloc(a, (size_t)n + 8, dtype_size(v->type.dtype));
    if (dtype_is_float(v->type.dtype)) convert(data, v->type.dtype, v->data, F64, n);
    for (int64_t i = 0; i < n; i++) {
        if (v->type.dtype == I64) ((int64_t *)data)[i] = (int64_t)v->data[i];
        if (v->type.dtype == I32) ((int32_t *)data)[i] = (int32_t)v->data[i];
        if (v->type.dtype == U8) ((uint8_t *)data)[i] = (uint8_t)v->data[i];
    }
    *t = (Tensor){data, &v->type};
}

static bool foldable(const Simplify *s, const Op *op, int n, const Id *in) {
    if (op->flags & (OP_RANDOM | OP_NO_FOLD)) return false;
    if (!n && !(op->flags & OP_CONST)) return false;
    for (int i = 0; i < n; i++)
        if (in[i] == NO_ID || s->g->value[in[i]]->role != ROLE_CONST) return false;
    return true;
}

static bool small(const Simplify *s, const Node *n) {
    for (int o = 0; o < n->n_out; o++)
        if (type_count(&s->old->value[n->out[o]]->type) > MOST_FOLDED) return false;
    return true;
}

/* Runs the node's reference kernel and enters its outputs as constants. */
static bool fold(Simplify *s, const Node *n, const Id *in, Err *e) {
    Arena *a = arena_new();
    Tensor *t = NEW(a, Tensor, n->n_in + 1), *out = NEW(a, Tensor, n->n_out);
    for (int i = 0; i < n->n_in; i++) to_tensor(a, s->g->value[in[i]], &t[i]);
    Sig sig = node_sig(a, s->old, n);
    Err why = {0};
    if (!op_run(a, &sig, t, out, &why)) {
        arena_free(a);
        return err_at(e, n->at.loc, "%s of constants: %s", n->op->name, why.text);
    }
    for (int o = 0; o < n->n_out; o++) {
        const Value *v = s->old->value[n->out[o]];
        int64_t count = type_count(&v->type);
        double *data = NEW(a, double, count);
        convert(data, F64, out[o].data, v->type.dtype, count);
        s->g->at = n->at;
        Id id = graph_const(s->g, v->type, data);
        s->g->value[id]->batch = v->batch;
        s->map[v->id] = one_const(s, id);
    }
    arena_free(a);
    s->folded++;
    return true;
}

/* ---- nodes that change nothing ---- */

static const Node *maker(const Simplify *s, Id v, const Op *op) {
    Id n = s->g->value[v]->node;
    return n != NO_ID && s->g->node[n]->op == op ? s->g->node[n] : NULL;
}

/* Every value of `from` is a value of `to`. */
static bool holds(DType to, DType from) {
    if (to == from) return true;
    if (to == F64) return from != I64;
    if (to == F32) return from == F16 || from == BF16 || from == U8;
    return (to == I64 && (from == I32 || from == U8)) || (to == I32 && from == U8);
}

static bool is_one(const Simplify *s, Id id) {
    const Value *v = s->g->value[id];
    if (v->role != ROLE_CONST) return false;
    for (int64_t i = 0; i < type_count(&v->type); i++)
        if (v->data[i] != 1) return false;
    return true;
}

/* x * 1, 1 * x, x / 1: the input that the formula yields unchanged, or NO_ID. */
static Id scaled_by_one(const Simplify *s, const Node *n, const Id *in) {
    const char *f = ((const PointwiseAttrs *)n->attrs)->f;
    static const char *const alone[] = {"x0", "x0 * 1", "1 * x0", "x0 / 1", NULL};
    int keep = -1;
    for (int i = 0; n->n_in == 1 && alone[i]; i++)
        if (!strcmp(f, alone[i])) keep = 0;
    bool product = n->n_in == 2 && !strcmp(f, "x0 * x1");
    bool quotient = n->n_in == 2 && !strcmp(f, "x0 / x1");
    if ((product || quotient) && is_one(s, in[1]))
        keep = 0;
    else if (product && is_one(s, in[0]))
        keep = 1;
    if (keep < 0) return NO_ID;
    const Value *y = s->old->value[n->out[0]];
    return type_equal(&s->g->value[in[keep]]->type, &y->type) ? in[keep] : NO_ID;
}

/* Replaces in[0] by what lies behind a view, cast or detach that makes no difference.
 * Returns the value that the node is, or NO_ID: it stays a node (with the new input). */
static Id look_through(Simplify *s, const Node *n, Id *in) {
    const Type *type = &s->old->value[n->out[0]]->type;
    if (n->op == &op_pointwise) return scaled_by_one(s, n, in);
    if (n->op != &op_view && n->op != &op_cast && n->op != &op_detach) return NO_ID;
    const Node *before = maker(s, in[0], n->op);
    if (n->op == &op_detach) return before ? in[0] : NO_ID;
    if (before) {
        DType mid = s->g->value[in[0]]->type.dtype,
              first = s->g->value[before->in[0]]->type.dtype;
        bool exact = n->op == &op_view || holds(mid, first);
        if (exact) in[0] = before->in[0];
    }
    return type_equal(&s->g->value[in[0]]->type, type) ? in[0] : NO_ID;
}

/* ---- the walk ---- */

static bool emit(Simplify *s, const Node *n, const Id *in, Err *e) {
    bool unique = n->op->flags & (OP_RANDOM | OP_NO_FOLD);
    const char *key = unique ? NULL : node_key(s, n->op, n->attrs, n->n_in, in);
    const Entry *x = key ? seen(s, key) : NULL;
    if (x) {
        for (int o = 0; o < n->n_out; o++) s->map[n->out[o]] = x->out[o];
        s->merged++;
        return true;
    }
    s->g->at = n->at;
    Node *c = graph_add(s->g, n->op, n->attrs, n->n_in, in, e);
    if (!c) return false;
    for (int o = 0; o < n->n_out; o++) {
        const Value *from = s->old->value[n->out[o]];
        Value *to = s->g->value[c->out[o]];
        to->batch = from->batch;
        to->name = from->name;
        to->loc = from->loc;
        s->map[from->id] = to->id;
    }
    if (key) remember(s, key, c->out, c->n_out);
    return true;
}

static bool walk(Simplify *s, const Node *n, Err *e) {
    Id few[16], *in = n->n_in <= 16 ? few : NEW(s->g->arena, Id, n->n_in);
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == NO_ID ? NO_ID : s->map[n->in[i]];
    if (foldable(s, n->op, n->n_in, in) && small(s, n)) return fold(s, n, in, e);
    Id same = look_through(s, n, in);
    if (same == NO_ID) return emit(s, n, in, e);
    s->map[n->out[0]] = same;
    s->removed++;
    return true;
}

Graph *pass_simplify(Graph *g, Options *opt, Err *e) {
    (void)opt;
    Simplify s = {.old = g};
    s.g = graph_rewrite(g, &s.map);
    for (uint32_t i = 0; i < g->n_value; i++)
        if (g->value[i]->role == ROLE_CONST) s.map[i] = one_const(&s, s.map[i]);
    bool ok = true;
    for (uint32_t k = 0; ok && k < g->n_node; k++) ok = walk(&s, g->node[k], e);
    str_free(&s.key);
    if (!ok) return NULL;
    s.g->at = g->at;
    graph_copy_outputs(s.g, g, s.map);
    report(s.g, "simplify: %u nodes folded, %u merged, %u removed; %u left", s.folded,
           s.merged, s.removed, s.g->n_node);
    return s.g;
}
