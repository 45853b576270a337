/* What the writer and the reader of plan files share: tags and sizes of records. */
#ifndef GRAPHRUN_PLAN_FORMAT_H
#define GRAPHRUN_PLAN_FORMAT_H
#include "graph/plan/plan_file.h"

#define PLAN_MAGIC "GRPLAN\0\1" /* 8 bytes, without the closing NUL */
#define TAG(a, b, c, d)                                                                \
    ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

enum {
    HEADER_BYTES = 64,
    ENTRY_BYTES = 40,
    HASH_AT = 48, /* of the header: its own hash */
    MOST_SECTIONS = 64,
    CODEC_RAW = 0,
    CODEC_LZ4 = 1,
};

/* One section each; numbers of bytes are those of one record. */
#define PLAN_SECTIONS(X)                                                               \
    X(TEXT, TAG('S', 'T', 'R', 'T'), 1)   /* strings, each closed by a NUL */          \
    X(HEAD, TAG('H', 'E', 'A', 'D'), 76)  /* name, report, sizes of memories, bound */ \
    X(BLOCKS, TAG('B', 'L', 'C', 'K'), 4) /* names of blocks */                        \
    X(SOURCES, TAG('S', 'R', 'C', 'M'), 8) /* path and text of graph files */          \
    X(VALUES, TAG('V', 'A', 'L', 'S'), 88)                                             \
    X(PARAMS, TAG('P', 'A', 'R', 'M'), 32) /* how persistent tensors start */          \
    X(NUMBERS, TAG('C', 'N', 'S', 'T'), 8) /* f64, of constants */                     \
    X(OPERANDS, TAG('O', 'P', 'N', 'D'), 4)                                            \
    X(STEPS, TAG('S', 'T', 'E', 'P'), 80)                                              \
    X(OUTPUTS, TAG('O', 'U', 'T', 'P'), 8)                                             \
    X(ADAPTERS, TAG('A', 'D', 'P', 'T'), 48)                                           \
    X(PARTS, TAG('K', 'E', 'Y', 'S'), 12) /* what it was made from */                  \
    X(INIT, TAG('I', 'N', 'I', 'T'), 1)   /* a plan file of its own: starts */
enum {
#define X(name, tag, bytes) SECTION_##name,
    PLAN_SECTIONS(X)
#undef X
        SECTIONS
};
typedef struct SectionKind {
    uint32_t tag;
    uint32_t record;
} SectionKind;
extern const SectionKind plan_section[SECTIONS];
#endif
