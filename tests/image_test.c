/* Pictures: every format against Pillow's pixels, resizing against OpenCV and Pillow,
 * files cut off at every length, hostile headers. */
#include <unistd.h>

#include "io/data.h"
#include "tests/check.h"
#include "tests/tsv.h"

static char scratch[] = "/tmp/graphrun-image-XXXXXX";

static bool put_file(const char *name, const void *bytes, size_t n, char path[256]) {
    snprintf(path, 256, "%s/%s", scratch, name);
    FILE *f = fopen(path, "wb");
    if (!f) return false;
    bool ok = fwrite(bytes, 1, n, f) == n;
    return !fclose(f) && ok;
}

static size_t get_file(const char *path, uint8_t *to, size_t cap) {
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(to, 1, cap, f) : 0;
    if (f) fclose(f);
    return n;
}

/* No start of the file is taken for a whole one, by either function. */
static void test_cut(const char *name, const char *path) {
    static uint8_t data[1 << 16];
    size_t n = get_file(path, data, sizeof data), taken = 0;
    char cut[256];
    for (size_t k = 0; k < n; k++) {
        Image im;
        Err e = {0}, e2 = {0};
        int w, h;
        if (!put_file("cut", data, k, cut)) break;
        if (image_size(cut, &w, &h, &e2)) taken++;
        if (image_read(cut, &im, &e)) taken++, image_free(&im);
    }
    CHECK(n && !taken, "%s: %zu of %zu starts are taken for whole files", name, taken,
          n);
    unlink(cut);
}

static void test_pictures(void) {
    Tsv t = tsv_open("tests/golden/pictures.tsv");
    while (tsv_next(&t)) {
        char path[256];
        Image im = {0};
        Err e = {0};
        int w = 0, h = 0;
        snprintf(path, sizeof path, "tests/golden/pictures/%s", t.field[0]);
        CHECK(image_size(path, &w, &h, &e) && w == tsv_int(&t, 1) &&
                  h == tsv_int(&t, 2),
              "%s: %dx%d %s", t.field[0], w, h, e.text);
        CHECK(image_read(path, &im, &e), "%s", e.text);
        size_t n = tsv_bytes(&t, 3);
        CHECK(im.rgb && n == (size_t)im.w * im.h * 3 && !memcmp(im.rgb, t.field[3], n),
              "%s: other pixels than Pillow's", t.field[0]);
        image_free(&im);
        test_cut(t.field[0], path);
    }
}

static void test_resize(void) {
    static const char *const names[] = {"area", "lanczos", "linear", "cubic",
                                        "nearest"};
    Tsv t = tsv_open("tests/golden/resize.tsv");
    while (tsv_next(&t)) {
        int f = 0;
        while (strcmp(names[f], t.field[0])) f++;
        Image in = {tsv_int(&t, 2), tsv_int(&t, 3), NULL}, out = {0};
        in.rgb = malloc((size_t)in.w * in.h * 3);
        uint32_t x = (uint32_t)tsv_int(&t, 1);
        for (int i = 0; i < in.w * in.h * 3; i++)
            in.rgb[i] = (uint8_t)((x = x * 1664525u + 1013904223u) >> 24);
        Err e = {0};
        CHECK(image_resize(&in, tsv_int(&t, 4), tsv_int(&t, 5), (Filter)f, &out, &e),
              "%s", e.text);
        size_t n = tsv_bytes(&t, 6);
        int worst = n == (size_t)out.w * out.h * 3 ? 0 : 999;
        for (size_t i = 0; out.rgb && i < n; i++) {
            int d = abs(out.rgb[i] - (uint8_t)t.field[6][i]);
            if (d > worst) worst = d;
        }
        /* OpenCV's vector code for these two rounds elsewhere */
        int allowed = f == FILTER_LINEAR || f == FILTER_CUBIC;
        CHECK(worst <= allowed, "%s %dx%d to %dx%d: %d of 255 off", names[f], in.w,
              in.h, out.w, out.h, worst);
        image_free(&in);
        image_free(&out);
    }
}

static void expect(const char *name, const void *bytes, size_t n, const char *part) {
    char path[256];
    Image im;
    Err e = {0}, e2 = {0};
    int w, h;
    CHECK(put_file(name, bytes, n, path), "%s", path);
    CHECK(!image_size(path, &w, &h, &e) && e.code == EXIT_FAILED &&
              strstr(e.text, part),
          "image_size: '%s', want '%s'", e.text, part);
    CHECK(!image_read(path, &im, &e2) && !strcmp(e.text, e2.text), "image_read: '%s'",
          e2.text);
    unlink(path);
}

static void test_hostile(void) {
    uint8_t png[64] =
        "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x2e\xe0\0\0\x23\x28\x08\x02\0\0\0";
    memcpy(png + 33, "\0\0\0\0IDAT\0\0\0\0\0\0\0\0IEND\0\0\0\0", 24);
    expect("bomb.png", png, 57,
           "12000 x 9000 are 108000000 pixels, at most 64000000 are allowed");
    png[16] = 0xFF;
    expect("huge.png", png, 57, "PNG of 4278202080 x 9000 pixels");
    uint8_t bmp[54] = "BM";
    bmp[10] = 54, bmp[14] = 40, bmp[18] = 100, bmp[22] = 100, bmp[28] = 24;
    expect("short.bmp", bmp, 54, "BMP cut off: 54 bytes, want 30054");
    memcpy(bmp + 18, "\xff\xff\xff\x7f\0\0\0\x80", 8);
    expect("wide.bmp", bmp, 54, "BMP of 2147483647 x 2147483648 pixels");
    bmp[14] = 200;
    expect("header.bmp", bmp, 54, "BMP with a header of 200 bytes");
    expect("a.jpg", "hello, I am text", 16, "neither PNG nor JPEG nor WebP nor BMP");
    expect("empty.png", "", 0, "the file is empty");
    Err e = {0};
    Image im;
    CHECK(!image_read("/nonexistent/x.png", &im, &e) &&
              strstr(e.text, "'/nonexistent/x.png': No such file or directory"),
          "%s", e.text);
}

/* Run lengths: a 4 x 2 picture, a run, a literal, a jump, rows left unpainted. */
static void test_runs(void) {
    static const uint8_t head[54] = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 62, 0, 0,
                                     0,   40,  0, 0, 0, 4, 0, 0, 0, 2, 0,  0, 0,
                                     1,   0,   8, 0, 1, 0, 0, 0, 0, 0, 0,  0, 0,
                                     0,   0,   0, 0, 0, 0, 0, 2, 0, 0, 0};
    static const uint8_t tail[] = {0, 0, 0, 0, 1, 2, 3, 0, /* palette: black; 3 2 1 */
                                   2, 1, 0, 0, /* two of colour 1; next row */
                                   0, 3, 1, 0, 1, 0, 9, 1,
                                   0, 1}; /* 1 0 1; a run too long; end */
    uint8_t all[sizeof head + sizeof tail];
    memcpy(all, head, sizeof head);
    memcpy(all + sizeof head, tail, sizeof tail);
    char path[256];
    Image im = {0};
    Err e = {0};
    CHECK(put_file("runs.bmp", all, sizeof all, path) && image_read(path, &im, &e),
          "%s", e.text);
    static const uint8_t red[8] = {3, 0, 3, 3, 3, 3, 0, 0}; /* top row first */
    for (int i = 0; im.rgb && i < 8; i++)
        CHECK(im.rgb[3 * i] == red[i], "pixel %d: %d, want %d", i, im.rgb[3 * i],
              red[i]);
    image_free(&im);
    unlink(path);
}

static void test_crop(void) {
    uint8_t rgb[4 * 3 * 3];
    for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)i;
    Image in = {4, 3, rgb}, out = {0};
    Err e = {0};
    CHECK(image_crop(&in, 1, 1, 2, 2, &out, &e) && out.rgb[0] == 15 &&
              out.rgb[11] == 32,
          "%s", e.text);
    image_free(&out);
    CHECK(!image_crop(&in, 3, 0, 2, 2, &out, &e) &&
              strstr(e.text, "cannot cut 2 x 2 pixels at 3, 0 out of 4 x 3"),
          "%s", e.text);
}

int main(void) {
    if (!mkdtemp(scratch)) return 1;
    test_pictures();
    test_resize();
    test_hostile();
    test_runs();
    test_crop();
    rmdir(scratch);
    return check_done("image");
}
