/* `graphrun convert SRC DST`: model and LoRA files between formats, names and precisions.
 * Which of the two SRC is, is told by its keys; what DST becomes, by --to and its ending. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/files/file_tool.h"
#include "io/file.h"
#include "io/lora_write.h"
#include "io/model_write.h"

typedef struct Convert {
    const char *to, *save_precision;
    bool bin, fold_alpha, v1, v2, v_parameterization, strict_pickle;
    int64_t epoch, global_step;
} Convert;

typedef struct Job {
    Arena *arena;
    const Common *common;
    const Convert *opt;
    const char *from, *to;
    int precision;
    Err *e;
} Job;

static const char *const to_words[] = {"ldm", "diffusers", "kohya", "peft", NULL};

static bool wants(const Job *j, const char *word) {
    return j->opt->to && !strcmp(j->opt->to, word);
}

static void say(const Job *j, int tensors, const char *what, int64_t overflow) {
    tool_tell_overflow(overflow);
    if (!j->common->quiet)
        fprintf(stderr, "%s: %d tensors, %s\n", j->to, tensors, what);
}

static void say_notes(const Job *j, const TensorFile *f) {
    for (int i = 0; i < f->n_note && !j->common->quiet; i++)
        fprintf(stderr, "note: %s: %s\n", f->path, f->note[i]);
}

/* ---- LoRA ---- */
static bool convert_lora(const Job *j, TensorFile *t) {
    if (wants(j, "ldm") || j->opt->bin) {
        tensors_close(t);
        return err_usage(j->e, "%s is for models, '%s' is a LoRA file",
                         j->opt->bin ? "--bin" : "--to ldm", j->from);
    }
    LoraFile *f = lora_from(t, j->e);
    if (!f) return false;
    bool peft = wants(j, "peft") || wants(j, "diffusers");
    LoraSave how = {.form = peft ? LORA_PEFT : LORA_KOHYA,
                    .precision = j->precision,
                    .fold = j->opt->fold_alpha,
                    .family = j->opt->v2   ? "sd2"
                              : j->opt->v1 ? "sd1"
                                           : NULL};
    say_notes(j, f->file);
    bool ok = lora_is_whole(f, j->e) && tool_output("DST", j->to, j->e) &&
              lora_save(f, j->to, &how, j->e);
    if (ok)
        say(j, peft ? 2 * f->n : 3 * f->n,
            arena_printf(j->arena, "%d modules, names of %s", f->n,
                         peft ? "Diffusers (peft)" : "kohya"),
            0);
    lora_close(f);
    return ok;
}

/* ---- models, names kept ---- */
static bool is_weight(const Names *names, Arena *a, const char *key) {
    NamePart part[NAME_PARTS];
    bool dropped;
    return names_from_file(names, a, key, part, &dropped) > 0 && !dropped;
}

/* Every tensor of the file; weights of the networks are cast, the rest (noise schedule,
 * moving averages) keeps its type. names NULL: everything is cast. */
static bool copy_file(const Job *j, const TensorFile *f, const Names *names,
                      const char *what) {
    StoredList list = {.arena = j->arena, .file = f};
    for (int i = 0; i < f->n; i++) {
        const TensorEntry *x = &f->entry[i];
        bool cast = !names || is_weight(names, j->arena, x->name);
        stored_add(&list, x->name, x, cast ? j->precision : STORED_KEEP);
    }
    Meta *meta = NEW(j->arena, Meta, f->n_meta + 1);
    for (int i = 0; i < f->n_meta; i++)
        meta[i] = (Meta){f->meta_key[i], f->meta_value[i]};
    int n_meta = f->n_meta;
    if (!n_meta) meta[n_meta++] = (Meta){"format", "pt"};
    TorchTop top = {f->wrapped ? f->epoch : 0, f->wrapped ? f->global_step : 0};
    if (j->opt->epoch != UNSET_INT) top.epoch = j->opt->epoch;
    if (j->opt->global_step != UNSET_INT) top.global_step = j->opt->global_step;
    if (!stored_write(j->to, &list, meta, n_meta, names ? &top : NULL, j->e))
        return false;
    say(j, list.n, what, list.overflow);
    return true;
}

/* ---- models, other names ---- */
static const char *family_of(const Job *j, const Checkpoint *c) {
    return j->opt->v2 ? "sd2" : j->opt->v1 ? "sd1" : model_family(c);
}

/* A file with LDM keys calls its tensors otherwise than we do. */
static bool has_ldm_keys(const Checkpoint *c) {
    for (int i = 0; i < checkpoint_count(c); i++) {
        const char *key;
        const char *name = checkpoint_name(c, i, &key);
        size_t n = strlen(name), m = strlen(key);
        if (m > n || strcmp(name + n - m, key)) return true;
    }
    return false;
}

static bool to_ldm(const Job *j, const Checkpoint *c) {
    StoredList list = {.arena = j->arena, .model = c};
    const char *family = family_of(j, c);
    bool config;
    TorchTop top = {j->opt->epoch != UNSET_INT ? j->opt->epoch : 0,
                    j->opt->global_step != UNSET_INT ? j->opt->global_step : 0};
    if (!model_to_ldm(&list, c, family, j->precision, j->e) ||
        !stored_write(j->to, &list, &(Meta){"format", "pt"}, 1, &top, j->e) ||
        !config_beside(j->to, c, family, &config, j->e))
        return false;
    if (config && !j->common->quiet)
        fprintf(stderr, "%s.config.json: what the weights do not tell\n",
                arena_strndup(j->arena, j->to, (size_t)(strrchr(j->to, '.') - j->to)));
    if (!j->common->quiet) tool_tell_tokenizer(c, j->to);
    say(j, list.n, arena_printf(j->arena, "%s, LDM names", family), list.overflow);
    return true;
}

static bool to_diffusers(const Job *j, const Checkpoint *c) {
    bool folder;
    if (path_is_tensors(j->to))
        return err_usage(
            j->e, "--to diffusers makes a folder, '%s' is the name of a file", j->to);
    if (!j->opt->to && !tool_output_model("DST", j->to, &folder, j->e)) return false;
    const DiffusersSave how = {.family = family_of(j, c),
                               .precision = j->precision,
                               .v_prediction = j->opt->v_parameterization,
                               .bin = j->opt->bin};
    int64_t overflow;
    if (!diffusers_write(j->to, c, &how, &overflow, j->e)) return false;
    say(j, checkpoint_count(c),
        arena_printf(j->arena, "%s, a Diffusers folder", how.family), overflow);
    if (!file_exists(arena_printf(j->arena, "%s/tokenizer/vocab.json", j->to)) &&
        !j->common->quiet)
        fprintf(stderr,
                "note: no tokenizer is known for this model: the folder has none\n");
    return true;
}

/* What a folder has no place for, so that nothing is lost without a word. */
static void say_left_out(const Job *j, const TensorFile *f, const Names *names) {
    int n = 0;
    const char *first = NULL;
    for (int i = 0; i < f->n; i++) {
        NamePart part[NAME_PARTS];
        bool dropped;
        if (names_from_file(names, j->arena, f->entry[i].name, part, &dropped) ||
            dropped)
            continue;
        if (!n++) first = f->entry[i].name;
    }
    if (n && !j->common->quiet)
        fprintf(stderr,
                "note: %d tensors of '%s' have no place there, the first is '%s'\n", n,
                j->from, first);
}

static bool convert_model(const Job *j, const TensorFile *f) {
    if (wants(j, "kohya") || wants(j, "peft"))
        return err_usage(j->e, "--to %s is for LoRA files, '%s' is a model", j->opt->to,
                         j->from);
    if (j->opt->fold_alpha)
        return err_usage(j->e, "--fold_alpha is for LoRA files, '%s' is a model",
                         j->from);
    bool ldm = wants(j, "ldm") || (!j->opt->to && path_is_tensors(j->to)), ok;
    if (ldm && j->opt->bin)
        return err_usage(j->e, "--bin is for Diffusers folders; a file's form follows "
                               "from the end of its name");
    Checkpoint *c = checkpoint_open(j->from, j->e);
    if (!c) return false;
    const Names *names = names_open(j->arena, family_of(j, c), j->e);
    if (!names)
        ok = false;
    else if (ldm && !path_is_tensors(j->to))
        ok = tool_output("DST", j->to, j->e);
    else if (ldm && f && has_ldm_keys(c))
        ok = copy_file(j, f, names, "names kept");
    else if (ldm)
        ok = to_ldm(j, c);
    else
        ok = to_diffusers(j, c);
    if (ok && !ldm && f) say_left_out(j, f, names);
    checkpoint_close(c);
    return ok;
}

/* Whether any key is of a model: else the file is copied as tensors of some other kind. */
static bool is_model(const Job *j, const TensorFile *f) {
    const char **key = NEW(j->arena, const char *, f->n + 1);
    for (int i = 0; i < f->n; i++) key[i] = f->entry[i].name;
    const Names *names = names_open(j->arena, names_family(key, f->n), j->e);
    for (int i = 0; names && i < f->n; i++)
        if (is_weight(names, j->arena, key[i]) || checkpoint_component(key[i]))
            return true;
    return false;
}

static bool convert_file(const Job *j) {
    TensorFile *f = j->opt->strict_pickle && path_is_torch(j->from)
                        ? torch_open(j->from, true, j->e)
                        : tensors_open(j->from, j->e);
    if (!f) return false;
    if (lora_is(f)) return convert_lora(j, f);
    bool ok;
    say_notes(j, f);
    if (is_model(j, f))
        ok = convert_model(j, f);
    else if (j->opt->to || j->opt->fold_alpha || j->opt->bin)
        ok = err_fail(j->e,
                      "'%s' is neither a model nor a LoRA file: only its format and "
                      "precision can be changed",
                      j->from);
    else
        ok = tool_output("DST", j->to, j->e) &&
             copy_file(j, f, NULL, "neither a model nor a LoRA, names kept");
    tensors_close(f);
    return ok;
}

static int run(const Common *c, const void *opts, const Args *given,
               const WordList *words, Err *e) {
    (void)given;
    const Convert *o = opts;
    Job j = {arena_new(), c, o, words->word[0], words->word[1], 0, e};
    j.precision = precision_of(o->save_precision, STORED_KEEP);
    const bool numbers = o->epoch != UNSET_INT || o->global_step != UNSET_INT;
    bool ok = (!(o->v1 && o->v2) || err_usage(e, "--v1 and --v2 exclude each other")) &&
              (!numbers || (path_is_torch(j.to) && !ends_with(j.to, ".bin")) ||
               err_usage(e,
                         "--epoch and --global_step are for .ckpt, .pt and .pth: "
                         "'%s' has no place for them",
                         j.to)) &&
              (folder_exists(j.from) ? convert_model(&j, NULL) : convert_file(&j));
    arena_free(j.arena);
    return ok ? EXIT_DONE : e->code;
}

static const Convert defaults = {.epoch = UNSET_INT, .global_step = UNSET_INT};
static const Opt options[] = {
    OPT(Convert, TEXT, to, "NAMES",
        "names of the result: ldm or diffusers for a model, kohya or diffusers (= "
        "peft) "
        "for a LoRA; without it a model file gets ldm, a folder diffusers, a LoRA "
        "kohya",
        .words = to_words),
    OPT(Convert, TEXT, save_precision, "TYPE",
        "type of the stored numbers; without it they stay as they are",
        .words = precision_words),
    OPT(Convert, FLAG, fold_alpha, NULL,
        "LoRA: multiply lora_up by alpha/rank and set alpha to the rank, which means "
        "the "
        "same to every loader"),
    OPT(Convert, FLAG, bin, NULL,
        "a Diffusers folder with .bin files, as torch.save writes them, not "
        ".safetensors"),
    OPT(Convert, FLAG, v1, NULL,
        "the model is Stable Diffusion 1.x; usually told by itself"),
    OPT(Convert, FLAG, v2, NULL, "the model is Stable Diffusion 2.x"),
    OPT(Convert, FLAG, v_parameterization, NULL,
        "write v_prediction into the scheduler's config if the source has none"),
    OPT(Convert, INT, epoch, "N", "epoch to write into a .ckpt"),
    OPT(Convert, INT, global_step, "N", "global_step to write into a .ckpt"),
    OPT(Convert, FLAG, strict_pickle, NULL,
        "refuse a .ckpt that names anything but tensors, which otherwise is left out"),
    OPT_END,
};

const Command cmd_convert = {
    .name = "convert",
    .args = "SRC DST",
    .doc = "Convert model and LoRA files between formats, names and precisions.",
    .options = options,
    .size = sizeof(Convert),
    .defaults = &defaults,
    .min_words = 2,
    .max_words = 2,
    .run = run,
};
