#!/bin/sh
# Wrong input through the program: exit 2 for what text alone shows, 1 for weights and
# pictures, a message that says where, and outputs as they were. (Wrong graph files one by
# one: tests/errors.)
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

sd2=$PWD/tests/golden/sd2/nano-sd2.safetensors
cd "$tmp" || exit 1
tiny_model tiny.safetensors
mkdir -p img/1_cat to
picture img/1_cat/a 64 64 'a~ 0' 'a grey cat'
echo "what was there" >to/last.safetensors
cp to/last.safetensors before

wrong() { # CODE MESSAGE COMMAND…
    want=$1
    message=$2
    shift 2
    runs "$GRAPHRUN" "$@"
    exits "$want"; silent out; says err "$message"
    cmp -s before to/last.safetensors && [ "$(ls to)" = last.safetensors ]
    check "the output folder was touched" $?
}
base="train --quiet --resolution 64 --train_data_dir img --output_dir to --max_train_steps 2 --seed 1 --pretrained_model_name_or_path"

# ---- options ----
while IFS='|' read -r options text; do
    # shellcheck disable=SC2086
    wrong 2 "$text" $base tiny.safetensors $options
done <<'END'
--network_dmi 4|unknown option '--network_dmi'; did you mean '--network_dim'?
--network_dim 0|--network_dim
--network_dim 4.5|--network_dim: got '4.5', want an integer
--learning_rate fast|--learning_rate: got 'fast', want a number
--learning_rate -1|--learning_rate
--resolution 64x64|--resolution: got '64x64', want one number or two (W,H)
--resolution 65|must be a multiple of 8: got 65 x 65
--seed -5|--seed
--network_args conv_dmi=4|did you mean 'conv_dim'?
--network_args conv_dim|--network_args
--network_args block_dims=1,2,3|25
--loss_type l3|--loss_type
--optimizer_type Adamw9|--optimizer_type
--set nonsense=3|recipe 'lora' has no option 'nonsense'
--set max_train_steps=abc|option 'max_train_steps' of recipe 'lora' wants a number
--network_train_unet_only --network_train_text_encoder_only|--network_train_text_encoder_only
--inputs some.safetensors|--inputs takes the place of the data
--device tpu|--device: got 'tpu', want cpu or cuda
--max_timestep 5000|--max_timestep
--fp8_base|--fp8_base is not supported
--v2|--v2: 'tiny.safetensors' is no Stable Diffusion 2.x model
--clip_skip 3|--clip_skip: got 3, 'text_encoder' has 2 layers
END
wrong 2 "--output_dir is missing" train --pretrained_model_name_or_path tiny.safetensors \
    --train_data_dir img --resolution 64
wrong 2 "is a Stable Diffusion 2.x model: add --v2" $base "$sd2"
wrong 2 "no recipe 'nope'" train nope

# ---- graph files of the user's own ----
recipe() { # LINE…: a recipe of those lines over lora.yaml
    printf '%s\n' 'recipe: mine' 'from: [lora.yaml]' "$@" >mine.yaml
}
graph() { # MESSAGE: with mine.yaml as it is
    wrong 2 "$1" train mine.yaml --quiet --resolution 64 --train_data_dir img \
        --output_dir to --pretrained_model_name_or_path tiny.safetensors
}
recipe 'adaptres: []'
graph "mine.yaml:3:1: error: unknown key 'adaptres' in a recipe; did you mean 'adapters'?"
recipe 'adapters:' '  - {use: lroa, on: {unet: [attention]}}'
graph "mine.yaml:4:11: error: no adapter 'lroa'"
recipe 'adapters:' '  - {use: lora, on: {unet: ["**.nothing"]}}'
graph "mine.yaml:4:28: error: '**.nothing' matches no node of network 'unet'"
recipe 'adapters:' '  - {use: lora, on: {unte: [attention]}}'
graph "did you mean 'unet'?"
recipe 'adapters:' '  - {use: lora, on: {unet: [attention]}, rnak: 4}'
graph "did you mean 'rank'?"
recipe 'adapters:' '  - {use: lora, on: {unet: [attention]}}' '  - {use: lora, on: {unet: [attention]}}'
graph "stack"
recipe 'rules:' '  - {match: "unet.**.attn9.to_v", rank: 8}'
graph "mine.yaml:4:"
recipe 'optimizer: {use: adamm}'
graph "mine.yaml:3:18: error: no optimizer 'adamm'"
recipe 'optimizer: {use: adamw, beta9: 1}'
graph "mine.yaml:3:25: error"
printf 'recipe: mine\nfrom: [nowhere.yaml]\n' >mine.yaml
graph "mine.yaml:2:8: error"
printf 'recipe: [\n' >mine.yaml
graph "mine.yaml:"

# ---- data sets ----
toml() { # CODE MESSAGE LINE…
    code_wanted=$1
    text=$2
    shift 2
    printf '%s\n' "$@" >set.toml
    wrong "$code_wanted" "$text" train --quiet --dataset_config set.toml --output_dir to \
        --pretrained_model_name_or_path tiny.safetensors
}
toml 2 "set.toml:2:1: error: unknown key 'batch_sise' in [[datasets]]; did you mean 'batch_size'?" \
    '[[datasets]]' 'batch_sise = 2'
toml 2 "set.toml:1:" '[[datasets'
toml 2 "set.toml:3:" '[[datasets]]' 'resolution = 64' 'batch_size = "two"'
toml 2 "set.toml:" '[[datasets]]' 'resolution = 64'
toml 1 "nowhere" '[[datasets]]' 'resolution = 64' '[[datasets.subsets]]' 'image_dir = "nowhere"'
wrong 1 "cannot open 'none.toml'" train --quiet --dataset_config none.toml --output_dir to \
    --pretrained_model_name_or_path tiny.safetensors
wrong 1 "cannot open the folder 'nowhere'" train --quiet --train_data_dir nowhere \
    --output_dir to --resolution 64 --pretrained_model_name_or_path tiny.safetensors

# ---- checkpoints ----
head -c 2000000 tiny.safetensors >cut.safetensors
head -c 100 tiny.safetensors >head.safetensors
echo hello >text.safetensors
: >empty.safetensors
mkdir -p nothing
printf 'PK\003\004 and no more' >broken.ckpt
printf 'not a pickle' >text.ckpt
"$GRAPHRUN" init-weights unet --variant tiny --quiet -o unet.safetensors
"$GRAPHRUN" init-weights unet clip vae_encoder --variant tiny --set unet.context=96 \
    --quiet -o wide.safetensors
while IFS='|' read -r file text; do
    # shellcheck disable=SC2086
    wrong 1 "$text" $base $file
done <<'END'
cut.safetensors|are outside the data, which has
head.safetensors|'head.safetensors' is cut off: a header of
text.safetensors|'text.safetensors' is too short
empty.safetensors|empty.safetensors
none.safetensors|no model at 'none.safetensors'
nothing|'nothing' is no model folder
broken.ckpt|broken.ckpt
text.ckpt|text.ckpt
unet.safetensors|clip_l: no 'text_model.embeddings.token_embedding.weight'
wide.safetensors|tiny: 'down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight' is [32, 96], want [32, 64]
wide.safetensors|sd15: 'time_embedding.linear_1.weight' is [128, 32], want [1280, 320]
END
wrong 1 "'text_encoder.text_model.embeddings.token_embedding.weight' has shape [49408, 64] in the checkpoint, want [49408, 768]" \
    train sd15-lora --quiet --resolution 64 --train_data_dir img --output_dir to \
    --pretrained_model_name_or_path tiny.safetensors
wrong 1 "--device cuda: " \
    train --quiet --resolution 64 --train_data_dir img --output_dir to --device cuda \
    --pretrained_model_name_or_path tiny.safetensors

# ---- a weight that is not a number: before the first update, and the file stays ----
poison() { # KEY: its first number becomes a NaN
    cp tiny.safetensors nan.safetensors
    head=$(od -An -tu8 -N8 nan.safetensors | tr -d ' ')
    from=$(head -c $((head + 8)) nan.safetensors | grep -ao "\"$1\":{[^}]*}" |
        grep -o 'data_offsets":\[[0-9]*' | grep -o '[0-9]*$')
    printf '\000\176' | dd of=nan.safetensors bs=1 conv=notrunc \
        seek=$((head + 8 + from)) 2>/dev/null
}
poison model.diffusion_model.input_blocks.0.0.bias
# shellcheck disable=SC2086
wrong 1 "note: the first op with a NaN or Inf is 'unet.conv_in'" $base nan.safetensors
says err "step 1"
# shellcheck disable=SC2086
wrong 1 "note: the 50th update in a row" ${base%--max*}--max_train_steps 60 --pretrained_model_name_or_path nan.safetensors --on_nan skip
says err "note: the first op with a NaN or Inf is 'unet.conv_in'"
# shellcheck disable=SC2086
wrong 2 "--on_nan" $base tiny.safetensors --on_nan go
poison cond_stage_model.transformer.text_model.final_layer_norm.weight
# shellcheck disable=SC2086
wrong 1 "note: the first op with a NaN or Inf is 'text_encoder." $base nan.safetensors

# what is right after all that still is
# shellcheck disable=SC2086
runs "$GRAPHRUN" $base tiny.safetensors
exits 0
! cmp -s before to/last.safetensors
check "nothing was written" $?
finish
