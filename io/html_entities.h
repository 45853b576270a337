/* Names of HTML's characters. */
#ifndef GRAPHRUN_HTML_ENTITIES_H
#define GRAPHRUN_HTML_ENTITIES_H
#include <stddef.h>
#include <stdint.h>

typedef struct HtmlEntity {
    const char *name; /* without & and ; */
    uint32_t code;
} HtmlEntity;
extern const HtmlEntity html_entities[]; /* sorted by name */
extern const size_t html_entity_count;
#endif
