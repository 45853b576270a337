/* Sums of products of matrices, several in one step: reads the row's text, and runs it one
 * row of a result at a time, summed in double. The row exists for GPUs, where it is one
 * launch (kernels/products.cu); this is what that is held against. */
#include "kernels/products.h"
#include "kernels/heavy.h"
#include "kernels/kernels.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* ---- the text ---- */

typedef struct Reader {
    const char *at;
    int n_in;
    ProductForm *out;
    Err *e;
} Reader;

static bool wrong(Reader *r, const char *want) {
    return err_at(r->e, loc_none(), "products: got '%.12s', want %s", r->at, want);
}

static bool take(Reader *r, const char *word) {
    while (*r->at == ' ') r->at++;
    size_t n = strlen(word);
    if (strncmp(r->at, word, n)) return false;
    r->at += n;
    return true;
}

static bool variable(Reader *r, int *x) {
    long i = -1;
    char *end = NULL;
    while (*r->at == ' ') r->at++;
    if (*r->at == 'x' && isdigit((unsigned char)r->at[1]))
        i = strtol(r->at + 1, &end, 10);
    if (i < 0 || i >= r->n_in) return wrong(r, "an input, x0 and so on");
    r->at = end;
    *x = (int)i;
    return true;
}

static bool number(Reader *r, double *x) {
    char *end;
    *x = strtod(r->at, &end);
    if (end == r->at) return wrong(r, "a number");
    r->at = end;
    return true;
}

/* x1 @ x2' * 0.25, x1 @ x2' @ x3', or x3 alone */
static bool term(Reader *r, ProductSum *s) {
    ProductTerm t = {.c = -1, .factor = 1};
    if (take(r, "row "))
        return s->bias < 0 ? variable(r, &s->bias) : wrong(r, "one row");
    if (!variable(r, &t.a)) return false;
    t.ta = take(r, "'");
    if (!take(r, "@")) {
        if (s->add >= 0 || t.ta) return wrong(r, "@");
        s->add = t.a;
        return true;
    }
    if (!variable(r, &t.b)) return false;
    t.tb = take(r, "'");
    if (take(r, "@")) {
        if (!variable(r, &t.c)) return false;
        t.tc = take(r, "'");
    }
    if (take(r, "*") && !number(r, &t.factor)) return false;
    if (r->out->n_term == PRODUCT_TERMS) return wrong(r, "no more products");
    if (t.ta && t.tb) return wrong(r, "one transposed factor");
    r->out->term[r->out->n_term++] = t;
    s->n++;
    return true;
}

static bool type_of_sum(Reader *r, ProductSum *s) {
    while (*r->at == ' ') r->at++;
    size_t n = strspn(r->at, "bf0123456789");
    if (!n || r->at[n] != ':') return true;
    if (n >= sizeof s->to) return wrong(r, "a type");
    memcpy(s->to, r->at, n);
    r->at += n + 1;
    return true;
}

static bool sum(Reader *r) {
    if (r->out->n_sum == PRODUCT_OUTS) return wrong(r, "no more sums");
    ProductSum *s = &r->out->sum[r->out->n_sum++];
    *s = (ProductSum){.first = r->out->n_term, .bias = -1, .add = -1};
    if (!type_of_sum(r, s)) return false;
    do {
        if (!term(r, s)) return false;
    } while (take(r, "+"));
    return s->n > 0 || wrong(r, "a product");
}

bool products_read(const char *f, int n_in, ProductForm *out, Err *e) {
    Reader r = {f ? f : "", n_in, out, e};
    *out = (ProductForm){.n_term = 0};
    do {
        if (!sum(&r)) return false;
    } while (take(&r, ";"));
    take(&r, "");
    return !*r.at || wrong(&r, "'+', ';' or the end");
}

/* ---- a run ---- */

typedef struct Run {
    const Call *c;
    const ProductForm *form;
} Run;

static double element(const Tensor *t, bool turned, int64_t i, int64_t j) {
    const int64_t cols = matrix_size(t->type).cols;
    return get(t, turned ? j * cols + i : i * cols + j);
}

/* Element (i, j) of the first two. */
static double of_two(const Call *c, const ProductTerm *t, int64_t i, int64_t j) {
    const Tensor *a = &c->in[t->a], *b = &c->in[t->b];
    const int64_t k = matrix_turned(a->type, t->ta).cols;
    double sum = 0;
    for (int64_t p = 0; p < k; p++)
        sum += element(a, t->ta, i, p) * element(b, t->tb, p, j);
    return sum;
}

static double dot(const Call *c, const ProductTerm *t, int64_t i, int64_t j) {
    if (t->c < 0) return of_two(c, t, i, j) * t->factor;
    const int64_t width = matrix_turned(c->in[t->b].type, t->tb).cols;
    double sum = 0;
    for (int64_t p = 0; p < width; p++)
        sum += of_two(c, t, i, p) * element(&c->in[t->c], t->tc, p, j);
    return sum * t->factor;
}

static void sum_row(const Run *r, int o, int64_t i) {
    const Call *c = r->c;
    const ProductSum *s = &r->form->sum[o];
    const int64_t n = matrix_size(c->out[o].type).cols;
    for (int64_t j = 0; j < n; j++) {
        double sum = 0;
        for (int t = s->first; t < s->first + s->n; t++)
            sum += dot(c, &r->form->term[t], i, j);
        if (s->bias >= 0) sum += get(&c->in[s->bias], j);
        if (s->add >= 0) sum += get(&c->in[s->add], i * n + j);
        put(&c->out[o], i * n + j, sum);
    }
}

static void row(void *arg, int64_t i, void *scratch) {
    const Run *r = arg;
    (void)scratch;
    for (int o = 0; o < r->c->n_out; o++) {
        const int64_t rows = matrix_size(r->c->out[o].type).rows;
        if (i < rows) {
            sum_row(r, o, i);
            return;
        }
        i -= rows;
    }
}

static void run(const Call *c) {
    Run r = {c, c->prep};
    int64_t rows = 0;
    for (int o = 0; o < c->n_out; o++) rows += matrix_size(c->out[o].type).rows;
    c->dev->par(c->dev, rows, row, &r);
}

static bool prepare(Arena *a, const Sig *s, const void **prep, Err *e) {
    ProductForm *form = NEW(a, ProductForm, 1);
    *prep = form;
    return products_read(((const ProductsAttrs *)s->attrs)->f, s->n_in, form, e);
}

const Kernel cpu_products[] = {{.name = "ref", .prepare = prepare, .run = run}, {0}};
