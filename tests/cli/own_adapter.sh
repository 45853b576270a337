#!/bin/sh
# An adapter that exists only as a user's YAML file, in a recipe of theirs, trains.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

tiny_model "$tmp/tiny.safetensors"
mkdir -p "$tmp/img/1_cat" "$tmp/mine"
picture "$tmp/img/1_cat/a" 64 64 'a~ 0' 'a grey cat'
cat >"$tmp/mine/strong-lora.yaml" <<'END'
adapter: strong-lora
doc: LoRA whose rank components have learned strengths, up diag(s) down
args: {rank: 4, alpha: 1}
wraps: [linear, conv2d]
nodes:
  lora_down: {op: like, x: x, out: $rank, bias: false, init: kaiming_uniform}
  strength:  {op: param, shape: [$rank], init: ones, lr: 10}
  lora_up:   {op: linear, x: lora_down * strength, out: $out, bias: false, init: zeros}
  delta:     lora_up * ($alpha / $rank)
output: {add: delta}
save:
  kohya: {lora_down.weight: lora_down.weight, lora_up.weight: lora_up.weight, lora_strength: strength, alpha: $alpha}
END
cat >"$tmp/mine/mine.yaml" <<'END'
recipe: mine
doc: LoRA with strengths, on the attention of the U-Net
from: [lora.yaml]
options: {network_dim: 8}
adapters:
  - {use: strong-lora, on: {unet: [attention]}, rank: $network_dim, alpha: $network_alpha, lr: $unet_lr}
END

runs "$GRAPHRUN" check "$tmp/mine/strong-lora.yaml"
exits 0
runs "$GRAPHRUN" train "$tmp/mine/mine.yaml" --dry-run --json --resolution 64 \
    --pretrained_model_name_or_path "$tmp/tiny.safetensors"
exits 0
modules=$(grep -c '"adapter": "strong-lora", "dim": 8' "$tmp/out")
[ "$modules" = 192 ]
check "$modules modules, want 192" $?
says out '"lora_strength": [8]'

# one picture at nearly one timestep: what there is to learn shows in the loss
train() { # STEPS
    runs "$GRAPHRUN" train "$tmp/mine/mine.yaml" --resolution 64 --seed 1 \
        --pretrained_model_name_or_path "$tmp/tiny.safetensors" \
        --train_data_dir "$tmp/img" --output_dir "$tmp/to" --output_name own \
        --max_train_steps "$1" --learning_rate 2e-3 --network_alpha 8 \
        --min_timestep 900 --max_timestep 910
    exits 0
    loss=$(sed -n "s/^steps $1\/$1 .* loss \([0-9.]*\) .*/\1/p" "$tmp/err")
}
train 1
first=$loss
train 60
awk -v a="$first" -v b="$loss" 'BEGIN { exit !(a > 0 && b > 0 && b < 0.6 * a) }'
check "the loss went from $first to $loss" $?
echo "loss $first, after 60 steps $loss"
for tensor in lora_down.weight lora_up.weight lora_strength alpha; do
    n=$(grep -ao "lora_unet_[a-z_0-9]*\\.$tensor\"" "$tmp/to/own.safetensors" | sort -u | wc -l)
    [ "$n" = 192 ]
    check "$n tensors $tensor, want 192" $?
done
# shown by its graph file, or by the shipped one with the same keys
runs "$GRAPHRUN" info "$tmp/to/own.safetensors"
exits 0; silent err
says out "own.safetensors: an adapter, diag-lora"
says out "192 modules, "; says out "rank 8, alpha 8"; says out "norm of the tensors"
says out "M00         12 "; says out "########"; says out ", matches"
runs "$GRAPHRUN" info "$tmp/to/own.safetensors" --adapter "$tmp/mine/strong-lora.yaml" \
    --sd_model "$tmp/tiny.safetensors" --json
exits 0
says out '"kind": "adapter", "adapter": "strong-lora", "norms_of": "change"'
says out '"arguments": {"rank": 8, "alpha": 8}'
runs "$GRAPHRUN" diff "$tmp/to/own.safetensors" "$tmp/to/own.safetensors"
exits 0; says out "768 tensors are equal, 0 differ"
runs "$GRAPHRUN" diff "$tmp/to/own.safetensors" "$tmp/to/own.safetensors" \
    --sd_model "$tmp/tiny.safetensors"
exits 0; says out "192 modules are in both, 0 only in A, 0 only in B"; says out "/ |A| = 0"
runs "$GRAPHRUN" diff "$tmp/to/own.safetensors" "$tmp/to/own.safetensors" --adapter loha
exits 2; says err "--adapter wants a model"
# merged into the model it is no adapter any more: the model itself is another
runs "$GRAPHRUN" merge --sd_model "$tmp/tiny.safetensors" --models "$tmp/to/own.safetensors" \
    --ratios 1 --adapter "$tmp/mine/strong-lora.yaml" --save_to "$tmp/merged.safetensors"
exits 0; says err "192 modules merged"
# the keys are those of the shipped file for the same idea
runs "$GRAPHRUN" merge --sd_model "$tmp/tiny.safetensors" --models "$tmp/to/own.safetensors" \
    --ratios 1 --save_to "$tmp/same.safetensors" --no_metadata
exits 0; says err "192 modules merged"
runs "$GRAPHRUN" merge --sd_model "$tmp/tiny.safetensors" --models "$tmp/to/own.safetensors" \
    --ratios 1 --adapter "$tmp/mine/strong-lora.yaml" --no_metadata \
    --save_to "$tmp/merged.safetensors"
exits 0
cmp -s "$tmp/same.safetensors" "$tmp/merged.safetensors"
check "both graph files give the same model" $?
runs "$GRAPHRUN" merge --models "$tmp/to/own.safetensors" --ratios 1 --save_to "$tmp/l.safetensors"
exits 1; says err "192 tensors are no part of a LoRA and would be lost"
finish
