#!/bin/sh
# Every optimizer by its sd-scripts name and aliases: it trains, the loss falls, arguments
# reach it, and what is wrong is told. The running mean is saved beside the adapters.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

model=$tmp/tiny.safetensors
tiny_model "$model"
mkdir -p "$tmp/img/1_cat"
picture "$tmp/img/1_cat/a" 64 64 'a~ 0' 'a grey cat'
picture "$tmp/img/1_cat/b" 64 64 'zzz(((' 'a cat'

train() { # options…
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 \
        --train_data_dir "$tmp/img" --train_batch_size 2 --seed 3 --network_dim 2 \
        --output_dir "$tmp/to" --output_name cat --max_train_steps 3 "$@"
}
made() { # the file of the last run differs from other WORD's
    exits 0
    sum=$(sha256sum <"$tmp/to/cat.safetensors" 2>/dev/null)
}

train; made; plain=$sum
for type in AdamW8bit PagedAdamW8bit Lion Lion8bit SGDNesterov AdaFactor Prodigy \
    DAdaptation DAdaptAdam DAdaptAdamPreprint DAdaptLion DAdaptSGD DAdaptAdaGrad \
    DAdaptAdan DAdaptAdanIP SGDNesterov8bit; do
    train --optimizer_type "$type"
    made
    [ "$sum" != "$plain" ]
    check "$type gives what AdamW gives" $?
done
train --optimizer_type PagedAdamW; made
train --optimizer_type adamw --optimizer_args weight_decay=0.01 'betas=(0.9, 0.999)' eps=1e-8
made
train --use_8bit_adam; made
train --use_lion_optimizer; made

# a second run takes the plan that the first kept, rates by part of the network and all: it
# writes no other, and the same LoRA comes out
(
    export GRAPHRUN_CACHE="$tmp/plans"
    for type in AdamW8bit Prodigy; do
        for run in 1 2; do
            train --optimizer_type "$type" --unet_lr 0.5 --text_encoder_lr 0.25 --no_metadata \
                --network_args loraplus_unet_lr_ratio=4 --logging_dir "$tmp/log$run" --max_train_steps 1
            ls -i "$tmp/plans/plans" >"$tmp/kept$run"
            sha256sum <"$tmp/to/cat.safetensors" >>"$tmp/kept$run"
            sed -n 's/.*\("lr.textencoder.*\), "norm.*/\1/p' "$tmp/log$run"/*/*/log.jsonl >>"$tmp/kept$run"
            rm -r "$tmp/log$run"
        done
        diff "$tmp/kept1" "$tmp/kept2" && grep -q '"lr/unet plus": 2' "$tmp/kept1" || exit 1
    done
)
check "a plan in the cache was not taken, or gave other rates" $?

# slices: every optimizer takes DyLoRA's units
for type in AdamW AdamW8bit AdaFactor Prodigy DAdaptAdam DAdaptSGD DAdaptAdan; do
    train --network_module networks.dylora --network_args unit=1 --optimizer_type "$type"
    made
done
# accumulation, and a rate of its own that needs no learning rate
train --optimizer_type Prodigy --learning_rate 1 --gradient_accumulation_steps 2
made
train --optimizer_type AdaFactor
says err "optimizer 'adafactor' sets its own rate"
train --optimizer_type Prodigy
says err "takes --learning_rate as a factor, usually 1; got 0.0001"

# the running mean, of all slices
rm -r "$tmp/to"
train --ema_decay 0.9 --network_module networks.dylora
exits 0
[ -s "$tmp/to/cat-ema.safetensors" ]
check "no cat-ema.safetensors" $?
runs "$GRAPHRUN" info "$tmp/to/cat-ema.safetensors"
exits 0

# an optimizer of one's own
cat >"$tmp/mine.yaml" <<'END'
optimizer: mine
args: {strength: 0.5}
state: {all: {start: 0, shared: true}}
update:
  size: {total: g * g}
  all: all + size
  p: p - lr * $strength * g / sqrt(all)
END
train --optimizer_type "$tmp/mine.yaml" --optimizer_args strength=0.25
made

train --optimizer_type AdamW9
exits 2; says err "no optimizer 'AdamW9'; did you mean"
train --optimizer_type ema
exits 2; says err "optimizer 'ema' gives no new 'p'"
train --optimizer_args weigth_decay=0.1
exits 2; says err "has no argument 'weigth_decay'; did you mean 'weight_decay'?"
train --optimizer_args weight_decay
exits 2; says err "--optimizer_args: got 'weight_decay', want key=value"
train --optimizer_args betas=fast
exits 2; says err "betas"
train --use_8bit_adam --optimizer_type Lion
exits 2; says err "name two optimizers"
train --use_8bit_adam --use_lion_optimizer
exits 2; says err "name two optimizers"
finish
