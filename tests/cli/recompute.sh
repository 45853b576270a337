#!/usr/bin/env bash
# Checkpointing changes what is kept and nothing else: with the dropouts of adapters on, the
# gradients of every update and the LoRA are the same bytes whatever is recomputed; what cannot
# fit is refused with the least that would.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../small_training.sh"
export GRAPHRUN_CACHE=

small_base

same() { # same PLAIN NAME: as without checkpoints, and something was recomputed
    cmp -s "$tmp/$1.safetensors" "$tmp/$2.safetensors"
    check "another LoRA than without checkpoints" $?
    cmp -s "$tmp/$1.record" "$tmp/$2.record"
    check "other losses, gradients or weights than without checkpoints" $?
    says err "nodes recomputed"
}

# every KIND OPTION…: plain, by block, and by budgets from the least there is on, as the
# refusal says it
every() {
    local kind=$1
    shift
    train "$kind" "$@" --record "$tmp/$kind.record"
    exits 0
    grep -aqF '"g2.lora_unet_' "$tmp/$kind.record"
    check "no gradient is recorded" $?
    grep -q "nodes recomputed" "$tmp/err" && check "recomputes without being asked" 1
    train "$kind-block" "$@" --record "$tmp/$kind-block.record" --gradient_checkpointing
    exits 0
    same "$kind" "$kind-block"
    train "$kind-small" "$@" --memory_budget 1MiB
    exits 1
    says err "memory budget of 1.0 MiB is too small: at least "
    least=$(sed -n 's/.*at least \([0-9.]*\) MiB are needed.*/\1/p' "$tmp/err")
    for more in 0.2 1.5; do
        train "$kind-$more" "$@" --record "$tmp/$kind-$more.record" --memory_budget "$(awk "BEGIN { print $least + $more }")MiB"
        exits 0
        same "$kind" "$kind-$more"
    done
}

every lora --network_args rank_dropout=0.3 module_dropout=0.1 dropout=0.2
# the rank that is drawn for a module and a micro-batch is drawn again for the copy
every dylora --network_module networks.dylora --network_args unit=2 \
    --gradient_accumulation_steps 2
every dylora-sd --network_module networks.dylora --network_args unit=2 \
    --compat sd-scripts --gradient_accumulation_steps 2

train wrong --memory_budget 6GB
exits 2
says err "--memory_budget: got '6GB', want bytes, or as 6GiB"
finish
