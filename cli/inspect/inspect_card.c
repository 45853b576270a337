/* `inspect --card`: what a plan for a GPU would take on a card, by its roofline.
 *
 * A step takes the larger of its arithmetic at the card's peak (products of halves: that of
 * its matrix units; all else: f32) and its bytes at the peak of memory, and then the gap to
 * the next node of the graph. Their sum is a bound: nothing of this was measured. What
 * training reaches of it is an assumption (REACHED). */
#include <stdlib.h>
#include <string.h>

#include "cli/html.h"
#include "cli/inspect/inspect.h"
#include "ops/ops.h"

static const char cards_file[] = "cli/inspect/cards.tsv";
static const double REACHED = 0.55; /* of the bound, by good kernels at batch 1 */

typedef struct Card {
    const char *name;
    double capability, half_flops, flops, bytes, memory, context, gap;
} Card;

typedef struct Cards {
    Card *item;
    const char **name; /* and NULL */
    int n, cap, cap_name;
} Cards;

static Card card_of(Arena *a, char *line) {
    Card c = {0};
    double *to[] = {&c.capability, &c.half_flops, &c.flops, &c.bytes,
                    &c.memory,     &c.context,    &c.gap};
    char *at = strchr(line, '\t');
    c.name = arena_strndup(a, line, at ? (size_t)(at - line) : strlen(line));
    for (size_t i = 0; at && i < COUNT(to); i++) {
        *to[i] = strtod(at + 1, NULL);
        at = strchr(at + 1, '\t');
    }
    c.half_flops *= 1e12, c.flops *= 1e12, c.bytes *= 1e9;
    c.memory *= 0x1p30, c.context *= 0x1p20, c.gap *= 1e-6;
    return c;
}

static Cards cards_read(Arena *a) {
    Cards all = {0};
    const EmbeddedFile *f = embedded_find(cards_file);
    const char *at = (const char *)f->data, *end = at + f->len;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        if (!stop) stop = end;
        char *line = arena_strndup(a, at, (size_t)(stop - at));
        at = stop + 1;
        if (!*line || *line == '#') continue;
        const Card c = card_of(a, line);
        int n = all.n;
        PUSH(a, all.name, n, all.cap_name, c.name);
        PUSH(a, all.item, all.n, all.cap, c);
    }
    int n = all.n;
    PUSH(a, all.name, n, all.cap_name, "all");
    PUSH(a, all.name, n, all.cap_name, NULL);
    return all;
}

/* ---- predictions ---- */

typedef struct Predicted {
    uint32_t products; /* steps that a library has kernels for */
    uint32_t by_work, by_memory;
    double work, memory, gaps; /* seconds of steps bound by each */
    double bound;
} Predicted;

static bool on_matrix_units(const Plan *p, const PlanStep *t) {
    if (!(t->op->flags & OP_LOW)) return false;
    for (int i = 0; i < t->n_in; i++)
        if (t->in[i] != UINT32_MAX && dtype_is_half(p->value[t->in[i]].type.dtype))
            return true;
    return false;
}

static Predicted predict(const Plan *p, const Card *c) {
    Predicted r = {.gaps = p->n_step * c->gap};
    for (uint32_t k = 0; k < p->n_step; k++) {
        const PlanStep *t = &p->step[k];
        const Roofline roof = {on_matrix_units(p, t) ? c->half_flops : c->flops,
                               c->bytes};
        bool memory;
        const double seconds = plan_step_time(&roof, t, &memory);
        *(memory ? &r.memory : &r.work) += seconds;
        *(memory ? &r.by_memory : &r.by_work) += 1;
        r.products += t->op->flags & OP_LOW ? 1 : 0;
    }
    r.bound = r.work + r.memory + r.gaps;
    return r;
}

/* ---- text ---- */

static void assumptions(Str *s, Arena *a, const Card *c) {
    str_add(s, "assumptions\n");
    str_printf(s, "  %-34s %10.1f TFLOP/s\n", "products of halves, sums in f32",
               c->half_flops / 1e12);
    str_printf(s, "  %-34s %10.1f TFLOP/s\n", "arithmetic in f32", c->flops / 1e12);
    str_printf(s, "  %-34s %10.0f GB/s\n", "memory", c->bytes / 1e9);
    str_printf(s, "  %-34s %10s\n", "between two nodes of a graph",
               text_seconds(a, c->gap));
    str_printf(s, "  %-34s %10.0f %%\n", "of the bound that is reached", REACHED * 100);
    str_printf(s, "  %-34s %10s\n", "context and modules (not planned)",
               text_bytes(a, c->context));
}

static void one_card(Str *s, Arena *a, const Plan *p, const Card *c) {
    const Predicted r = predict(p, c);
    const PlanTotals t = plan_totals(p);
    str_printf(s, "plan %s on %s (sm_%.0f)\n", p->name, c->name, c->capability * 10);
    str_printf(s,
               "  %u steps in a captured step, all of them kernels of graphrun; %u are "
               "products, convolutions\n  or attentions, which libraries have too\n",
               t.steps, r.products);
    str_printf(s, "  %s moved, %s\n", text_bytes(a, (double)t.bytes),
               text_flops(a, (double)t.flops));
    str_printf(s,
               "  planned on the device %s, without the context (about %s); the card "
               "has %s%s\n",
               text_bytes(a, (double)t.total), text_bytes(a, c->context),
               text_bytes(a, c->memory),
               (double)t.total + c->context > c->memory ? ": it does not fit" : "");
    str_printf(s,
               "  at least %s: arithmetic %s (%u steps), memory %s (%u steps), between "
               "steps %s\n",
               text_seconds(a, r.bound), text_seconds(a, r.work), r.by_work,
               text_seconds(a, r.memory), r.by_memory, text_seconds(a, r.gaps));
    str_printf(s, "  expected of good kernels: %s, %.1f steps a second\n",
               text_seconds(a, r.bound / REACHED), REACHED / r.bound);
    assumptions(s, a, c);
}

static void all_cards(Str *s, Arena *a, const Plan *p, const Cards *all) {
    const PlanTotals t = plan_totals(p);
    str_printf(s, "plan %s: %u steps, %s planned on the device\n", p->name, t.steps,
               text_bytes(a, (double)t.total));
    str_printf(s, "  %-12s %10s %10s %10s %10s %10s %8s\n", "card", "arithmetic",
               "memory", "between", "at least", "expected", "steps/s");
    for (int i = 0; i < all->n; i++) {
        const Predicted r = predict(p, &all->item[i]);
        str_printf(s, "  %-12s %10s %10s %10s %10s %10s %8.1f\n", all->item[i].name,
                   text_seconds(a, r.work), text_seconds(a, r.memory),
                   text_seconds(a, r.gaps), text_seconds(a, r.bound),
                   text_seconds(a, r.bound / REACHED), REACHED / r.bound);
    }
}

bool inspect_card(Str *s, Arena *a, const Plan *p, const char *name, Err *e) {
    const Cards all = cards_read(a);
    if (!plan_is_cuda(p))
        return err_usage(e, "--card: the plan is for a CPU; `compile --device cuda` "
                            "makes one for a card");
    if (!strcmp(name, "all")) {
        all_cards(s, a, p, &all);
        return true;
    }
    for (int i = 0; i < all.n; i++) {
        if (strcmp(all.item[i].name, name)) continue;
        one_card(s, a, p, &all.item[i]);
        return true;
    }
    return err_usage(e, "--card: no card '%s'%s", name,
                     nearest_or_all(a, name, all.name));
}
