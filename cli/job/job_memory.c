/* How much memory a step may take: the command line's words, else the recipe's. */
#include <stdlib.h>
#include <string.h>

#include "cli/job/job_plan.h"

bool byte_size(const char *text, uint64_t *out) {
    static const struct {
        const char *name;
        double bytes;
    } units[] = {{"", 1},         {"B", 1},        {"KiB", 0x1p10},
                 {"MiB", 0x1p20}, {"GiB", 0x1p30}, {"TiB", 0x1p40}};
    char *end;
    if (*text < '0' || *text > '9') return false;
    double x = strtod(text, &end);
    while (*end == ' ') end++;
    for (size_t i = 0; i < COUNT(units); i++) {
        if (strcmp(end, units[i].name)) continue;
        x *= units[i].bytes;
        *out = x >= 1 && x <= 0x1p62 ? (uint64_t)x : 0;
        return *out > 0;
    }
    return false;
}

static bool budget(const char *text, const Val *v, Loc loc, uint64_t *out, Err *e) {
    double x;
    if (text && byte_size(text, out)) return true;
    if (v && v->kind == VAL_WORD && byte_size(v->word, out)) return true;
    if (v && val_number(v, &x) && x >= 1 && x <= 0x1p62)
        return *out = (uint64_t)x, true;
    if (text)
        return err_usage(e, "--memory_budget: got '%s', want bytes, or as 6GiB", text);
    return err_at(e, loc, "'memory_budget': want bytes, or a size as 6GiB");
}

bool job_memory(const Job *j, const char *text, bool checkpoint, Options *opt, Err *e) {
    double on = 0;
    const Args *train = j->recipe.train;
    if (!job_number(j, train, "gradient_checkpointing", 0, &on, e)) return false;
    opt->gradient_checkpointing = checkpoint || on != 0;
    const Val *v = args_get(train, "memory_budget");
    if (!v) v = args_get(j->recipe.plan, "memory_budget");
    if (!text && !v) return true;
    return budget(text, v, v ? v->loc : loc_none(), &opt->memory_budget, e);
}
