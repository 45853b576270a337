/* What the files of the builder share. A Ctx is one document being expanded into a graph;
 * a Level is one list of its nodes: the document's own, or a template's instance. */
#ifndef GRAPHRUN_BUILD_PRIVATE_H
#define GRAPHRUN_BUILD_PRIVATE_H
#include "graph/lang/build.h"

enum {
    MOST_NODES = 200000,
    MOST_TEMPLATES = 32, /* depth of uses within uses */
    MOST_REPEAT = 4096,
    MOST_OPERANDS = 64 /* of one formula, of one op */
};

/* ---- values by name ---- */
typedef struct ScopeSlot {
    const char *name;
    Id id; /* NO_ID: made when first asked for (x y w b of an adapter) */
} ScopeSlot;
typedef struct Scope {
    Arena *arena;
    ScopeSlot *item;
    int n, cap;
    uint32_t *index; /* open addressing over item: position + 1 */
    uint32_t n_index;
} Scope;
Scope *scope_new(Arena *a);
ScopeSlot *scope_find(const Scope *s, const char *name);
void scope_set(Scope *s, const char *name, Id id);
const char *const *scope_names(Arena *a, const Scope *s);

/* ---- a document being expanded ---- */
typedef struct Stack {
    const char *name;
    Id *item;
    int n, cap;
} Stack;

/* The node that a module wraps. All ids belong to the graph being built. */
typedef struct Wrapped {
    const Node *node;
    Id x, y; /* its first input; its output so far (modules before this one) */
    Id w, b; /* weight so far as a matrix, bias; NO_ID until asked for */
    int in_weight, in_bias; /* positions of inputs, -1: the op has none */
} Wrapped;

typedef struct Ctx {
    Build *b;
    Graph *g;
    Arena *a;
    const char *root; /* in front of paths: "unet", a module's name; NULL: nothing */
    const Args *dims; /* bound symbols, or NULL */
    const Net *net;   /* network whose tensors nodes own, or NULL */
    Module *module;   /* the same for an adapter, or NULL */
    Wrapped *wrapped;
    int n_blocks;
    const char *const *given; /* top-level nodes that become inputs; NULL-terminated */
    bool *given_seen;
    const SamplerModel *model; /* what `call: model` is, or NULL */
    bool record;               /* outputs of called networks become graph outputs */
    bool calls;                /* `call` is allowed */
    const char *misfit;        /* set when a tensor of the checkpoint does not fit */
    Stack *stack;
    int n_stack, cap_stack;
    int n_nodes, depth;
    const YNode *open[MOST_TEMPLATES];
    /* Of an optimizer on a tensor with `active`: the axis that counts slices, or -1. */
    int slices;
} Ctx;

typedef struct Level {
    const Doc *doc; /* whose templates are in sight */
    Scope *scope;
    const Args *args;
    const char *prefix; /* "down_blocks.0." */
} Level;

Ctx ctx_new(Build *b, const char *root);
Env level_env(Ctx *c, Level *l, void *room[2]);
bool run_nodes(Ctx *c, Level *l, const YNode *nodes, Err *e);
bool run_node(Ctx *c, Level *l, const YNode *key, const YNode *n, Err *e);
bool stacks_empty(Ctx *c, Loc loc, Err *e);
/* `let:` evaluated on top of args. */
bool let_bind(Arena *a, const Doc *d, Args *args, Err *e);
/* A document's arguments and `let:`. given may be NULL. */
bool doc_bind(Arena *a, const Doc *d, const Args *given, Args *out, Err *e);
bool is_node_key(const char *key);
const char *full_path(Ctx *c, const char *path);
/* "[320, 768]" */
const char *shape_text(Arena *a, const Type *t);

/* build_formula.c */
bool is_formula_function(const char *name);
bool value_find(Ctx *c, Level *l, const char *name, Loc loc, Id *out, Err *e);
bool formula_eval(Ctx *c, Level *l, const YNode *slot, Id *out, Err *e);
/* Literals folded, `$arguments` replaced, names kept: for texts that run by name. */
Expr *formula_fold(Arena *a, const Args *args, const Expr *x, Err *e);
Id pointwise(Ctx *c, const char *f, int n, const Id *in, Err *e);

/* build_op.c */
bool run_op(Ctx *c, Level *l, const char *path, const YNode *n, Id *out, Err *e);
/* Does the first dimension of the outputs count samples? Asks the row: it does if it
 * follows a doubled batch. */
void mark_batch(Graph *g, Node *n);
/* `id` as f32 if it is f16 or bf16, or f64 and `narrow`. */
Id widen(Graph *g, Id id, bool narrow, Err *e);

/* build_net.c */
bool run_call(Ctx *c, Level *l, const char *name, const YNode *n, Id *out, Err *e);
#endif
