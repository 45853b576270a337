# Sourced behind cli/lib.sh by scripts that train the same small thing in several ways:
# small_base OPTION… makes $tmp/base.safetensors and one picture; train NAME OPTION… makes
# $tmp/NAME.safetensors of them in two steps.
small_base() {
    runs "$GRAPHRUN" init-weights unet clip vae_encoder vae_decoder --variant tiny --seed 1 \
        "$@" -o "$tmp/base.safetensors" --quiet
    exits 0
    mkdir -p "$tmp/pictures/1_thing"
    cp tests/golden/pictures/rgb.png "$tmp/pictures/1_thing"
}

train() { # train NAME OPTION…
    local name=$1
    shift
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$tmp/base.safetensors" \
        --train_data_dir "$tmp/pictures" --allow_missing_captions --resolution 64 \
        --network_dim 4 --max_train_steps 2 --seed 7 --no_metadata --output_dir "$tmp" \
        --output_name "$name" --verbose "$@"
}
