/* From prompts and options to a list of pictures to draw (see generate.h). */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "cli/generate/generate.h"
#include "io/prompt_variants.h"
#include "kernels/rng.h"

/* Seeds that are not given: numbers of a list that begins with --seed. */
static int64_t nth_seed(uint64_t seed, int64_t n) {
    uint32_t c[4] = {(uint32_t)n, rng_stream("generate", "seeds"), 0, 0};
    philox(c, (uint32_t)seed, (uint32_t)(seed >> 32));
    return c[0] & 0x7FFFFFFF; /* as sd-scripts: below 2^31 */
}

static bool size_of(const char *what, int64_t pixels, int *out, Err *e) {
    *out = (int)(pixels / LATENT_FACTOR);
    return (pixels % LATENT_FACTOR == 0 && pixels >= 64 && pixels <= 4096) ||
           err_usage(e, "%s is %lld, want a multiple of %d of 64 ... 4096", what,
                     (long long)pixels, LATENT_FACTOR);
}

static const double *multipliers(Generate *g, const PromptLine *p) {
    double *m = NEW(g->arena, double, g->n_use + 1);
    for (int i = 0; i < g->n_use; i++) {
        const int last = i < p->n_multiplier ? i : p->n_multiplier - 1;
        m[i] = last >= 0 ? p->multiplier[last] : g->use[i].multiplier;
    }
    return m;
}

/* NAN: none. Guidance itself has to be there (sd-scripts too). */
static double negative_scale(const GenerateOptions *o, const PromptLine *p) {
    const double scale = isnan(p->scale) ? o->scale : p->scale;
    const double own = isnan(p->negative_scale) ? o->negative_scale : p->negative_scale;
    return scale > 1 && own >= 0 ? own : NAN;
}

/* Of a sample: the next smaller size that there is. */
static int64_t rounded(const Generate *g, int64_t pixels) {
    if (!g->while_training) return pixels;
    return pixels < 64 ? 64 : pixels - pixels % LATENT_FACTOR;
}

static bool request_of(Generate *g, const PromptLine *p, Request *r, Err *e) {
    const GenerateOptions *o = g->o;
    *r = (Request){.raw = p->line ? p->line : p->prompt,
                   .prompt = p->prompt,
                   .negative = p->negative ? p->negative : "",
                   .steps = p->steps == PROMPT_UNSET ? o->steps : p->steps,
                   .seeded = p->n_seed > 0,
                   .scale = isnan(p->scale) ? o->scale : p->scale,
                   .negative_scale = negative_scale(o, p),
                   .clip = p->clip,
                   .multiplier = multipliers(g, p)};
    r->sampler = draw_sampler_doc(g->draw, p->sampler ? p->sampler : o->sampler, e);
    return r->sampler &&
           size_of("the width", p->w == PROMPT_UNSET ? o->W : rounded(g, p->w), &r->w,
                   e) &&
           size_of("the height", p->h == PROMPT_UNSET ? o->H : rounded(g, p->h), &r->h,
                   e);
}

/* Runs of the sampler that the progress counts. */
static bool count_runs(Generate *g, const Request *r, int64_t steps, int64_t begin,
                       bool picture, Err *e) {
    const DrawShape shape = {.sampler = r->sampler, .steps = steps, .first = begin};
    int64_t runs, first = 0;
    if (!draw_runs(g->draw, &shape, &runs, e)) return false;
    if (picture && !draw_first_run(g->draw, &shape, &first, e)) return false;
    g->all += runs - first;
    return true;
}

/* Of n steps the last int(n strength) and one more are run (training.md 8: the schedule's
 * offset is 1), at most all: the first of them. */
static int64_t first_step(int64_t steps, double strength) {
    const int64_t run = (int64_t)((double)steps * strength) + 1;
    return run < steps ? steps - run : 0;
}

/* Highres fix: as in sd-scripts, what is drawn first has sides that are multiples of 32. */
static bool small_first(Generate *g, double strength, Request *r, Err *e) {
    enum { UNIT = 32 / LATENT_FACTOR, LEAST = 64 / LATENT_FACTOR };
    const GenerateOptions *o = g->o;
    if (isnan(o->highres_fix_scale)) return true;
    r->small = (struct Small){.w = (int)(r->w * o->highres_fix_scale) / UNIT * UNIT,
                              .h = (int)(r->h * o->highres_fix_scale) / UNIT * UNIT,
                              .steps = o->highres_fix_steps};
    if (r->small.w < LEAST || r->small.h < LEAST)
        return err_usage(e,
                         "--highres_fix_scale: %g of %d x %d is %d x %d, want at "
                         "least 64 x 64",
                         o->highres_fix_scale, r->w * LATENT_FACTOR,
                         r->h * LATENT_FACTOR, r->small.w * LATENT_FACTOR,
                         r->small.h * LATENT_FACTOR);
    const double own = o->highres_fix_strength;
    if (r->image)
        r->small.first = first_step(r->small.steps, isnan(own) ? strength : own);
    r->first = first_step(r->steps, strength);
    return true;
}

static bool begin_with(Generate *g, const PromptLine *p, int64_t at, Request *r,
                       Err *e) {
    const char **path[2] = {&r->image, &r->mask};
    for (int i = 0; i < 2; i++) {
        int n = 0;
        while (g->source[i] && g->source[i][n]) n++;
        if (n) *path[i] = g->source[i][at % n];
    }
    const double strength = isnan(p->strength) ? g->o->strength : p->strength;
    if (r->image) r->first = first_step(r->steps, strength);
    return small_first(g, strength, r, e);
}

static void tell_ignored(const Generate *g, const PromptLine *p) {
    for (int i = 0; i < p->n_ignored && !g->common->quiet; i++)
        fprintf(stderr, "note: '--%s' is no option of a prompt and has no effect\n",
                p->ignored[i]);
}

static bool prompts(Generate *g, PromptLine **out, int *n, Err *e) {
    if (!g->o->prompt)
        return prompt_file(g->arena, g->o->from_file, g->while_training, out, n, e);
    *n = 1;
    *out = NEW(g->arena, PromptLine, 1);
    prompt_line(g->arena, g->o->prompt, g->while_training, *out);
    return true;
}

typedef struct Drawing { /* where the list of pictures is */
    uint64_t seed;       /* of the list of seeds */
    bool single;         /* one picture is asked for: its seed is --seed itself */
    int64_t iteration, drawn;
} Drawing;

/* at: which seed of the prompt's own it is. */
static bool add_request(Generate *g, const PromptLine *p, Request r, Drawing *d,
                        int64_t at, Err *e) {
    const GenerateOptions *o = g->o;
    r.seed = p->n_seed                ? p->seed[at % p->n_seed]
             : d->single && !d->drawn ? o->seed
             : o->iter_same_seed      ? nth_seed(d->seed, d->iteration)
                                      : nth_seed(d->seed, d->drawn);
    if (!begin_with(g, p, d->drawn++, &r, e)) return false;
    PUSH(g->arena, g->request, g->n, g->cap, r);
    return count_runs(g, &r, r.steps, r.first, r.image || r.small.w, e) &&
           (!r.small.w ||
            count_runs(g, &r, r.small.steps, r.small.first, r.image != NULL, e));
}

/* A line with choices becomes several prompts, each drawn once, as in sd-scripts. */
static bool add_prompt(Generate *g, const PromptLine *of, int index, Drawing *d,
                       Err *e) {
    const int64_t images = g->o->images_per_prompt;
    const uint64_t seed = d->seed + ((uint64_t)index << 20) + (uint64_t)d->iteration;
    const char **text = NULL;
    int n = 1;
    if (of->line && !g->while_training &&
        !prompt_variants(g->arena, of->line, images, seed, &text, &n, e))
        return false;
    for (int i = 0; i < n; i++) {
        PromptLine p = *of;
        Request r;
        if (text) prompt_line(g->arena, text[i], false, &p);
        if (d->iteration == 0 && i == 0) tell_ignored(g, &p);
        if (!request_of(g, &p, &r, e)) return false;
        for (int64_t k = 0; k < (n > 1 ? 1 : images); k++)
            if (!add_request(g, &p, r, d, d->iteration * images + k, e)) return false;
    }
    return true;
}

bool generate_requests(Generate *g, Err *e) {
    const GenerateOptions *o = g->o;
    PromptLine *line;
    int n;
    if (!prompts(g, &line, &n, e)) return false;
    Drawing d = {.seed = (uint64_t)o->seed};
    if (o->seed == UNSET_INT && getrandom(&d.seed, sizeof d.seed, 0) != sizeof d.seed)
        d.seed = (uint64_t)time(NULL);
    d.single =
        o->seed != UNSET_INT && o->n_iter == 1 && n == 1 && o->images_per_prompt == 1;
    for (; d.iteration < o->n_iter; d.iteration++)
        for (int i = 0; i < n; i++)
            if (!add_prompt(g, &line[i], i, &d, e)) return false;
    return true;
}
