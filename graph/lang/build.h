/* Documents -> Graph: templates, repeats, stacks and `when` expanded, formulas turned into
 * pointwise nodes, shapes inferred node by node with all symbols bound.
 *
 * Paths: a node's path is its key behind the keys of the uses around it; inside a network
 * called NAME the graph path is "NAME.path" and parameters are named "NAME.path.weight".
 * The rng key is the scalar value "rng" (i32[8], see kernels/rng.h), made on first use.
 * Constants (nodes that depend on no input, parameter or draw) are f64 values; where one
 * meets an f32 value it is cast. They are folded by `simplify`. */
#ifndef GRAPHRUN_BUILD_H
#define GRAPHRUN_BUILD_H
#include "graph/graph.h"
#include "graph/lang/doc.h"
#include "graph/op.h"

/* Shapes a checkpoint offers, for variants and for linear's [out,in] or [out,in,1,1]. */
typedef struct WeightShapes {
    void *ctx;
    /* Type of the tensor with this Diffusers name ("down_blocks.0…conv1.weight"), false: none */
    bool (*find)(void *ctx, const char *name, Type *out);
} WeightShapes;

/* A named value passed in or out. */
typedef struct Named {
    const char *name;
    Id value;
} Named;

/* Without a checkpoint: does a file store the matrix `path` as [out,in,1,1]? */
typedef struct WeightForms {
    void *ctx;
    bool (*convolution)(void *ctx, const char *path);
} WeightForms;

/* A network ready to be called: its document with arguments bound. */
typedef struct Net {
    const char *name; /* in paths and names of parameters: "unet" */
    const Doc *doc;
    Args *args;
    /* NULL: no checkpoint; parameters are F32 as declared */
    const WeightShapes *shapes;
    const WeightForms *forms; /* looked at where `shapes` is NULL; may be NULL */
    bool train; /* its tensors are ROLE_TRAIN (whole networks), else FROZEN */
    double lr;  /* of them, if they are trained */
} Net;

/* Binds arguments: given ones; then, if args are missing, the named variant or the first
 * one whose every tensor fits `shapes`. Two variants that fit: the first, and a line in
 * `note` (may be NULL). None: an error with one line per variant and its first misfit;
 * no shapes and nothing given: an error that says which arguments are missing. */
bool net_bind(Arena *a, const Doc *doc, const char *name, const char *variant,
              const Args *given, const WeightShapes *shapes, Net *out, Str *note,
              Err *e);

typedef struct Build {
    Graph *g;
    Net *net; /* networks that `call` may name */
    int n_net;
    bool training;
    /* Of an objective; NULL-terminated, or NULL.
     * given: top-level nodes whose value becomes a ROLE_INPUT of the node's type and name
     * (`--inputs`: "noise", "t").
     * absent: inputs that nobody will write: their `default:` is a constant. */
    const char *const *given, *const *absent;
} Build;

/* Declares the inputs of a document (network or objective) as ROLE_INPUT values. `dims`
 * binds symbols (integers). A missing symbol is an error that says which. */
bool build_inputs(Build *b, const Doc *d, const Args *doc_args, const Args *dims,
                  const char *prefix, Named **in, int *n_in, Err *e);
/* Expands a network; outputs in the order of `outputs:`, the first is the value of a call. */
bool build_network(Build *b, const Net *net, const Named *in, int n_in, Named **out,
                   int *n_out, Err *e);
/* Expands an objective with its inputs declared (names as in `inputs:`); graph outputs:
 * "loss", every `log:` name as "log.NAME", and network outputs recorded as
 * "NETWORK.OUTPUT". Inputs with a `default:` that `absent` lists are constants. */
bool build_objective(Build *b, const Doc *d, const Args *args, const Args *dims,
                     Err *e);

/* What `call: model` of a sampler is: guidance, networks and adapters are its business. */
typedef struct SamplerModel {
    void *ctx;
    bool (*call)(void *ctx, Build *b, const Named *in, int n_in, Id *out, Err *e);
} SamplerModel;
/* One step of a sampler. Reads the scalar "k" (f64[], the step from 0), the input "noise"
 * (of type `latent`; starts only) and an input "state.NAME" per state; outputs
 * "start.NAME" and "state.NAME" (its value after the step), of the same type. If it has
 * `picture:`, also "picture.x" of the inputs "image" and "noise" (both `latent`) and k. */
bool build_sampler(Build *b, const Doc *d, const Args *args, Type latent,
                   const SamplerModel *model, Err *e);

/* How often that step runs, k = 0, 1 ...: `runs:`, or the argument `steps`. */
bool sampler_runs(Arena *a, const Doc *d, const Args *args, int64_t *runs, Err *e);
/* With which of these runs it begins if it begins with a picture (`picture: run:`). */
bool sampler_first(Arena *a, const Doc *d, const Args *args, int64_t *run, Err *e);

/* Small sizes for all symbols of a document: for a graph that is built to see whether it
 * can be. */
const Args *probe_dims(Arena *a, const Doc *d);

/* ---- adapters ---- */
/* One LoRA module: an adapter on a node of a network. */
typedef struct Module {
    const char *name; /* kohya name: prefix + path with dots -> _ */
    /* In front of its values' names: `name`, or "NAME+2" if it is the second module on its
     * node (`stack`). */
    const char *root;
    const char *peft;           /* in front of `path` in peft names: "unet." */
    const char *network, *path; /* "unet", "down_blocks.0.attentions.0.proj_in" */
    const Doc *adapter;
    Args *args; /* all of the adapter's arguments, bound, with `let` and $out … */
    double lr;  /* the entry's rate times the factor of preset or rule */
    int block;  /* -1: none */
    Loc loc;    /* recipe entry */
    /* Per args entry: "adapter", "node" ($out …), "entry", "preset", "rule", "--set". */
    const char **from;
    bool weight4; /* the wrapped weight has 4 dimensions in the checkpoint */
    Type weight;  /* the wrapped op's weight */
    /* Its tensors by path in the adapter ("lora_down.weight"), in the graph that
     * adapters_inject made; and their names in any graph after it:
     * "ROOT.lora_down.weight", or "vera_A.64x320" for those that modules share. */
    Named *tensor;
    const char **tensor_name;
    int n_tensor;
} Module;
typedef struct Modules {
    Module *item;
    int n, cap;
    /* Adapters' nodes that become inputs "MODULE.NODE" (`--inputs`: "k", DyLoRA's unit);
     * NULL-terminated, or NULL. */
    const char *const *given;
} Modules;

/* What stands in front of a path under a naming scheme ("kohya": "lora_unet_"). */
const char *scheme_prefix(Arena *a, const Doc *network, const char *name,
                          const char *scheme);

/* Which nodes of g the recipe's entries wrap, with arguments by precedence. Errors: an
 * entry or rule that matches nothing (a preset slot may be empty), a node wrapped twice
 * without `stack`. */
bool modules_match(Arena *a, const Graph *g, const Recipe *r, const Net *net, int n_net,
                   Modules *out, Err *e);
/* inject-adapters: a new graph with every module's nodes after the node it wraps, and uses
 * of the wrapped output replaced. Names of trainables: "MODULE.NODE.weight". */
Graph *adapters_inject(const Graph *g, Modules *m, bool training, Err *e);

/* What `save:` of a module's adapter writes for one scheme ("kohya"): key and tensor of g
 * (any graph after inject-adapters), or key and number. Tensors that modules share have no
 * module in their key but their shape ("vera_A.64x320"), and come from each of them. */
typedef struct SavedTensor {
    const char *key; /* full key */
    Id value;        /* or NO_ID */
    double number;   /* alpha … */
    Type type;       /* as stored: 4-D where the wrapped weight is */
} SavedTensor;
bool module_saved(Arena *a, const Module *m, const Graph *g, const char *scheme,
                  SavedTensor **out, int *n, Err *e);

/* What a file holds of one module, by the keys of `save:` ("lora_down.weight"). */
typedef struct StoredTensor {
    const char *key;
    Type type;
    double number; /* of a tensor of one element */
} StoredTensor;
/* Adds to `out` the adapter's arguments that the tensors tell: one that stands alone in a
 * dimension of a tensor's declared shape or is a node's whole `out:`, one that is saved
 * alone or under its own name, and `absent:` for keys that are not there. */
bool module_args_read(Arena *a, const Doc *adapter, const char *scheme,
                      const StoredTensor *t, int n, Args *out, Err *e);
/* Are these just the keys that a module of the adapter can have? Lines under `absent:`, and
 * of tensors that are shared or made on a condition, may be missing. */
bool module_keys_fit(const Doc *adapter, const char *scheme, const StoredTensor *t,
                     int n);

/* What `norm:` of a module's adapter says: the change of the weight, whose length is the
 * module's norm, and the tensors (places in Module.tensor) that are scaled when it is too
 * long, each by the n_scale-th root. */
typedef struct ModuleNorm {
    Id of;
    int *scale, n_scale;
} ModuleNorm;
/* Adds the nodes that make it. now: per tensor of the module, its value in b->g. An adapter
 * without `norm:` is an error. */
bool module_norm(Build *b, const Module *m, const Id *now, ModuleNorm *out, Err *e);

/* ---- optimizers ---- */
/* An optimizer document as one program, if every update node is a formula. */
typedef struct UpdateState {
    const char *name;
    double start;
    bool scalar; /* does not depend on p or g: one number per slice */
} UpdateState;
typedef struct UpdateProgram {
    /* "NAME = …; …" over p, g, lr and the states; the last value given to p and to each
     * state name is the new one */
    const char *formula;
    UpdateState *state;
    int n_state;
} UpdateProgram;
bool build_update(Arena *a, const Doc *d, const Args *args, UpdateProgram *out, Err *e);
/* Does every node have a formula, and is no state shared or coded? */
bool update_is_program(const Doc *d);

/* One parameter of an optimizer that is no program. */
typedef struct UpdateParam {
    const char *name; /* its states are NAME.STATE, or NAME.STATE.codes and .scale */
    Id p, grad;       /* the gradient as it counts: scaled, clipped */
    Id lr;            /* f64[] */
    Id active;        /* i32[slices], 1 for those that learn; or NO_ID */
    int slice_axis;   /* -1: one slice */
    int64_t slice_size;
    bool watch; /* the document only looks at p: a running mean of it */
} UpdateParam;
/* Appends the update of all n parameters: their new values and states are assigned where ok
 * (a number) is not 0. A shared state is "OPTIMIZER.STATE". */
bool build_update_nodes(Build *b, const Doc *d, const Args *args, const UpdateParam *p,
                        int n, Id ok, Err *e);
#endif
