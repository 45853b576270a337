/* The picture of `graphrun presets plot`: three rows of bars, one bar a block. */
#include <math.h>

#include "cli/presets.h"

enum { BAR = 22, LEFT = 70, TOP = 40, ROW = 120, GAP = 34 };

typedef struct Panel {
    const char *name, *colour;
    size_t offset; /* of double[2] in PresetRow */
} Panel;
static const Panel panels[] = {{"rank", "#1b9e77", offsetof(PresetRow, rank)},
                               {"scale", "#7570b3", offsetof(PresetRow, scale)},
                               {"learning rate", "#d95f02", offsetof(PresetRow, lr)}};

static double largest(const PresetRow *r, const Panel *p) {
    double x = ((const double *)(const void *)((const char *)r + p->offset))[1];
    return isnan(x) ? 0 : x;
}

static void bar(Str *s, const Panel *p, const PresetRow *r, int x, int bottom,
                double most) {
    double v = largest(r, p), h = most > 0 ? v / most * ROW : 0;
    str_printf(s,
               "<rect x=\"%d\" y=\"%.1f\" width=\"%d\" height=\"%.1f\" fill=\"%s\">"
               "<title>%s: %s %g</title></rect>\n",
               x, (double)bottom - h, BAR - 4, h, r->modules ? p->colour : "#eee",
               r->name, p->name, v);
}

static void panel(Str *s, const PresetTable *t, const Panel *p, int top) {
    double most = 0;
    for (int i = 0; i < t->n; i++) most = fmax(most, largest(&t->row[i], p));
    str_printf(s, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.4g</text>\n", LEFT - 6,
               top + 10, most);
    str_printf(s, "<text x=\"%d\" y=\"%d\">%s</text>\n", LEFT, top - 6, p->name);
    str_printf(s, "<path d=\"M%d %dh%d\" stroke=\"#999\"/>\n", LEFT, top + ROW,
               t->n * BAR);
    for (int i = 0; i < t->n; i++)
        bar(s, p, &t->row[i], LEFT + i * BAR, top + ROW, most);
}

static void title(Str *s, const char *text) {
    for (; *text; text++) {
        const char *safe = *text == '<'   ? "&lt;"
                           : *text == '>' ? "&gt;"
                           : *text == '&' ? "&amp;"
                                          : NULL;
        if (safe)
            str_add(s, safe);
        else
            str_printf(s, "%c", *text);
    }
}

void preset_plot(Str *s, const PresetTable *t) {
    int w = LEFT + t->n * BAR + 20, h = TOP + (int)COUNT(panels) * (ROW + GAP) + 40;
    str_printf(s,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
               "font-family=\"sans-serif\" font-size=\"11\">\n"
               "<rect width=\"%d\" height=\"%d\" fill=\"white\"/>\n"
               "<text x=\"%d\" y=\"18\" font-size=\"14\">",
               w, h, w, h, LEFT);
    title(s, t->title);
    str_add(s, "</text>\n");
    int top = TOP;
    for (size_t k = 0; k < COUNT(panels); k++, top += ROW + GAP)
        panel(s, t, &panels[k], top);
    for (int i = 0; i < t->n; i++)
        str_printf(s,
                   "<text transform=\"translate(%d %d) rotate(-60)\" "
                   "text-anchor=\"end\">%s</text>\n",
                   LEFT + i * BAR + BAR / 2 + 3, top - GAP + 14, t->row[i].name);
    str_add(s, "</svg>\n");
}
