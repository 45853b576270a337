/* The keys of a dataset file (training.md 2.1): which there are, of which type, where they
 * may stand. */
#ifndef GRAPHRUN_DATASET_KEYS_H
#define GRAPHRUN_DATASET_KEYS_H
#include "io/toml.h"

/* FOLDERS: subsets that are a folder of pictures (DreamBooth); METADATA: those with a
 * metadata file (fine-tuning). */
enum {
    KEYS_GENERAL = 1,
    KEYS_DATASET = 2,
    KEYS_FOLDER = 4,
    KEYS_METADATA = 8,
    KEYS_SUBSET = KEYS_FOLDER | KEYS_METADATA
};
typedef enum KeyType {
    KEY_INT,
    KEY_BOOL,
    KEY_NUMBER,
    KEY_TEXT,
    KEY_SIZE,  /* an integer, or two */
    KEY_RANGE, /* two numbers, the first not larger */
    KEY_TABLE
} KeyType;

typedef struct Key {
    const char *name;
    KeyType type;
    int where;
    double lo, hi; /* bounds of numbers; both 0: none. Of texts: lo 1 is "not empty" */
    /* allowed texts, NULL-terminated; or NULL */
    const char *const *words;
    double only; /* the one value that this program carries out, NAN: all are */
} Key;
/* The row of a key; NULL: unknown. */
const Key *data_key(const char *name);
/* Every key of the table t is known, may stand at `where`, and has a value of its type.
 * inner: the key that holds the next level, not looked at, or NULL. */
bool keys_check(Arena *a, const Toml *t, int where, const char *inner, Err *e);
/* Texts of resize_interpolation. */
extern const char *const resize_words[];
#endif
