/* The Graph: what to compute. SSA over values; nodes stand in execution order.
 *
 * Invariants (graph_verify): ids are dense; a node reads only values that are not
 * produced (inputs, parameters ...) or are produced by a node before it; output types are
 * what op->shape says; names of non-activation values are unique; attributes are in range.
 * Pointers to Value and Node stay valid for the life of the graph's arena. */
#ifndef GRAPHRUN_GRAPH_H
#define GRAPHRUN_GRAPH_H
#include "graph/type.h"

typedef uint32_t Id;
#define NO_ID UINT32_MAX
typedef struct Op Op;
typedef struct Graph Graph;

typedef enum Role {
    ROLE_ACT,   /* made by a node */
    ROLE_INPUT, /* a field of the batch, written before each replay */
    ROLE_SCALAR, /* a step scalar, written before each replay: learning rate, rng key ... */
    ROLE_CONST,  /* `data` is known when the plan is made */
    ROLE_FROZEN, /* a tensor of the checkpoint, never trained */
    ROLE_TRAIN,  /* a trainable tensor: persistent, `init` */
    ROLE_STATE,  /* persistent, not trained: optimizer state; has `init` */
    ROLES
} Role;
const char *role_name(Role r); /* "input" "scalar" "const" "frozen" "train" "state" */

typedef enum Phase { FORWARD, BACKWARD, UPDATE, RECOMPUTE, PHASES } Phase;
const char *phase_name(Phase p);

typedef enum InitKind {
    INIT_NONE, /* a trained network's tensor: its weight, or zeros if there is none */
    INIT_ZEROS,
    INIT_ONES,
    INIT_CONSTANT,
    INIT_UNIFORM,
    INIT_NORMAL,
    INIT_KAIMING_UNIFORM, /* +-1/sqrt(product of all dimensions but the first) */
    INIT_VALUE            /* the value `value`, computed once when training starts */
} InitKind;
typedef struct Init {
    InitKind kind;
    double number; /* CONSTANT: the value; UNIFORM: the bound; NORMAL: sigma */
    Id value;      /* VALUE */
} Init;

/* What is known of a tensor of a checkpoint or an adapter. */
typedef struct Param {
    Init init;
    double lr; /* learning rate, factors multiplied; used by the optimizer pass */
    const char *module; /* LoRA module name ("lora_unet_down_blocks_...") or NULL */
    const char *key;    /* node path inside the module ("lora_down"), or NULL */
    int32_t slice_axis; /* -1: the whole tensor is one slice; else `active` slices */
    int64_t slice_size;
    Id slice_index; /* value (i32 scalar): the slice that learns in this step, or NO_ID */
} Param;
/* No init, lr 1, one slice. */
Param *param_new(Arena *a);

typedef struct Value {
    Id id;
    Type type;
    Role role;
    bool batch;         /* its first dimension counts samples (broadcasting rule) */
    const char *name;   /* unique for every role but ACT, where it may be NULL */
    Id node;            /* producing node's index in Graph.node, NO_ID if none */
    int out;            /* which output of it */
    const double *data; /* CONST: type_count values (exact in the value's dtype) */
    Param *param;       /* FROZEN, TRAIN, STATE; may be NULL */
    Loc loc;
} Value;

/* Where a node comes from; nodes that a pass makes inherit it. */
typedef struct Place {
    Loc loc;
    const char *path; /* "unet.down_blocks.0.resnets.0.conv1", or NULL */
    int block;        /* index into the network's blocks, -1: none */
    /* of recomputation: path of a marked template's use, or NULL */
    const char *segment;
    Phase phase;
} Place;

typedef struct Node {
    uint32_t index; /* position in Graph.node */
    const Op *op;
    Id *in; /* NO_ID: an optional input that is absent */
    int n_in;
    Id *out;
    int n_out;
    void *attrs; /* op->attrs_size bytes, or NULL */
    Place at;
} Node;

typedef struct Output {
    const char *name;
    Id value;
} Output;

struct Graph {
    Arena *arena;
    const char *name;
    Value **value;
    uint32_t n_value, cap_value;
    Node **node;
    uint32_t n_node, cap_node;
    Output *output;
    uint32_t n_output, cap_output;
    const char *const *blocks; /* block names, NULL-terminated, or NULL */
    Place at;                  /* given to nodes added from now on */
    Str *report; /* where passes say what they did and why not; may be NULL */
    Id *by_name; /* hash table behind graph_find */
    uint32_t n_by_name, cap_by_name;
    uint32_t n_const; /* number of the next unnamed constant */
};

Graph *graph_new(Arena *a, const char *name);
/* A value that no node makes. */
Id graph_value(Graph *g, Role role, Type type, const char *name, Loc loc);
Id graph_const(Graph *g, Type type, const double *data); /* data is copied */
Id graph_number(Graph *g, double x, DType t);            /* scalar constant */
/* The value of role != ACT with this name, or NO_ID. */
Id graph_find(const Graph *g, const char *name);
void graph_output(Graph *g, const char *name, Id value);
Id graph_output_find(const Graph *g, const char *name); /* or NO_ID */

/* Appends a node at g->at; infers its output types. attrs is copied (NULL: defaults).
 * Fails with a located error if the inputs do not fit. An output counts samples (`batch`)
 * if one of the inputs does and has as many; whoever knows better sets the flag. */
Node *graph_add(Graph *g, const Op *op, const void *attrs, int n_in, const Id *in,
                Err *e);
/* The same for rules that want one output: its id, or NO_ID on failure. */
Id graph_op(Graph *g, const Op *op, const void *attrs, int n_in, const Id *in, Err *e);
/* A pointwise node from a formula over x0 ... x9 ("x0 * sigmoid(x1)"). */
Id graph_formula(Graph *g, const char *formula, int n_in, const Id *in, Err *e);
/* `value` with another shape of the same count: a view; the id itself if equal. */
Id graph_view(Graph *g, Id value, Type shape, Err *e);
/* `value` in another dtype; the id itself if equal. */
Id graph_cast(Graph *g, Id value, DType to, Err *e);

/* ---- rewriting: a pass walks the old graph and emits a new one ---- */
/* New graph in the same arena with the same name and blocks, and with all values of role
 * != ACT and the batch flags copied; map (n_value entries, NO_ID for the rest) tells the
 * new id of an old one. */
Graph *graph_rewrite(const Graph *old, Id **map);
/* Copies `node` into g with inputs mapped, and enters its outputs into the map. */
Node *graph_copy_node(Graph *g, const Node *node, const Graph *old, Id *map, Err *e);
/* The outputs, and what parameters refer to (Init.value, slice_index): call it last. */
void graph_copy_outputs(Graph *g, const Graph *old, const Id *map);

bool graph_verify(const Graph *g, Err *e);
/* Text form (the grammar stands in graph/parse.c); print(parse(print(g))) == print(g),
 * byte for byte. */
void graph_print(Str *s, const Graph *g);
Graph *graph_parse(Arena *a, const Source *src, Err *e);
#endif
