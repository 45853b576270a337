#!/bin/sh
# Networks that are trained themselves (`train: true` in a recipe): the whole model is saved
# in its own form, what was not trained keeps its bytes, and the saved model can be trained
# on.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

model=$tmp/tiny.safetensors
"$GRAPHRUN" init-weights unet clip vae_encoder vae_decoder --variant tiny --dtype f32 \
    --quiet -o "$model"
mkdir -p "$tmp/img/1_cat"
picture "$tmp/img/1_cat/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/1_cat/b" 64 64 'zzz(((' 'a cat'

train() { # RECIPE MODEL options…
    recipe=$1
    from=$2
    shift 2
    runs "$GRAPHRUN" train "$recipe" --pretrained_model_name_or_path "$from" \
        --train_data_dir "$tmp/img" --resolution 64 --seed 3 --output_dir "$tmp/to" "$@"
}
loss_after() { # STEPS: the loss of an autoencoder's last step of so many
    train autoencoder "$model" --output_name vae --train_batch_size 2 --max_train_steps "$1" \
        --learning_rate 2e-3
    exits 0; silent out
    loss=$(sed -n "s/^steps $1\/$1 .*  loss \([0-9.]*\) .*/\1/p" "$tmp/err")
}

# an autoencoder learns the two pictures; loss falls
loss_after 1
first=$loss
loss_after 30
says err "trained itself: vae_encoder"
says err "trained itself: vae_decoder"
awk -v a="$first" -v b="$loss" 'BEGIN { exit !(a > 0 && b > 0 && b < 0.7 * a) }'
check "loss goes from $first to $loss, want at most 0.7 of it" $?
echo "loss $first, after 30 steps $loss"

# U-Net and text encoder are as they were, the VAE is not
runs "$GRAPHRUN" convert "$tmp/to/vae.safetensors" "$tmp/folder"
exits 0
runs "$GRAPHRUN" convert "$model" "$tmp/before"
exits 0
cmp -s "$tmp/before/unet/diffusion_pytorch_model.safetensors" \
    "$tmp/folder/unet/diffusion_pytorch_model.safetensors"
check "the U-Net has changed" $?
cmp -s "$tmp/before/text_encoder/model.safetensors" \
    "$tmp/folder/text_encoder/model.safetensors"
check "the text encoder has changed" $?
cmp -s "$tmp/before/vae/diffusion_pytorch_model.safetensors" \
    "$tmp/folder/vae/diffusion_pytorch_model.safetensors"
[ $? = 1 ]
check "the VAE has not changed" $?

# fine-tuning without adapters goes on from there, from a folder too, and saves its form
train finetune "$tmp/to/vae.safetensors" --output_name fine --max_train_steps 2
exits 0
says err "saved: $tmp/to/fine.safetensors"
train finetune "$tmp/folder" --output_name whole --max_train_steps 2 --save_precision fp16 --ema_decay 0.9
exits 0
cmp -s "$tmp/to/whole/unet/diffusion_pytorch_model.safetensors" \
    "$tmp/to/whole-ema/unet/diffusion_pytorch_model.safetensors"
[ $? = 1 ]
check "the running mean is what it is a mean of" $?
[ -f "$tmp/to/whole/unet/config.json" ]
check "the folder has no config of the U-Net" $?
train finetune "$tmp/folder" --output_name whole --max_train_steps 2
exits 1
says err "'$tmp/to/whole' exists: a model's folder is not written over"
train finetune "$tmp/to/whole" --output_name again --max_train_steps 1 --ema_decay 0.9
exits 0
cmp -s "$tmp/to/again/unet/diffusion_pytorch_model.safetensors" \
    "$tmp/to/again-ema/unet/diffusion_pytorch_model.safetensors"
check "after one step the running mean is not the network itself" $?

# a network that is trained needs a start
cat >"$tmp/none.yaml" <<'END'
recipe: none
from: [autoencoder.yaml]
networks:
  vae_decoder: {use: vae_decoder, variant: tiny, train: true}
END
train "$tmp/none.yaml" "$model" --output_name none --max_train_steps 1
exits 2
says err "network 'vae_decoder' is trained and has no 'from'"
says err "none.yaml:4:"
finish
