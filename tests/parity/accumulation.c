/* Gradient accumulation over buckets of several shapes, with short last batches: the
 * gradient of an update is the sum of those of its micro-batches, each over the number of
 * --gradient_accumulation_steps, also in the window that an epoch's end cuts short. Each
 * micro-batch by itself is a run whose rate moves nothing.
 *
 *   accumulation PROGRAM IMAGES      IMAGES: tests/golden/images/train
 */
#include "tests/parity/program.h"

enum { STEPS = 4, MOST = 64 };

static void data_set(const char *images) {
    FILE *f = fopen(in_folder("set.toml"), "w");
    must(f != NULL, "set.toml", NULL);
    fprintf(f,
            "[general]\n"
            "resolution = 64\n"
            "enable_bucket = true\n"
            "min_bucket_reso = 32\n"
            "max_bucket_reso = 128\n"
            "bucket_reso_steps = 16\n"
            "[[datasets]]\n"
            "batch_size = 2\n"
            "[[datasets.subsets]]\n"
            "image_dir = \"%s/3_sls frog\"\n"
            "class_tokens = \"frog\"\n"
            "[[datasets.subsets]]\n"
            "image_dir = \"%s/2_cpc_rabbit x\"\n"
            "class_tokens = \"rabbit\"\n",
            images, images);
    must(!fclose(f), "set.toml", NULL);
}

static void ran(int code) {
    must(code == 0, slurp(in_folder("err"), NULL), NULL);
}

/* A LoRA whose both halves are numbers: the difference of two models. */
static void start(void) {
    for (int seed = 1; seed <= 2; seed++)
        ran(run(
            "init-weights unet clip vae_encoder --variant tiny --seed %d --quiet -o "
            "%s/model%d.safetensors",
            seed, folder, seed));
    ran(run("extract --model_org %s/model1.safetensors --model_tuned "
            "%s/model2.safetensors --dim 2 --save_to %s/start.safetensors --quiet",
            folder, folder, folder));
}

static TensorFile *train(int accumulate) {
    const char *record = in_folder(arena_printf(arena, "record%d", accumulate));
    ran(run("train --pretrained_model_name_or_path %s/model1.safetensors "
            "--dataset_config %s/set.toml --network_weights %s/start.safetensors "
            "--dim_from_weights --learning_rate 1e-30 --max_train_epochs 1 --seed 1 "
            "--gradient_accumulation_steps %d --output_dir %s --record %s",
            folder, folder, folder, accumulate, folder, record));
    return open_tensors(record);
}

static int count(TensorFile *f, const char *format) {
    int n = 0;
    while (n < MOST && tensors_find(f, arena_printf(arena, format, n))) n++;
    return n;
}

/* Is it the sum of what micro-batches `from` … `to` - 1 gave alone, over STEPS? */
static double off(const TensorEntry *whole, TensorFile *alone, const char *key,
                  int from, int to) {
    double d = 0, s = 1e-30;
    for (int64_t k = 0; k < type_count(&whole->type); k++) {
        double sum = 0;
        for (int i = from; i < to; i++)
            sum +=
                at(tensor(alone, arena_printf(arena, "g%d.%s", i + 1, key)), k) / STEPS;
        d += pow(at(whole, k) - sum, 2);
        s += sum * sum;
    }
    return sqrt(d / s);
}

static void window(TensorFile *sums, TensorFile *alone, int update, int batches) {
    const int from = update * STEPS,
              to = from + STEPS < batches ? from + STEPS : batches;
    const char *prefix = arena_printf(arena, "g%d.", update + 1);
    double worst = 0;
    int n = 0;
    for (int i = 0; i < sums->n; i++) {
        const TensorEntry *t = &sums->entry[i];
        if (strncmp(t->name, prefix, strlen(prefix))) continue;
        worst = fmax(worst, off(t, alone, t->name + strlen(prefix), from, to));
        n++;
    }
    CHECK(n == 408, "update %d: %d gradients, want 408", update + 1, n);
    CHECK(worst <= 1e-4, "update %d: a gradient is off by %.1e", update + 1, worst);
    printf("  update %d of %d micro-batches: %.1e\n", update + 1, to - from, worst);
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: accumulation PROGRAM IMAGES\n");
        return 2;
    }
    program_start(argv[1]);
    data_set(argv[2]);
    start();
    TensorFile *alone = train(1), *sums = train(STEPS);
    const char *said = slurp(in_folder("err"), NULL);
    int shapes = 0, batches = count(alone, "m%d.loss");
    for (const char *p = said; (p = strstr(p, "bucket: ")); p++) shapes++;
    CHECK(shapes >= 4, "%d shapes of micro-batches, want several:\n%s", shapes, said);
    CHECK(strstr(said, "batch 1") && strstr(said, "batch 2"), "no short batch:\n%s",
          said);
    CHECK(batches % STEPS, "%d micro-batches: the last window is whole", batches);
    CHECK(count(sums, "m%d.loss") == batches, "another number of micro-batches");
    for (int i = 0; i < batches; i++) {
        const char *name = arena_printf(arena, "m%d.loss", i);
        CHECK(at(tensor(alone, name), 0) == at(tensor(sums, name), 0), "%s differs",
              name);
    }
    for (int u = 0; u * STEPS < batches; u++) window(sums, alone, u, batches);
    tensors_close(alone);
    tensors_close(sums);
    return program_end("accumulation");
}
