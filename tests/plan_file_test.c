/* Plan files: a round trip changes no byte, a plan made twice has the same bytes, and no
 * file - cut anywhere, damaged anywhere, with hashes right or wrong - does more than fail. */
#include "graph/plan/plan_file.h"

#include "cli/job/job.h"
#include "tests/check.h"
#include "tests/plan_seal.h"

enum {
    PLAIN = 300,
    SEALED = 300,
    UNPACKED = 700
}; /* damaged files; the last one twice */

static uint64_t random_state = 20261125;
static uint32_t draw(uint32_t below) { /* xorshift64 */
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16) % below;
}

/* A training step of the nano model; dora: its tensors start as values (Plan.init). */
static Plan *make_plan(Job *j, const char *adapter, Err *e) {
    static const char *const absent[] = {"mask", NULL};
    static const struct {
        const char *name;
        int64_t value;
    } sizes[] = {{"B", 1}, {"H", 8}, {"W", 8}, {"N", 1}};
    if (!job_load(j, "lora", e)) return NULL;
    Args *set = args_new(j->arena), *dims = args_new(j->arena);
    args_set(set, "pretrained_model_name_or_path",
             val_word("tests/golden/nano/nano-sd.safetensors"));
    if (!job_open(j, set, e)) return NULL;
    for (int i = 0; i < j->recipe.n_adapter && adapter; i++) {
        AdapterEntry *x = &j->recipe.adapter[i];
        x->doc = doc_load(j->library, adapter, DOC_ADAPTER, NULL, loc_none(), e);
        x->args = args_new(j->arena);
        x->preset = NULL;
    }
    for (size_t i = 0; i < COUNT(sizes); i++)
        args_set(dims, sizes[i].name, val_int(sizes[i].value));
    Str *report = NEW(j->arena, Str, 1);
    Options opt = {.recipe = &j->recipe,
                   .net = j->net,
                   .n_net = j->n_net,
                   .dims = dims,
                   .absent = absent,
                   .train = true,
                   .max_grad_norm = 1,
                   .report = report};
    Plan *p = compile(j->arena, &opt, e);
    if (p) p->report = arena_strdup(j->arena, report->s ? report->s : "");
    str_free(report);
    return p;
}

static Plan *read_str(Arena *a, const Str *s, bool *old, Err *e) {
    return plan_read(a, s->s, s->n, old, e);
}

static void round_trip(const Plan *p, const Str *file) {
    Arena *a = arena_new();
    Err e = {0};
    bool old;
    Plan *q = read_str(a, file, &old, &e);
    CHECK(q, "%s", e.text);
    if (q) {
        Str again = {0}, before = {0}, after = {0};
        plan_write(&again, q);
        plan_print(&before, p);
        plan_print(&after, q);
        CHECK(again.n == file->n && !memcmp(again.s, file->s, file->n),
              "other bytes after a round trip: %zu and %zu", again.n, file->n);
        CHECK(!strcmp(before.s, after.s), "another plan after a round trip");
        CHECK(!strcmp(p->report, q->report), "another report after a round trip");
        str_free(&again);
        str_free(&before);
        str_free(&after);
    }
    arena_free(a);
}

/* Reading fails with a message, or gives a plan (which plan_read has verified): *taken. */
static bool survives(const uint8_t *bytes, size_t n, int *taken) {
    Arena *a = arena_new();
    Err e = {0};
    bool old;
    Plan *p = plan_read(a, bytes, n, &old, &e);
    bool ok = p ? !e.set : e.set && e.code == EXIT_FAILED && e.text[0];
    *taken += p != NULL;
    arena_free(a);
    return ok;
}

/* Each prefix in memory of its own size, so that a read behind it is seen. */
static void truncations(const Str *file) {
    Arena *a = arena_new();
    int accepted = 0, wrong = 0;
    for (size_t n = 0; n < file->n; n += n < 4096 ? 1 : 97) {
        Arena *own = arena_new();
        uint8_t *copy = NEW(own, uint8_t, n + 1);
        memcpy(copy, file->s, n);
        wrong += !survives(copy, n, &accepted);
        seal(copy, n);
        wrong += !survives(copy, n, &accepted);
        arena_free(own);
    }
    CHECK(!accepted, "%d cut files were taken", accepted);
    CHECK(!wrong, "%d cut files failed without a message", wrong);
    arena_free(a);
}

static void damage(uint8_t *b, size_t n) {
    static const uint32_t words[] = {0,          1,          0x7fffffff,
                                     0x80000000, 0xffffffff, 0xfffffffe};
    for (uint32_t i = 1 + draw(3); i > 0; i--) {
        size_t at = draw((uint32_t)n);
        switch (draw(4)) {
        case 0:
            b[at] ^= (uint8_t)(1u << draw(8));
            break;
        case 1:
            b[at] = (uint8_t)draw(256);
            break;
        case 2: /* a word: a number that is likely to be a limit */
            at &= ~(size_t)3;
            if (at + 4 <= n) seal_put(b + at, words[draw(COUNT(words))], 4);
            break;
        default: { /* a word from elsewhere */
            size_t from = draw((uint32_t)n) & ~(size_t)3;
            at &= ~(size_t)3;
            if (at + 4 <= n && from + 4 <= n) memmove(b + at, b + from, 4);
        }
        }
    }
}

static void corruptions(const Str *file, int n, bool sealed) {
    int wrong = 0, taken = 0;
    Arena *a = arena_new();
    uint8_t *copy = NEW(a, uint8_t, file->n);
    for (int i = 0; i < n; i++) {
        memcpy(copy, file->s, file->n);
        damage(copy, file->n);
        if (!memcmp(copy, file->s, file->n)) continue;
        if (sealed) seal(copy, file->n);
        wrong += !survives(copy, file->n, &taken);
    }
    CHECK(!wrong, "%d damaged files failed without a message", wrong);
    CHECK(sealed || !taken, "%d damaged files were taken", taken);
    CHECK(taken < n / 2, "%d of %d damaged files were taken", taken, n);
    arena_free(a);
}

static void versions(const Str *file) {
    static const struct {
        size_t at;
        const char *says;
        bool old;
    } changes[] = {{8, "it has version", true},
                   {HEADER_BYTES, "section", true},
                   {12, "flags", false},
                   {0, "does not start", false}};
    for (size_t i = 0; i < COUNT(changes); i++) {
        Arena *a = arena_new();
        uint8_t *copy = NEW(a, uint8_t, file->n);
        memcpy(copy, file->s, file->n);
        copy[changes[i].at]++;
        seal(copy, file->n);
        Err e = {0};
        bool old;
        CHECK(!plan_read(a, copy, file->n, &old, &e), "byte %zu", changes[i].at);
        CHECK(old == changes[i].old, "byte %zu: old %d", changes[i].at, old);
        CHECK(strstr(e.text, changes[i].says), "'%s' says not '%s'", e.text,
              changes[i].says);
        arena_free(a);
    }
}

/* The first value that owns activation memory, and one that lives beside it. */
static void hand_made(const Plan *good) {
    static const char *const says[] = {"share memory",  "behind its memory",
                                       "costs",         "which nothing wrote",
                                       "the plan says", "two values are called"};
    for (size_t i = 0; i < COUNT(says); i++) {
        Arena *a = arena_new();
        Plan p = *good;
        p.value = NEW(a, PlanValue, p.n_value);
        p.step = NEW(a, PlanStep, p.n_step);
        memcpy(p.value, good->value, p.n_value * sizeof *p.value);
        memcpy(p.step, good->step, p.n_step * sizeof *p.step);
        uint32_t act = 0, long_act = 0, named = UINT32_MAX, last = p.n_step - 1;
        for (uint32_t v = 0; v < p.n_value; v++) {
            const PlanValue *x = &p.value[v];
            if (x->base != v) continue;
            if (x->mem == MEM_ACT && x->last > x->first + 2)
                long_act = act ? long_act : v;
            if (x->mem == MEM_ACT && !act) act = v;
            if (x->mem == MEM_STATE && named == UINT32_MAX) named = v;
        }
        if (i == 0)
            for (uint32_t v = 0; v < p.n_value; v++)
                if (p.value[v].base == v && p.value[v].mem == MEM_ACT)
                    p.value[v].offset = 0;
        if (i == 0)
            for (uint32_t v = 0; v < p.n_value; v++)
                p.value[v].offset = p.value[p.value[v].base].offset;
        if (i == 1) p.size[MEM_ACT] = p.size[MEM_STATE] = p.size[MEM_INPUT] = 64;
        if (i == 2) p.step[last].flops++;
        if (i == 3) memmove(p.step, p.step + 1, last * sizeof *p.step);
        if (i == 4) p.value[act].last++;
        if (i == 5)
            for (uint32_t v = named + 1; v < p.n_value; v++)
                if (p.value[v].mem == MEM_STATE) p.value[v].name = p.value[named].name;
        Err e = {0};
        CHECK(!plan_verify(&p, &e), "a plan was taken that should say '%s'", says[i]);
        CHECK(strstr(e.text, says[i]), "'%s' says not '%s'", e.text, says[i]);
        arena_free(a);
    }
}

static void one_adapter(const char *adapter, bool starts) {
    Job j, k;
    Err e = {0};
    Plan *p = make_plan(&j, adapter, &e), *q = make_plan(&k, adapter, &e);
    CHECK(p && q, "%s", e.text);
    if (p && q) {
        CHECK(!!p->init == starts, "adapter %s: starts %d", adapter ? adapter : "lora",
              starts);
        Str file = {0}, twice = {0}, unpacked = {0};
        plan_write(&file, p);
        plan_write(&twice, q);
        CHECK(file.n == twice.n && !memcmp(file.s, twice.s, file.n),
              "the same plan made twice has other bytes");
        seal_unpacked(&unpacked, (const uint8_t *)file.s, file.n);
        round_trip(p, &file);
        int taken = 0;
        CHECK(survives((const uint8_t *)unpacked.s, unpacked.n, &taken) && taken,
              "unpacked");
        if (!starts) {
            truncations(&file);
            corruptions(&file, PLAIN, false);
            corruptions(&file, SEALED, true);
            versions(&file);
            hand_made(p);
        }
        corruptions(&unpacked, UNPACKED, true);
        str_free(&file);
        str_free(&twice);
        str_free(&unpacked);
    }
    job_close(&j);
    job_close(&k);
}

int main(void) {
    one_adapter(NULL, false);
    one_adapter("dora", true);
    return check_done("plan_file");
}
