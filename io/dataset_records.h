/* Metadata files of fine-tuning (training.md 2.3): which pictures there are, with their
 * captions. */
#ifndef GRAPHRUN_DATASET_RECORDS_H
#define GRAPHRUN_DATASET_RECORDS_H
#include "io/dataset_config.h"

typedef struct Record {
    const char
        *path; /* of the picture; a name without an end is completed if there is one */
    const char *
        caption; /* caption, separator and tags, or whichever there is; NULL: neither */
    int w, h;    /* image_size, 0: not said */
    int bucket_w, bucket_h; /* train_resolution, 0: not said */
    Loc loc;
} Record;

/* Reads c->metadata_file: a JSON object keyed by path, or .jsonl with image_path in each
 * line, in the order of the file. A relative path stands below c->image_dir. Wrong types and
 * a relative path without image_dir are located failures. */
bool records_read(Arena *a, const SubsetConfig *c, Record **out, int *n, Err *e);
/* "name" as the first of name.png, name.jpg … that is there; else as it is. In a. */
const char *record_completed(Arena *a, const char *path);
/* Does the name end as one of a picture does? */
bool is_image_name(const char *path);
#endif
