#!/usr/bin/env bash
# A training in 16 bits: runs, gives the same bytes on any number of threads, saves what was
# trained, and full_* goes with its own precision only.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../small_training.sh"
export GRAPHRUN_CACHE=

small_base --dtype f32

train half --mixed_precision fp16 --threads 1
exits 0
says err "mixed-precision: 0 left as nodes, 0 bytes"
train again --mixed_precision fp16 --threads 2
exits 0
cmp -s "$tmp/half.safetensors" "$tmp/again.safetensors"
check "the same bytes on two threads" $?
train bf16 --mixed_precision bf16 --no_half_vae
exits 0
train full --mixed_precision fp16 --full_fp16
exits 0
cmp -s "$tmp/half.safetensors" "$tmp/full.safetensors"
check "half adapters are others" $((!$?))

train wrong --full_fp16
exits 2
says err "--full_fp16 needs --mixed_precision fp16, got no"
runs "$GRAPHRUN" compile sd15-lora --mixed_precision fp16 --full_bf16
exits 2
says err "--full_bf16 needs --mixed_precision bf16, got fp16"
runs "$GRAPHRUN" compile sd15-lora --set mixed_precision=fp8
exits 2
says err "'mixed_precision' of recipe 'sd15-lora': want no, fp16 or bf16"
finish
