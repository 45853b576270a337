/* A job: a recipe with its base model open and its networks bound, from which plans are
 * compiled. What train, eval, compile and bench have in common. */
#ifndef GRAPHRUN_JOB_H
#define GRAPHRUN_JOB_H
#include "io/tensors.h"
#include "passes/passes.h"
#include "runtime/exec.h"

typedef struct JobNet JobNet;
typedef struct Job {
    Arena *arena;
    Library *library;
    const Doc *doc; /* of the recipe */
    Recipe recipe;
    Net *net; /* the recipe's networks, bound */
    JobNet *source;
    int n_net;
    Checkpoint **base; /* opened models, each path once */
    int n_base, cap_base;
    Str note; /* what was decided on the way: variants, ties */
} Job;

/* Finds the recipe (a name or a path); then its options can be asked for. */
bool job_load(Job *j, const char *recipe, Err *e);
/* Evaluates it with options set, opens the models it names and binds the networks. */
bool job_open(Job *j, const Args *set, Err *e);
/* The second half: opens and binds the networks of j->recipe, wherever that is from. */
bool job_networks(Job *j, Err *e);
void job_close(Job *j);
/* The model a network takes its weights from, or NULL. */
Checkpoint *job_checkpoint(const Job *j, const char *network);
/* Makes `net` the job's only network, with its weights from `model` (may be NULL). */
void job_use_net(Job *j, const Net *net, Checkpoint *model);
const Net *job_net(const Job *j, const char *network); /* NULL: no such network */
/* --clip_skip leaves layers of every text encoder to use. */
bool job_clip_skip_fits(const Job *j, Err *e);
/* For store_open: finds "NETWORK.path.weight" in the network's model. Lives as long as j. */
WeightSource job_weights(Job *j);
/* Name in its model ("vae.encoder.conv_in.weight") of a network's tensor
 * ("vae_encoder.encoder.conv_in.weight"); NULL: it is not there. */
const char *job_tensor_name(const Job *j, const char *tensor);
/* Opens a model once; the same path again gives the same object. */
Checkpoint *job_model(Job *j, const char *path, Err *e);
/* Shapes of one network's tensors in a model. */
const WeightShapes *job_shapes(Job *j, Checkpoint *model);
/* Arguments the model's config gives a network; adds to `given` what is not yet there. */
bool job_config(Job *j, Checkpoint *model, const Doc *network, Args *given, Err *e);
/* The forward plan of one network alone: inputs of the document, every output recorded. */
Plan *job_network_plan(Job *j, const Net *net, const Args *dims, const Options *like,
                       Err *e);
#endif
