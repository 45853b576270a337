/* fuse: nodes that only pass data on to each other become one.
 *
 * Needs: a verified graph, differentiated if it is to be. Guarantees: the same values; the
 * merging of pointwise nodes does the same operations in the same order, the other
 * patterns round differently in the last place at most; in mixed precision halves are rounded less often. Patterns are tried in the order of
 * the table at each node, over the graph again until nothing more fires, so a second run
 * changes nothing. Every pattern that nearly fitted leaves one line with its reason. */
#include "passes/fuse.h"

#include <string.h>

/* clang-format off */
static const FusePattern patterns[] = {
    { "again", "a formula of saved values is worked out again, not saved too",       fuse_again },
    { "pads",  "x padded on one side + y padded on the other: a concat",             fuse_pads },
    { "scale", "a constant factor goes behind the gradient rows that shrink it",     fuse_scale },
    { "sum",   "what is added to a product goes into it: no pass over the sum",      fuse_sum },
    { "norm",  "group_norm -> formula: in one, also in the gradient; y is not kept", fuse_norm },
    { "merge", "pointwise -> pointwise: one formula",                                fuse_merge },
};
/* clang-format on */
enum { N_PATTERN = COUNT(patterns), MOST_ROUNDS = 16 };

static const char *const reasons[FUSE_REASONS] = {
    [FUSE_MULTI_USE] = "MULTI_USE",
    [FUSE_SAVED_FOR_BWD] = "SAVED_FOR_BWD",
    [FUSE_CYCLE] = "CYCLE",
    [FUSE_LAYOUT] = "LAYOUT",
    [FUSE_DTYPE] = "DTYPE",
    [FUSE_SHAPE_LIMIT] = "SHAPE_LIMIT",
    [FUSE_NO_KERNEL] = "NO_KERNEL",
    [FUSE_COST] = "COST",
    [FUSE_DISABLED] = "DISABLED",
    [FUSE_BOUNDARY] = "BOUNDARY",
    [FUSE_GRAPH_OUTPUT] = "GRAPH_OUTPUT",
};

/* ---- what is known of the old graph ---- */

static void pin(Fuse *f, Id v) {
    if (v != NO_ID) f->pinned[v] = true;
}

static void find_pinned(Fuse *f) {
    const Graph *g = f->old;
    f->pinned = NEW(g->arena, bool, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_output; i++) pin(f, g->output[i].value);
    for (uint32_t i = 0; i < g->n_value; i++) {
        const Param *p = g->value[i]->param;
        if (p && p->init.kind == INIT_VALUE) pin(f, p->init.value);
        if (p && p->slice_axis >= 0) pin(f, p->slice_index);
    }
}

/* Only of nodes that something needs: others go with this walk. */
static void find_readers(Fuse *f, const bool *needed) {
    const Graph *g = f->old;
    Arena *a = g->arena;
    uint32_t *cap = NEW(a, uint32_t, g->n_value + 1);
    f->n_reader = NEW(a, uint32_t, g->n_value + 1);
    f->reader = NEW(a, uint32_t *, g->n_value + 1);
    f->last = NEW(a, uint32_t, g->n_value + 1);
    f->backward = NEW(a, bool, g->n_value + 1);
    f->place = NEW(a, uint32_t, g->n_node + 1);
    f->base = NEW(a, Id, g->n_value + 1);
    for (uint32_t i = 0; i < g->n_value; i++) f->base[i] = i;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        f->place[k + 1] = f->place[k] + needed[k];
        if (n->op->flags & OP_VIEW) f->base[n->out[0]] = f->base[n->in[0]];
        for (int i = 0; needed[k] && i < n->n_in; i++) {
            Id v = n->in[i];
            if (v == NO_ID) continue;
            f->last[f->base[v]] = f->place[k];
            f->backward[f->base[v]] |= n->at.phase == BACKWARD;
            uint32_t m = f->n_reader[v];
            if (m && f->reader[v][m - 1] == k) continue;
            PUSH(a, f->reader[v], f->n_reader[v], cap[v], k);
        }
    }
}

const Node *fuse_maker(const Fuse *f, Id v, const Op *op) {
    if (v == NO_ID || f->old->value[v]->node == NO_ID) return NULL;
    const Node *n = f->old->node[f->old->value[v]->node];
    return n->op == op ? n : NULL;
}

/* ---- the new graph ---- */

void fuse_note_from(Fuse *f, Id made, Id old) {
    if (made >= f->cap_from) {
        uint32_t n = f->cap_from;
        f->cap_from = 2 * made + 64;
        Id *grown = NEW(f->g->arena, Id, f->cap_from);
        memset(grown, 0xff, f->cap_from * sizeof(Id));
        if (n) memcpy(grown, f->from, n * sizeof(Id));
        f->from = grown;
    }
    f->from[made] = old;
}

Id fuse_from(const Fuse *f, Id made) {
    return made < f->cap_from ? f->from[made] : NO_ID;
}

void fuse_stands(Fuse *f, const Node *n, int o, Id to) {
    const Value *was = f->old->value[n->out[o]];
    Value *v = f->g->value[to];
    v->batch = was->batch;
    v->name = was->name;
    v->loc = was->loc;
    f->map[was->id] = to;
    fuse_note_from(f, to, was->id);
}

static const Op *maker_of(const Graph *g, Id v) {
    return g->value[v]->node == NO_ID ? NULL : g->node[g->value[v]->node]->op;
}

/* Templates are used many times: the same line of a file, refused for the same reason, is
 * told once. */
static bool alike(const Graph *g, const FuseMiss *a, const FuseMiss *b) {
    const Loc x = a->anchor->at.loc, y = b->anchor->at.loc;
    return x.src && x.src == y.src && x.line == y.line && x.col == y.col &&
           !strcmp(a->pattern, b->pattern) && a->why == b->why &&
           a->anchor->op == b->anchor->op &&
           a->anchor->at.phase == b->anchor->at.phase &&
           maker_of(g, a->value) == maker_of(g, b->value);
}

void fuse_miss(Fuse *f, const char *pattern, const Node *n, Id v, FuseReason why) {
    FuseMisses *list = f->missed;
    if (!list) return;
    FuseMiss miss = {pattern, n, v, why, f->n_reader[v], 0};
    for (uint32_t i = 0; i < list->n; i++) {
        if (!alike(f->old, &list->item[i], &miss)) continue;
        list->item[i].n_more++;
        return;
    }
    PUSH(f->old->arena, list->item, list->n, list->cap, miss);
}

static void report_miss(const Graph *g, const FuseMiss *m, Str *to) {
    const Node *n = m->anchor;
    const Op *maker = maker_of(g, m->value);
    Loc at = n->at.loc;
    str_printf(to, "fuse: %s left out at '%s'", m->pattern,
               n->at.path ? n->at.path : n->op->name);
    if (at.src) str_printf(to, " (%s:%u:%u)", at.src->path, at.line, at.col);
    str_printf(to, ": %s, %s of %s", reasons[m->why],
               type_text(g->arena, &g->value[m->value]->type),
               maker ? maker->name : role_name(g->value[m->value]->role));
    if (m->why == FUSE_MULTI_USE) str_printf(to, ", %u readers", m->n_reader);
    if (m->n_more) str_printf(to, "; so at %u more places of this line", m->n_more);
    str_add(to, "\n");
}

static bool copy(Fuse *f, const Node *n) {
    Node *made = graph_copy_node(f->g, n, f->old, f->map, f->e);
    for (int o = 0; made && o < made->n_out; o++)
        fuse_note_from(f, made->out[o], n->out[o]);
    return made != NULL;
}

/* A node whose inputs went into another is not needed itself: the pattern that took them
 * saw to that. */
static bool inputs_there(const Fuse *f, const Node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (n->in[i] != NO_ID && f->map[n->in[i]] == NO_ID) return false;
    return true;
}

static bool step(Fuse *f, const Node *n) {
    f->g->at = n->at;
    for (int p = 0; p < N_PATTERN; p++) {
        Fused done = patterns[p].at(f, n);
        if (done == FUSED_FAILED) return false;
        if (done == FUSED_BEFORE) f->fired[p]++;
        if (done == FUSED_NO || done == FUSED_BEFORE) continue;
        f->fired[p] += done == FUSED_YES && f->group[n->index] == NO_ID;
        return true;
    }
    return !inputs_there(f, n) || copy(f, n);
}

/* One walk, over what is needed: nodes that went into others are left behind by the next
 * one. *more: a pattern fired. */
static Graph *round_of(const Graph *old, const Options *opt, uint32_t *fired,
                       FuseMisses *missed, bool *more, Err *e) {
    Fuse f = {.old = old, .fired = fired, .missed = missed, .opt = opt, .e = e};
    f.skip_roundings = opt->mixed_precision != PRECISION_NO;
    uint32_t before = 0, after = 0;
    for (int p = 0; p < N_PATTERN; p++) before += fired[p];
    f.g = graph_rewrite(old, &f.map);
    for (uint32_t i = 0; i < old->n_value; i++)
        if (f.map[i] != NO_ID) fuse_note_from(&f, f.map[i], i);
    find_pinned(&f);
    bool *needed = nodes_needed(old->arena, old, true);
    find_readers(&f, needed);
    f.group = NEW(old->arena, Id, old->n_node + 1);
    memset(f.group, 0xff, (old->n_node + 1) * sizeof(Id));
    Place keep = f.g->at;
    for (uint32_t k = 0; k < old->n_node; k++)
        if (needed[k] && !step(&f, old->node[k])) return NULL;
    f.g->at = keep;
    graph_copy_outputs(f.g, old, f.map);
    for (int p = 0; p < N_PATTERN; p++) after += fired[p];
    *more = after > before;
    return f.g;
}

static uint64_t bytes_of(const Graph *g) {
    uint64_t sum = 0;
    for (uint32_t k = 0; k < g->n_node; k++) {
        const Node *n = g->node[k];
        if (n->op->flags & OP_VIEW) continue;
        for (int i = 0; i < n->n_in; i++)
            if (n->in[i] != NO_ID) sum += type_bytes(&g->value[n->in[i]]->type);
        for (int o = 0; o < n->n_out; o++)
            sum += type_bytes(&g->value[n->out[o]]->type);
    }
    return sum;
}

Graph *pass_fuse(Graph *g, Options *opt, Err *e) {
    uint32_t fired[N_PATTERN] = {0}, n_before = g->n_node;
    uint64_t before = bytes_of(g);
    Str *report_to = g->report;
    FuseMisses missed = {0};
    bool more = true;
    for (int r = 0; g && more && r < MOST_ROUNDS; r++) {
        missed.n = 0;
        missed.g = g;
        g = round_of(g, opt, fired, report_to ? &missed : NULL, &more, e);
    }
    if (g) {
        g->report = report_to;
        for (int p = 0; p < N_PATTERN; p++)
            report(g, "fuse: %s %u times: %s", patterns[p].name, fired[p],
                   patterns[p].doc);
        report(g, "fuse: %u nodes, before %u; %s read and written, before %s",
               g->n_node, n_before, bytes_text(g->arena, bytes_of(g)),
               bytes_text(g->arena, before));
        for (uint32_t i = 0; report_to && i < missed.n; i++)
            report_miss(missed.g, &missed.item[i], report_to);
    }
    return g;
}
