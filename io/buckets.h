/* Aspect-ratio buckets: which size an image is trained at (training.md section 3). */
#ifndef GRAPHRUN_BUCKETS_H
#define GRAPHRUN_BUCKETS_H
#include "graph/base/base.h"

typedef struct BucketRule {
    int width, height;       /* resolution */
    bool enable, no_upscale; /* enable false: one bucket, the resolution */
    int min_reso, max_reso, step;
    int (*size)[2]; /* predefined list [w, h], ascending; by buckets_prepare */
    int n;
} BucketRule;

typedef struct BucketFit {
    int bucket_w, bucket_h; /* what is trained */
    /* size before the crop; neither side smaller than the bucket */
    int resized_w, resized_h;
} BucketFit;

enum { RESO_MAX = 16384 };

/* Checks the rule (sizes 1 … RESO_MAX, step > 0), lowers min_reso and raises max_reso
 * to multiples of step (*adjusted), makes the list. A resolution outside [min_reso,
 * max_reso] fails: *why is the reason, in a. */
bool buckets_prepare(BucketRule *r, Arena *a, bool *adjusted, const char **why);
/* The bucket of an image of w x h pixels; false: a side would be 0 or beyond an
 * int. The resized image may still have more pixels than can be made. */
bool bucket_fit(const BucketRule *r, int w, int h, BucketFit *out);
#endif
