/* The parts of `graphrun train`: what the options say, plans per bucket, data, reports. */
#ifndef GRAPHRUN_CLI_TRAIN_H
#define GRAPHRUN_CLI_TRAIN_H
#include "cli/job/job.h"
#include "cli/job/job_plan.h"
#include "cli/trace.h"
#include "cli/train/train_options.h"
#include "io/lora_read.h"
#include "runtime/data_feed.h"
#include "runtime/inputs.h"
#include "runtime/progress.h"
#include "runtime/state.h"

typedef struct BucketPlan {
    Shape shape;
    Plan *plan;
    Exec *exec; /* NULL until it is first used */
} BucketPlan;

typedef struct TrainedTensor { /* of a base model */
    const char *value;         /* its name in the plan */
    float *data;               /* a copy, as of the last save */
} TrainedTensor;

typedef struct TrainLog TrainLog;

typedef struct Trainer {
    const Common *common;
    const TrainOptions *o;
    const Args *given; /* options of the command line */
    Arena *arena;
    Job job;
    int64_t steps; /* updates to make */
    int64_t epochs, steps_per_epoch;
    uint64_t seed;
    double max_grad_norm, scale_weight_norms;
    Precision mixed_precision; /* as the plans have it */
    bool full_half;
    LrSchedule lr;
    int accumulate; /* micro-batches per update */
    bool skip_nan;
    int64_t n_nan; /* updates left out for it */
    /* data: a data set or recorded inputs */
    Dataset *data;
    Latents latents;
    Tokenizer *tokenizer;
    DataFeed *feed;
    Inputs *in;
    Shape *shape; /* every shape of the run */
    int n_shape;
    int chunks;  /* of 77 tokens per caption */
    int readers; /* threads that read ahead */
    /* plans */
    Device *dev;
    WeightSource weights;
    Store *store, *vae_store, *text_store;
    Exec *text_exec;             /* the text encoder on one caption, or NULL */
    bool text_given;             /* plans read the captions' states, not their ids */
    BucketPlan *plan, *vae_plan; /* vae: shape in pixels */
    int n_plan, cap_plan, n_vae, cap_vae;
    PlanCache cache;
    const char *budget; /* --memory_budget free, once it is known */
    Plan *given_plan;   /* --plan; NULL: none, or one that cannot be used */
    Modules *modules;
    Graph *adapted; /* the graph that the modules' tensors belong to */
    LoraTensors lora;
    Str report; /* of the passes, for the first plan */
    /* networks that are trained themselves: the model they come from, or NULL */
    Checkpoint *model;
    TrainedTensor *trained;
    int n_trained;
    /* results */
    Record *record;
    Progress *progress;
    LossAverage average;
    float loss_scale;     /* as it was told last; 0: not yet */
    LoraFile *start_lora; /* --dim_from_weights, or NULL */
    TrainLog *log;        /* --logging_dir, or NULL */
    Trace *trace;         /* --profile */
    Exec *last;           /* of the last micro-batch: where the weights are read from */
    struct Samples *samples; /* --sample_prompts, or NULL */
    struct Validator
        *validator; /* of cli/train/train_validation.c; NULL: nothing held out */
    const volatile int *stop; /* not 0: the signal that asked for an end */
    int last_epoch;
    int64_t micro; /* counts micro-batches for the record */
    /* where the run stands, and the state it goes on from (--resume) */
    TrainPlace place;
    StateFile *resume; /* NULL: a run from its start */
    TrainState resumed;
    const Meta *fact; /* what the run is made of */
    int n_fact;
    Meta *meta;
    int n_meta, cap_meta;
    int64_t started; /* seconds since 1970 */
} Trainer;

extern const Command cmd_train;

/* cli/train/train_setup.c: options and recipe together; nothing compiled yet. */
bool train_setup(Trainer *t, const char *recipe, Err *e);
/* A text of one of the recipe's sections; otherwise: it is not there, or empty. */
const char *train_text(const Args *section, const char *key, const char *otherwise);

/* cli/train/train_data.c */
bool train_data_masks(Arena *a, const TrainOptions *o, bool *masks, Err *e);
bool train_data_open(Trainer *t, Err *e);
bool train_encode(Trainer *t, Err *e);     /* the pictures, into t->latents */
bool train_uses_masks(const Trainer *t);   /* the data set has masks for the loss */
bool train_uses_weights(const Trainer *t); /* words of captions have weights */
bool train_schedule(Trainer *t, Err *e);   /* when the number of updates is known */

/* cli/train/train_fit.c: for --dry-run, how long it will take, whether this machine's memory is
 * enough for the largest plan, and what would need less. */
bool train_fit_text(Trainer *t, Str *s, Err *e);
bool train_fit_json(Trainer *t, Str *s,
                    Err *e); /* "estimate": …, "machine_bytes": …, "less_memory": … */
const BucketPlan *train_largest(const Trainer *t);

/* cli/train/train_plans.c */
BucketPlan *train_plan(Trainer *t, const Shape *s, Err *e); /* compiled on first call */
const char *train_shape_text(Arena *a, const Shape *s);     /* "512 x 768, batch 2" */
/* Reads --plan, or notes why it cannot be used; no such file: an error. */
bool train_given_plan(Trainer *t, Err *e);
Exec *train_exec(void *trainer, const Shape *s, Err *e); /* bound on first call */
Exec *train_vae_exec(void *trainer, int n, int w, int h, Err *e);
/* The feeds give captions' states, if the plans read those. */
void train_text_feed(Trainer *t);
void train_vae_close(Trainer *t); /* gives its memory back */
void train_plans_close(Trainer *t);

/* The options of a training plan for a shape. */
bool train_options_of_plan(Trainer *t, const Shape *s, Options *opt, Err *e);
/* The feed of the data set; cli/train/train_data.c. */
DataFeedJob train_feed_job(Trainer *t);

/* cli/train/train_samples.c: pictures of the sample prompts, drawn with the adapters as they
 * are. Opening judges prompts and samplers before the first step. */
typedef struct Samples Samples;
bool train_samples_open(Trainer *t, Err *e);
bool train_samples_first(Trainer *t, Exec *x, Err *e);
/* After an update: draws if it is time. */
bool train_samples(Trainer *t, Exec *x, const StepResult *r, Err *e);
void train_samples_close(Trainer *t);

/* cli/train/train_validation.c: the loss on pictures that are held out. */
typedef struct Validator Validator;
bool train_validation_open(Trainer *t, const DataOptions *o, Err *e);
bool train_validation_encode(Trainer *t, Err *e);
void train_validation_text(Trainer *t, TextStates *text); /* to its feed */
/* After a micro-batch: tells the loss if it is due. */
bool train_validation(Trainer *t, const StepResult *r, Err *e);
int train_validation_pictures(const Trainer *t);
void train_validation_close(Trainer *t);

/* cli/train/train_metadata.c: ss_* entries as sd-scripts writes them (training.md 7.2). */
void train_metadata(Trainer *t);
/* The entries that change with each save; n: how many, at most 4. */
int train_metadata_now(const Trainer *t, Arena *a, int64_t step, int64_t epoch,
                       Meta *out);

/* cli/train/train_model.c: networks that are trained themselves. Finds the model; writes it with
 * today's numbers, with `stem` as its folder or its file without extension. */
bool train_model_open(Trainer *t, Err *e);
bool train_model_write(Trainer *t, Exec *x, const char *stem, bool average,
                       int precision, const Meta *meta, int n_meta, int64_t step,
                       const char **path, Err *e);
/* The same as one file with the original's names, whatever the model is stored as. */
bool train_model_file(Trainer *t, Exec *x, const char *path, int64_t step, Err *e);

/* cli/train/train_names.c */
typedef enum SaveKind { SAVE_EPOCH, SAVE_STEP, SAVE_LAST } SaveKind;
/* "mine-000001", "at-step00000010", "last": a file's name without its ending. */
const char *train_stem(Arena *a, const TrainOptions *o, SaveKind kind, int64_t number);
/* The epoch, or update, whose file goes when one is saved; -1: none. */
int64_t train_epoch_to_remove(int64_t epoch, int64_t every, int64_t keep);
int64_t train_step_to_remove(int64_t step, int64_t every, int64_t keep);

/* cli/train/train_save.c: files and state folders, after each update, at the end, and when a
 * signal ended the run: *state is the folder. */
bool train_save_between(Trainer *t, Exec *x, const StepResult *r, Err *e);
bool train_save_end(Trainer *t, Err *e);
bool train_save_stopped(Trainer *t, const char **state, Err *e);

/* cli/train/train_state.c: --save_state, --resume. Open: before the data, for the seed. Facts:
 * what the run is made of, before anything changes. Check: of the facts; the run then stands
 * where it was saved. */
bool train_state_write(Trainer *t, const char *folder, Err *e);
bool train_resume_open(Trainer *t, Err *e);
void train_facts(Trainer *t);
bool train_resume_check(Trainer *t, Err *e);

/* cli/train/train_weights.c: LoRA files to start with. open: before the recipe is evaluated;
 * rules: after; start: with the first plan bound; base: before anything reads the base. */
bool train_weights_open(Trainer *t, Args *set, Err *e);
bool train_weights_rules(Trainer *t, Err *e);
/* Judges that file before pictures are encoded: once the modules are known. */
bool train_weights_judge(Trainer *t, Err *e);
bool train_weights_start(Trainer *t, Exec *x, Err *e);
bool train_base_weights(Trainer *t, Err *e);
/* Of --base_weights number i. */
bool train_base_ratio(const TrainOptions *o, int i, double *ratio, Err *e);

/* cli/train/train_log.c: --logging_dir. step: after every micro-batch; number: one of another
 * kind. Without the option nothing happens. */
bool train_log_open(Trainer *t, Err *e);
bool train_log_step(Trainer *t, Exec *x, const StepResult *r, double average, Err *e);
bool train_log_number(Trainer *t, const char *tag, int64_t step, double value, Err *e);
bool train_log_close(Trainer *t, Err *e);

/* cli/train/train_report.c: --dry-run. */
bool train_report(Trainer *t, Err *e);
#endif
