#!/bin/sh
# LoRA files that a training starts with: --network_weights, --dim_from_weights,
# --base_weights.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

model=$tmp/tiny.safetensors
tiny_model "$model"
mkdir -p "$tmp/img/1_cat"
picture "$tmp/img/1_cat/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/1_cat/b" 64 64 'zzz(((' 'a cat'

train() { # options…
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --resolution 64 \
        --seed 3 --train_data_dir "$tmp/img" --output_dir "$tmp" --learning_rate 1e-2 "$@"
}
train --network_dim 3 --network_alpha 2 --network_args conv_dim=2 --output_name first \
    --max_train_steps 3
exits 0
# a rate of 0 keeps what was loaded: the same tensors come out
train --network_dim 3 --network_alpha 2 --network_args conv_dim=2 --output_name again \
    --max_train_steps 1 --learning_rate 1e-30 --network_weights "$tmp/first.safetensors"
exits 0; says err "starts from '$tmp/first.safetensors': 580 of 580 tensors"
runs "$GRAPHRUN" diff "$tmp/first.safetensors" "$tmp/again.safetensors"
exits 0; says out "290 modules are equal, 0 differ"
# ranks and alphas of the file, whatever the options say
train --network_dim 7 --output_name dims --max_train_steps 1 --learning_rate 1e-30 \
    --network_weights "$tmp/first.safetensors" --dim_from_weights
exits 0; says err "580 of 580 tensors"
runs "$GRAPHRUN" diff "$tmp/first.safetensors" "$tmp/dims.safetensors"
exits 0; says out "290 modules are equal, 0 differ"
# a file of some of the modules, and one of another rank
train --network_dim 3 --network_alpha 5 --output_name part --max_train_steps 1 \
    --network_weights "$tmp/first.safetensors"
exits 0; says err "408 of 408 tensors"
says err "warning: 204 modules have another alpha in the file"
train --network_dim 4 --output_name bad --max_train_steps 1 \
    --network_weights "$tmp/first.safetensors"
exits 1; says err "this run wants"
! grep -q encoded "$tmp/err"
check "pictures were encoded before the file was judged" $?
train --network_weights "$model" --output_name bad --max_train_steps 1
exits 1; says err "has none of this run's tensors"
train --dim_from_weights --output_name bad --max_train_steps 1
exits 2; says err "--dim_from_weights wants --network_weights"

# at a rate of 0 a network's modules of the file stay in use and in the file, untrained,
# whatever finds the optimizer's step; without them none are made
train --network_dim 3 --network_alpha 2 --output_name still --max_train_steps 2 \
    --text_encoder_lr 0 --network_weights "$tmp/first.safetensors" --optimizer_type prodigy
exits 0; says err "starts from '$tmp/first.safetensors': 408 of 408 tensors"
says err "warning: 86 modules of the file are none of this run"
runs "$GRAPHRUN" diff "$tmp/first.safetensors" "$tmp/still.safetensors"
says out "12 modules are equal, 192 differ"
train --network_dim 3 --network_alpha 2 --output_name frozen --max_train_steps 2 \
    --text_encoder_lr 0 --network_weights "$tmp/first.safetensors" --loss_type l1
train --network_dim 3 --network_alpha 2 --output_name left --max_train_steps 2 \
    --network_train_unet_only --network_weights "$tmp/first.safetensors" --loss_type l1
exits 0; says err "384 of 384 tensors"
says err "warning: 98 modules of the file are none of this run"
runs "$GRAPHRUN" diff "$tmp/left.safetensors" "$tmp/frozen.safetensors"
says out "192 differ" # the text encoder's were in use
train --output_name none --max_train_steps 1 --text_encoder_lr 0
runs "$GRAPHRUN" info "$tmp/none.safetensors"
says out "192 modules (0 text encoder, 192 U-Net"
train --output_name none --max_train_steps 1 --text_encoder_lr 0 --unet_lr 0 \
    --network_dim 3 --network_weights "$tmp/first.safetensors"
exits 2; says err "trains nothing"

# what is merged before training is what `merge` makes: the same LoRA comes out
runs "$GRAPHRUN" merge --sd_model "$model" --models "$tmp/first.safetensors" --ratios 0.5 \
    --save_to "$tmp/merged.safetensors" --save_precision fp16
exits 0
train --output_name with --max_train_steps 2 --base_weights "$tmp/first.safetensors" \
    --base_weights_multiplier 0.5
exits 0; says err "merged into the base: '$tmp/first.safetensors' x 0.5, 290 modules"
train --output_name plain --max_train_steps 2
exits 0
runs "$GRAPHRUN" diff "$tmp/with.safetensors" "$tmp/plain.safetensors"
! grep -q ', 0 differ' "$tmp/out"
check "base weights change nothing" $?
train --output_name merged-base --max_train_steps 2 \
    --pretrained_model_name_or_path "$tmp/merged.safetensors"
exits 0
runs "$GRAPHRUN" diff "$tmp/with.safetensors" "$tmp/merged-base.safetensors"
says out ', 0 differ'
train --output_name bad --max_train_steps 1 --base_weights "$tmp/first.safetensors" \
    --base_weights_multiplier half
exits 2; says err "--base_weights_multiplier: got 'half', want a number"
train --output_name bad --max_train_steps 1 --base_weights_multiplier 1
exits 2; says err "got 1 numbers for 0 files"
finish
