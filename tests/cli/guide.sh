#!/usr/bin/env bash
# The command lines and TOML fragments of sd-scripts' guide to training LoRAs, as they stand
# there but for the first words and the paths, on a model of random numbers, or on $GUIDE_MODEL
# (any form, Diffusers' too); and wrong ones, each with its error. The arguments of
# --network_args that the original was recorded to refuse are tests/golden/networks_bad_args.json.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

model=${GUIDE_MODEL:-$tmp/tiny.safetensors}
[ -e "$model" ] || tiny_model "$model"
mkdir -p "$tmp/img"
picture "$tmp/img/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/b" 64 64 'zzz(((' 'a cat'
cat >"$tmp/data.toml" <<END
[general]
enable_bucket = true
[[datasets]]
resolution = 64
batch_size = 2
min_bucket_reso = 64
max_bucket_reso = 128
  [[datasets.subsets]]
  image_dir = '$tmp/img'
  caption_extension = '.caption'
  num_repeats = 1
END

# the guide's training command; its 400 steps are 2 here
usual=(--pretrained_model_name_or_path="$model" --dataset_config="$tmp/data.toml"
    --output_dir="$tmp/to" --save_model_as=safetensors --prior_loss_weight=1.0
    --learning_rate=1e-4 --cache_latents --gradient_checkpointing
    --save_every_n_epochs=1 --seed=1)
guide() { # NAME options…
    name=$1
    shift
    runs "$GRAPHRUN" train "${usual[@]}" --output_name="$name" --max_train_steps=2 "$@"
    exits 0
    [ -s "$tmp/to/$name.safetensors" ]
    check "no $name.safetensors" $?
}
guide first --optimizer_type="AdamW8bit" --xformers --mixed_precision="fp16" \
    --network_module=networks.lora
says err "--xformers has no effect"
[ -s "$tmp/to/first-000001.safetensors" ]
check "no file of the first epoch" $?

# LoRA-C3Lier
guide c3lier --network_module=networks.lora --network_args "conv_dim=4" "conv_alpha=1"
guide conv --network_module=networks.lora --network_args "conv_dim=4"
# DyLoRA
dylora=(--network_module=networks.dylora)
guide dylora "${dylora[@]}" --network_dim=16 --network_args "unit=4"
guide dylora-alpha "${dylora[@]}" --network_dim=32 --network_alpha=16 --network_args "unit=4"
guide dylora-c3 "${dylora[@]}" --network_dim=16 --network_args "conv_dim=16" "unit=4"
guide dylora-c3-alpha "${dylora[@]}" --network_dim=32 --network_alpha=16 \
    --network_args "conv_dim=32" "conv_alpha=16" "unit=8"
runs "$GRAPHRUN" extract-dylora --model "$tmp/to/dylora.safetensors" \
    --save_to "$tmp/to/dylora-split.safetensors" --unit 4
exits 0
for rank in 4 8 12 16; do
    ls "$tmp/to" | grep -q "dylora-split.*$rank.safetensors"
    check "no file of rank $rank" $?
done
# learning rates and ranks by block
guide rates --network_args \
    "down_lr_weight=0.5,0.5,0.5,0.5,1.0,1.0,1.0,1.0,1.5,1.5,1.5,1.5" "mid_lr_weight=2.0" \
    "up_lr_weight=1.5,1.5,1.5,1.5,1.0,1.0,1.0,1.0,0.5,0.5,0.5,0.5"
guide presets --network_args "block_lr_zero_threshold=0.1" "down_lr_weight=sine+.5" \
    "mid_lr_weight=1.5" "up_lr_weight=cosine+.5"
dims="2,4,4,4,8,8,8,8,12,12,12,12,16,12,12,12,12,8,8,8,8,4,4,4,2"
conv="2,2,2,2,4,4,4,4,6,6,6,6,8,6,6,6,6,4,4,4,4,2,2,2,2"
guide dims --network_args "block_dims=$dims"
guide dims-conv --network_args "block_dims=$dims" "conv_block_dims=$conv"
guide dims-alpha --network_args "block_dims=$dims" "block_alphas=$conv"
# the same from .toml files
from_toml() { # NAME LINE SAME-AS
    echo "$2" >"$tmp/args.toml"
    guide "$1" --config_file="$tmp/args"
    runs "$GRAPHRUN" diff "$tmp/to/$3.safetensors" "$tmp/to/$1.safetensors"
    says out ", 0 differ"
}
from_toml rates-toml 'network_args = [ "down_lr_weight=0.5,0.5,0.5,0.5,1.0,1.0,1.0,1.0,1.5,1.5,1.5,1.5", "mid_lr_weight=2.0", "up_lr_weight=1.5,1.5,1.5,1.5,1.0,1.0,1.0,1.0,0.5,0.5,0.5,0.5",]' rates
from_toml presets-toml 'network_args = [ "block_lr_zero_threshold=0.1", "down_lr_weight=sine+.5", "mid_lr_weight=1.5", "up_lr_weight=cosine+.5", ]' presets
from_toml dims-toml "network_args = [ \"block_dims=$dims\",]" dims
from_toml dims-alpha-toml "network_args = [ \"block_dims=$dims\", \"block_alphas=$conv\",]" dims-alpha

# merging, merging ranks, extracting
runs "$GRAPHRUN" merge --sd_model "$model" --save_to "$tmp/to/char1-merged.safetensors" \
    --models "$tmp/to/first.safetensors" --ratios 0.8
exits 0
runs "$GRAPHRUN" merge --sd_model "$model" --save_to "$tmp/to/two-merged.safetensors" \
    --models "$tmp/to/first.safetensors" "$tmp/to/conv.safetensors" --ratios 0.8 0.5
exits 0
runs "$GRAPHRUN" merge --save_to "$tmp/to/style1-merged.safetensors" \
    --models "$tmp/to/first.safetensors" "$tmp/to/rates.safetensors" --ratios 0.6 0.4
exits 0
runs "$GRAPHRUN" svd-merge --save_to "$tmp/to/svd-merged.safetensors" \
    --models "$tmp/to/first.safetensors" "$tmp/to/dims.safetensors" --ratios 0.6 0.4 --new_rank 32
exits 0
runs "$GRAPHRUN" extract --model_org "$model" --model_tuned "$tmp/to/char1-merged.safetensors" \
    --save_to "$tmp/to/lora-weights.safetensors" --dim 4
exits 0

# pictures of several sizes
runs "$GRAPHRUN" resize-images --max_resolution 512x512,384x384,256x256 --save_as_png \
    --copy_associated_files "$tmp/img" "$tmp/resized"
exits 0
for size in 512x512 384x384 256x256; do
    [ -s "$tmp/resized/a+$size.png" ] && [ -s "$tmp/resized/a+$size.caption" ]
    check "no picture and caption of $size" $?
done

# ---- wrong ones ----
wrong() { # MESSAGE options…
    message=$1
    shift
    runs "$GRAPHRUN" train "${usual[@]}" --output_name=wrong --max_train_steps=2 "$@"
    exits 2
    says err "$message"
}
wrong "did you mean '--network_dim'" --networkdim=4
wrong "want one of networks.lora, networks.dylora" --network_module=network.lora
wrong "did you mean 'conv_dim'" --network_args "convdim=4"
wrong "unit is one of networks.dylora" --network_args "unit=4"
wrong "does not divide" "${dylora[@]}" --network_dim=16 --network_args "unit=5"
wrong "wants that of --network_dim" "${dylora[@]}" --network_dim=16 --network_args "conv_dim=4" "unit=4"
wrong "leave nothing to train" --network_train_unet_only --network_train_text_encoder_only
wrong "--optimizer_type" --optimizer_type=AdamW9bit
wrong "cosin" --lr_scheduler=cosin
while IFS=$'\t' read -r message args; do
    IFS=' ' read -r -a list <<<"$args"
    wrong "$message" --network_args "${list[@]}"
done < <(python3 - tests/golden/networks_bad_args.json <<'END'
import json, sys
said = {"block_dims_24": "block_dims: got 24 values", "block_alphas_3": "block_alphas: got 3",
        "conv_block_dims_2": "conv_block_dims: got 2", "single_number_down": "got '0.5'",
        "unknown_preset": "got 'quadratic'", "unknown_preset_offset": "got 'sine-.25'",
        "too_long_one_side": "got 13 numbers", "block_dims_float": "want an integer",
        "bad_number": "want numbers"}
for name, case in json.load(open(sys.argv[1])).items():
    if not case["ok"]:
        args = " ".join(f"{k}={v}" for k, v in case["network_args"].items())
        print(said[name], args, sep="\t")
END
)
[ ! -e "$tmp/to/wrong.safetensors" ]
check "a wrong command line trained" $?
finish
