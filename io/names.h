/* Rename tables: io/names/FAMILY.tsv, embedded by the build. The form of the files is
 * explained at the top of names/sd1.tsv. Names are "COMPONENT.DIFFUSERS KEY". */
#ifndef GRAPHRUN_NAMES_H
#define GRAPHRUN_NAMES_H
#include "graph/base/base.h"

typedef struct Names Names;
Names *names_open(Arena *a, const char *family, Err *e);
/* The family ("sd2", else "sd1") that a list of file keys belongs to. */
const char *names_family(const char *const *key, int n);

typedef struct NamePart { /* rows part * n/parts ... of the file's tensor */
    const char *name;
    int part, parts;
} NamePart;
enum { NAME_PARTS = 8 };
/* What the tensor `key` of a file is: returns how many names it holds (parts of a joined
 * tensor), 0: not in the table. *dropped: in the table, as of no use. */
int names_from_file(const Names *t, Arena *a, const char *key, NamePart out[NAME_PARTS],
                    bool *dropped);

typedef struct NameTo {
    const char *key; /* in an LDM file */
    int part, parts;
    bool conv_ldm, conv_diffusers; /* a matrix is stored as [out, in, 1, 1] there */
    bool matrix; /* it is one, even where some file has [out, in, 1, 1] */
} NameTo;
bool names_to_file(const Names *t, Arena *a, const char *name, NameTo *out);

/* "unet clip=..." lines: the component whose tensors a network reads, or NULL. */
const char *names_component(const Names *t, const char *network);
/* The variant of `network` in the model `model` ("sd15"): in a; NULL: not said. *family:
 * of the model. */
const char *names_variant(Arena *a, const char *model, const char *network,
                          const char **family);
const char *const *names_models(Arena *a); /* NULL-terminated */
#endif
