/* The option parser and the texts made from its tables, on a small table of every kind and
 * on the real table of `graphrun train`. */
#include <stdlib.h>
#include <string.h>

#include "cli/train/train_options.h"
#include "tests/check.h"

typedef struct Small {
    bool flag;
    int64_t count, size;
    double rate;
    const char *text, *word, *maybe, *o;
    WordList list, each;
    int64_t soon;
} Small;
static const Small small_defaults = {
    .count = 4, .size = UNSET_INT, .rate = 0.5, .word = "red", .soon = 1};
static const char *const colours[] = {"red", "green", NULL};
static const Opt small_options[] = {
    OPT_GROUP("things"),
    OPT(Small, FLAG, flag, NULL, "a flag"),
    OPT(Small, INT, count, "N", "a count", .min = 1, .max = 10),
    OPT(Small, INT, size, "N", "a size"),
    OPT(Small, FLOAT, rate, "X", "a rate"),
    OPT(Small, TEXT, text, "TEXT", "a text"),
    OPT(Small, TEXT, word, "NAME", "a colour", .words = colours),
    OPT(Small, MAYBE, maybe, "PART", "a text or none"),
    OPT(Small, TEXT, o, "FILE", "a file"),
    OPT(Small, LIST, list, "K=V…", "a list"),
    OPT(Small, EACH, each, "K=V", "one each"),
    OPT(Small, INT, soon, "N", "only one", .later = "there is one of it"),
    OPT_IGNORED("no_effect", INT, "N", "it does nothing"),
    OPT_REFUSED("never", FLAG, NULL, "use --flag"),
    OPT_END,
};
static const Command small = {
    .name = "small",
    .args = "FILE [FILE]",
    .doc = "Does little.",
    .options = small_options,
    .size = sizeof(Small),
    .defaults = &small_defaults,
    .min_words = 0,
    .max_words = 2,
};
static const Command train = {
    .name = "train",
    .args = "[RECIPE]",
    .doc = "Trains.",
    .options = train_options,
    .size = sizeof(TrainOptions),
    .defaults = &train_defaults,
    .max_words = 1,
};
static const Command hidden = {
    .name = "hidden", .args = "", .doc = "", .options = small_options, .hidden = true};
const Command *const commands[] = {&small, &train, &hidden, NULL};

static Arena *arena;
static Err e;

/* Parses a line of words separated by single spaces. */
static bool parse(const Command *c, const char *line, Invocation *in) {
    WordList words = {NEW(arena, const char *, strlen(line) + 1), 0};
    char *rest = arena_strdup(arena, line);
    for (char *w; (w = strsep(&rest, " "));)
        if (*w) words.word[words.n++] = w;
    e = (Err){0};
    return opt_parse(arena, c, &words, in, &e);
}

static const Small *parsed(const char *line) {
    static Invocation in;
    CHECK(parse(&small, line, &in), "'%s': %s", line, e.text);
    return in.opts;
}

static void refuses(const Command *c, const char *line, const char *message) {
    Invocation in;
    CHECK(!parse(c, line, &in), "'%s' was accepted", line);
    CHECK(!strcmp(e.text, message), "'%s': got\n  %s\nwant\n  %s", line, e.text,
          message);
    CHECK(e.code == EXIT_MISUSE, "'%s': exit code %d", line, e.code);
}

static void values(void) {
    const Small *s = parsed("");
    CHECK(s->count == 4 && s->rate == 0.5 && !s->flag && !s->text, "defaults");
    s = parsed("--flag --count 7 --rate 1e-4 --text x");
    CHECK(s->flag && s->count == 7 && s->rate == 1e-4 && !strcmp(s->text, "x"),
          "spaced");
    s = parsed("--count=7 --rate=-0.25 --text=a=b -o out");
    CHECK(s->count == 7 && s->rate == -0.25, "with =");
    CHECK(!strcmp(s->text, "a=b") && !strcmp(s->o, "out"), "got '%s' '%s'", s->text,
          s->o);
    s = parsed("--rate -0.25 --size -3");
    CHECK(s->rate == -0.25 && s->size == -3, "negative numbers");
    s = parsed("--count 1 --count 2");
    CHECK(s->count == 2, "the last one counts, got %d", (int)s->count);
    s = parsed("--soon 1");
    CHECK(s->soon == 1, "the default of what comes later");
    s = parsed("--maybe");
    CHECK(s->maybe && !*s->maybe, "without a value");
    s = parsed("--maybe=part file");
    CHECK(!strcmp(s->maybe, "part"), "got '%s'", s->maybe);
    s = parsed("--text=");
    CHECK(s->text && !*s->text, "an empty text");
}

static void lists(void) {
    const Small *s = parsed("--list 1.0 -0.4 -.5 a=b --flag");
    CHECK(s->list.n == 4 && !strcmp(s->list.word[1], "-0.4"), "got %d words",
          s->list.n);
    CHECK(s->flag, "the option behind a list");
    s = parsed("--list a -o out");
    CHECK(s->list.n == 1 && !strcmp(s->o, "out"), "a short option ends a list");
    s = parsed("--list a b --list c");
    CHECK(s->list.n == 1 && !strcmp(s->list.word[0], "c"), "the last list counts");
    s = parsed("--list=a b");
    CHECK(s->list.n == 1, "with = it is one word, got %d", s->list.n);
    s = parsed("--each a=1 --each b=2 file");
    CHECK(s->each.n == 2 && !strcmp(s->each.word[1], "b=2"), "got %d words", s->each.n);
}

static void words_and_notes(void) {
    Invocation in;
    CHECK(parse(&small, "one --flag two", &in) && in.words.n == 2, "words: %d",
          in.words.n);
    CHECK(parse(&small, "-- --flag -", &in) && in.words.n == 2, "behind --");
    CHECK(!((const Small *)in.opts)->flag, "behind -- there are no options");
    CHECK(parse(&small, "--no-effect 3 --no_effect 4", &in) && in.notes.n == 1,
          "notes");
    CHECK(in.notes.n == 1 &&
              !strcmp(in.notes.word[0], "--no_effect has no effect: it does nothing"),
          "got '%s'", in.notes.word[0]);
    CHECK(parse(&small, "--count 2 --count 3", &in) && in.notes.n == 1, "given twice");
    CHECK(parse(&small, "--threads 3 --json", &in), "%s", e.text);
    CHECK(in.common.threads == 3 && in.common.json && !in.common.quiet,
          "common options");
    CHECK(parse(&small, "--nonsense --help", &in) && in.common.help,
          "help comes first");
    CHECK(parse(&small, "--count 3 --each a=1", &in), "%s", e.text);
    const Val *v = args_get(in.given, "count");
    CHECK(v && v->kind == VAL_INT && v->i == 3, "given: count");
    v = args_get(in.given, "each");
    CHECK(v && v->kind == VAL_LIST && v->list.n == 1, "given: each");
    CHECK(!args_get(in.given, "rate"), "given holds what was given");
}

static void refusals(void) {
    refuses(&small, "--cuont 3",
            "error: unknown option '--cuont'; did you mean '--count'?");
    refuses(&small, "--coun 3",
            "error: unknown option '--coun'; did you mean '--count'?");
    refuses(&small, "-x", "error: unknown option '-x'");
    refuses(&small, "-flag", "error: unknown option '-flag'; did you mean '--flag'?");
    refuses(&small, "--o x", "error: unknown option '--o'");
    refuses(&small, "--count four", "error: --count: got 'four', want an integer");
    refuses(&small, "--count 4.0", "error: --count: got '4.0', want an integer");
    refuses(&small, "--count 99999999999999999999",
            "error: --count: got '99999999999999999999', want an integer of at most 64 "
            "bits");
    refuses(&small, "--count 0", "error: --count: got '0', want 1 … 10");
    refuses(&small, "--rate fast", "error: --rate: got 'fast', want a number");
    refuses(&small, "--rate nan", "error: --rate: got 'nan', want a number");
    refuses(&small, "--rate 1e999", "error: --rate: got '1e999', want a number");
    refuses(&small, "--rate 0x10", "error: --rate: got '0x10', want a number");
    refuses(&small, "--rate --flag", "error: --rate wants a value: X");
    refuses(&small, "--text", "error: --text wants a value: TEXT");
    refuses(&small, "--list --flag", "error: --list wants a value: K=V…");
    refuses(&small, "--flag=yes", "error: --flag takes no value, got '=yes'");
    refuses(&small, "--word gren",
            "error: --word: got 'gren', want one of red, green; did you mean 'green'?");
    refuses(&small, "--never", "error: --never is not supported: use --flag");
    refuses(&small, "--soon 2",
            "error: --soon 2 is not available in this version: there is one of it");
    refuses(&small, "a b c",
            "error: 'small' takes at most 2 words, got 3\n"
            "usage: graphrun small FILE [FILE] [options]");
}

static void help_text(void) {
    Str s = {0};
    opt_help(&s, &small);
    const char *want =
        "usage: graphrun small FILE [FILE] [options]\n"
        "Does little.\n\n"
        "things:\n"
        "  --flag                          a flag\n"
        "  --count N                       a count (default 4)\n"
        "  --size N                        a size\n"
        "  --rate X                        a rate (default 0.5)\n"
        "  --text TEXT                     a text\n"
        "  --word NAME                     a colour: red, green (default red)\n"
        "  --maybe[=PART]                  a text or none\n"
        "  -o FILE                         a file\n";
    CHECK(s.s && !strncmp(s.s, want, strlen(want)), "got\n%s", s.s);
    CHECK(s.s && strstr(s.s, "  --no_effect: it does nothing\n"), "got\n%s", s.s);
    CHECK(s.s && strstr(s.s, "not supported:\n  --never: use --flag\n"), "got\n%s",
          s.s);
    str_free(&s);
    opt_bash(&s);
    CHECK(strstr(s.s, "small) words=\" --flag --count") && !strstr(s.s, "--never"),
          "bash");
    CHECK(!strstr(s.s, "hidden"), "hidden commands are not completed");
    str_free(&s);
}

/* ---- train ---- */
static bool train_accepts(const char *line, WordList *notes) {
    Invocation in;
    *notes = (WordList){0};
    return parse(&train, line, &in) &&
           train_options_check(arena, in.opts, in.given, notes, &e);
}

static void train_refuses(const char *line, const char *message) {
    WordList notes;
    CHECK(!train_accepts(line, &notes), "'%s' was accepted", line);
    CHECK(!strcmp(e.text, message), "'%s': got\n  %s\nwant\n  %s", line, e.text,
          message);
}

/* Every row has what its kind needs, and no name twice. */
static void train_table(void) {
    int n = 0;
    for (const Opt *o = train_options; o->name; o++) {
        if (!*o->name) continue;
        n++;
        CHECK(o->kind == OPT_FLAG ? !o->value : o->value && *o->value, "--%s: value",
              o->name);
        CHECK(o->ignored || o->refused || (o->help && *o->help), "--%s: help", o->name);
        CHECK(opt_find(&train, o->name) == o, "--%s stands in the table twice",
              o->name);
        bool bounded = o->kind == OPT_INT || o->kind == OPT_FLOAT;
        CHECK(bounded || (o->min == 0 && o->max == 0), "--%s: a range", o->name);
    }
    CHECK(n > 180, "only %d options", n);
}

static void network_args(void) {
    const char *words[] = {
        "conv_dim=4",
        "conv_alpha=0.5",
        "block_dims=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25",
        "down_lr_weight=,.5,0.05",
        "block_lr_zero_threshold=.1",
        "up_lr_weight=sine+.25"};
    WordList list = {words, 6};
    Args *out = args_new(arena);
    e = (Err){0};
    CHECK(train_network_args(arena, &list, out, NULL, &e), "%s", e.text);
    const Val *dim = args_get(out, "conv_dim"), *alpha = args_get(out, "conv_alpha");
    const Val *dims = args_get(out, "block_dims");
    CHECK(dim && dim->kind == VAL_INT && dim->i == 4, "conv_dim");
    CHECK(alpha && alpha->kind == VAL_FLOAT && alpha->f == 0.5, "conv_alpha");
    CHECK(dims && dims->kind == VAL_LIST && dims->list.n == 25 &&
              dims->list.item[2].i == 3,
          "block_dims");
    /* empty: 0; below the threshold: 0; missing or not given: 1 */
    const Val *w = args_get(out, "block_lr_weight");
    static const double want[] = {0, .5, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1.0, .25};
    CHECK(w && w->list.n == 25, "25 weights");
    for (size_t i = 0; w && i < COUNT(want); i++)
        CHECK(w->list.item[i].f == want[i], "weight %zu: %g", i, w->list.item[i].f);
    CHECK(w && fabs(w->list.item[24].f - 1.25) < 1e-12, "the last weight");
}

static void train_rules(void) {
    WordList notes;
    CHECK(train_accepts(
              "--pretrained-model-name-or-path m --network_dim 8 --network_alpha 4 "
              "--network_args conv_dim=4 conv_alpha=1 --optimizer_type adamw",
              &notes),
          "%s", e.text);
    CHECK(train_accepts("--dataset_config a --train_data_dir b", &notes) &&
              notes.n == 1,
          "a warning that folders are ignored");
    CHECK(train_accepts("--max_train_epochs 2 --max_train_steps 3", &notes) &&
              notes.n == 1,
          "a warning that steps are ignored");
    train_refuses("--network_dim four",
                  "error: --network_dim: got 'four', want an integer");
    train_refuses("--network_dim 0", "error: --network_dim: got '0', want 1 … 4096");
    train_refuses(
        "--network_args conv_dmi=4",
        "error: --network_args: unknown key 'conv_dmi'; did you mean 'conv_dim'?");
    train_refuses(
        "--network_args conv_dim=x",
        "error: --network_args conv_dim: got 'x', want an integer of 0 … 4096");
    train_refuses("--network_args block_dims=4,4",
                  "error: --network_args block_dims: got 2 values, want 25, one per "
                  "block");
    train_refuses("--network_args down_lr_weight=sine-.25",
                  "error: --network_args down_lr_weight: got 'sine-.25', want sine, "
                  "cosine, linear, reverse_linear or zeros, with +X behind it if you "
                  "like, or 12 numbers with commas between");
    train_refuses("--network_args up_lr_weight=1,x,1",
                  "error: --network_args up_lr_weight: got '1,x,1', want numbers with "
                  "commas between");
    CHECK(train_accepts("--network_args conv_alpha=1 block_alphas="
                        "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1",
                        &notes) &&
              notes.n == 2,
          "warnings that conv_alpha and block_alphas are ignored");
    train_refuses(
        "--network_args block_dims=4,x",
        "error: --network_args block_dims: got '4,x', want an integer of 0 … 4096 "
        "or several with commas between");
    train_refuses("--network_args rank_dropout=0.1,0.2",
                  "error: --network_args rank_dropout: got '0.1,0.2', want a number");
    train_refuses("--min_timestep 500 --max_timestep 500",
                  "error: --min_timestep 500 is not below --max_timestep 500");
    train_refuses("--adaptive_noise_scale 1",
                  "error: --adaptive_noise_scale wants --noise_offset");
    train_refuses("--network_args conv_dim",
                  "error: --network_args: got 'conv_dim', want key=value");
    train_refuses(
        "--resolution 512,x",
        "error: --resolution: got '512,x', want one number or two (W,H) of 8 … 16384");
    train_refuses("--bucket_reso_steps 12",
                  "error: --bucket_reso_steps: got 12, want a multiple of 8");
    train_refuses("--max_token_length 100",
                  "error: --max_token_length: got 100, want 150 or 225");
    train_refuses(
        "--network_train_unet_only --network_train_text_encoder_only",
        "error: --network_train_unet_only and --network_train_text_encoder_only "
        "leave nothing to train");
    train_refuses("--set a", "error: --set: got 'a', want key=value");
    train_refuses(
        "--inputs f --train_data_dir d",
        "error: --inputs takes the place of the data: leave out --train_data_dir");
    int w, h;
    CHECK(train_resolution("512,768", &w, &h, &e) && w == 512 && h == 768, "%d,%d", w,
          h);
    CHECK(train_resolution("640", &w, &h, &e) && w == 640 && h == 640, "%d,%d", w, h);
}

int main(void) {
    arena = arena_new();
    values();
    lists();
    words_and_notes();
    refusals();
    help_text();
    train_table();
    network_args();
    train_rules();
    arena_free(arena);
    return check_done("opt");
}
