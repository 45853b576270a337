/* Whole pictures beside those of Diffusers' StableDiffusionPipeline, from the text to the
 * bytes: tests/golden/txt2img.py recorded them on a model of random numbers, which is made
 * again here.
 *
 *   txt2img PROGRAM GOLDEN      (tests/golden)
 *
 * Limits: embeddings 1e-5, latents after every step 1e-3 (relative L2), 2 of 255. */
#include "tests/parity/program.h"

static const struct {
    const char *prompt, *options;
    int steps;
} runs[] = {/* as txt2img.py has them */
            {"a photo of a dog, on a mat --n low quality",
             "--W 96 --H 64 --sampler ddim --scale 7.5", 4},
            {"a castle", "--W 64 --H 64 --sampler euler_a --scale 5", 3},
            {"no guidance", "--W 64 --H 64 --sampler dpmpp_2m --scale 1", 5}};

static const char *model;

static TensorFile *draw(TensorFile *golden, int i) {
    Tensors in = {0};
    give_from(&in, "noise", golden, arena_printf(arena, "r%d.noise", i));
    give_from(&in, "step_noise", golden, arena_printf(arena, "r%d.step_noise", i));
    const char *given = write_tensors(&in, "given.safetensors"),
               *text = in_folder("prompt.txt"), *record = in_folder("record");
    Err e = {0};
    must(file_write(text, runs[i].prompt, strlen(runs[i].prompt), &e), text, &e);
    const int code =
        run("generate --ckpt %s --from_file %s --inputs %s --record %s --outdir %s "
            "--steps %d %s",
            model, text, given, record, folder, runs[i].steps, runs[i].options);
    must(code == 0, slurp(in_folder("err"), NULL), NULL);
    return open_tensors(record);
}

static void near(TensorFile *got, TensorFile *golden, int i, const char *name,
                 double limit) {
    const TensorEntry *a = tensor(got, name),
                      *b = tensor(golden, arena_printf(arena, "r%d.%s", i, name));
    CHECK(type_equal(&a->type, &b->type), "run %d, %s: %s, want %s", i, name,
          type_text(arena, &a->type), type_text(arena, &b->type));
    const double off = rel_l2(a, b);
    CHECK(off <= limit, "run %d, %s: %g, limit %g", i, name, off, limit);
}

static void picture(TensorFile *got, TensorFile *golden, int i) {
    const TensorEntry *a = tensor(got, "image"),
                      *b = tensor(golden, arena_printf(arena, "r%d.image", i));
    double worst = 0, least = 255, most = 0;
    CHECK(type_equal(&a->type, &b->type), "run %d: another size", i);
    for (int64_t k = 0; k < type_count(&b->type); k++) {
        worst = fmax(worst, fabs(at(a, k) - at(b, k)));
        least = fmin(least, at(b, k));
        most = fmax(most, at(b, k));
    }
    CHECK(worst <= 2, "run %d: a pixel is off by %g of 255", i, worst);
    CHECK(most - least > 50, "run %d: the golden picture is flat", i);
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    program_start(argv[1]);
    TensorFile *golden =
        open_tensors(arena_printf(arena, "%s/txt2img.safetensors", argv[2]));
    model = in_folder("model.safetensors");
    must(!run("init-weights unet clip vae_decoder vae_encoder --variant tiny --seed 1 "
              "--dtype f32 -o %s",
              model),
         model, NULL);
    for (int i = 0; i < (int)(sizeof runs / sizeof *runs); i++) {
        TensorFile *got = draw(golden, i);
        near(got, golden, i, "embeddings", 1e-5);
        for (int k = 0; k < runs[i].steps; k++)
            near(got, golden, i, arena_printf(arena, "latents.%d", k), 1e-3);
        picture(got, golden, i);
        tensors_close(got);
    }
    tensors_close(golden);
    return program_end("txt2img");
}
