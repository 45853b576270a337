#!/bin/sh
# --device cuda on the simulated driver ($SIMULATED: the folder of its libcuda.so.1): a
# training with two buckets, accumulation, states and a resumed run gives what the CPU gives;
# and of every planted failure the program says what failed and where, ends with 1 and
# leaves whole files.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"
: "${SIMULATED:?set SIMULATED to the folder of the simulated driver}"
if "$GRAPHRUN" train --device cuda --quiet 2>&1 | grep -q "no CUDA kernels"; then
    echo "cuda.sh: skipped, there was no nvcc"
    exit 0
fi

# one layer of a VAE under a LoRA: the simulated GPU takes seconds for a step of a U-Net
cd "$tmp" || exit 1
"$GRAPHRUN" init-weights vae_encoder --variant tiny --seed 1 --quiet -o vae.safetensors
mkdir -p img/1_cat mine wide
picture img/1_cat/a 64 64 'a~ 0' 'a grey cat'
picture img/1_cat/b 64 64 'zzz(((' 'a cat'
cp -r img/1_cat wide
picture wide/1_cat/c 192 64 'a~ 0' 'a wide cat'
cat >mine/layer.yaml <<'E'
network: layer
doc: the first layer of a VAE's encoder
prefix: {kohya: lora_layer_}
args: {}
symbols: {B: batch, H: height, W: width}
inputs: {image: {shape: [B, H, W, 3]}}
nodes:
  encoder.conv_in: {op: conv2d, x: image, out: 32, kernel: 3, pad: 1}
outputs: {image: encoder.conv_in}
E
cat >mine/silent.yaml <<'E'
objective: silent
doc: the layer learns to say nothing
symbols: {B: batch, H: height, W: width}
networks: [vae_encoder]
inputs: {image: {shape: [B, H, W, 3]}}
nodes:
  y:      {call: vae_encoder, image: image}
  sample: {op: mean, x: y ^ 2, over: sample}
  loss:   {op: mean, x: sample}
loss: loss
log: {per_sample: sample}
E
cat >mine/small.yaml <<'E'
recipe: small
doc: LoRA on one layer
options:
  pretrained_model_name_or_path: path
  dataset_config: ""
  train_batch_size: 1
  max_train_steps: 4
  gradient_accumulation_steps: 1
  learning_rate: 1e-2
networks: {vae_encoder: {use: layer, from: $pretrained_model_name_or_path}}
adapters: [{use: lora, on: {vae_encoder: ["**.conv_in"]}, rank: 2, alpha: 1}]
objective: {use: silent}
optimizer: {use: adamw}
train: {steps: $max_train_steps, learning_rate: $learning_rate, max_grad_norm: 1,
        gradient_accumulation_steps: $gradient_accumulation_steps}
data: {config: $dataset_config, batch: $train_batch_size}
E

train() { # DEVICE PICTURES OUT options…
    device=$1 pictures=$2 out=$3
    shift 3
    LD_LIBRARY_PATH=${library-$SIMULATED} runs "$GRAPHRUN" train mine/small.yaml \
        --pretrained_model_name_or_path vae.safetensors --train_data_dir "$pictures" \
        --resolution 64 --seed 1 --device "$device" --output_dir "$out" "$@"
}
numbers() { # FILE: of its tensors, one a line
    head=$(od -An -tu8 -N8 "$1" | tr -d ' ')
    od -An -v -tf4 -w4 -j $((8 + head)) "$1"
}
alike() { # FILE FILE: within the rounding of f32 sums in another order
    numbers "$1" >a.txt
    numbers "$2" >b.txt
    paste a.txt b.txt | awk '
        { d = $1 - $2; if (d < 0) d = -d; if (d > worst) worst = d; n++ }
        END { exit !(n > 100 && NF == 2 && worst < 1e-5) }'
    check "$1 and $2 differ" $?
}

# ---- the same training ----
set -- --enable_bucket --min_bucket_reso 32 --bucket_reso_steps 32 \
    --gradient_accumulation_steps 2
train cpu wide cpu "$@" --max_train_steps 4
exits 0
train cuda wide cuda "$@" --max_train_steps 4 --save_state
exits 0; silent out; says err "bucket: 96 x 32"; says err "has never run on a real GPU"
alike cpu/last.safetensors cuda/last.safetensors
cmp -s cuda/last.safetensors cpu/last.safetensors
check "not a bit differs: was it the CPU?" $((! $?))
train cpu wide cpu6 "$@" --max_train_steps 6
exits 0
train cuda wide cuda6 "$@" --max_train_steps 6 --resume cuda/last-state
exits 0
alike cpu6/last.safetensors cuda6/last.safetensors

# ---- a budget of what the card has free, 15 of 16 parts of it ----
train cuda img free --memory_budget free
exits 0; says err "memory budget: 3840 MiB, of what the card has free"
train cpu img none --memory_budget free
exits 2; says err "--memory_budget free is what a card has free"

# ---- what fails before a step ----
mkdir empty old
: >empty/libcuda.so.1
cp "$(ldd "$GRAPHRUN" | awk '/libm.so/ { print $3 }')" old/libcuda.so.1
fails() { # TEXT: exit 1, and the text
    exits 1; silent out; says err "$1"
}
refused() { # VARIABLE=VALUE TEXT
    export "${1?}"
    train cuda img none --quiet
    fails "$2"
    [ -z "$(ls none 2>/dev/null)" ]
    check "a file was written" $?
    unset "${1%%=*}"
}
library=$tmp/empty refused NONE=0 "--device cuda: there is no NVIDIA driver here"
library=$tmp/old refused NONE=0 "the NVIDIA driver is too old: it has no cu"
unset library
refused GRAPHRUN_SIM_VERSION=12020 "it knows CUDA 12.2, this build's kernels want"
refused GRAPHRUN_SIM_NO_GPU=1 "the driver knows no GPU"
refused GRAPHRUN_SIM_CARD=1 "has compute capability 7.5, this build has kernels for"
refused GRAPHRUN_SIM_MEMORY=0 "simulated GPU has no room for inputs"
refused GRAPHRUN_SIM_MEMORY=1 "no room for activations: 1.0 MiB planned beside"
says err "note: --gradient_checkpointing"
refused GRAPHRUN_SIM_MEMORY=2 "no room for weights"
refused GRAPHRUN_SIM_MEMORY=3 "no room for trained tensors and their states"
refused GRAPHRUN_SIM=cuMemHostAlloc:1 "host_alloc: CUDA_ERROR_LAUNCH_FAILED"
refused GRAPHRUN_SIM=cuMemcpyHtoDAsync_v2:2 "write: CUDA_ERROR_LAUNCH_FAILED"
refused GRAPHRUN_SIM=cuLaunchKernel:3 "graphs/adapters/lora.yaml:"
says err "CUDA, simulated GPU: gr_"

# ---- and between two of them: what was saved is whole ----
broken() { # FUNCTION:CALL TEXT FILES: how many were saved before
    rm -rf to
    export GRAPHRUN_SIM="$1"
    train cuda img to --quiet --save_every_n_steps 1 --save_model_as safetensors
    unset GRAPHRUN_SIM
    fails "$2"
    n=$(find to -type f | wc -l)
    [ "$n" = "$3" ]
    check "$n files, want $3" $?
    for f in to/*; do
        [ -f "$f" ] || continue
        runs "$GRAPHRUN" info "$f"
        exits 0
    done
}
broken cuStreamBeginCapture_v2:1 "capture: CUDA_ERROR" 1
broken cuStreamEndCapture:1 "captured: CUDA_ERROR" 1
broken cuGraphInstantiateWithFlags:1 "instantiate: CUDA_ERROR" 1
broken cuGraphLaunch:2 "replay: CUDA_ERROR" 2
broken cuMemcpyDtoHAsync_v2:9 "read: CUDA_ERROR" 1

# ---- the tools that are not there yet ----
LD_LIBRARY_PATH=$SIMULATED runs "$GRAPHRUN" merge --models cpu/last.safetensors --ratios 1 \
    --save_to none/merged.safetensors --device cuda
fails "--device cuda: tools for files work on the CPU only"
finish
