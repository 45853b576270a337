/* The table of rows, and what can be done with any row without knowing it: find it, print,
 * parse and compare its attributes, describe one use of it (Sig), run its reference kernel.
 * Also the shape rules and gradient shorthands of ops.h. */
#include "ops/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define OP(file, name) &op_##name,
const Op *const ops[] = {
#include "ops/ops.def"
    NULL};
#undef OP

#define OP(file, name) #name,
static const char *const names[] = {
#include "ops/ops.def"
    NULL};
#undef OP

const char *const *op_names(void) {
    return names;
}

const Op *op_find(const char *name) {
    for (const Op *const *op = ops; *op; op++)
        if (!strcmp((*op)->name, name)) return *op;
    return NULL;
}

bool op_in_yaml(const Op *op) {
    for (const OpIn *in = op->in; in->name; in++)
        if (!strcmp(in->name, "dy")) return false;
    return !(op->flags & OP_IR);
}

const OpIn *op_in(const Op *op, int i) {
    int k = 0;
    while (k < i && op->in[k + 1].name) k++;
    return &op->in[k];
}

/* ---- attributes ---- */

const Attr *attr_find(const Op *op, const char *name) {
    for (const Attr *at = op->attrs; at && at->name; at++)
        if (!strcmp(at->name, name)) return at;
    return NULL;
}

static void set_number(const Attr *at, void *attrs, double x) {
    void *p = (char *)attrs + at->offset;
    switch (at->kind) {
    case 'i':
        *(int64_t *)p = (int64_t)x;
        break;
    case 'f':
        *(double *)p = x;
        break;
    case 'b':
        *(bool *)p = x != 0;
        break;
    case 'w':
        *(int32_t *)p = (int32_t)x;
        break;
    case 'd':
        *(DType *)p = (DType)x;
        break;
    case 'l':
        *(IntList *)p = (IntList){0};
        if (!isnan(x)) *(IntList *)p = (IntList){1, {(int64_t)x}};
        break;
    default:
        *(const char **)p = NULL;
    }
}

void *attrs_new(Arena *a, const Op *op) {
    void *attrs = arena_alloc(a, 1, op->attrs_size ? op->attrs_size : 1);
    for (const Attr *at = op->attrs; at && at->name; at++)
        set_number(at, attrs, at->def);
    return attrs;
}

static void print_item(Str *s, const Attr *at, int64_t x) {
    if (at->words && x <= -LIST_WORD)
        str_add(s, at->words[-LIST_WORD - x]);
    else
        str_printf(s, "%lld", (long long)x);
}

static void print_value(Str *s, const Attr *at, const void *attrs) {
    const void *p = (const char *)attrs + at->offset;
    switch (at->kind) {
    case 'i':
        str_printf(s, "%lld", (long long)*(const int64_t *)p);
        break;
    case 'f':
        str_double(s, *(const double *)p);
        break;
    case 'b':
        str_add(s, *(const bool *)p ? "true" : "false");
        break;
    case 'w':
        str_add(s, at->words[*(const int32_t *)p]);
        break;
    case 'd':
        str_add(s, dtype_name(*(const DType *)p));
        break;
    case 'l': {
        const IntList *l = p;
        str_add(s, "[");
        for (int i = 0; i < l->n; i++) {
            if (i) str_add(s, ",");
            print_item(s, at, l->v[i]);
        }
        str_add(s, "]");
        break;
    }
    default: {
        const char *text = *(const char *const *)p;
        str_json(s, text ? text : "");
    }
    }
}

/* A text that is not there is not printed: parsed again, it is not there either. */
static bool absent_text(const Attr *at, const void *attrs) {
    return at->kind == 's' && !(at->flags & ATTR_REQUIRED) &&
           !*(const char *const *)((const char *)attrs + at->offset);
}

void attrs_print(Str *s, const Op *op, const void *attrs) {
    const char *separator = "";
    str_add(s, "{");
    for (const Attr *at = op->attrs; at && at->name; at++) {
        if (at->flags & ATTR_YAML || absent_text(at, attrs)) continue;
        str_printf(s, "%s%s=", separator, at->name);
        print_value(s, at, attrs);
        separator = ", ";
    }
    str_add(s, "}");
}

bool attrs_equal(const Op *op, const void *a, const void *b) {
    if (!op->attrs || a == b) return true;
    if (!a || !b) return false;
    Str sa = {0}, sb = {0};
    attrs_print(&sa, op, a);
    attrs_print(&sb, op, b);
    bool equal = !strcmp(sa.s, sb.s);
    str_free(&sa);
    str_free(&sb);
    return equal;
}

/* ---- reading attribute values ---- */

static bool want(const Attr *at, const char *text, const char *what, Err *e) {
    return err_at(e, loc_none(), "'%s': got '%s', want %s", at->name, text, what);
}

static bool parse_int(const char *text, int64_t *out) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end || !(fabs(x) < 0x1p53) || x != floor(x)) return false;
    *out = (int64_t)x;
    return true;
}

static bool parse_word(Arena *a, const Attr *at, const char *text, int32_t *out,
                       Err *e) {
    for (int32_t i = 0; at->words[i]; i++)
        if (!strcmp(at->words[i], text)) return *out = i, true;
    Str all = {0};
    for (int i = 0; at->words[i]; i++)
        str_printf(&all, "%s%s", i ? ", " : "", at->words[i]);
    err_at(e, loc_none(), "'%s': got '%s', want one of %s%s", at->name, text, all.s,
           did_you_mean(a, text, at->words));
    str_free(&all);
    return false;
}

static bool parse_item(Arena *a, const Attr *at, const char *text, int64_t *out,
                       Err *e) {
    if (parse_int(text, out)) return true;
    if (!at->words) return want(at, text, "an integer", e);
    int32_t word = 0;
    if (!parse_word(a, at, text, &word, e)) return false;
    *out = -LIST_WORD - word;
    return true;
}

/* "[1, 0]", or one item without brackets */
static bool parse_list(Arena *a, const Attr *at, const char *text, IntList *out,
                       Err *e) {
    IntList l = {0};
    size_t n = strlen(text);
    bool brackets = n && text[0] == '[';
    if (brackets && (n < 2 || text[n - 1] != ']')) return want(at, text, "a list", e);
    char *copy = arena_strndup(a, text + brackets, n - 2 * brackets);
    while (*copy == ' ') copy++;
    for (char *item = copy; *copy && item;) {
        char *comma = strchr(item, ',');
        if (comma) *comma = 0;
        while (*item == ' ') item++;
        for (size_t k = strlen(item); k && item[k - 1] == ' '; k--) item[k - 1] = 0;
        if (l.n == (int)COUNT(l.v)) return want(at, text, "at most 8 numbers", e);
        if (!parse_item(a, at, item, &l.v[l.n++], e)) return false;
        item = comma ? comma + 1 : NULL;
    }
    *out = l;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* The text of a JSON string as str_json writes it; text without quotes stands for itself. */
static const char *unquote(Arena *a, const char *text) {
    size_t n = strlen(text);
    if (n < 2 || text[0] != '"' || text[n - 1] != '"') return arena_strdup(a, text);
    char *out = arena_strndup(a, text + 1, n - 2), *to = out;
    for (const char *p = out; *p; p++) {
        if (*p != '\\' || !p[1]) {
            *to++ = *p;
            continue;
        }
        p++;
        if (*p == 'n')
            *to++ = '\n';
        else if (*p == 't')
            *to++ = '\t';
        else if (*p == 'r')
            *to++ = '\r';
        else if (*p == 'u' && hex_digit(p[1]) == 0 && hex_digit(p[2]) == 0 &&
                 hex_digit(p[3]) >= 0 && hex_digit(p[4]) >= 0) {
            *to++ = (char)(hex_digit(p[3]) << 4 | hex_digit(p[4]));
            p += 4;
        } else
            *to++ = *p;
    }
    *to = 0;
    return out;
}

static bool parse_float(const Attr *at, const char *text, double *out, Err *e) {
    char *end;
    double x = strtod(text, &end);
    if (end == text || *end) return want(at, text, "a number", e);
    *out = x;
    return true;
}

static bool parse_bool(const Attr *at, const char *text, bool *out, Err *e) {
    bool yes = !strcmp(text, "true") || !strcmp(text, "1");
    if (!yes && strcmp(text, "false") && strcmp(text, "0"))
        return want(at, text, "true or false", e);
    *out = yes;
    return true;
}

bool attr_parse(Arena *a, const Attr *at, void *attrs, const char *text, Err *e) {
    void *p = (char *)attrs + at->offset;
    switch (at->kind) {
    case 'i':
        return parse_int(text, p) || want(at, text, "an integer", e);
    case 'f':
        return parse_float(at, text, p, e);
    case 'b':
        return parse_bool(at, text, p, e);
    case 'w':
        return parse_word(a, at, text, p, e);
    case 'd':
        return dtype_parse(text, p) || want(at, text, "a type (f32, f16 ...)", e);
    case 'l':
        return parse_list(a, at, text, p, e);
    default:
        *(const char **)p = unquote(a, text);
        return true;
    }
}

/* ---- one use of a row ---- */

Sig node_sig(Arena *a, const Graph *g, const Node *n) {
    Sig s = {.op = n->op, .attrs = n->attrs, .n_in = n->n_in, .n_out = n->n_out};
    Type *in = NEW(a, Type, n->n_in ? n->n_in : 1);
    s.out = NEW(a, Type, n->n_out ? n->n_out : 1);
    for (int i = 0; i < n->n_in; i++) {
        if (n->in[i] == NO_ID) {
            in[i].rank = -1;
            continue;
        }
        in[i] = g->value[n->in[i]]->type;
    }
    for (int i = 0; i < n->n_out; i++) s.out[i] = g->value[n->out[i]]->type;
    s.in = in;
    return s;
}

/* ---- running one row by itself ---- */

typedef struct Alone { /* a device of one thread */
    Device dev;
    void *scratch; /* not of the arena, which would clear 2 MiB for every node */
} Alone;

static void *aligned(Arena *a, size_t bytes) {
    uintptr_t p = (uintptr_t)arena_alloc(a, bytes + 64, 1);
    return (void *)((p + 63) & ~(uintptr_t)63);
}

static void alone_par(Device *d, int64_t n, void (*body)(void *, int64_t, void *),
                      void *arg) {
    Alone *dev = (Alone *)(void *)d;
    for (int64_t i = 0; i < n; i++) body(arg, i, dev->scratch);
}

static const Kernel *reference_kernel(const Op *op) {
    const Kernel *k = op->cpu;
    if (!k || !k->name) return NULL;
    while (k[1].name) k++;
    return k;
}

/* Memory for the outputs; a persistent one starts as a copy of what it is written over. */
static Tensor *make_outputs(Arena *a, const Sig *s, Tensor *in, Tensor *out) {
    for (int i = 0; i < s->n_out; i++) {
        Type *t = NEW(a, Type, 1);
        *t = s->out[i];
        out[i] = (Tensor){aligned(a, type_bytes(t)), t};
    }
    for (const OpAlias *al = s->op->alias; al && al->out >= 0; al++) {
        if (al->out >= s->n_out || al->in >= s->n_in || !in[al->in].data) continue;
        memcpy(out[al->out].data, in[al->in].data, type_bytes(out[al->out].type));
        in[al->in].data = out[al->out].data;
    }
    return out;
}

bool op_run(Arena *a, const Sig *s, const Tensor *in, Tensor *out, Err *e) {
    Arena *own = arena_new();
    Tensor *inputs = NEW(own, Tensor, s->n_in + 1);
    if (s->n_in) memcpy(inputs, in, (size_t)s->n_in * sizeof *in);
    make_outputs(a, s, inputs, out);
    const Kernel *k = reference_kernel(s->op);
    bool ok = true;
    if (s->op->flags & OP_VIEW) {
        memcpy(out[0].data, in[0].data, type_bytes(out[0].type));
    } else if (!k) {
        ok = err_fail(e, "op '%s' has no kernel for the CPU", s->op->name);
    } else {
        Alone dev = {{.name = "cpu", .threads = 1, .par = alone_par},
                     aligned_alloc(64, SCRATCH_BYTES)};
        Call c = {.in = inputs, .out = out, .n_in = s->n_in, .n_out = s->n_out};
        c.attrs = s->attrs;
        c.dev = &dev.dev;
        if (k->work) c.work = aligned(own, k->work(s));
        if (!dev.scratch) ok = err_fail(e, "out of memory");
        if (ok && k->prepare) ok = k->prepare(own, s, &c.prep, e);
        if (ok) k->run(&c);
        free(dev.scratch);
    }
    arena_free(own);
    return ok;
}

/* ---- shared by rows ---- */

bool shape_same(Sig *s, Err *e) {
    (void)e;
    s->out[0] = s->in[0];
    return true;
}

bool shape_axis(int64_t axis, int rank, int *out, Err *e) {
    if (axis < -rank || axis >= rank)
        return shape_error(e, "got axis %lld, want one of a value with %d dimensions",
                           (long long)axis, rank);
    *out = (int)(axis < 0 ? axis + rank : axis);
    return true;
}

TypeText type_name(const Type *t) {
    TypeText text = {"(absent)"};
    if (t->rank < 0) return text;
    Str s = {0};
    type_print(&s, t);
    strncpy(text.s, s.s, sizeof text.s - 1);
    str_free(&s);
    return text;
}

const Type *type_at(const Graph *g, Id id) {
    return &g->value[id]->type;
}

IntList dims_of(const Type *t) {
    IntList l = {.n = t->rank};
    for (int i = 0; i < t->rank; i++) l.v[i] = t->dim[i];
    return l;
}
