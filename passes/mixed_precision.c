/* mixed-precision: which values are stored in a half type.
 *
 * Needs: a verified forward graph. Guarantees: graph outputs keep their types; integers, f64
 * and everything that is worked out from weights alone (a new weight of an adapter, its
 * scale) keep theirs; of the values that depend on a sample or a draw,
 *   products (OP_LOW) are stored in half, whatever they read;
 *   rows that need f32 (OP_WIDE: sums, losses, draws, tables of the noise schedule) give f32;
 *   the others follow their inputs: half only if all wide operands are, so noise and noisy
 *   latents are formed in f32. A formula that only products read is stored in half, one that
 *   only wide rows read in f32.
 * The policy casts on edges. No cast becomes a node where a kernel reads or stores the other
 * type itself ("absorbed"), and all do; arithmetic is f32 everywhere, so an absorbed cast of
 * an operand is not even a rounding. A frozen f32 weight of products is rounded once, when it
 * is bound ("folded"); one that the file has in 16 bits stays as it is, also where the other
 * half type is asked for. Casts that stay are listed. Ends: one walk; a second one finds
 * every type as it wants it. */
#include "ops/ops.h"
#include "passes/private.h"

#include <string.h>

typedef enum CastFate { FOLDED, ABSORBED, LEFT, CAST_FATES } CastFate;

typedef struct Mixed {
    const Graph *old;
    Graph *g;
    Id *map;
    DType half;
    bool *runs;      /* per old value: depends on a sample or a draw */
    bool *low_only;  /* per old value: products read it, and nothing else does */
    bool *wide_only; /* the same of rows that need f32 */
    bool *exact;     /* per old value: stored in f32, but rows of a half table */
    uint8_t *noted;  /* per old value: bits of fates that were counted */
    uint32_t n[CAST_FATES];
    uint64_t bytes[CAST_FATES]; /* that a cast of its own would write */
    Err *e;
} Mixed;

static DType half_of(Precision p) {
    return p == PRECISION_BF16 ? BF16 : F16;
}

/* ---- what is known of the old graph ---- */

static bool floating(const Graph *g, const Node *n, int i) {
    if (n->in[i] == NO_ID || !dtype_is_float(g->value[n->in[i]]->type.dtype))
        return false;
    return !(op_in(n->op, i)->flags & IN_INDEX);
}

static bool *find_runs(const Graph *g) {
    bool *runs = NEW(g->arena, bool, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++) runs[i] = g->value[i]->role == ROLE_INPUT;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        bool any = n->op->flags & OP_RANDOM;
        for (int i = 0; i < n->n_in; i++) any |= floating(g, n, i) && runs[n->in[i]];
        for (int o = 0; o < n->n_out; o++)
            runs[n->out[o]] = any || g->value[n->out[o]]->batch;
    }
    return runs;
}

/* Rows of a frozen table are taken as they are: the table's type is theirs. */
static bool takes_rows(const Graph *g, const Node *n) {
    return n->op == &op_embedding && g->value[n->in[1]]->role == ROLE_FROZEN;
}

/* Does the node read its operands as a product of this step? */
static bool reads_low(const Mixed *m, const Node *n) {
    if (!m->runs[n->out[0]]) return false;
    return n->op->flags & OP_LOW || takes_rows(m->old, n);
}

enum { READ_LOW = 1, READ_WIDE = 2, READ_ELSE = 4 };

static void find_readers(Mixed *m) {
    const Graph *g = m->old;
    uint8_t *read = NEW(g->arena, uint8_t, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_output; i++) read[g->output[i].value] = READ_ELSE;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Param *p = g->value[i]->param;
        if (p && p->init.kind == INIT_VALUE) read[p->init.value] = READ_ELSE;
    }
    for (uint32_t k = g->n_node; k-- > 0;) {
        const Node *n = g->node[k];
        uint8_t how = n->op->flags & OP_VIEW   ? read[n->out[0]]
                      : !n->n_out              ? READ_ELSE
                      : reads_low(m, n)        ? READ_LOW
                      : n->op->flags & OP_WIDE ? READ_WIDE
                                               : READ_ELSE;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] != NO_ID) read[n->in[i]] |= how;
    }
    m->low_only = NEW(g->arena, bool, g->n_value + 1);
    m->wide_only = NEW(g->arena, bool, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++) {
        m->low_only[i] = read[i] == READ_LOW;
        m->wide_only[i] = read[i] == READ_WIDE;
    }
}

/* ---- what became of the policy's casts ---- */

static void note(Mixed *m, Id old, DType to, CastFate fate) {
    uint8_t bit = (uint8_t)(1 << fate);
    if (m->noted[old] & bit) return;
    m->noted[old] |= bit;
    m->n[fate]++;
    m->bytes[fate] += (uint64_t)type_count(&m->old->value[old]->type) * dtype_size(to);
}

/* A cast that becomes a node. */
static Id cast_left(Mixed *m, const Node *n, Id old, Id v, DType to) {
    const Place *at = n ? &n->at : &m->g->at;
    note(m, old, to, LEFT);
    report(m->g, "mixed-precision: cast left at '%s': %s to %s",
           at->path ? at->path
           : n      ? n->op->name
                    : "an output",
           type_text(m->g->arena, &m->g->value[v]->type), dtype_name(to));
    return graph_cast(m->g, v, to, m->e);
}

/* Operands whose type is not the one that the policy computes the node in. */
static void note_operands(Mixed *m, const Node *n, const Id *in, DType computes) {
    for (int i = 0; i < n->n_in; i++) {
        if (!floating(m->old, n, i) || !m->runs[n->in[i]]) {
            bool learns =
                n->in[i] != NO_ID && m->old->value[n->in[i]]->role == ROLE_TRAIN;
            if (!learns) continue;
        }
        DType t = m->g->value[in[i]]->type.dtype;
        if (t != computes && dtype_mix(t, computes))
            note(m, n->in[i], computes, ABSORBED);
    }
}

/* ---- types of nodes ---- */

static DType type_of_new(const Mixed *m, Id v) {
    return m->g->value[v]->type.dtype;
}

/* The attribute `to` of a product; an attention has none: q's type is the result's. */
static bool choose_product(Mixed *m, const Node *n, void *attrs, Id *in) {
    const Attr *to = attr_find(n->op, "to");
    const bool runs = m->runs[n->out[0]];
    DType x = type_of_new(m, in[0]);
    if (x == F64 || (!runs && x == F32)) return true;
    DType want = runs ? m->half : F32;
    if (to)
        *(const char **)((char *)attrs + to->offset) =
            want == x ? NULL : dtype_name(want);
    else if (x == F32)
        in[0] = cast_left(m, n, n->in[0], in[0], want);
    if (runs) note_operands(m, n, in, want);
    return in[0] != NO_ID;
}

/* The type that a formula's operands have: what is not as large as the result (a mask, a
 * factor per sample) and what learns does not decide. */
static DType followed(const Mixed *m, const Node *n, const Id *in) {
    const int64_t all = type_count(&m->old->value[n->out[0]]->type);
    bool half[2] = {0}, wide[2] = {0};
    for (int i = 0; i < n->n_in; i++) {
        if (!floating(m->old, n, i) || !m->runs[n->in[i]]) continue;
        const Type *t = &m->g->value[in[i]]->type;
        bool full = type_count(t) == all;
        bool is_half = dtype_is_half(t->dtype) || m->exact[n->in[i]];
        half[full] |= is_half;
        wide[full] |= !is_half;
    }
    bool full = half[1] || wide[1];
    return half[full] && !wide[full] ? m->half : F32;
}

static void choose_formula(Mixed *m, const Node *n, DType *dtype, const Id *in) {
    if (*dtype != F32) return;
    *dtype = m->wide_only[n->out[0]] ? F32 : followed(m, n, in);
    note_operands(m, n, in, *dtype);
    if (*dtype != F32 || !m->low_only[n->out[0]]) return;
    *dtype = m->half;
    note(m, n->out[0], m->half, ABSORBED);
}

/* Joined values: halves only if all are. */
static bool choose_joined(Mixed *m, const Node *n, Id *in) {
    bool wide = false;
    for (int i = 1; i < n->n_in; i++) wide |= type_of_new(m, in[i]) == F32;
    if (wide && dtype_is_half(type_of_new(m, in[0])))
        in[0] = cast_left(m, n, n->in[0], in[0], F32);
    return in[0] != NO_ID;
}

static bool choose(Mixed *m, const Node *n, void *attrs, Id *in) {
    if (n->op->flags & OP_LOW) return choose_product(m, n, attrs, in);
    if (!n->n_out || !m->runs[n->out[0]]) return true;
    if (n->op->flags & OP_WIDE) {
        note_operands(m, n, in, F32);
        return true;
    }
    const Attr *dtype = attr_find(n->op, "dtype");
    if (dtype) choose_formula(m, n, (DType *)((char *)attrs + dtype->offset), in);
    bool joins = n->n_in > 1 && op_in(n->op, 0)->flags & IN_VARIADIC;
    return dtype || !joins || choose_joined(m, n, in);
}

/* ---- the walk ---- */

static bool emit(Mixed *m, const Node *n) {
    Arena *a = m->g->arena;
    Id few[16], *in = n->n_in <= 16 ? few : NEW(a, Id, n->n_in);
    for (int i = 0; i < n->n_in; i++)
        in[i] = n->in[i] == NO_ID ? NO_ID : m->map[n->in[i]];
    void *attrs = NULL;
    if (n->attrs) {
        attrs = NEW(a, char, n->op->attrs_size);
        memcpy(attrs, n->attrs, n->op->attrs_size);
    }
    m->g->at = n->at;
    if (!choose(m, n, attrs, in)) return false;
    Node *made = graph_add(m->g, n->op, attrs, n->n_in, in, m->e);
    if (!made) return false;
    for (int o = 0; o < n->n_out; o++) {
        const Value *from = m->old->value[n->out[o]];
        Value *to = m->g->value[made->out[o]];
        to->batch = from->batch;
        to->name = from->name;
        to->loc = from->loc;
        m->map[from->id] = to->id;
    }
    if (takes_rows(m->old, n))
        m->exact[n->out[0]] = dtype_is_half(type_of_new(m, in[1]));
    return true;
}

/* Weights that only products read take the half type, trainables if all is to be half. */
static void declare(Mixed *m, bool full) {
    const Graph *g = m->old;
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->type.dtype != F32) continue;
        bool fold = v->role == ROLE_FROZEN && m->low_only[i];
        if (!fold && !(full && v->role == ROLE_TRAIN)) continue;
        m->g->value[m->map[i]]->type.dtype = m->half;
        if (fold) note(m, i, m->half, FOLDED);
    }
}

static bool keep_outputs(Mixed *m) {
    const Graph *g = m->old;
    for (uint32_t i = 0; i < g->n_output; i++) {
        Id v = g->output[i].value;
        DType was = g->value[v]->type.dtype;
        if (g->value[v]->role != ROLE_ACT || type_of_new(m, m->map[v]) == was) continue;
        const Node *n = g->value[v]->node == NO_ID ? NULL : g->node[g->value[v]->node];
        m->map[v] = cast_left(m, n, v, m->map[v], was);
        if (m->map[v] == NO_ID) return false;
    }
    return true;
}

static void explain(const Mixed *m) {
    const Graph *g = m->g;
    static const char *const fate[CAST_FATES] = {
        "folded into weights", "absorbed by kernels", "left as nodes"};
    uint32_t n = 0, n_half = 0;
    uint64_t bytes = 0, in_half = 0, in_all = 0;
    for (int f = 0; f < CAST_FATES; f++) {
        n += m->n[f];
        bytes += m->bytes[f];
    }
    report(g, "mixed-precision: %s: %u casts inserted, %s", dtype_name(m->half), n,
           bytes_text(g->arena, bytes));
    for (int f = 0; f < CAST_FATES; f++)
        report(g, "mixed-precision: %u %s, %s", m->n[f], fate[f],
               bytes_text(g->arena, m->bytes[f]));
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Value *v = g->value[i];
        if (v->role != ROLE_ACT || !dtype_is_float(v->type.dtype)) continue;
        in_all += type_bytes(&v->type);
        if (!dtype_is_half(v->type.dtype)) continue;
        in_half += type_bytes(&v->type);
        n_half++;
    }
    report(g, "mixed-precision: %u values of the forward pass in half, %s of %s",
           n_half, bytes_text(g->arena, in_half), bytes_text(g->arena, in_all));
}

Graph *pass_mixed_precision(Graph *g, Options *opt, Err *e) {
    Mixed m = {.old = g, .half = half_of(opt->mixed_precision), .e = e};
    m.g = graph_rewrite(g, &m.map);
    m.runs = find_runs(g);
    m.exact = NEW(g->arena, bool, g->n_value + 1);
    m.noted = NEW(g->arena, uint8_t, g->n_value + 1);
    find_readers(&m);
    declare(&m, opt->full_half);
    for (uint32_t k = 0; k < g->n_node; k++)
        if (!emit(&m, g->node[k])) return NULL;
    m.g->at = g->at;
    if (!keep_outputs(&m)) return NULL;
    graph_copy_outputs(m.g, g, m.map);
    explain(&m);
    return m.g;
}
