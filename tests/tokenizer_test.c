/* The tokenizer against the ids of sd-scripts' tokenizer, its limits and its failures.
 * */
#include <math.h>
#include <stdint.h>
#include <unistd.h>

#include "io/data.h"
#include "io/text_clean.h"
#include "io/token_weights.h"
#include "io/tokenizer_write.h"
#include "io/vocabulary.h"
#include "tests/check.h"
#include "tests/tsv.h"

extern const size_t clip_vocabulary_size;

enum { IDS = 120000 };
static int32_t ids[IDS], want[IDS];

/* "1 2*3" -> 1 2 2 2 */
static int parse_ids(const char *s) {
    int n = 0;
    if (!strcmp(s, "-")) return 0;
    while (*s) {
        char *end;
        int32_t id = (int32_t)strtol(s, &end, 10);
        long count = *end == '*' ? strtol(end + 1, &end, 10) : 1;
        while (count-- > 0 && n < IDS) want[n++] = id;
        s = *end ? end + 1 : end;
    }
    return n;
}

static void test_golden(const Tokenizer *t) {
    Tsv f = tsv_open("tests/golden/tokenizer.tsv");
    int lines = 0;
    for (; tsv_next(&f); lines++) {
        int n = parse_ids(f.field[1]);
        tsv_bytes(&f, 0);
        int got = tokenizer_encode(t, f.field[0], ids, IDS);
        CHECK(got == n && !memcmp(ids, want, (size_t)n * sizeof *ids),
              "'%s': %d ids, want %d", f.field[0], got, n);
    }
    CHECK(lines == 198, "%d captions", lines);
}

static void test_chunks(const Tokenizer *t) {
    Tsv f = tsv_open("tests/golden/chunks.tsv");
    while (tsv_next(&f)) {
        int n = parse_ids(f.field[3]), chunks = tsv_int(&f, 0), pad = tsv_int(&f, 1);
        tsv_bytes(&f, 2);
        tokenizer_chunks(t, f.field[2], chunks, pad, ids);
        CHECK(n == 77 * chunks && !memcmp(ids, want, (size_t)n * sizeof *ids),
              "'%.40s' in %d chunks, padded with %d", f.field[2], chunks, pad);
    }
}

/* "text=1.1": text in hexadecimal */
static void check_pieces(const char *text, char *list) {
    Arena *a = arena_new();
    WeightedText *piece;
    int n = weights_parse(a, text, &piece), i = 0;
    for (char *s = strtok(list, " "); s; s = strtok(NULL, " "), i++) {
        char *eq = strchr(s, '=');
        double weight = atof(eq + 1);
        *eq = 0;
        Tsv one = {.field = {s}, .n = 1};
        tsv_bytes(&one, 0);
        CHECK(i < n && !strcmp(piece[i].text, s) &&
                  fabs(piece[i].weight - weight) <= 1e-6,
              "'%s': piece %d is not '%s' of %g", text, i, s, weight);
    }
    CHECK(i == n, "'%s': %d pieces, want %d", text, n, i);
    arena_free(a);
}

static void test_weights(const Tokenizer *t) {
    Tsv f = tsv_open("tests/golden/weights.tsv");
    float weight[3 * 77];
    int lines = 0;
    for (; tsv_next(&f); lines++) {
        int chunks = tsv_int(&f, 0), n = parse_ids(f.field[2]), at = 0, count, used;
        double want_weight;
        tsv_bytes(&f, 1);
        tokenizer_weighted(t, f.field[1], chunks, PAD_END, ids, weight);
        CHECK(n == 77 * chunks && !memcmp(ids, want, (size_t)n * sizeof *ids),
              "'%.40s' in %d chunks", f.field[1], chunks);
        for (const char *s = f.field[3];
             sscanf(s, " %dx%lf%n", &count, &want_weight, &used) == 2; s += used)
            for (; count--; at++) {
                float got = weight[at / 75 * 77 + 1 + at % 75];
                CHECK(at < 75 * chunks && fabs(got - want_weight) <= 1e-6,
                      "'%.40s': weight %d is %g, want %g", f.field[1], at, got,
                      want_weight);
            }
        CHECK(at == 75 * chunks && weight[0] == 1 && weight[76] == 1, "ends: %d", at);
        check_pieces(f.field[1], f.field[4]);
    }
    CHECK(lines == 34, "%d captions", lines);
}

static void test_count(const Tokenizer *t) {
    int n = tokenizer_encode(t, "a photo of a cat", ids, 2);
    CHECK(n == 5, "5 tokens of which 2 fit: got %d", n);
    n = tokenizer_chunks(t, "a photo of a cat", 1, 49407, ids);
    CHECK(n == 5 && ids[0] == 49406 && ids[6] == 49407, "count %d, row %d … %d", n,
          ids[0], ids[6]);
}

/* A letter run without spaces, deep entities, marks out of order: n log n or this test
 * does not end within its time limit. Tokens add up to the text again. */
static void test_long(const Tokenizer *t) {
    enum { N = 100000 };
    static const char *const unit[] = {"a", "ab", "&amp;",    "\u00e9", "\u0301\u0323",
                                       "!", "<|", "&#65286;", "\033["};
    char *text = malloc(N + 16);
    for (size_t u = 0; u < COUNT(unit); u++) {
        size_t n = 0;
        while (n + strlen(unit[u]) <= N) n += (size_t)sprintf(text + n, "%s", unit[u]);
        int got = tokenizer_encode(t, text, ids, IDS);
        CHECK(got > 0 && got <= N, "'%s' …: %d tokens", unit[u], got);
    }
    free(text);
}

static void clean_is(const char *text, const char *expected) {
    Runes r = {0};
    Str s = {0};
    text_clean(text, strlen(text), &r);
    for (size_t i = 0; i < r.n; i++) {
        char bytes[4];
        str_addn(&s, bytes, (size_t)utf8_put(bytes, r.c[i]));
    }
    CHECK(!strcmp(s.n ? s.s : "", expected), "'%s' cleaned: '%s', want '%s'", text,
          s.n ? s.s : "", expected);
    str_free(&s);
    runes_free(&r);
}

static void test_clean(void) {
    clean_is("  A\t B\r\n", "a b");
    clean_is("&lt;b&gt; &eacute; &EACUTE; &#233; &#xE9;",
             "<b> \u00e9 \u00e9 \u00e9 \u00e9");
    clean_is("<i> &amp;", "<i> &amp;"); /* a '<': entities stay */
    clean_is("&amp; x\n<i> &amp;\n&amp;",
             "& x <i> &amp; &amp;"); /* and on later lines */
    clean_is("&amp;amp;amp;lt;", "<");
    clean_is("&bogus; &#; &;", "&bogus; &#; &;");
    clean_is("&#0; &#x110000; &#x80;", "\ufffd \ufffd \u20ac");
    clean_is("\uff21\uff22 \u3000 \uff76\uff9e", "ab \u30ac");
    clean_is("\ufb01x \u01c4", "fix d\u017e");
    clean_is("\u2018a\u2019 \u201cb\u201d", "'a' \"b\"");
    clean_is("\033[31mred\033[0m \ufeffx", "red x");
    clean_is("e\u0301 \u1100\u1161", "\u00e9 \uac00");
    clean_is("\u039f\u03a3 \u03a3\u039f\u03a3.", "\u03bf\u03c2 \u03c3\u03bf\u03c2.");
    clean_is("\u0130", "i\u0307");
    clean_is("a\xff", "a\ufffd"); /* not UTF-8 */
}

/* vocab.json and merges.txt, made from the embedded list, give the same ids. */
static void write_folder(const char *folder, const char *skip) {
    char path[256];
    snprintf(path, sizeof path, "%s/merges.txt", folder);
    FILE *merges = fopen(path, "w");
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    FILE *names = fopen(path, "w");
    Str s = {0};
    char c[5] = {0};
    fprintf(names, "{");
    for (int k = 0, id = 0; k < 2; k++) {
        for (int pass = 0; pass < 2; pass++) {
            for (int b = 0, extra = 0; b < 256; b++) {
                bool plain =
                    (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
                uint32_t code = plain ? (uint32_t)b : 0x100u + (uint32_t)extra++;
                if (plain == pass) continue;
                c[utf8_put(c, code)] = 0;
                s.n = 0;
                str_json(&s, c);
                s.s[s.n - 1] = 0;
                fprintf(names, "%s%s\": %d,\n", s.s, k ? "</w>" : "", id++);
            }
        }
    }
    Arena *a = arena_new();
    Source text = {0};
    Err e = {0};
    CHECK(vocabulary_text(a, &text, &e), "%s", e.text);
    const char *p = text.text, *end = p + text.len;
    for (int line = 0; p < end && line <= 48894; line++) {
        const char *stop = memchr(p, '\n', (size_t)(end - p)),
                   *gap = memchr(p, ' ', 200);
        if (line)
            fprintf(merges, "%.*s\n", (int)(stop - p), p);
        else
            fprintf(merges, "#version: 0.2\n");
        s.n = 0;
        str_addn(&s, p, (size_t)(gap - p));
        str_addn(&s, gap + 1, (size_t)(stop - gap - 1));
        char *joined = strdup(s.s);
        s.n = 0;
        str_json(&s, joined);
        if (line && (!skip || strcmp(joined, skip)))
            fprintf(names, "%s: %d,\n", s.s, 511 + line);
        free(joined);
        p = stop + 1;
    }
    fprintf(names, "\"<|startoftext|>\": 49406, \"<|endoftext|>\": 49407}\n");
    fclose(names);
    fclose(merges);
    arena_free(a);
    str_free(&s);
}

static void test_folder(const Tokenizer *t) {
    char folder[] = "/tmp/graphrun-tokenizer-XXXXXX", path[256];
    static const char text[] =
        "A photo of the <|endoftext|> caf\u00e9, 1girl!!! \U0001f44d it's";
    if (!mkdtemp(folder)) return;
    Err e = {0};
    write_folder(folder, NULL);
    Tokenizer *other = tokenizer_open(folder, &e);
    CHECK(other, "%s", e.text);
    int n = tokenizer_encode(t, text, want, IDS);
    int m = other ? tokenizer_encode(other, text, ids, IDS) : -1;
    CHECK(n == m && !memcmp(ids, want, (size_t)n * sizeof *ids), "%d and %d tokens", n,
          m);
    tokenizer_close(other);
    write_folder(folder, "the</w>");
    other = tokenizer_open(folder, &e);
    CHECK(!other && strstr(e.text, "the vocabulary has no entry for 'th e</w>'"), "%s",
          e.text);
    snprintf(path, sizeof path, "%s/vocab.json", folder);
    unlink(path);
    e = (Err){0};
    CHECK(!tokenizer_open(folder, &e) && strstr(e.text, "vocab.json") &&
              e.code == EXIT_FAILED,
          "%s", e.text);
    snprintf(path, sizeof path, "%s/merges.txt", folder);
    unlink(path);
    rmdir(folder);
}

/* The folder that convert writes is read as the vocabulary it came from. */
static void test_written(const Tokenizer *t) {
    char folder[] = "/tmp/graphrun-tokenizer-XXXXXX", path[256];
    static const char text[] = "a photo of (sks) dog, don't \xc3\xa9t\xc3\xa9 1024!";
    Err e = {0};
    if (!mkdtemp(folder)) return;
    CHECK(tokenizer_write(folder, "!", NULL, &e), "%s", e.text);
    Tokenizer *other = tokenizer_open(folder, &e);
    CHECK(other, "%s", e.text);
    int n = tokenizer_encode(t, text, want, IDS);
    int m = other ? tokenizer_encode(other, text, ids, IDS) : -1;
    CHECK(n == m && !memcmp(ids, want, (size_t)n * sizeof *ids), "%d and %d tokens", n,
          m);
    tokenizer_close(other);
    static const char *const files[] = {
        "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        CHECK(!unlink(path), "%s is not there", files[i]);
    }
    rmdir(folder);
}

/* A tokenizer of the merges that a text needs: other ids, the same pieces. */
static void test_part(const Tokenizer *t) {
    char folder[] = "/tmp/graphrun-tokenizer-XXXXXX", path[256];
    static const char *const text[] = {"grinning face", "a red umbrella"};
    Err e = {0};
    if (!mkdtemp(folder)) return;
    bool *keep = calloc(CLIP_MERGES, sizeof *keep);
    CHECK(tokenizer_mark(text, 2, keep, &e), "%s", e.text);
    int kept = 0;
    for (int i = 0; i < CLIP_MERGES; i++) kept += keep[i];
    CHECK(kept > 5 && kept < 60, "%d merges for five words", kept);
    CHECK(tokenizer_write(folder, "<|endoftext|>", keep, &e), "%s", e.text);
    Tokenizer *part = tokenizer_open(folder, &e);
    CHECK(part, "%s", e.text);
    for (int k = 0; part && k < 2; k++) {
        int n = tokenizer_encode(t, text[k], want, IDS);
        int m = tokenizer_encode(part, text[k], ids, IDS);
        CHECK(n == m, "'%s': %d tokens, want %d", text[k], m, n);
        for (int i = 0; i < m; i++)
            CHECK(ids[i] >= 256 && ids[i] < 512 + kept, "'%s': token %d of %d", text[k],
                  ids[i], 512 + kept);
        tokenizer_chunks(part, text[k], 1, PAD_END, ids);
        CHECK(ids[0] == 512 + kept && ids[76] == 513 + kept, "row %d ... %d", ids[0],
              ids[76]);
    }
    CHECK(part && tokenizer_encode(part, "violin", ids, IDS) > 1,
          "a word that was not asked for is one token");
    if (part) tokenizer_close(part);
    free(keep);
    static const char *const files[] = {
        "vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

int main(void) {
    test_clean();
    if (!clip_vocabulary_size && !getenv("GRAPHRUN_CLIP_VOCABULARY")) {
        printf("tokenizer: skipped what needs the vocabulary: this build has none\n");
        return check_done("tokenizer");
    }
    Err e = {0};
    Tokenizer *t = tokenizer_open(NULL, &e);
    CHECK(t, "%s", e.text);
    if (!t) return check_done("tokenizer");
    test_golden(t);
    test_chunks(t);
    test_weights(t);
    test_count(t);
    test_long(t);
    if (clip_vocabulary_size) test_folder(t);
    test_written(t);
    test_part(t);
    tokenizer_close(t);
    return check_done("tokenizer");
}
