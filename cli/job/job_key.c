/* What a plan depends on, as a key (job_plan.h). Sound by construction: documents go in as
 * text and arguments as values, so whatever passes make of them is covered; the program
 * itself goes in by the linker's hash of it. What is left out is only what is written
 * into a plan's inputs before each step. */
#define _GNU_SOURCE /* dl_iterate_phdr */
#include <elf.h>
#include <link.h>
#include <string.h>
#include <xxhash.h>

#include "cli/job/job_plan.h"
#include "cli/version.h"
#include "io/file.h"

typedef struct Key {
    const Job *j;
    PlanKey *k;
    Str text;     /* of the part being written */
    double *rate; /* learning rates so far: only which ones are equal counts */
    int n_rate, cap_rate;
} Key;

static void end_part(Key *k, const char *name) {
    plan_key_add(k->k, name, k->text.s, k->text.n);
    str_free(&k->text);
    k->text = (Str){0};
}

/* ---- the program ---- */
/* The linker's hash over all that it linked (--build-id), of the program itself, which is
 * the first object of the list. */
static int find_build_id(struct dl_phdr_info *of, size_t size, void *text) {
    (void)size;
    for (int i = 0; i < of->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &of->dlpi_phdr[i];
        if (h->p_type != PT_NOTE) continue;
        const char *at = (const char *)(of->dlpi_addr + h->p_vaddr);
        const char *end = at + h->p_memsz;
        while (at + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *note = (const void *)at;
            const char *name = at + sizeof *note;
            const char *data = name + (note->n_namesz + 3) / 4 * 4;
            at = data + (note->n_descsz + 3) / 4 * 4;
            if (note->n_type != NT_GNU_BUILD_ID || note->n_namesz != 4 ||
                memcmp(name, "GNU", 4))
                continue;
            for (uint32_t b = 0; b < note->n_descsz; b++)
                str_printf(text, "%02x", (unsigned char)data[b]);
            return 1;
        }
    }
    return 1;
}

/* Without the linker's hash, that of the program's bytes. */
static void add_program(Key *k) {
    void *map;
    size_t n;
    Err none = {0};
    str_printf(&k->text, "%s %s ", version_text(), version_isa());
    size_t before = k->text.n;
    dl_iterate_phdr(find_build_id, &k->text);
    if (k->text.n == before && file_map("/proc/self/exe", &map, &n, &none)) {
        str_printf(&k->text, "%016llx", (unsigned long long)XXH3_64bits(map, n));
        file_unmap(map, n);
    }
    end_part(k, "program");
}

/* ---- documents and arguments ---- */
static void add_documents(Key *k) {
    const Doc *d;
    for (int i = 0; (d = library_doc(k->j->library, i)); i++) {
        str_addn(&k->text, d->src->text, d->src->len);
        end_part(k, arena_printf(k->j->arena, "document %s", d->src->path));
    }
}

/* A rate is a number written before each step; which tensors share one is part of the
 * plan, and so is a rate of zero, which makes no module. */
static void add_rate(Key *k, const Val *v) {
    double x;
    if (!val_number(v, &x)) {
        val_print(&k->text, v);
        return;
    }
    int i = 0;
    while (i < k->n_rate && k->rate[i] != x) i++;
    if (i == k->n_rate) PUSH(k->j->arena, k->rate, k->n_rate, k->cap_rate, x);
    str_printf(&k->text, x == 0 ? "none" : "rate %d", i);
}

static void add_args(Key *k, const Args *a, bool rates) {
    for (int i = 0; a && i < a->n; i++) {
        str_printf(&k->text, " %s=", a->name[i]);
        if (rates && !strcmp(a->name[i], "lr"))
            add_rate(k, &a->val[i]);
        else
            val_print(&k->text, &a->val[i]);
    }
    str_add(&k->text, "\n");
}

static void add_names(Key *k, const char *what, const char *const *names) {
    str_printf(&k->text, "%s:", what);
    for (; names && *names; names++) str_printf(&k->text, " %s", *names);
    str_add(&k->text, "\n");
}

/* Of weights the names and types, never the values. */
static void add_weights(Key *k, const Net *net) {
    Checkpoint *c = job_checkpoint(k->j, net->name);
    int n = c ? checkpoint_count(c) : 0;
    for (int i = 0; i < n; i++) {
        const char *key, *name = checkpoint_name(c, i, &key);
        Type t;
        const void *data;
        if (!checkpoint_find(c, name, &t, &data)) continue;
        str_printf(&k->text, "%s ", name);
        type_print(&k->text, &t);
        str_add(&k->text, "\n");
    }
    end_part(k, arena_printf(k->j->arena, "weights of %s", net->name));
}

static void add_networks(Key *k, const Options *opt) {
    for (int i = 0; i < opt->n_net; i++) {
        const Net *net = &opt->net[i];
        str_printf(&k->text, "%s %d", net->doc->name, net->train);
        add_args(k, net->args, false);
        end_part(k, arena_printf(k->j->arena, "network %s", net->name));
        add_weights(k, net);
    }
}

static void add_adapter(Key *k, const AdapterEntry *x) {
    str_printf(&k->text, "%s %d %d", x->doc->name, x->stack, x->keep);
    add_args(k, x->args, true);
    for (int i = 0; i < x->n_on; i++) add_names(k, x->on[i].network, x->on[i].pattern);
    for (int b = 0; x->preset && b < x->preset->n_block; b++) {
        str_printf(&k->text, "%s", x->preset->block[b]);
        add_args(k, x->preset->at[b], false); /* lr there is a factor */
    }
}

static void add_recipe(Key *k, const Recipe *r) {
    /* where there is no checkpoint, the variant's name says which forms its weights have */
    for (int i = 0; i < r->n_network; i++)
        str_printf(&k->text, "%s ",
                   r->network[i].variant ? r->network[i].variant : "-");
    end_part(k, "variants");
    for (int i = 0; i < r->n_adapter; i++) {
        add_adapter(k, &r->adapter[i]);
        end_part(k, arena_printf(k->j->arena, "adapter entry %d", i));
    }
    for (int i = 0; i < r->n_rule; i++) {
        str_printf(&k->text, "%s", r->rule[i].match);
        add_args(k, r->rule[i].args, false);
    }
    end_part(k, "rules");
    str_add(&k->text, r->objective ? r->objective->name : "");
    add_args(k, r->objective_args, false);
    end_part(k, "objective");
    str_add(&k->text, r->optimizer ? r->optimizer->name : "");
    add_args(k, r->optimizer_args, false);
    end_part(k, "optimizer");
    str_add(&k->text, r->average ? r->average->name : "");
    add_args(k, r->average_args, false);
    end_part(k, "average");
    add_args(k, r->plan, false);
    end_part(k, "plan options of the recipe");
}

/* Every option that changes a plan stands here. A new field of Options must be looked at:
 * this is the line that says so. */
_Static_assert(sizeof(Options) == 176,
               "a new option of passes: does it belong to the key?");

static void add_options(Key *k, const Options *opt) {
    str_printf(&k->text,
               "train %d reference %d cuda %d gradients %d accumulate %d norm ",
               opt->train, opt->reference_kernels, opt->cuda, opt->record_gradients,
               opt->accumulate > 1 ? opt->accumulate : 1);
    str_double(&k->text, opt->max_grad_norm);
    str_add(&k->text, " weight norms ");
    str_double(&k->text, opt->scale_weight_norms);
    str_printf(&k->text, " precision %d full %d", opt->mixed_precision, opt->full_half);
    str_printf(&k->text, " checkpoint %d budget %llu\n", opt->gradient_checkpointing,
               (unsigned long long)opt->memory_budget);
    add_names(k, "given", opt->given);
    add_names(k, "given draws", opt->given_draws);
    add_names(k, "absent", opt->absent);
    add_names(k, "record", opt->record);
    add_names(k, "disable", opt->disable);
    end_part(k, "options");
    add_args(k, opt->dims, false);
    end_part(k, "shape");
}

void job_key(const Job *j, const Options *opt, uint8_t key[16], const PlanPart **part,
             uint32_t *n) {
    Key k = {.j = j, .k = plan_key_new(j->arena)};
    add_program(&k);
    add_documents(&k);
    add_networks(&k, opt);
    if (opt->recipe) add_recipe(&k, opt->recipe);
    add_options(&k, opt);
    plan_key_end(k.k, key, part, n);
}
