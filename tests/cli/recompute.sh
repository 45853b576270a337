#!/usr/bin/env bash
# Checkpointing changes what is kept and nothing else: with the dropouts of adapters on, the
# LoRA is the same file whatever is recomputed; what cannot fit is refused with the least
# that would.
. "$(dirname "$0")/lib.sh"
export GRAPHRUN_CACHE=

runs "$GRAPHRUN" init-weights unet clip vae_encoder vae_decoder --variant tiny --seed 1 \
    -o "$tmp/base.safetensors" --quiet
exits 0
mkdir -p "$tmp/pictures/1_thing"
cp tests/golden/pictures/rgb.png "$tmp/pictures/1_thing"

train() { # train NAME OPTION…
    local name=$1
    shift
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$tmp/base.safetensors" \
        --train_data_dir "$tmp/pictures" --allow_missing_captions --resolution 64 \
        --network_dim 4 --network_args rank_dropout=0.3 module_dropout=0.1 dropout=0.2 \
        --max_train_steps 2 --seed 7 --no_metadata --output_dir "$tmp" \
        --output_name "$name" --verbose "$@"
}
same() { # same NAME: as without checkpoints, and something was recomputed
    cmp -s "$tmp/plain.safetensors" "$tmp/$1.safetensors"
    check "another LoRA than without checkpoints" $?
    says err "nodes recomputed"
}

train plain
exits 0
grep -q "nodes recomputed" "$tmp/err" && check "recomputes without being asked" 1
train block --gradient_checkpointing
exits 0
same block

# the least there is, as the refusal says, and some more
train small --memory_budget 1MiB
exits 1
says err "memory budget of 1.0 MiB is too small: at least "
least=$(sed -n 's/.*at least \([0-9.]*\) MiB are needed.*/\1/p' "$tmp/err")
for more in 0.2 1.5; do
    train "budget$more" --memory_budget "$(awk "BEGIN { print $least + $more }")MiB"
    exits 0
    same "budget$more"
done

train wrong --memory_budget 6GB
exits 2
says err "--memory_budget: got '6GB', want bytes, or as 6GiB"
finish
