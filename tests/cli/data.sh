#!/bin/sh
# graphrun data: what it finds in folders, TOML, JSON and metadata files; warnings; the
# contact sheet. Training on the same files: masks, augmentation, latents on disk.
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/../pictures.sh"

mkdir -p "$tmp/img" "$tmp/reg" "$tmp/mask"
picture "$tmp/img/a" 64 64 'a~ 0' 'a grey cat, sleeping'
picture "$tmp/img/b" 80 64 'zzz(((' 'a cat, {red|blue}'
picture "$tmp/img/c" 24 64 'ab' 'tiny'
cp "$tmp/img/a.bmp" "$tmp/img/d.bmp"
bmp "$tmp/reg/r.bmp" 64 64 'r'
for name in a b c d; do bmp "$tmp/mask/$name.bmp" 64 64 "m$name"; done
cat >"$tmp/set.toml" <<END
[general]
resolution = 64
enable_bucket = true
min_bucket_reso = 32
max_bucket_reso = 128
bucket_reso_steps = 32
[[datasets]]
batch_size = 2
[[datasets.subsets]]
image_dir = "$tmp/img"
num_repeats = 2
flip_aug = true
caption_prefix = "photo,"
enable_wildcard = true
[[datasets.subsets]]
image_dir = "$tmp/reg"
is_reg = true
class_tokens = "cat"
END

runs "$GRAPHRUN" data "$tmp/set.toml" --samples 3 --html "$tmp/sheet.html"
exits 0; silent err
says out "$tmp/img: 4 pictures x 2, 3 with captions, enable_wildcard, flip_aug"
says out "$tmp/reg: 1 pictures x 1, 1 with captions, is_reg"
says out "64 x 64              4        14         7"
says out "32 x 96              1         2         1"
says out "pictures: 8 to train on (with repeats), 1 for regularisation"
says out "captions: 3 found, 2 missing; longest: 8 tokens, 0 too long"
says out "an epoch: 8 batches, 8 updates"
says out "warning: 1 pictures have no caption and no class tokens"
says out "warning: 1 pictures are enlarged by more than a quarter"
says out "img/c.bmp"
says out "warning: 1 pictures are there twice"
says out "img/d.bmp = $tmp/img/a.bmp"
[ "$(grep -c '^  batch' "$tmp/out")" = 4 ] # whole batches
check "four draws are shown" $?
[ "$(grep -o 'data:image/jpeg;base64,/9j/' "$tmp/sheet.html" | wc -l)" = 4 ]
check "the sheet has four pictures" $?
cp "$tmp/out" "$tmp/first"
runs "$GRAPHRUN" data --dataset_config "$tmp/set.toml" --samples 3
is out "$tmp/first"

# the same as JSON, and from a JSON file
runs "$GRAPHRUN" data "$tmp/set.toml" --json --seed 5
exits 0
says out '"train_images": 8, "reg_images": 1, "captions_found": 3'
says out '"token_ids": [49406,'
cp "$tmp/out" "$tmp/first"
cat >"$tmp/set.json" <<END
{"general": {"resolution": 64, "enable_bucket": true, "min_bucket_reso": 32,
             "max_bucket_reso": 128, "bucket_reso_steps": 32, "class_tokens": null},
 "datasets": [{"batch_size": 2, "subsets": [
   {"image_dir": "$tmp/img", "num_repeats": 2, "flip_aug": true,
    "caption_prefix": "photo,", "enable_wildcard": true},
   {"image_dir": "$tmp/reg", "is_reg": true, "class_tokens": "cat"}]}]}
END
runs "$GRAPHRUN" data "$tmp/set.json" --json --seed 5
is out "$tmp/first"
sed -i 's/"flip_aug"/"flip_ag"/' "$tmp/set.json"
runs "$GRAPHRUN" data "$tmp/set.json"
exits 2
says err "set.json:4:"
says err "error: unknown key 'flip_ag' in [[datasets.subsets]]; did you mean 'flip_aug'?"

# metadata, by --in_json; tags behind the caption; a picture that cannot be read
cat >"$tmp/meta.json" <<END
{"a": {"caption": "a cat", "tags": "grey, old"}, "$tmp/img/b.bmp": {"tags": "red"}}
END
runs "$GRAPHRUN" data --train_data_dir "$tmp/img" --in_json "$tmp/meta.json" \
    --resolution 64 --json
exits 0
says out '"caption": "a cat,grey, old"'
says out '"caption": "red"'
echo '{"x.png": {"caption": "gone"}}' >"$tmp/meta.json"
runs "$GRAPHRUN" data --train_data_dir "$tmp/img" --in_json "$tmp/meta.json" \
    --resolution 64
exits 1
says err "no training image is left: 1 cannot be used"

# no pictures at all
mkdir "$tmp/none"
runs "$GRAPHRUN" data --train_data_dir "$tmp/none"
exits 1
says err "no training image: '$tmp/none' must be the parent of folders named N_name (N repeats) that hold the images"

# training: masks without --masked_loss, every augmentation, any number of readers
model=$tmp/tiny.safetensors
tiny_model "$model"
train() { # NAME options…
    to=$1
    shift
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --seed 3 \
        --network_dim 2 --max_train_steps 6 --no_metadata --output_dir "$tmp/to" \
        --output_name "$to" "$@"
    exits 0
}
same() { # same A B: the same LoRA
    cmp "$tmp/to/$1.safetensors" "$tmp/to/$2.safetensors"
    check "$1 and $2 differ" $?
}
differ() {
    ! cmp -s "$tmp/to/$1.safetensors" "$tmp/to/$2.safetensors"
    check "$1 and $2 are the same" $?
}
grep -v is_reg "$tmp/set.toml" >"$tmp/plain.toml"
sed "s|^num_repeats.*|&\\nconditioning_data_dir = \"$tmp/mask\"|" "$tmp/plain.toml" >"$tmp/masked.toml"
train plain --dataset_config "$tmp/plain.toml"
train masked --dataset_config "$tmp/masked.toml"
differ plain masked
train readers --dataset_config "$tmp/masked.toml" --max_data_loader_n_workers 1 --threads 1
same masked readers
sed 's/^flip_aug.*/&\nrandom_crop = true\ncolor_aug = true/' "$tmp/plain.toml" >"$tmp/varied.toml"
train varied --dataset_config "$tmp/varied.toml"
differ plain varied
train again --dataset_config "$tmp/varied.toml" --max_data_loader_n_workers 1
same varied again
runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --cache_latents \
    --dataset_config "$tmp/varied.toml" --max_train_steps 1 --output_dir "$tmp/to"
exits 2
says err "--cache_latents: pictures of the data set are cropped or coloured at random"

# latents on disk: the same LoRA from memory, the first time, from the cache, in batches,
# and from a cache of which one file is damaged and one is gone
train once --dataset_config "$tmp/masked.toml" --cache_latents
train disk --dataset_config "$tmp/masked.toml" --cache_latents_to_disk
says err "pictures encoded 9/9"
same once disk
[ "$(ls "$tmp/img/.graphrun-latents" | wc -l)" = 8 ]
check "8 files, the mirror images among them" $?
train cached --dataset_config "$tmp/masked.toml" --cache_latents_to_disk
says err "latents: 9 from the cache"
same once cached
file=$(ls "$tmp/img/.graphrun-latents" | head -1)
size=$(wc -c <"$tmp/img/.graphrun-latents/$file")
printf 'X' | dd of="$tmp/img/.graphrun-latents/$file" bs=1 seek=$((size - 9)) conv=notrunc 2>/dev/null
rm "$tmp/img/.graphrun-latents/$(ls "$tmp/img/.graphrun-latents" | tail -1)"
train mended --dataset_config "$tmp/masked.toml" --cache_latents_to_disk --vae_batch_size 3
same once mended
train whole --dataset_config "$tmp/masked.toml" --cache_latents_to_disk
says err "latents: 9 from the cache"
same once whole
# another picture in the same file is another key
picture "$tmp/img/b" 80 64 'new' 'a cat, {red|blue}'
train new --dataset_config "$tmp/masked.toml" --cache_latents_to_disk
says err "latents: 7 from the cache"
differ once new
# sd-scripts' .npz beside a picture; words with weights
mkdir -p "$tmp/npz/1_x"
picture "$tmp/npz/1_x/a" 64 64 'a~ 0' 'a (grey:1.5) cat'
cp "$(dirname "$0")/../golden/npz/a_0064x0064_sd.npz" "$tmp/npz/1_x"
picture "$tmp/npz/1_x/b" 64 64 'b~ 0' '[a] cat'
cp "$(dirname "$0")/../golden/npz/small.npz" "$tmp/npz/1_x/b.npz"
train npz --train_data_dir "$tmp/npz" --resolution 64 --cache_latents_to_disk
says err "latents: 1 from .npz files, which say nothing of the VAE they are of"
says err "note: .npz files are not used: $tmp/npz/1_x/b.bmp: it is for another size"
train weights --train_data_dir "$tmp/npz" --resolution 64 --cache_latents_to_disk \
    --weighted_captions
differ npz weights
train original --train_data_dir "$tmp/npz" --resolution 64 --cache_latents_to_disk \
    --weighted_captions --compat sd-scripts
differ weights original
# no pictures at all: latents by the metadata's names, of both ages, as with the picture
mkdir "$tmp/bare"
cp "$(dirname "$0")/../golden/npz/a_0064x0064_sd.npz" "$tmp/bare/a.npz"
cp "$(dirname "$0")"/../golden/npz/old*.npz "$tmp/bare"
cat >"$tmp/bare.json" <<END
{"a": {"caption": "a (grey:1.5) cat", "train_resolution": [64, 64]},
 "old": {"caption": "a dog", "train_resolution": [64, 64]}}
END
cat >"$tmp/bare.toml" <<END
[[datasets]]
resolution = 64
[[datasets.subsets]]
image_dir = "$tmp/bare"
metadata_file = "$tmp/bare.json"
flip_aug = true
END
train bare --dataset_config "$tmp/bare.toml"
says err "latents: 4 from .npz files"
bmp "$tmp/bare/a.bmp" 64 64 'never read'
bmp "$tmp/bare/old.bmp" 64 64 'never read'
touch "$tmp"/bare/*.npz
train beside --dataset_config "$tmp/bare.toml" --cache_latents_to_disk
says err "latents: 4 from .npz files"
same bare beside
rm "$tmp"/bare/*.bmp "$tmp/bare/old_flip.npz"
runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" --max_train_steps 1 \
    --dataset_config "$tmp/bare.toml" --output_dir "$tmp/to"
exits 1
says err "$tmp/bare/old"
# another VAE: of another model, or a file of its own
"$GRAPHRUN" init-weights unet clip vae_encoder --variant tiny --seed 9 --quiet -o "$tmp/other.safetensors"
"$GRAPHRUN" init-weights vae_encoder --variant tiny --seed 9 --quiet -o "$tmp/vae.safetensors"
train other --train_data_dir "$tmp/npz" --resolution 64 --vae "$tmp/other.safetensors"
train vae --train_data_dir "$tmp/npz" --resolution 64 --vae "$tmp/vae.safetensors"
same other vae
train base --train_data_dir "$tmp/npz" --resolution 64
differ base vae
finish
