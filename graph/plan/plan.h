/* The Plan: which kernel, in which order, at which offset. Made by passes/lower, replayed
 * by runtime/; the two rooms meet here. */
#ifndef GRAPHRUN_PLAN_H
#define GRAPHRUN_PLAN_H
#include "graph/op.h"

enum { PLAN_VERSION = 2 }; /* of the plan file; another number is refused */

typedef enum Mem {
    MEM_ACT,   /* activations, gradients: one arena, reused over the step */
    MEM_STATE, /* trainables and optimizer state: lives as long as the run */
    MEM_INPUT, /* batch fields and step scalars, written by the host */
    MEM_CONST,
    MEM_WEIGHT, /* frozen tensors, in the checkpoint's dtype, mapped from the file */
    MEM_WORK,   /* workspace of the running step */
    MEMS
} Mem;
const char *mem_name(Mem m);

typedef struct PlanValue {
    Type type;
    Role role;
    Mem mem;
    uint64_t offset, bytes; /* of MEM_WEIGHT: no offset, found by name */
    const char *name;       /* non-activations; else NULL */
    const double *data;     /* CONST */
    const Param *param;     /* FROZEN, TRAIN, STATE */
    uint32_t first, last;   /* steps that write and last read it */
    uint32_t base; /* whose memory it is: itself, or what it views or overwrites */
} PlanValue;

typedef struct PlanStep {
    const Op *op;
    const Kernel *kernel;
    const void *attrs;
    const uint32_t *in, *out; /* indices into Plan.value; UINT32_MAX: absent */
    int n_in, n_out;
    uint64_t work_bytes; /* at offset 0 of MEM_WORK */
    uint64_t flops, bytes;
    Place at;
} PlanStep;

/* An adapter's module, for people who look at a plan: nothing in a replay reads it. */
typedef struct PlanAdapter {
    const char *name, *kind;   /* "lora_unet_…", the adapter document "lora" */
    const char *path;          /* of the node it wraps: "unet.down_blocks.0…to_q" */
    int block;                 /* -1: none */
    double rank, alpha, scale; /* NAN: it has none; scale: alpha as saved / rank */
    uint64_t parameters;
} PlanAdapter;

/* One part of what a plan was made from, so that a plan that no longer fits can say why. */
typedef struct PlanPart {
    const char *name; /* "document networks/unet.yaml", "shape" */
    uint64_t hash;
} PlanPart;

typedef struct Plan {
    Arena *arena;
    const char *name;
    PlanValue *value;
    uint32_t n_value;
    PlanStep *step;
    uint32_t n_step;
    uint64_t size[MEMS];
    uint64_t act_lower_bound; /* largest sum of live activations at one step */
    Output *output;           /* value: index into `value` */
    uint32_t n_output;
    const char *const *blocks;
    const char *report; /* lines of the passes, or NULL */
    const PlanAdapter *adapter;
    uint32_t n_adapter;
    const PlanPart *part;
    uint32_t n_part;
    uint8_t key[16];   /* of all parts together; zeros: made without a key */
    struct Plan *init; /* computes trainables that start as a value; its outputs have
                               their names. NULL: there are none */
} Plan;
/* Are its kernels a GPU's? All of a plan's are of one device. */
bool plan_is_cuda(const Plan *p);
void plan_print(
    Str *s, const Plan *p); /* step, kernel, +offset of each operand, bytes, origin */
/* The independent checker (graph/plan/plan_verify.c), for plans just made and for files from
 * anywhere: after it, a replay reads and writes only its own memory. */
bool plan_verify(const Plan *p, Err *e);
/* Is it written before each step: a field of the batch or a step scalar? */
bool plan_has_input(const Plan *p, const char *name);
#endif
