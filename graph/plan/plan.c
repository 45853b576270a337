/* The Plan's text form. */
#include "graph/plan/plan.h"

#include "graph/text.h"

#include <string.h>

const char *mem_name(Mem m) {
    static const char *const names[] = {"act",   "state",  "input",
                                        "const", "weight", "work"};
    return m < MEMS ? names[m] : "?";
}

static void print_operand(Str *s, const Plan *p, uint32_t v) {
    if (v == UINT32_MAX) {
        str_add(s, "_");
        return;
    }
    const PlanValue *x = &p->value[v];
    if (x->mem == MEM_WEIGHT)
        str_printf(s, "@%s", p->value[x->base].name);
    else if (x->name)
        str_printf(s, "@%s+%llu", x->name, (unsigned long long)x->offset);
    else
        str_printf(s, "%s+%llu", mem_name(x->mem), (unsigned long long)x->offset);
}

static void print_step(Str *s, const Plan *p, uint32_t k) {
    const PlanStep *t = &p->step[k];
    str_printf(s, "  %u %s/%s", k, t->op->name, t->kernel->name);
    for (int i = 0; i < t->n_in; i++) {
        str_add(s, i ? ", " : " ");
        print_operand(s, p, t->in[i]);
    }
    str_add(s, " ->");
    for (int i = 0; i < t->n_out; i++) {
        str_add(s, i ? ", " : " ");
        print_operand(s, p, t->out[i]);
        str_add(s, " ");
        type_print(s, &p->value[t->out[i]].type);
    }
    str_printf(s, " {flops=%llu, bytes=%llu", (unsigned long long)t->flops,
               (unsigned long long)t->bytes);
    if (t->work_bytes) str_printf(s, ", work=%llu", (unsigned long long)t->work_bytes);
    str_add(s, "}");
    place_print(s, &t->at, p->blocks);
    str_add(s, "\n");
}

void plan_print(Str *s, const Plan *p) {
    str_printf(s, "plan %s {\n  memory", p->name);
    for (Mem m = 0; m < MEMS; m++)
        str_printf(s, " %s=%llu", mem_name(m), (unsigned long long)p->size[m]);
    str_printf(s, " act_lower_bound=%llu\n", (unsigned long long)p->act_lower_bound);
    for (uint32_t k = 0; k < p->n_step; k++) print_step(s, p, k);
    for (uint32_t i = 0; i < p->n_output; i++) {
        str_printf(s, "  output %s = ", p->output[i].name);
        print_operand(s, p, p->output[i].value);
        str_add(s, "\n");
    }
    str_add(s, "}\n");
    if (p->init) plan_print(s, p->init);
}

bool plan_has_input(const Plan *p, const char *name) {
    for (uint32_t i = 0; i < p->n_value; i++)
        if (p->value[i].mem == MEM_INPUT && p->value[i].name &&
            !strcmp(p->value[i].name, name))
            return true;
    return false;
}
