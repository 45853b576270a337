/* Turns files into C arrays while the program is built.
 *
 *   embed bytes OUT.c SYMBOL [FILE]        const unsigned char SYMBOL[]; const size_t
 *                                          SYMBOL_size; without FILE: size 0
 *   embed files OUT.c LIST                 embedded_files[] of graph/lang/doc.h; each line of
 *                                          LIST is NAME=PATH, kept in that order
 *
 * Every array has a NUL behind its last byte, so text can be read as a string. */
#include <stdio.h>
#include <string.h>

static int fail(const char *what, const char *name) {
    fprintf(stderr, "embed: %s '%s'\n", what, name);
    return 1;
}

/* "1,2,…,0": the bytes of a file and the NUL behind them; -1 if it cannot be read */
static long put_bytes(FILE *out, const char *path) {
    FILE *in = fopen(path, "rb");
    if (!in) return -1;
    long n = 0;
    for (int c; (c = getc(in)) != EOF; n++)
        fprintf(out, "%d,%s", c, n % 24 == 23 ? "\n" : "");
    fputs("0", out);
    int bad = ferror(in);
    fclose(in);
    return bad ? -1 : n;
}

static int embed_bytes(FILE *out, const char *symbol, const char *path) {
    fprintf(out,
            "#include <stddef.h>\n"
            "extern const unsigned char %s[];\nextern const size_t %s_size;\n"
            "const unsigned char %s[] = {\n",
            symbol, symbol, symbol);
    long n = 0;
    if (path)
        n = put_bytes(out, path);
    else
        fputs("0", out);
    fprintf(out, "};\nconst size_t %s_size = %ld;\n", symbol, n);
    return n < 0 ? fail("cannot read", path) : 0;
}

static int embed_files(FILE *out, const char *list) {
    FILE *in = fopen(list, "r");
    if (!in) return fail("cannot read", list);
    static char line[8192];
    fputs("#include \"graph/lang/doc.h\"\n", out);
    int n = 0, rc = 0;
    for (; !rc && fgets(line, sizeof line, in); n++) {
        line[strcspn(line, "\n")] = 0;
        char *path = strchr(line, '=');
        fprintf(out, "static const unsigned char file%d[] = {\n", n);
        if (!path || put_bytes(out, path + 1) < 0) rc = fail("cannot read", line);
        fputs("};\n", out);
    }
    fputs("const EmbeddedFile embedded_files[] = {\n", out);
    rewind(in);
    for (int i = 0; !rc && fgets(line, sizeof line, in); i++) {
        line[strcspn(line, "=")] = 0;
        fprintf(out, "    {\"%s\", file%d, sizeof file%d - 1},\n", line, i, i);
    }
    fputs("    {0, 0, 0}\n};\n", out);
    fclose(in);
    return rc;
}

int main(int argc, char **argv) {
    if (argc < 4) return fail("wrong arguments for", "embed");
    FILE *out = fopen(argv[2], "w");
    if (!out) return fail("cannot write", argv[2]);
    int rc = !strcmp(argv[1], "files")
                 ? embed_files(out, argv[3])
                 : embed_bytes(out, argv[3], argc > 4 ? argv[4] : 0);
    if (fclose(out)) rc = fail("cannot write", argv[2]);
    if (rc) remove(argv[2]);
    return rc;
}
