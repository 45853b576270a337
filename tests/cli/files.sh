#!/bin/sh
# convert, info and diff from outside: what they print and their exit codes.
. "$(dirname "$0")/lib.sh"
nano=tests/golden/nano/nano-sd.safetensors
lora=tests/golden/nano/lierla.safetensors
torch=tests/golden/torch

# a model
runs "$GRAPHRUN" info $nano
exits 0; silent err
says out "a model, family sd1"
says out "unet             682 tensors,"
says out "text_encoder      36 tensors,"
says out "vae              240 tensors,"
runs "$GRAPHRUN" info --json $nano
exits 0
says out '"kind": "model", "family": "sd1"'
says out '"unet": {"tensors": 682'
runs "$GRAPHRUN" info tests/golden/sd2/nano-sd2.safetensors
exits 0; says out "family sd2"

runs "$GRAPHRUN" convert $nano "$tmp/m.ckpt"
exits 0; silent out; says err "m.ckpt: 959 tensors, names kept"
runs "$GRAPHRUN" info "$tmp/m.ckpt"
exits 0; says out 'a model, family sd1, in "state_dict"'
runs "$GRAPHRUN" convert "$tmp/m.ckpt" "$tmp/folder" --quiet
exits 0; silent out; silent err
runs "$GRAPHRUN" info "$tmp/folder"
exits 0; says out "family sd1, a Diffusers folder"
[ -z "$(find "$tmp" -name '*.tmp')" ]
check "a temporary file is left" $?

# files of torch.save that hold more than tensors
runs "$GRAPHRUN" info $torch/lightning.ckpt
exits 0; says err "note: "; says err "'short' is left out: its element type is not supported"
says out "tensors, neither a model nor a LoRA"; says out "  transposed: f32[3,2]"
runs "$GRAPHRUN" info --strict_pickle $torch/lightning.ckpt
exits 1; silent out; says err "(strict reading)"
runs "$GRAPHRUN" convert $torch/lightning.ckpt "$tmp/x.safetensors" --to ldm
exits 1; says err "neither a model nor a LoRA file"

# LoRAs, made from two models
for seed in 1 2; do
    runs "$GRAPHRUN" init-weights unet clip vae_encoder --variant tiny --seed $seed \
        -o "$tmp/m$seed.safetensors"
    exits 0
done
runs "$GRAPHRUN" extract --model_org "$tmp/m1.safetensors" --model_tuned \
    "$tmp/m2.safetensors" --dim 4 --conv_dim 2 --save_to "$tmp/a.safetensors"
exits 0
runs "$GRAPHRUN" info "$tmp/a.safetensors"
exits 0; silent err
says out "a LoRA, names of kohya, sd1"
says out "290 modules (12 text encoder, 278 U-Net, 50 of them larger than 1x1)"
says out "block  modules rank      alpha     scale     norm"
says out "M00         18 2-4"; says out "####"
says out ", matches"
runs "$GRAPHRUN" info --json "$tmp/a.safetensors"
exits 0; says out '"kind": "lora", "names": "kohya"'; says out '"matches": true'
runs "$GRAPHRUN" convert "$tmp/a.safetensors" "$tmp/p.safetensors" --to diffusers
exits 0; says err "290 modules, names of Diffusers (peft)"
runs "$GRAPHRUN" info "$tmp/p.safetensors"
exits 0; says out "a LoRA, names of peft, sd1"; says out "not in the file"
runs "$GRAPHRUN" diff "$tmp/a.safetensors" "$tmp/p.safetensors"
exits 0; silent err
says out "290 modules are equal, 0 differ, 0 are only in A, 0 only in B"
runs "$GRAPHRUN" convert "$tmp/p.safetensors" "$tmp/b.pt" --save_precision bf16
exits 0
runs "$GRAPHRUN" diff --json "$tmp/a.safetensors" "$tmp/b.pt"
exits 0; says out '"equal": 0, "only_a": 0, "only_b": 0, "relative": 0.00'
runs "$GRAPHRUN" diff $nano $nano
exits 0; silent err; says out "959 tensors are equal, 0 differ, 0 are only in A"
runs "$GRAPHRUN" diff $nano "$tmp/a.safetensors"
exits 0; says out "0 tensors are equal, 0 differ, 959 are only in A, 870 only in B"
runs "$GRAPHRUN" diff $nano README.md
exits 1; silent out
runs "$GRAPHRUN" diff --json $nano tests/golden/sd2/nano-sd2.safetensors
exits 0; says out '"kind": "tensors"'; says out '"metadata": ['
runs "$GRAPHRUN" diff $nano
exits 2
runs "$GRAPHRUN" info "$tmp/none"
exits 1; says err "No such file"
runs "$GRAPHRUN" convert $nano "$tmp/x.safetensors" --to kohya
exits 2; says err "is for LoRA files"
runs "$GRAPHRUN" convert $nano "$tmp/x.safetensors" --to ldn
exits 2; says err "ldn"
[ ! -e "$tmp/x.safetensors" ]
check "something was written" $?
finish
