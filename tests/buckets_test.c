/* Buckets and batch counts against sd-scripts' own numbers. */
#include "io/buckets.h"
#include "tests/check.h"
#include "tests/tsv.h"

static void test_rule(const Tsv *t, BucketRule *r, Arena *a) {
    *r = (BucketRule){.width = tsv_int(t, 1),
                      .height = tsv_int(t, 2),
                      .enable = tsv_int(t, 3),
                      .no_upscale = tsv_int(t, 4),
                      .min_reso = tsv_int(t, 5),
                      .max_reso = tsv_int(t, 6),
                      .step = tsv_int(t, 7)};
    bool adjusted;
    const char *why = "";
    CHECK(buckets_prepare(r, a, &adjusted, &why), "%dx%d: %s", r->width, r->height,
          why);
    if (!r->enable || r->no_upscale) return;
    Str list = {0};
    for (int i = 0; i < r->n; i++)
        str_printf(&list, "%s%dx%d", i ? " " : "", r->size[i][0], r->size[i][1]);
    CHECK(!strcmp(list.s, t->field[8]), "%dx%d: %s, want %s", r->width, r->height,
          list.s, t->field[8]);
    str_free(&list);
}

static void test_fit(const Tsv *t, const BucketRule *r) {
    BucketFit f = {0};
    int w = tsv_int(t, 1), h = tsv_int(t, 2);
    bool ok = bucket_fit(r, w, h, &f);
    if (!strcmp(t->field[0], "none")) {
        CHECK(!ok, "%dx%d has bucket %dx%d, want none", w, h, f.bucket_w, f.bucket_h);
        return;
    }
    CHECK(ok && f.bucket_w == tsv_int(t, 3) && f.bucket_h == tsv_int(t, 4) &&
              f.resized_w == tsv_int(t, 5) && f.resized_h == tsv_int(t, 6),
          "%dx%d: bucket %dx%d, resized %dx%d, want %s x %s, %s x %s", w, h, f.bucket_w,
          f.bucket_h, f.resized_w, f.resized_h, t->field[3], t->field[4], t->field[5],
          t->field[6]);
}

static void test_adjust(const Tsv *t, Arena *a) {
    BucketRule r = {.width = tsv_int(t, 1),
                    .height = tsv_int(t, 2),
                    .enable = true,
                    .min_reso = tsv_int(t, 3),
                    .max_reso = tsv_int(t, 4),
                    .step = tsv_int(t, 5)};
    bool adjusted;
    const char *why = NULL;
    bool ok = buckets_prepare(&r, a, &adjusted, &why);
    int lo = tsv_int(t, 6), hi = tsv_int(t, 7);
    CHECK(ok == (lo > 0), "%s to %s: %s", t->field[3], t->field[4],
          ok ? "accepted" : why);
    CHECK(!ok || (r.min_reso == lo && r.max_reso == hi), "%d to %d, want %d to %d",
          r.min_reso, r.max_reso, lo, hi);
    CHECK(!ok || adjusted == (lo != tsv_int(t, 3) || hi != tsv_int(t, 4)),
          "adjusted %d", adjusted);
}

static void test_extremes(Arena *a) {
    BucketRule r = {512, 512, true, false, 256, 1024, 64, NULL, 0};
    bool adjusted;
    const char *why = "";
    BucketFit f;
    CHECK(buckets_prepare(&r, a, &adjusted, &why), "%s", why);
    CHECK(!bucket_fit(&r, 64000000, 1, &f), "64000000 x 1 is given %dx%d", f.resized_w,
          f.resized_h);
    CHECK(!bucket_fit(&r, 1, 64000000, &f), "1 x 64000000 is given %dx%d", f.resized_w,
          f.resized_h);
    r.no_upscale = true;
    CHECK(!bucket_fit(&r, 63, 512, &f), "63 pixels are less than a step: %d",
          f.bucket_w);
    CHECK(!bucket_fit(&r, 64000000, 1, &f), "64000000 x 1 is given %dx%d", f.bucket_w,
          f.bucket_h);
    CHECK(bucket_fit(&r, 64, 127, &f) && f.bucket_w == 64 && f.bucket_h == 64, "%dx%d",
          f.bucket_w, f.bucket_h);
    r = (BucketRule){512, 512, true, false, 63, 1024, 64, NULL, 0};
    CHECK(!buckets_prepare(&r, a, &adjusted, &why) && strstr(why, "min_bucket_reso"),
          "%s", why);
}

int main(void) {
    Arena *a = arena_new();
    BucketRule r = {0};
    Tsv t = tsv_open("tests/golden/buckets.tsv");
    while (tsv_next(&t)) {
        if (!strcmp(t.field[0], "rule"))
            test_rule(&t, &r, a);
        else if (!strcmp(t.field[0], "adjust"))
            test_adjust(&t, a);
        else
            test_fit(&t, &r);
    }
    test_extremes(a);
    arena_free(a);
    return check_done("buckets");
}
