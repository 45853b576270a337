/* What a plan says about itself: bytes, work, what lives when and why. Computed from the
 * plan alone, for compile, inspect, diff and train --dry-run. */
#ifndef GRAPHRUN_PLAN_FACTS_H
#define GRAPHRUN_PLAN_FACTS_H
#include "graph/plan/plan.h"

typedef struct PlanTotals {
    uint64_t activation_peak; /* largest sum of live activations at one step */
    uint64_t saved;           /* activations made by the forward pass, read after it */
    uint64_t arena, lower_bound;
    uint64_t weights, state, work, other, total;
    uint64_t flops, bytes; /* of one step */
    uint32_t nodes, steps; /* nodes: steps and views */
} PlanTotals;
PlanTotals plan_totals(const Plan *p);

/* Live bytes of activations at each step; n_step entries. */
uint64_t *plan_timeline(Arena *a, const Plan *p);
/* The step at which most are alive. */
uint32_t plan_peak_step(const Plan *p, const uint64_t *timeline);
/* The first step behind the one that makes the output "loss"; the number of steps if the
 * plan does not train. */
uint32_t plan_backward(const Plan *p);
/* Activations that own memory and live at a step, largest first. */
uint32_t *plan_alive(Arena *a, const Plan *p, uint32_t step, uint32_t *n);
/* "saved for the backward pass: read by step 812 conv2d_grad_x" */
const char *plan_why_alive(Arena *a, const Plan *p, uint32_t value, uint32_t step);
/* "act+1234", "@unet.conv_in.weight" */
const char *plan_value_text(Arena *a, const Plan *p, uint32_t value);
/* "networks/unet.yaml:131", or "" */
const char *plan_place(Arena *a, const PlanStep *t);
const char *plan_block(const Plan *p, int block); /* "-": none */

/* A machine for estimates: what a step costs at least. */
typedef struct Roofline {
    double flops, bytes; /* per second */
} Roofline;
/* Seconds; *memory: bound by bytes rather than by arithmetic. */
double plan_step_time(const Roofline *r, const PlanStep *t, bool *memory);
/* Rates of this machine with all its cores, by its instruction set. */
Roofline roofline_here(void);

/* Work and memory of one block (-1: none) in one phase. */
typedef struct BlockSum {
    int block;
    Phase phase;
    uint32_t steps;
    uint64_t flops, bytes, saved;
    double seconds;
} BlockSum;
/* By block and phase, in this order; those without a step are left out. */
BlockSum *plan_blocks(Arena *a, const Plan *p, const Roofline *r, int *n);
#endif
