/* Progress as a bar, as lines, or not at all (progress.h).
 *
 * Rate and time left come from the last WINDOW steps: a first step that was slow (weights
 * read, memory touched for the first time) is forgotten soon. */
#include "runtime/progress.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { WINDOW = 32, BAR_CELLS = 20 };

struct Progress {
    ProgressOut out;
    const char *label;
    int64_t total, done;
    double start, drawn; /* when the bar or a line was last written */
    bool open;           /* a bar is on the screen, without a newline yet */
    bool any;            /* something was drawn */
    struct {
        double when;
        int64_t done;
    } past[WINDOW]; /* a ring */
    int n_past;
};

Progress *progress_new(Arena *a, const ProgressOut *out, const char *label,
                       int64_t total) {
    Progress *p = NEW(a, Progress, 1);
    p->out = *out;
    p->label = label;
    p->total = total;
    p->start = p->out.seconds(p->out.ctx);
    p->past[0].when = p->start;
    p->n_past = 1;
    return p;
}

void progress_from(Progress *p, int64_t done) {
    p->past[0].done = p->done = done;
}

static void put(const Progress *p, const char *text) {
    p->out.put(p->out.ctx, text);
}

static void remember(Progress *p, double now) {
    int i = p->n_past % WINDOW;
    p->past[i].when = now;
    p->past[i].done = p->done;
    p->n_past++;
}

/* Steps per second over the window; 0: not known yet. */
static double rate(const Progress *p) {
    int last = (p->n_past - 1) % WINDOW;
    int first = p->n_past > WINDOW ? p->n_past % WINDOW : 0;
    double seconds = p->past[last].when - p->past[first].when;
    int64_t steps = p->past[last].done - p->past[first].done;
    return seconds > 0 && steps > 0 ? (double)steps / seconds : 0;
}

/* 75 -> "01:15", 3675 -> "1:01:15" */
static void add_time(Str *s, double seconds) {
    long long t = (long long)(seconds + 0.5);
    if (t >= 3600)
        str_printf(s, "%lld:%02lld:%02lld", t / 3600, t / 60 % 60, t % 60);
    else
        str_printf(s, "%02lld:%02lld", t / 60, t % 60);
}

/* "1.52/s", or "3.1 s each" when one takes longer than a second */
static void add_rate(Str *s, double r) {
    if (r <= 0) return;
    if (r >= 1)
        str_printf(s, "  %.3g/s", r);
    else
        str_printf(s, "  %.3g s each", 1 / r);
}

static void add_numbers(Str *s, const ProgressNumbers *n) {
    if (!n) return;
    if (isfinite(n->loss)) str_printf(s, "  loss %.4g", n->loss);
    if (isfinite(n->average)) str_printf(s, "  average %.4g", n->average);
    if (n->memory_bytes) str_printf(s, "  %.2f GiB", (double)n->memory_bytes / 0x1p30);
}

static void add_bar(Str *s, const Progress *p) {
    int64_t total = p->total > 0 ? p->total : 1;
    int filled = (int)((double)p->done / (double)total * BAR_CELLS);
    if (filled > BAR_CELLS) filled = BAR_CELLS;
    str_add(s, " [");
    for (int i = 0; i < BAR_CELLS; i++) str_add(s, i < filled ? "#" : ".");
    str_add(s, "]");
}

/* Everything but the bar's cells fits narrow terminals worst: cells go first, then the
 * tail of the line. */
static void draw(Progress *p, double now, const ProgressNumbers *n) {
    Str s = {0};
    double r = rate(p);
    bool bar = p->out.mode == PROGRESS_BAR;
    int columns = p->out.columns > 0 ? p->out.columns : 80;
    str_printf(&s, "%s %lld/%lld", p->label, (long long)p->done, (long long)p->total);
    if (bar && columns >= 100) add_bar(&s, p);
    add_rate(&s, r);
    if (p->done < p->total && r > 0) {
        str_add(&s, "  left ");
        add_time(&s, (double)(p->total - p->done) / r);
    } else if (p->done == p->total) {
        str_add(&s, "  took ");
        add_time(&s, now - p->start);
    }
    add_numbers(&s, n);
    if (bar && s.n > (size_t)columns - 1) s.s[columns - 1] = 0;
    if (bar) put(p, "\r\x1b[K"); /* back to the first column, the line erased */
    put(p, s.s);
    if (!bar) put(p, "\n");
    str_free(&s);
    p->open = bar;
    p->any = true;
    p->drawn = now;
}

static bool is_time(const Progress *p, double now) {
    if (!p->any) return p->out.mode == PROGRESS_BAR || now - p->start >= 1;
    if (p->out.mode == PROGRESS_BAR) return now - p->drawn >= 0.1;
    return now - p->drawn >= (now - p->start < 120 ? 10 : 60);
}

void progress_at(Progress *p, int64_t done, const ProgressNumbers *numbers) {
    double now = p->out.seconds(p->out.ctx);
    p->done = done;
    remember(p, now);
    if (p->out.mode == PROGRESS_QUIET) return;
    if (done == p->total || is_time(p, now)) draw(p, now, numbers);
}

void progress_say(Progress *p, const char *line) {
    if (p->out.mode == PROGRESS_QUIET) return;
    if (p->open) put(p, "\r\x1b[K");
    put(p, line);
    put(p, "\n");
    p->open = false;
}

void progress_end(Progress *p) {
    if (p->open) put(p, "\n");
    p->open = false;
}

double loss_average_add(Arena *a, LossAverage *l, int epoch, int index, double loss) {
    if (epoch > 1 && index < l->n) {
        l->sum += loss - l->loss[index];
        l->loss[index] = loss;
    } else {
        PUSH(a, l->loss, l->n, l->cap, loss);
        l->sum += loss;
    }
    return loss_average(l);
}

double loss_average(const LossAverage *l) {
    return l->n ? l->sum / l->n : 0;
}

void loss_average_restore(Arena *a, LossAverage *l, const double *loss, int n) {
    *l = (LossAverage){0};
    for (int i = 0; i < n; i++) {
        PUSH(a, l->loss, l->n, l->cap, loss[i]);
        l->sum += loss[i];
    }
}
