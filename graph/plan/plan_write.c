/* Plan -> bytes (graph/plan/plan_file.h). The same plan gives the same bytes: strings are
 * numbered in the order in which records name them, sections have a fixed order, and LZ4
 * with its default level is a function of its input. */
#include "graph/plan/plan_format.h"

#include <lz4.h>
#include <string.h>
#include <xxhash.h>

#define X(name, tag, bytes) {tag, bytes},
const SectionKind plan_section[SECTIONS] = {PLAN_SECTIONS(X)};
#undef X

typedef struct Writer {
    const Plan *p;
    Arena *a; /* for the tables below */
    Str part[SECTIONS];
    uint32_t *slot; /* strings already numbered: index + 1, open addressing */
    const char **text;
    uint32_t n_text, cap_text, n_slot;
    const Source **source;
    uint32_t n_source, cap_source, n_operand, n_param;
    uint64_t n_number;
} Writer;

/* ---- numbers ---- */
static void put(Str *s, uint64_t x, int bytes) {
    char b[8];
    for (int i = 0; i < bytes; i++) b[i] = (char)(x >> 8 * i & 255);
    str_addn(s, b, (size_t)bytes);
}
static void put32(Str *s, uint32_t x) {
    put(s, x, 4);
}
static void put64(Str *s, uint64_t x) {
    put(s, x, 8);
}
static void put_f64(Str *s, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put64(s, bits);
}

/* ---- strings ---- */
static void rehash(Writer *w) {
    uint32_t n = w->n_slot ? 2 * w->n_slot : 1024;
    w->slot = NEW(w->a, uint32_t, n);
    w->n_slot = n;
    for (uint32_t i = 0; i < w->n_text; i++) {
        uint32_t at = (uint32_t)XXH3_64bits(w->text[i], strlen(w->text[i])) & (n - 1);
        while (w->slot[at]) at = (at + 1) & (n - 1);
        w->slot[at] = i + 1;
    }
}

/* The string's number; UINT32_MAX for NULL. The text must stay where it is. */
static uint32_t text_id(Writer *w, const char *text) {
    if (!text) return UINT32_MAX;
    if (2 * (w->n_text + 1) > w->n_slot) rehash(w);
    uint32_t mask = w->n_slot - 1;
    uint32_t at = (uint32_t)XXH3_64bits(text, strlen(text)) & mask;
    for (; w->slot[at]; at = (at + 1) & mask)
        if (!strcmp(w->text[w->slot[at] - 1], text)) return w->slot[at] - 1;
    str_addn(&w->part[SECTION_TEXT], text, strlen(text) + 1);
    w->slot[at] = w->n_text + 1;
    PUSH(w->a, w->text, w->n_text, w->cap_text, text);
    return w->n_text - 1;
}

static void put_text(Writer *w, Str *s, const char *text) {
    put32(s, text_id(w, text));
}

/* ---- records ---- */
static void write_head(Writer *w) {
    const Plan *p = w->p;
    Str *s = &w->part[SECTION_HEAD];
    put_text(w, s, p->name);
    put_text(w, s, p->report);
    for (Mem m = 0; m < MEMS; m++) put64(s, p->size[m]);
    put64(s, p->act_lower_bound);
    put32(s, p->blocks != NULL);
    put64(s, 0);
    for (const char *const *b = p->blocks; b && *b; b++)
        put_text(w, &w->part[SECTION_BLOCKS], *b);
}

static uint32_t write_param(Writer *w, const Param *q) {
    if (!q) return UINT32_MAX;
    Str *s = &w->part[SECTION_PARAMS];
    put32(s, q->init.kind);
    put32(s, (uint32_t)q->slice_axis);
    put_f64(s, q->init.number);
    put64(s, (uint64_t)q->slice_size);
    put_text(w, s, q->module);
    put_text(w, s, q->key);
    return w->n_param++;
}

static uint64_t write_numbers(Writer *w, const PlanValue *v) {
    if (!v->data) return UINT64_MAX;
    uint64_t first = w->n_number, n = (uint64_t)type_count(&v->type);
    for (uint64_t i = 0; i < n; i++) put_f64(&w->part[SECTION_NUMBERS], v->data[i]);
    w->n_number += n;
    return first;
}

static void write_value(Writer *w, const PlanValue *v) {
    Str *s = &w->part[SECTION_VALUES];
    put(s, v->type.dtype, 1);
    put(s, (uint64_t)v->type.rank, 1);
    put(s, v->role, 1);
    put(s, v->mem, 1);
    for (int i = 0; i < MAX_RANK; i++)
        put64(s, i < v->type.rank ? (uint64_t)v->type.dim[i] : 0);
    put64(s, v->offset);
    put64(s, write_numbers(w, v));
    put_text(w, s, v->name);
    put32(s, v->base);
    put32(s, v->first);
    put32(s, v->last);
    put32(s, write_param(w, v->param));
}

static uint32_t source_id(Writer *w, const Source *src) {
    if (!src) return UINT32_MAX;
    for (uint32_t i = w->n_source; i-- > 0;)
        if (w->source[i] == src) return i;
    put_text(w, &w->part[SECTION_SOURCES], src->path);
    put_text(w, &w->part[SECTION_SOURCES], arena_strndup(w->a, src->text, src->len));
    PUSH(w->a, w->source, w->n_source, w->cap_source, src);
    return w->n_source - 1;
}

static uint32_t write_operands(Writer *w, const uint32_t *v, int n) {
    uint32_t first = w->n_operand;
    for (int i = 0; i < n; i++) put32(&w->part[SECTION_OPERANDS], v[i]);
    w->n_operand += (uint32_t)n;
    return first;
}

static const char *attributes(Writer *w, const PlanStep *t) {
    if (!t->attrs || !t->op->attrs) return NULL;
    Str s = {0};
    attrs_print(&s, t->op, t->attrs);
    const char *text = arena_strndup(w->a, s.s, s.n);
    str_free(&s);
    return text;
}

static void write_step(Writer *w, const PlanStep *t) {
    Str *s = &w->part[SECTION_STEPS];
    put_text(w, s, t->op->name);
    put_text(w, s, t->kernel->name);
    put_text(w, s, attributes(w, t));
    put32(s, write_operands(w, t->in, t->n_in));
    put32(s, (uint32_t)t->n_in);
    put32(s, write_operands(w, t->out, t->n_out));
    put32(s, (uint32_t)t->n_out);
    put32(s, (uint32_t)t->at.block);
    put64(s, t->work_bytes);
    put64(s, t->flops);
    put64(s, t->bytes);
    put_text(w, s, t->at.path);
    put32(s, t->at.phase);
    put32(s, source_id(w, t->at.loc.src));
    put32(s, t->at.loc.line);
    put32(s, t->at.loc.col);
    put32(s, t->at.loc.len);
}

static void write_adapter(Writer *w, const PlanAdapter *m) {
    Str *s = &w->part[SECTION_ADAPTERS];
    put_text(w, s, m->name);
    put_text(w, s, m->kind);
    put_text(w, s, m->path);
    put32(s, (uint32_t)m->block);
    put_f64(s, m->rank);
    put_f64(s, m->alpha);
    put_f64(s, m->scale);
    put64(s, m->parameters);
}

static void write_records(Writer *w) {
    const Plan *p = w->p;
    write_head(w);
    for (uint32_t i = 0; i < p->n_value; i++) write_value(w, &p->value[i]);
    for (uint32_t k = 0; k < p->n_step; k++) write_step(w, &p->step[k]);
    for (uint32_t i = 0; i < p->n_output; i++) {
        put_text(w, &w->part[SECTION_OUTPUTS], p->output[i].name);
        put32(&w->part[SECTION_OUTPUTS], p->output[i].value);
    }
    for (uint32_t i = 0; i < p->n_adapter; i++) write_adapter(w, &p->adapter[i]);
    for (uint32_t i = 0; i < p->n_part; i++) {
        put_text(w, &w->part[SECTION_PARTS], p->part[i].name);
        put64(&w->part[SECTION_PARTS], p->part[i].hash);
    }
    if (p->init) plan_write(&w->part[SECTION_INIT], p->init);
}

/* ---- the container ---- */

/* Appends the section as LZ4 if that is smaller; returns the codec. */
static int store(Str *s, const Str *raw) {
    int most = raw->n > LZ4_MAX_INPUT_SIZE ? 0 : LZ4_compressBound((int)raw->n);
    Arena *a = arena_new();
    char *packed = NEW(a, char, most + 1);
    int n = most ? LZ4_compress_default(raw->s, packed, (int)raw->n, most) : 0;
    bool smaller = n > 0 && (size_t)n < raw->n;
    str_addn(s, smaller ? packed : raw->s, smaller ? (size_t)n : raw->n);
    arena_free(a);
    return smaller ? CODEC_LZ4 : CODEC_RAW;
}

static void write_table(Str *table, Str *body, const Writer *w, uint64_t from) {
    for (int i = 0; i < SECTIONS; i++) {
        const Str *raw = &w->part[i];
        if (!raw->n) continue;
        size_t at = body->n;
        int codec = store(body, raw);
        put32(table, plan_section[i].tag);
        put(table, (uint64_t)codec, 1);
        put(table, 1, 1);
        put(table, 0, 2);
        put64(table, raw->n);
        put64(table, body->n - at);
        put64(table, from + at);
        put64(table, XXH3_64bits(body->s + at, body->n - at));
    }
}

static void write_header(Str *s, const Writer *w, uint32_t sections, uint64_t bytes) {
    str_addn(s, PLAN_MAGIC, 8);
    put(s, PLAN_VERSION, 2);
    put(s, PLAN_MINOR, 2);
    put32(s, 0);
    put32(s, sections);
    put32(s, 0);
    put64(s, bytes);
    str_addn(s, (const char *)w->p->key, sizeof w->p->key);
    put64(s, 0);
    put64(s, 0);
}

void plan_write(Str *s, const Plan *p) {
    Writer w = {.p = p, .a = arena_new()};
    write_records(&w);
    uint32_t sections = 0;
    for (int i = 0; i < SECTIONS; i++) sections += w.part[i].n > 0;
    Str head = {0}, body = {0}, table = {0}, hash = {0};
    write_table(&table, &body, &w, HEADER_BYTES + (uint64_t)sections * ENTRY_BYTES);
    write_header(&head, &w, sections, HEADER_BYTES + table.n + body.n);
    str_addn(&head, table.s, table.n);
    put64(&hash, XXH3_64bits(head.s, head.n));
    memcpy(head.s + HASH_AT, hash.s, 8);
    str_addn(s, head.s, head.n);
    str_addn(s, body.s, body.n);
    Str *all[] = {&head, &body, &table, &hash};
    for (size_t i = 0; i < COUNT(all); i++) str_free(all[i]);
    for (int i = 0; i < SECTIONS; i++) str_free(&w.part[i]);
    arena_free(w.a);
}
