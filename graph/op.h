/* What an operator is: one row. ops/ops.def lists them; ops/table.c looks them up.
 * A row is the only place that knows its operator: parsing, printing, hashing, defaults,
 * documentation, gradient, cost and tests all come from it. */
#ifndef GRAPHRUN_OP_H
#define GRAPHRUN_OP_H
#include "graph/device.h"
#include "graph/graph.h"

/* ---- attributes: a struct and a table of offsets ---- */
typedef struct IntList {
    int n;
    int64_t v[8];
} IntList;

/* kind: i int64_t | f double | b bool | l IntList | s const char * (text, e.g. a formula)
 *       w int32_t, an index into `words` | d DType
 * An l attribute with `words` takes words too ("over: sample"): word i is the number
 * -LIST_WORD - i, alone or in a list. attr_parse takes a single number as a list of one. */
enum { LIST_WORD = 1 << 20 };
enum {
    ATTR_REQUIRED = 1,
    ATTR_YAML = 2, /* not in the text IR */
    ATTR_IR = 4,   /* no YAML key */
};
typedef struct Attr {
    const char *name;
    char kind;
    uint16_t offset;
    uint16_t flags;
    /* i, f, b, w, d; for l: a list of that one number if not NAN, else empty; for s: NULL */
    double def;
    const char *const *words; /* w, l; NULL-terminated */
    const char *doc;          /* one line, for `graphrun ops` and the schema */
} Attr;

/* ---- inputs ---- */
enum {
    IN_OPTIONAL = 1, /* may be absent */
    IN_VARIADIC = 2, /* last input: any number (YAML: a list) */
    /* absent in YAML: a tensor of its own, PATH.NAME ("" : PATH itself) */
    IN_PARAM = 4,
    IN_INDEX = 8, /* integers welcome; never gets a gradient */
    /* YAML only: just its shape is read; gone from the IR after resolve */
    IN_SHAPE = 16,
    IN_IR = 32,   /* no YAML key; `resolve` supplies it (the rng key ...) */
    IN_WIDE = 64, /* statistics: never a half */
};
typedef struct OpIn {
    const char *name;
    unsigned flags;
} OpIn;

/* Types and attributes of one use of an op, without a graph. */
typedef struct Sig {
    const Op *op;
    const void *attrs;
    const Type *in; /* rank -1: absent */
    int n_in;
    Type *out; /* op->n_out entries; shape() fills them */
    int n_out;
} Sig;

/* A YAML node with this op while the graph is built. */
typedef struct Lang {
    Graph *g;
    const char *path; /* for names of parameters and keys of random streams */
    void *attrs;      /* parsed; resolve may change them */
    Id *in;           /* evaluated inputs; NO_ID: absent. resolve may change them */
    int n_in;
    bool training; /* false: generation, dropout does nothing */
    Id rng;        /* the i32[8] step scalar of random ops */
    Id pass_on;    /* set by resolve: no node is made, this is the value */
    /* In an optimizer, of a tensor that learns in slices: 1 + the axis that counts them, 0
     * without. It is no axis of the tensor to reductions, which keep theirs. */
    int slices;
    Loc loc;
} Lang;

typedef enum Own { OWN_NO, OWN_YES, OWN_FAILED } Own;

/* ---- kernels ---- */
typedef struct Kernel {
    const char *name;             /* "ref", "avx2" ... */
    bool (*fits)(const Sig *s);   /* NULL: always */
    size_t (*work)(const Sig *s); /* workspace bytes; NULL: 0 */
    /* Compiles attributes once, when a plan is bound; allocated in a. NULL: nothing. */
    bool (*prepare)(Arena *a, const Sig *s, const void **prep, Err *e);
    void (*run)(const Call *c);
} Kernel;

/* ---- the row ---- */
enum {
    OP_VIEW = 1,      /* output 0 is input 0 with another type: owns no memory */
    OP_RANDOM = 2,    /* reads the rng key: never folded, never merged by CSE */
    OP_NO_GRAD = 4,   /* gradient is defined as nothing (doc says why) */
    OP_YAML_ONLY = 8, /* resolve always passes on; never in a graph */
    OP_CONST = 16,    /* no inputs: always folded */
    OP_NO_FOLD = 32,  /* has an effect (update, assign) */
    /* Precision classes. Every row reads f32, f16 and bf16 in any mix and computes in f32 or
     * wider. Neither flag: the result has the type of its first input. */
    OP_WIDE = 64, /* the result is f32 (f64 beside f64), whatever is read */
    OP_LOW = 128, /* worth running on halves: products */
    OP_IR = 256,  /* made by the compiler: no YAML form */
};

/* Output `out` is written over input `in`. */
typedef struct OpAlias {
    int out, in;
} OpAlias;

struct Op {
    const char *name;
    const char *doc;         /* formula; what is not differentiable and why */
    const char *example;     /* text IR of one graph body, see tests/op_rows.c */
    const OpIn *in;          /* ends with name NULL */
    int n_out;               /* -1: as many as shape() says (at most 64) */
    const char *const *outs; /* names of outputs when more than one, or NULL */
    unsigned flags;
    const Attr *attrs; /* ends with name NULL; NULL: none */
    size_t attrs_size;
    /* YAML form -> IR form: fills IR attributes and inputs. NULL: as it is. */
    bool (*resolve)(Lang *l, Err *e);
    /* Type (f32) of the tensor that an absent IN_PARAM input owns. */
    Own (*owns)(const Lang *l, int in, Type *t, Err *e);
    /* Output types from input types and attributes. Sets s->n_out if n_out is -1.
     * Messages name both values; the caller adds the place. */
    bool (*shape)(Sig *s, Err *e);
    /* Appends gradient nodes: dx[i] for each i with need[i], from dy[o] (NO_ID: none).
     * dx[i] = NO_ID means zero. */
    bool (*grad)(Graph *g, const Node *n, const Id *dy, const bool *need, Id *dx,
                 Err *e);
    uint64_t (*flops)(const Sig *s); /* NULL: one per output element */
    /* out[alias[i].out] is written over in[alias[i].in]: persistent tensors (update). */
    const OpAlias *alias; /* ends with out -1; NULL: none */
    uint64_t inplace;     /* bit i: output 0 may overwrite input i (same bytes) */
    /* variants, best first, the reference last; ends with name NULL */
    const Kernel *cpu;
    const Kernel *cuda; /* the same on a GPU; NULL: none yet */
};

/* ---- table ---- */
extern const Op *const ops[]; /* NULL-terminated, order of ops.def */
const Op *op_find(const char *name);
const char *const *op_names(void); /* NULL-terminated, for suggestions */
/* May graph files use it? Not rows that the compiler makes (OP_IR, and gradients: rows with
 * an input "dy"). */
bool op_in_yaml(const Op *op);
/* Input i of the row; of a variadic one there are many. */
const OpIn *op_in(const Op *op, int i);

/* Defaults of an attribute struct, in a. */
void *attrs_new(Arena *a, const Op *op);
const Attr *attr_find(const Op *op, const char *name);
/* "{groups=32, eps=1e-05}" */
void attrs_print(Str *s, const Op *op, const void *attrs);
bool attrs_equal(const Op *op, const void *a, const void *b);
/* Value text of the IR ("3", "[1,0]", "1e-05", "true", word, "quoted text") into attrs. */
bool attr_parse(Arena *a, const Attr *at, void *attrs, const char *text, Err *e);

/* The Sig of a node (arrays in a). */
Sig node_sig(Arena *a, const Graph *g, const Node *n);
/* Runs a kernel of the row by itself: constant folding and tests. Allocates outputs with
 * `a`; in[i].data given. Single-threaded. */
bool op_run(Arena *a, const Sig *s, const Tensor *in, Tensor *out, Err *e);
#endif
