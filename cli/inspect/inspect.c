/* `graphrun inspect PLAN`: what is in a plan file, and why. */
#include "cli/inspect/inspect.h"

#include <stdio.h>
#include <string.h>

#include "cli/job/job_plan.h"
#include "cli/opt.h"
#include "cli/trace.h"
#include "io/tensors.h"

typedef struct InspectOptions {
    const char *part, *html, *dot, *times, *card;
} InspectOptions;

static const char *const words_of_part[] = {INSPECT_PARTS, NULL};

/* clang-format off */
static const Opt options[] = {
    OPT(InspectOptions, TEXT, part, "PART", "one part of the text only", .words = words_of_part),
    OPT(InspectOptions, TEXT, card, "NAME", "what a step would take on a graphics card, by its roofline; all: on each that is known"),
    OPT(InspectOptions, TEXT, html, "FILE", "write one page with drawings and tables, which needs no network"),
    OPT(InspectOptions, TEXT, dot, "FILE", "write the steps as a graph for Graphviz"),
    OPT(InspectOptions, TEXT, times, "TRACE", "measured times, of `train --profile TRACE`"),
    OPT_END,
};
/* clang-format on */
static const InspectOptions defaults = {0};

static bool write_text(const char *path, const Str *s, Err *e) {
    return file_write(path, s->s ? s->s : "", s->n, e);
}

/* To a file each, then text or JSON to stdout unless only files were asked for. */
static bool views(const Common *c, const InspectOptions *o, Arena *a, const Plan *p,
                  const WordList *words, const StepTimes *t, Err *e) {
    Str s = {0};
    bool ok = true;
    if (o->html) {
        inspect_html(&s, a, p, t);
        ok = write_text(o->html, &s, e);
        str_free(&s);
        s = (Str){0};
    }
    if (ok && o->dot) {
        inspect_dot(&s, a, p);
        ok = write_text(o->dot, &s, e);
        str_free(&s);
        s = (Str){0};
    }
    if (ok && o->card)
        ok = inspect_card(&s, a, p, o->card, e);
    else if (ok && words->n == 3)
        ok = inspect_why(&s, a, p, words->word[2], t, e);
    else if (ok && c->json)
        inspect_json(&s, a, p, "", t);
    else if (ok && ((!o->html && !o->dot) || o->part))
        inspect_text(&s, a, p, o->part, t);
    if (ok && s.s) fputs(s.s, stdout);
    str_free(&s);
    return ok;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    const InspectOptions *o = opts;
    if (words->n == 2 || (words->n == 3 && strcmp(words->word[1], "why"))) {
        err_usage(e, "got '%s' behind the plan, want `why NODE`", words->word[1]);
        return EXIT_MISUSE;
    }
    if (o->card && (c->json || o->part || words->n == 3)) {
        err_usage(e,
                  "--card has a text of its own: neither --json nor --part nor `why`");
        return EXIT_MISUSE;
    }
    if (words->n == 3 && c->json) {
        err_usage(e, "`why` has no JSON; `inspect PLAN --json` has every step");
        return EXIT_MISUSE;
    }
    Arena *a = arena_new();
    bool old;
    StepTimes t = {0};
    Plan *p = job_plan_read(a, words->word[0], &old, e);
    bool ok = p != NULL;
    if (ok && o->times) {
        t.seconds = trace_read(a, o->times, p, &t.runs, e);
        ok = t.seconds != NULL;
    }
    ok = ok && views(c, o, a, p, words, o->times ? &t : NULL, e);
    arena_free(a);
    return ok ? EXIT_DONE : e->code;
}

const Command cmd_inspect = {
    .name = "inspect",
    .args = "PLAN [why NODE]",
    .doc = "Shows a plan: memory over time, work by block, every node and why it is "
           "there.",
    .options = options,
    .size = sizeof(InspectOptions),
    .defaults = &defaults,
    .min_words = 1,
    .max_words = 3,
    .run = run,
};
