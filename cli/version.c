/* `graphrun --version` (cli/version.h). */
#include "cli/version.h"

#include <stdio.h>

#include <jansson.h>
#include <jpeglib.h>
#include <lz4.h>
#include <openssl/crypto.h>
#include <png.h>
#include <utf8proc.h>
#include <webp/decode.h>
#include <xxhash.h>
#include <yaml.h>
#include <zlib.h>

#include "built.h"
#include "graph/lang/doc.h"
#include "graph/plan/plan.h"
#include "kernels/isa.h"

#define TEXT(x)     #x
#define EXPANDED(x) TEXT(x)
#ifdef LIBJPEG_TURBO_VERSION
#define JPEG "libjpeg-turbo " EXPANDED(LIBJPEG_TURBO_VERSION)
#else
#define JPEG "libjpeg " EXPANDED(JPEG_LIB_VERSION)
#endif

static void libraries(Str *s) {
    unsigned xxh = XXH_versionNumber(), webp = (unsigned)WebPGetDecoderVersion();
    str_printf(s, "libraries: libyaml %s, xxhash %u.%u.%u, lz4 %s, jansson %s, %s,",
               yaml_get_version_string(), xxh / 10000, xxh / 100 % 100, xxh % 100,
               LZ4_versionString(), JANSSON_VERSION, OpenSSL_version(OPENSSL_VERSION));
    str_printf(
        s, " zlib %s, libpng %s, " JPEG ", libwebp %u.%u.%u, utf8proc %s, toml++ %s\n",
        zlibVersion(), png_get_libpng_ver(NULL), webp >> 16, webp >> 8 & 255,
        webp & 255, utf8proc_version(), GRAPHRUN_TOMLPLUSPLUS);
}

void version_print(Str *s) {
    str_printf(s, "graphrun %s\ncommit: %s\n", GRAPHRUN_VERSION, GRAPHRUN_COMMIT);
    str_printf(s, "backends: cpu\ninstruction set: %s\n", isa()->name);
    libraries(s);
    str_printf(s, "schema version: %d\nplan version: %d\n", SCHEMA_VERSION,
               PLAN_VERSION);
}

const char *version_isa(void) {
    return isa()->name;
}

const char *version_text(void) {
    return GRAPHRUN_VERSION " " GRAPHRUN_COMMIT;
}
