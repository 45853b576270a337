/* tokens FOLDER FIRST <captions: a CLIP tokenizer with few tokens, for a small model: the
 * FIRST merges of the vocabulary (it is ordered by how common they are) and all that the
 * captions on stdin, one a line, need. Prints how many tokens there are: the rows of the
 * text encoder's table. */
#include <stdio.h>
#include <stdlib.h>

#include "io/file.h"
#include "io/tokenizer_write.h"

int main(int argc, char **argv) {
    Arena *a = arena_new();
    Err e = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: tokens FOLDER FIRST <captions\n");
        return 2;
    }
    bool *keep = NEW(a, bool, CLIP_MERGES);
    const int first = atoi(argv[2]);
    for (int i = 0; i < first && i < CLIP_MERGES; i++) keep[i] = true;
    const char **text = NULL;
    int n = 0, cap = 0;
    char line[4096];
    while (fgets(line, sizeof line, stdin))
        PUSH(a, text, n, cap, arena_strdup(a, line));
    if (!tokenizer_mark(text, n, keep, &e) || !folder_make(argv[1], &e) ||
        !tokenizer_write(argv[1], "<|endoftext|>", keep, &e)) {
        fprintf(stderr, "tokens: %s\n", e.text);
        return 1;
    }
    int kept = 0;
    for (int i = 0; i < CLIP_MERGES; i++) kept += keep[i];
    printf("%d\n", CLIP_VOCABULARY - CLIP_MERGES + kept);
    arena_free(a);
    return 0;
}
