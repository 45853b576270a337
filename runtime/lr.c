/* Learning-rate schedules. In the formulas i counts updates from 0, N is the number of
 * updates of the run, w those of the warm-up, q the part of the rest that is over. */
#include "runtime/lr.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct LrFormula {
    const char *name;
    double (*factor)(const LrSchedule *s, double i);
    bool warms; /* rises from 0 over the first w updates */
};

static double most(double a, double b) {
    return a > b ? a : b;
}

static double over(const LrSchedule *s, double i) {
    return (i - s->warmup) / most(1, (double)s->steps - s->warmup);
}

static double constant(const LrSchedule *s, double i) {
    (void)s, (void)i;
    return 1;
}

static double linear(const LrSchedule *s, double i) {
    return most(0, ((double)s->steps - i) / most(1, (double)s->steps - s->warmup));
}

/* Half a turn; beyond N it rises again, as there. */
static double cosine(const LrSchedule *s, double i) {
    return most(0, 0.5 * (1 + cos(M_PI * over(s, i))));
}

static double restarts(const LrSchedule *s, double i) {
    double q = over(s, i);
    return q >= 1 ? 0 : most(0, 0.5 * (1 + cos(M_PI * fmod(s->cycles * q, 1))));
}

static double polynomial(const LrSchedule *s, double i) {
    const double end = 1e-7;
    if (i > (double)s->steps) return end / s->base;
    double rest = 1 - (i - s->warmup) / ((double)s->steps - s->warmup);
    return ((s->base - end) * pow(rest, s->power) + end) / s->base;
}

static double inverse_sqrt(const LrSchedule *s, double i) {
    double scale = s->timescale > 0 ? s->timescale : s->warmup > 0 ? s->warmup : 10000;
    return 1 / sqrt((i + scale - s->warmup) / scale);
}

static double falling(const LrSchedule *s, double q) {
    double f = 0.5 * (1 + cos(M_PI * s->cycles * q));
    return most(0, f * (1 - s->min_ratio) + s->min_ratio);
}

static double cosine_min(const LrSchedule *s, double i) {
    return falling(s, over(s, i));
}

/* Its warm-up starts at the smallest rate, not at 0. */
static double stable_decay(const LrSchedule *s, double i) {
    double n = (double)s->steps, decay = n - s->decay;
    if (i < s->warmup) return i / s->warmup * (1 - s->min_ratio) + s->min_ratio;
    if (i < decay) return 1;
    return i < n ? falling(s, (i - decay) / most(1, s->decay)) : s->min_ratio;
}

static double piecewise(const LrSchedule *s, double i) {
    int k = 0;
    while (k < s->n_rule - 1 && i >= s->until[k]) k++;
    return s->factor[k];
}

static const LrFormula formula[] = {
    {"constant", constant, false},
    {"constant_with_warmup", constant, true},
    {"linear", linear, true},
    {"cosine", cosine, true},
    {"cosine_with_restarts", restarts, true},
    {"polynomial", polynomial, true},
    {"inverse_sqrt", inverse_sqrt, true},
    {"cosine_with_min_lr", cosine_min, true},
    {"warmup_stable_decay", stable_decay, false},
    {"piecewise_constant", piecewise, false},
};

static const LrFormula *find(Arena *a, const char *name, Err *e) {
    const char *names[COUNT(formula) + 1] = {0};
    for (size_t i = 0; i < COUNT(formula); i++) {
        names[i] = formula[i].name;
        if (!strcmp(formula[i].name, name)) return &formula[i];
    }
    err_usage(e, "--lr_scheduler: no schedule '%.60s'%s", name,
              did_you_mean(a, name, names));
    return NULL;
}

/* "1:10,0.1:20,0.05": 1 for the first 10 updates, 0.1 up to the 20th, then 0.05. */
static bool read_rules(LrSchedule *s, Err *e) {
    const char *at = s->rules ? s->rules : "";
    double before = 0;
    for (s->n_rule = 0; s->n_rule < LR_RULES; at++) {
        char *end;
        double f = strtod(at, &end), until = INFINITY;
        if (end == at || !isfinite(f)) break;
        at = end;
        if (*at == ':') {
            until = strtod(at + 1, &end);
            if (end == at + 1 || !(until > before)) break;
            at = end;
        }
        s->factor[s->n_rule] = f;
        s->until[s->n_rule++] = before = until;
        if (!*at && isinf(until)) return true;
        if (*at != ',' || isinf(until)) break;
    }
    return err_usage(e,
                     "piecewise_constant: step_rules is '%s', want 'FACTOR:UPDATE,…,"
                     "FACTOR' with rising updates, at most %d pieces",
                     s->rules ? s->rules : "", LR_RULES);
}

static bool in_updates(const LrSchedule *s, const char *what, double *x, Err *e) {
    if (!(*x >= 0 && *x <= 1e9))
        return err_usage(e, "%s: got %g, want 0 … 1e9", what, *x);
    *x = *x < 1 ? floor(*x * (double)s->steps) : floor(*x);
    return true;
}

bool lr_schedule(Arena *a, LrSchedule *s, Err *e) {
    s->formula = find(a, s->name, e);
    if (!s->formula || !in_updates(s, "--lr_warmup_steps", &s->warmup, e) ||
        !in_updates(s, "--lr_decay_steps", &s->decay, e))
        return false;
    if (s->formula->factor == constant && !s->formula->warms && s->warmup != 0)
        return err_usage(e,
                         "--lr_scheduler constant has no warm-up, got "
                         "--lr_warmup_steps %g: use constant_with_warmup",
                         s->warmup);
    if (s->formula->factor == polynomial && !(s->base > 1e-7))
        return err_usage(e,
                         "--lr_scheduler polynomial ends at a rate of 1e-7: "
                         "--learning_rate %g is not above it",
                         s->base);
    return s->formula->factor != piecewise || read_rules(s, e);
}

double lr_factor(const LrSchedule *s, int64_t i) {
    double at = (double)i;
    if (s->formula->warms && at < s->warmup) return at / most(1, s->warmup);
    return s->formula->factor(s, at);
}
