/* The dynamic loss scale of fp16: what the backward pass starts with instead of 1, so that
 * small gradients are not rounded to 0, and how it changes from update to update. All of it
 * is in the graph: two states, written over at the end of the step.
 *
 *   loss_scale       starts at 2^16; halved after an update whose gradients were not finite
 *                    (and which was not made), but not below 1; doubled after 2000 updates
 *                    that were made, but not above 2^24
 *   loss_scale.good  updates made since it changed last
 *   loss_scale.skipped  updates that were not made, ever: a learning rate follows those that
 *                    were
 *
 * A loss that is not finite itself is another event: the scale is not to blame and stays.
 * The numbers are those of torch.cuda.amp.GradScaler; floor and cap are our own. */
#include "ops/ops.h"
#include "passes/private.h"

#define LOSS_SCALE_START 65536
#define GOOD_UPDATES     "2000"
#define LOSS_SCALE_MOST  "16777216"

bool scales_loss(const Options *opt) {
    return opt->mixed_precision == PRECISION_FP16 && opt->recipe &&
           opt->recipe->optimizer;
}

static Id number_state(Graph *g, const char *name, double start) {
    Id id = graph_value(g, ROLE_STATE, type_scalar(F32), name, loc_none());
    Param *p = param_new(g->arena);
    p->init.kind = start == 0 ? INIT_ZEROS : INIT_CONSTANT;
    p->init.number = start;
    g->value[id]->param = p;
    return id;
}

Id loss_scale_new(Graph *g) {
    return number_state(g, "loss_scale", LOSS_SCALE_START);
}

Id loss_scale_of(const Graph *g) {
    return graph_find(g, "loss_scale");
}

static bool put_over(Graph *g, Id state, Id value, Err *e) {
    Id in[] = {state, value};
    return value != NO_ID && graph_op(g, &op_assign, NULL, 2, in, e) != NO_ID;
}

/* x0: the scale, x1: good updates, x2: are the gradients finite, x3: is the loss, x4: is
 * this an update. */
bool loss_scale_next(Graph *g, Id loss, Id norm, Id update, Err *e) {
    Id in[] = {loss_scale_of(g), number_state(g, "loss_scale.good", 0),
               graph_op(g, &op_finite, NULL, 1, &norm, e),
               graph_op(g, &op_finite, NULL, 1, &loss, e),
               update == NO_ID ? graph_number(g, 1, F32) : update};
    if (in[2] == NO_ID || in[3] == NO_ID) return false;
    Id scale = graph_formula(g,
                             "where(x4 == 0, x0, where(x2 == 1, "
                             "where(x1 + 1 >= " GOOD_UPDATES
                             ", min(x0 * 2, " LOSS_SCALE_MOST "), x0), "
                             "where(x3 == 1, max(x0 / 2, 1), x0)))",
                             5, in, e);
    Id rest[] = {in[1], in[2], in[3], in[4]};
    Id skipped = number_state(g, "loss_scale.skipped", 0);
    Id all[] = {skipped, in[2], in[3], in[4]};
    Id more = graph_formula(g, "x0 + where(x1 * x2 == 1, 0, x3)", 4, all, e);
    Id good = graph_formula(g,
                            "where(x3 == 0, x0, where(x1 == 1, "
                            "where(x0 + 1 >= " GOOD_UPDATES ", 0, x0 + 1), "
                            "where(x2 == 1, 0, x0)))",
                            4, rest, e);
    return put_over(g, in[0], scale, e) && put_over(g, in[1], good, e) &&
           put_over(g, skipped, more, e);
}
