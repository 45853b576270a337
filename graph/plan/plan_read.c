/* Bytes -> Plan (graph/plan/plan_file.h). The bytes are hostile: sizes are believed only after
 * they were held against the file and the limits below, every index against its table, and
 * what came out is given to plan_verify. Nothing is allocated for a section before all
 * sections' places and sizes are known to be possible. */
#include "graph/plan/plan_format.h"

#include <lz4.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

enum { MOST_RATIO = 255, RATIO_SLACK = 64 }; /* no LZ4 block expands further */
static const uint64_t most_raw = UINT64_C(256) << 20, most_total = UINT64_C(512) << 20;

typedef struct Section {
    const uint8_t *stored, *data;
    uint64_t stored_bytes, raw_bytes;
    int codec;
    uint32_t n; /* records */
} Section;

typedef struct Reader {
    Arena *a;
    Plan *p;
    const uint8_t *bytes;
    size_t n;
    bool *old;
    Err *e;
    Section part[SECTIONS];
    const char **text;
    uint32_t n_text;
    Source *source;
    Param *param;
    const double *number;
    const uint32_t *operand;
    struct {
        const Op *op;
        void *attrs;
    } * parsed;    /* per string: attributes already read from it */
    const Op **op; /* per string: the op of this name, if it was looked up */
} Reader;

static bool bad(Reader *r, const char *fmt, ...) PRINTF(2, 3);
static bool bad(Reader *r, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    char *what = NEW(r->a, char, 512);
    vsnprintf(what, 512, fmt, args);
    va_end(args);
    return err_fail(r->e, "not a plan file that can be used: %s", what);
}

/* Made by another version or for another machine. */
static bool old(Reader *r, const char *what, const char *name) {
    *r->old = true;
    return bad(r, "%s '%s' is not known to this version", what, name);
}

/* ---- numbers ---- */
static uint64_t get(const uint8_t **at, int bytes) {
    uint64_t x = 0;
    for (int i = 0; i < bytes; i++) x |= (uint64_t)(*at)[i] << 8 * i;
    *at += bytes;
    return x;
}
static uint32_t get32(const uint8_t **at) {
    return (uint32_t)get(at, 4);
}
static uint64_t get64(const uint8_t **at) {
    return get(at, 8);
}
static double get_f64(const uint8_t **at) {
    uint64_t bits = get64(at);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* ---- the container ---- */
bool plan_is_file(const void *data, size_t n) {
    return n >= 8 && !memcmp(data, PLAN_MAGIC, 8);
}

/* The hash covers header and table with its own field zero. */
static bool right_hash(const Reader *r, uint64_t bytes, uint64_t want) {
    XXH3_state_t *x = XXH3_createState();
    static const uint8_t zeros[8];
    if (!x) return false;
    XXH3_64bits_reset(x);
    XXH3_64bits_update(x, r->bytes, HASH_AT);
    XXH3_64bits_update(x, zeros, sizeof zeros);
    XXH3_64bits_update(x, r->bytes + HASH_AT + 8, bytes - HASH_AT - 8);
    bool right = XXH3_64bits_digest(x) == want;
    XXH3_freeState(x);
    return right;
}

static bool read_header(Reader *r, uint32_t *sections) {
    if (!plan_is_file(r->bytes, r->n)) return bad(r, "it does not start like one");
    if (r->n < HEADER_BYTES) return bad(r, "it ends inside its header");
    const uint8_t *at = r->bytes + 8;
    unsigned major = (unsigned)get(&at, 2);
    get(&at, 2); /* a later minor version only adds what may be ignored */
    if (major != PLAN_VERSION) {
        *r->old = true;
        return bad(r, "it has version %u, want %d", major, PLAN_VERSION);
    }
    if (get32(&at)) return bad(r, "it has flags of another version");
    *sections = get32(&at);
    at += 4;
    uint64_t bytes = get64(&at);
    if (bytes != r->n)
        return bad(r, "it has %zu bytes, its header says %llu", r->n,
                   (unsigned long long)bytes);
    memcpy(r->p->key, at, sizeof r->p->key);
    at += sizeof r->p->key;
    if (*sections > MOST_SECTIONS) return bad(r, "%u sections", *sections);
    uint64_t table = HEADER_BYTES + (uint64_t)*sections * ENTRY_BYTES;
    if (table > r->n) return bad(r, "it ends inside its table");
    return right_hash(r, table, get64(&at)) || bad(r, "its header is damaged");
}

static int section_of(uint32_t tag) {
    for (int i = 0; i < SECTIONS; i++)
        if (plan_section[i].tag == tag) return i;
    return -1;
}

/* One entry of the table; *end: where the section before it ended, *total: raw bytes. */
static bool read_entry(Reader *r, const uint8_t **at, uint64_t *end, uint64_t *total) {
    uint32_t tag = get32(at);
    int codec = (int)get(at, 1), required = (int)get(at, 1);
    get(at, 2);
    Section s = {.codec = codec};
    s.raw_bytes = get64(at);
    s.stored_bytes = get64(at);
    uint64_t offset = get64(at), hash = get64(at);
    int kind = section_of(tag);
    if (kind < 0 && required)
        return old(r, "section",
                   arena_printf(r->a, "%c%c%c%c", tag & 127, tag >> 8 & 127,
                                tag >> 16 & 127, tag >> 24 & 127));
    if (offset != *end || s.stored_bytes > r->n - offset)
        return bad(r, "sections are not one behind the other");
    *end = offset + s.stored_bytes;
    if (codec > CODEC_LZ4) return bad(r, "a section has codec %d", codec);
    if (!s.raw_bytes || s.raw_bytes > most_raw ||
        s.raw_bytes > MOST_RATIO * s.stored_bytes + RATIO_SLACK ||
        (codec == CODEC_RAW && s.raw_bytes != s.stored_bytes) ||
        (*total += s.raw_bytes) > most_total)
        return bad(r, "a section of %llu bytes claims to hold %llu",
                   (unsigned long long)s.stored_bytes, (unsigned long long)s.raw_bytes);
    s.stored = r->bytes + offset;
    if (XXH3_64bits(s.stored, s.stored_bytes) != hash)
        return bad(r, "a section is damaged");
    if (kind < 0) return true;
    if (r->part[kind].stored) return bad(r, "a section comes twice");
    if (s.raw_bytes % plan_section[kind].record)
        return bad(r, "a section does not end with a record");
    s.n = (uint32_t)(s.raw_bytes / plan_section[kind].record);
    r->part[kind] = s;
    return true;
}

static bool unpack(Reader *r, Section *s) {
    s->data = s->stored;
    if (s->codec == CODEC_RAW) return true;
    char *out = NEW(r->a, char, s->raw_bytes);
    int n = LZ4_decompress_safe((const char *)s->stored, out, (int)s->stored_bytes,
                                (int)s->raw_bytes);
    s->data = (const uint8_t *)out;
    return (n >= 0 && (uint64_t)n == s->raw_bytes) || bad(r, "a section is damaged");
}

static bool read_container(Reader *r) {
    uint32_t sections = 0;
    if (!read_header(r, &sections)) return false;
    const uint8_t *at = r->bytes + HEADER_BYTES;
    uint64_t end = HEADER_BYTES + (uint64_t)sections * ENTRY_BYTES, total = 0;
    for (uint32_t i = 0; i < sections; i++)
        if (!read_entry(r, &at, &end, &total)) return false;
    if (end != r->n) return bad(r, "bytes behind the last section");
    for (int i = 0; i < SECTIONS; i++)
        if (r->part[i].stored && !unpack(r, &r->part[i])) return false;
    return true;
}

/* ---- strings and other tables that records point into ---- */
static bool read_strings(Reader *r) {
    const Section *s = &r->part[SECTION_TEXT];
    if (!s->n) return true;
    if (s->data[s->n - 1]) return bad(r, "its last string does not end");
    for (uint32_t i = 0; i < s->n; i++) r->n_text += !s->data[i];
    const char *at = (const char *)s->data; /* in the arena, if it was unpacked */
    if (s->codec == CODEC_RAW) at = memcpy(NEW(r->a, char, s->n), s->data, s->n);
    r->text = NEW(r->a, const char *, r->n_text);
    r->parsed = arena_alloc(r->a, r->n_text, sizeof *r->parsed);
    r->op = NEW(r->a, const Op *, r->n_text);
    for (uint32_t i = 0; i < r->n_text; i++) {
        r->text[i] = at;
        at += strlen(at) + 1;
    }
    return true;
}

/* The next number of a string; *text NULL: none. */
static bool get_text(Reader *r, const uint8_t **at, const char **text) {
    uint32_t i = get32(at);
    *text = i < r->n_text ? r->text[i] : NULL;
    return i < r->n_text || i == UINT32_MAX || bad(r, "a string is not there");
}

static bool read_head(Reader *r) {
    const Section *s = &r->part[SECTION_HEAD], *b = &r->part[SECTION_BLOCKS];
    if (s->n != 1) return bad(r, "it has no head");
    const uint8_t *at = s->data, *block = b->data;
    Plan *p = r->p;
    if (!get_text(r, &at, &p->name) || !get_text(r, &at, &p->report)) return false;
    if (!p->name) return bad(r, "it has no name");
    for (Mem m = 0; m < MEMS; m++) p->size[m] = get64(&at);
    p->act_lower_bound = get64(&at);
    bool blocks = get32(&at) != 0;
    if (!blocks) return true;
    const char **name = NEW(r->a, const char *, (size_t)b->n + 1);
    for (uint32_t i = 0; i < b->n; i++)
        if (!get_text(r, &block, &name[i]) || !name[i])
            return bad(r, "a block has no name");
    p->blocks = name;
    return true;
}

static bool read_sources(Reader *r) {
    const Section *s = &r->part[SECTION_SOURCES];
    const uint8_t *at = s->data;
    r->source = NEW(r->a, Source, (size_t)s->n + 1);
    for (uint32_t i = 0; i < s->n; i++) {
        Source *x = &r->source[i];
        if (!get_text(r, &at, &x->path) || !get_text(r, &at, &x->text)) return false;
        if (!x->path || !x->text) return bad(r, "a source has no path");
        x->len = strlen(x->text);
    }
    return true;
}

static bool read_params(Reader *r) {
    const Section *s = &r->part[SECTION_PARAMS];
    const uint8_t *at = s->data;
    r->param = NEW(r->a, Param, (size_t)s->n + 1);
    for (uint32_t i = 0; i < s->n; i++) {
        Param *q = &r->param[i];
        uint32_t kind = get32(&at);
        if (kind > INIT_VALUE) return bad(r, "a tensor starts in an unknown way");
        q->init.kind = (InitKind)kind;
        q->init.value = q->slice_index = NO_ID;
        q->slice_axis = (int32_t)get32(&at);
        q->init.number = get_f64(&at);
        q->slice_size = (int64_t)get64(&at);
        q->lr = 1;
        if (!get_text(r, &at, &q->module) || !get_text(r, &at, &q->key)) return false;
    }
    return true;
}

static void read_tables(Reader *r) {
    const Section *s = &r->part[SECTION_NUMBERS], *o = &r->part[SECTION_OPERANDS];
    const uint8_t *at = s->data, *next = o->data;
    double *number = NEW(r->a, double, (size_t)s->n + 1);
    for (uint32_t i = 0; i < s->n; i++) number[i] = get_f64(&at);
    uint32_t *operand = NEW(r->a, uint32_t, (size_t)o->n + 1);
    for (uint32_t i = 0; i < o->n; i++) operand[i] = get32(&next);
    r->number = number;
    r->operand = operand;
}

/* ---- values ---- */
static bool read_type(Reader *r, const uint8_t **at, Type *t) {
    uint64_t dtype = get(at, 1), rank = get(at, 1), count = 1;
    const uint8_t *dim = *at + 2; /* behind role and memory */
    if (dtype >= DTYPES || rank > MAX_RANK) return bad(r, "a type that cannot be");
    t->dtype = (DType)dtype;
    t->rank = (int)rank;
    for (uint64_t i = 0; i < MAX_RANK; i++) {
        uint64_t d = get64(&dim);
        if (i >= rank) continue;
        if (!d || !mul_u64(count, d, &count) || count > UINT64_C(1) << 47)
            return bad(r, "a type that cannot be");
        t->dim[i] = (int64_t)d;
    }
    return true;
}

static bool read_value(Reader *r, const uint8_t *at, PlanValue *v) {
    if (!read_type(r, &at, &v->type)) return false;
    uint64_t role = get(&at, 1), mem = get(&at, 1);
    if (role >= ROLES || mem >= MEMS) return bad(r, "a value is in no memory");
    v->role = (Role)role;
    v->mem = (Mem)mem;
    at += 8 * MAX_RANK;
    v->offset = get64(&at);
    uint64_t number = get64(&at), n = (uint64_t)type_count(&v->type);
    v->bytes = type_bytes(&v->type);
    if (number != UINT64_MAX) {
        uint64_t have = r->part[SECTION_NUMBERS].n;
        if (number > have || n > have - number) return bad(r, "a constant has no data");
        v->data = r->number + number;
    }
    if (!get_text(r, &at, &v->name)) return false;
    v->base = get32(&at);
    v->first = get32(&at);
    v->last = get32(&at);
    uint32_t param = get32(&at);
    if (param != UINT32_MAX) {
        if (param >= r->part[SECTION_PARAMS].n) return bad(r, "a start is not there");
        v->param = &r->param[param];
    }
    return true;
}

/* ---- steps ---- */

/* "{name=value, …}", in the order of the row's attributes. Values in quotes and brackets
 * keep their commas. */
static bool parse_attributes(Reader *r, const Op *op, const char *text, void *attrs) {
    const char *at = text + (*text == '{');
    while (*at && *at != '}') {
        size_t n = strcspn(at, "=,}");
        const Attr *a = attr_find(op, arena_strndup(r->a, at, n));
        if (!a || at[n] != '=') return old(r, "attribute", at);
        const char *value = at + n + 1, *end = value;
        char close = *end == '"' ? '"' : *end == '[' ? ']' : 0;
        if (close)
            for (end++; *end && *end != close; end++)
                if (close == '"' && *end == '\\' && end[1]) end++;
        end += strcspn(end, ",}");
        Err why = {0};
        if (!attr_parse(r->a, a, attrs,
                        arena_strndup(r->a, value, (size_t)(end - value)), &why))
            return bad(r, "%s", why.text);
        at = end + (*end == ',');
        while (*at == ' ') at++;
    }
    return true;
}

static bool attributes(Reader *r, uint32_t id, PlanStep *t) {
    if (!t->op->attrs_size)
        return id == UINT32_MAX || bad(r, "attributes that no op reads");
    if (id >= r->n_text) return bad(r, "an op has no attributes");
    if (r->parsed[id].op != t->op) {
        void *attrs = attrs_new(r->a, t->op);
        if (!parse_attributes(r, t->op, r->text[id], attrs)) return false;
        r->parsed[id].op = t->op;
        r->parsed[id].attrs = attrs;
    }
    t->attrs = r->parsed[id].attrs;
    return true;
}

static const Kernel *kernel_find(const Op *op, const char *name) {
    for (const Kernel *k = op->cpu; k && k->name; k++)
        if (!strcmp(k->name, name)) return k;
    for (const Kernel *k = op->cuda; k && k->name; k++)
        if (!strcmp(k->name, name)) return k;
    return NULL;
}

static bool operands(Reader *r, const uint8_t **at, const uint32_t **out, int *n) {
    uint32_t first = get32(at), count = get32(at), have = r->part[SECTION_OPERANDS].n;
    if (first > have || count > have - first) return bad(r, "operands are not there");
    *out = r->operand + first;
    *n = (int)count;
    return true;
}

static bool read_place(Reader *r, const uint8_t **at, Place *place) {
    if (!get_text(r, at, &place->path)) return false;
    uint32_t phase = get32(at), source = get32(at);
    if (phase >= PHASES) return bad(r, "a step is in no phase");
    place->phase = (Phase)phase;
    if (source != UINT32_MAX && source >= r->part[SECTION_SOURCES].n)
        return bad(r, "a source is not there");
    if (source != UINT32_MAX) place->loc.src = &r->source[source];
    place->loc.line = get32(at);
    place->loc.col = get32(at);
    place->loc.len = get32(at);
    return true;
}

static bool read_step(Reader *r, const uint8_t *at, PlanStep *t) {
    uint32_t op = get32(&at);
    const char *kernel;
    if (!get_text(r, &at, &kernel)) return false;
    if (op >= r->n_text || !kernel) return bad(r, "a step has no op");
    if (!r->op[op]) r->op[op] = op_find(r->text[op]);
    t->op = r->op[op];
    if (!t->op) return old(r, "op", r->text[op]);
    t->kernel = kernel_find(t->op, kernel);
    if (!t->kernel) return old(r, "kernel", kernel);
    if (!attributes(r, get32(&at), t) || !operands(r, &at, &t->in, &t->n_in) ||
        !operands(r, &at, &t->out, &t->n_out))
        return false;
    int32_t block = (int32_t)get32(&at);
    if (block < -1 || block >= (int32_t)r->part[SECTION_BLOCKS].n)
        return bad(r, "a step is in no block");
    t->at.block = block;
    t->work_bytes = get64(&at);
    t->flops = get64(&at);
    t->bytes = get64(&at);
    if (!read_place(r, &at, &t->at)) return false;
    return true;
}

/* ---- the rest ---- */
static bool read_adapters(Reader *r) {
    const Section *s = &r->part[SECTION_ADAPTERS];
    const uint8_t *at = s->data;
    PlanAdapter *m = NEW(r->a, PlanAdapter, (size_t)s->n + 1);
    r->p->adapter = m;
    r->p->n_adapter = s->n;
    for (uint32_t i = 0; i < s->n; i++, m++) {
        if (!get_text(r, &at, &m->name) || !get_text(r, &at, &m->kind) ||
            !get_text(r, &at, &m->path))
            return false;
        m->block = (int32_t)get32(&at);
        m->rank = get_f64(&at);
        m->alpha = get_f64(&at);
        m->scale = get_f64(&at);
        m->parameters = get64(&at);
        bool there = m->block >= -1 && m->block < (int32_t)r->part[SECTION_BLOCKS].n;
        if (!m->name || !m->kind || !m->path || !there)
            return bad(r, "a wrong adapter");
    }
    return true;
}

static bool read_outputs(Reader *r) {
    const Section *s = &r->part[SECTION_OUTPUTS], *k = &r->part[SECTION_PARTS];
    const uint8_t *at = s->data, *part = k->data;
    r->p->output = NEW(r->a, Output, (size_t)s->n + 1);
    r->p->n_output = s->n;
    for (uint32_t i = 0; i < s->n; i++) {
        if (!get_text(r, &at, &r->p->output[i].name)) return false;
        r->p->output[i].value = get32(&at);
    }
    PlanPart *list = NEW(r->a, PlanPart, (size_t)k->n + 1);
    r->p->part = list;
    r->p->n_part = k->n;
    for (uint32_t i = 0; i < k->n; i++) {
        if (!get_text(r, &part, &list[i].name) || !list[i].name)
            return bad(r, "a part has no name");
        list[i].hash = get64(&part);
    }
    return true;
}

static bool read_records(Reader *r) {
    Plan *p = r->p;
    if (!read_strings(r) || !read_head(r) || !read_sources(r) || !read_params(r))
        return false;
    read_tables(r);
    const Section *v = &r->part[SECTION_VALUES], *t = &r->part[SECTION_STEPS];
    p->value = NEW(r->a, PlanValue, (size_t)v->n + 1);
    p->step = NEW(r->a, PlanStep, (size_t)t->n + 1);
    p->n_value = v->n;
    p->n_step = t->n;
    for (uint32_t i = 0; i < v->n; i++)
        if (!read_value(r, v->data + (size_t)i * plan_section[SECTION_VALUES].record,
                        &p->value[i]))
            return false;
    for (uint32_t k = 0; k < t->n; k++)
        if (!read_step(r, t->data + (size_t)k * plan_section[SECTION_STEPS].record,
                       &p->step[k]))
            return false;
    return read_outputs(r) && read_adapters(r);
}

/* deeper: may it have a plan of starts, which is read the same way? */
static Plan *read_plan(Arena *a, const void *data, size_t n, bool deeper, bool *is_old,
                       Err *e) {
    Reader r = {
        .a = a, .p = NEW(a, Plan, 1), .bytes = data, .n = n, .old = is_old, .e = e};
    r.p->arena = a;
    if (!read_container(&r) || !read_records(&r)) return NULL;
    const Section *init = &r.part[SECTION_INIT];
    if (!init->n) return r.p;
    if (!deeper) return bad(&r, "the plan of starts has starts itself"), NULL;
    r.p->init = read_plan(a, init->data, init->raw_bytes, false, is_old, e);
    return r.p->init ? r.p : NULL;
}

Plan *plan_read(Arena *a, const void *data, size_t n, bool *is_old, Err *e) {
    *is_old = false;
    Plan *p = read_plan(a, data, n, true, is_old, e);
    return p && plan_verify(p, e) ? p : NULL;
}
