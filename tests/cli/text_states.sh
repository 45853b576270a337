#!/usr/bin/env bash
# While the text encoder is not trained, captions are encoded once: the LoRA and the
# validation loss are those of a run that encodes them in every step.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../small_training.sh"
export GRAPHRUN_CACHE=

small_base
for k in 1 2 3; do
    cp tests/golden/pictures/rgb.png "$tmp/pictures/1_thing/p$k.png"
    echo "picture number $k" >"$tmp/pictures/1_thing/p$k.txt"
done
told="text: the text encoder is not trained"

keeps_quiet_about() {
    ! grep -qF -- "$1" "$tmp/err"
    check "stderr says '$1'" $?
}
# captions that could change are encoded as they are drawn; of one tag, these never do
same() { # same OPTION…
    train once --max_train_steps 5 --train_batch_size 2 --validation_split 0.3 "$@"
    exits 0; says err "$told"
    once=$(grep -a '^validation: ' "$tmp/err")
    train each --max_train_steps 5 --train_batch_size 2 --validation_split 0.3 \
        --shuffle_caption "$@"
    exits 0; keeps_quiet_about "$told"
    cmp -s "$tmp/once.safetensors" "$tmp/each.safetensors"
    check "$*: another LoRA than with captions encoded in each step" $?
    [ -n "$once" ] && [ "$once" = "$(grep -a '^validation: ' "$tmp/err")" ]
    check "$*: another validation loss: $once" $?
}
same --network_train_unet_only
same --network_train_unet_only --mixed_precision fp16
same --network_train_unet_only --mixed_precision bf16 --max_token_length 150
same --network_train_unet_only --weighted_captions --clip_skip 2

# a text encoder with adapters reads ids
train both
exits 0; keeps_quiet_about "$told"
finish
