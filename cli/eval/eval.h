/* `graphrun eval`: one document alone, on tensors from a file. Shared by its kinds. */
#ifndef GRAPHRUN_EVAL_H
#define GRAPHRUN_EVAL_H
#include "cli/files/adapter_use.h"
#include "cli/job/job.h"
#include "cli/opt.h"

typedef struct EvalOptions {
    const char *variant, *weights, *inputs, *record, *mixed_precision;
    const char *network_weights, *adapter, *device;
    WordList set, network_args;
    bool grad, exact;
    int64_t seed;
} EvalOptions;

typedef struct Eval {
    Arena *arena;
    Job job; /* library and opened models; no recipe unless an objective is evaluated */
    const EvalOptions *opt;
    const char *doc_name;
    const Doc *doc;
    Args *set;                    /* --set key=value */
    TensorFile *in;               /* --inputs */
    bool *used;                   /* per entry of `in` */
    AdapterFile *network_weights; /* put into a network, or NULL */
    AdaptersIn adapters;          /* what came of it */
    Device *dev;
    TensorOut *out; /* what --record will hold */
    int n_out, cap_out;
} Eval;

/* A tensor of the inputs file by name, marked as used; NULL: not there. */
const TensorEntry *eval_input(Eval *v, const char *name);
/* Its values in `dtype`, pictures ([B,C,H,W], rank 4) turned to channels last; *t: the type
 * afterwards. */
void *eval_read(Eval *v, const TensorEntry *entry, DType dtype, bool picture, Type *t);
void eval_record(Eval *v, const char *key, Type type, const void *data);
/* A value of the plan into the record; rank 4 is turned to [B,C,H,W] if `picture`. */
bool eval_record_value(Eval *v, Exec *x, const char *value, const char *key,
                       bool picture, Err *e);
/* Entries of the inputs file that nothing asked for: exit 2, naming the first. */
bool eval_all_used(const Eval *v, Err *e);
/* Replaces the result of every random node whose path is `prefix`NAME by the input tensor
 * NAME, where the inputs file has one. */
Graph *eval_replace_draws(Eval *v, const Graph *g, const char *prefix, Err *e);
/* With --grad: the output "loss" = sum over outputs of output * d.OUTPUT (an input tensor;
 * ones where it is missing). */
bool eval_loss(Eval *v, Graph *g, Err *e);
/* Passes, plan, store bound; weights from job_weights or the given source. */
Exec *eval_bind(Eval *v, Graph *g, Options *opt, const WeightSource *w, Store **store,
                Err *e);
/* Writes every ROLE_INPUT, and every trainable in the inputs file, then runs once. */
bool eval_run(Eval *v, Exec *x, Err *e);
/* Every output of the plan, and "g.NAME" for "grad.NAME". */
bool eval_record_outputs(Eval *v, Exec *x, Err *e);

bool eval_network(Eval *v, Err *e);
bool eval_adapter(Eval *v, Err *e);
bool eval_objective(Eval *v, Err *e);
bool eval_optimizer(Eval *v, Err *e);
#endif
