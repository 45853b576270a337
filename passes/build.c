/* build: documents -> graph. The work is graph/lang/build.h's; here the outputs that this run
 * does not want are left out again, so that nothing is kept alive for them. */
#include "passes/private.h"

#include <string.h>

static bool recorded(const Options *opt, const char *name) {
    if (!strcmp(name, "loss") || !strncmp(name, "log.", 4)) return true;
    for (const char *const *r = opt->record; r && *r; r++)
        if (!strcmp(*r, name)) return true;
    return false;
}

Graph *pass_build(Graph *g, Options *opt, Err *e) {
    const Recipe *r = opt->recipe;
    Build b = {.g = g,
               .net = opt->net,
               .n_net = opt->n_net,
               .training = opt->train,
               .given = opt->given,
               .absent = opt->absent};
    if (!build_objective(&b, r->objective, r->objective_args, opt->dims, e))
        return NULL;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < g->n_output; i++)
        if (recorded(opt, g->output[i].name)) g->output[kept++] = g->output[i];
    g->n_output = kept;
    report(g, "build: %u nodes, %u values, %u outputs", g->n_node, g->n_value, kept);
    return g;
}
