#!/bin/sh
# generate from outside: files and what is in them, LoRAs, seeds, batches, refusals. The
# model is made of random numbers: what is drawn means nothing, but it must be the same.
. "$(dirname "$0")/lib.sh"
cd "$tmp" || exit 1
g=$GRAPHRUN
"$g" init-weights unet clip vae_decoder --variant tiny --seed 1 --dtype f32 --quiet \
    -o m1.safetensors || exit 1
"$g" init-weights unet clip vae_decoder --variant tiny --seed 2 --dtype f32 --quiet \
    -o m2.safetensors || exit 1
draws() { # draws FOLDER OPTION...
    to=$1
    shift
    runs "$g" generate --W 64 --H 64 --steps 3 --outdir "$to" --sequential_file_name "$@"
    exits 0
}
text() { # text FILE WORDS: in a PNG's texts
    grep -qaF -- "$2" "$1"
    check "$1 does not hold '$2'" $?
}

# names and texts
SOURCE_DATE_EPOCH=0 runs "$g" generate --ckpt m1.safetensors --W 64 --H 64 --steps 3 \
    --prompt 'a (cat:1.2) --n dog --d 7,8 --l 5' --images_per_prompt 2 --outdir a \
    --sampler euler_a
exits 0; silent out; says err "a/im_19700101000000_000_7.png"
[ -e a/im_19700101000000_000_7.png ] && [ -e a/im_19700101000000_000_8.png ]
check "files: $(ls a)" $?
f=a/im_19700101000000_000_8.png
text $f 'a (cat:1.2)'
text $f 'Negative prompt: dog'
text $f 'Steps: 3, Sampler: Euler a, CFG scale: 5, Seed: 8, Size: 64x64, Model: m1'
text $f 'a (cat:1.2) --n dog --d 7,8 --l 5'

runs "$g" generate --ckpt m1.safetensors --prompt 'a cat' --strength 0.5 --outdir no
exits 2; says err "--strength needs --image_path"; [ ! -e no ]
check "refused, but a folder is there" $?

# decoding piece by piece: what fits in one go is the same picture
draws whole --ckpt m1.safetensors --prompt 'a cat --d 5' --quiet
draws fits --ckpt m1.safetensors --prompt 'a cat --d 5' --quiet --memory_budget 1GiB --vae_tiling
cmp -s whole/im_000001.png fits/im_000001.png
check "a budget that is no limit changes the picture" $?
runs "$g" generate --ckpt m1.safetensors --prompt 'a cat' --memory_budget few --outdir no
exits 2; says err "--memory_budget: got 'few', want bytes, or as 6GiB"
runs "$g" generate --ckpt m1.safetensors --prompt 'a cat' --vae_slices 16 --outdir no
exits 2; says err "--vae_tiling"

# two prompts of one seed, drawn in the same second: two files, and again two more
printf 'a cat --d 9\na dog --d 9\n' >same.txt
for count in 2 4; do
    SOURCE_DATE_EPOCH=0 runs "$g" generate --ckpt m1.safetensors --W 64 --H 64 --steps 1 \
        --from_file same.txt --outdir same
    exits 0
    [ "$(ls same | wc -l)" = $count ]
    check "not $count files: $(ls same)" $?
done
text same/im_19700101000000_000_9.png 'a cat'
text same/im_19700101000000_001_9.png 'a dog'

# a picture is its seed's, whatever batch it is in, on any number of threads
printf 'a cat --d 1\n# a comment\n\na dog on a mat --n bad --d 2\n' >prompts.txt
draws one --ckpt m1.safetensors --from_file prompts.txt --batch_size 1 --threads 1
draws two --ckpt m1.safetensors --from_file prompts.txt --batch_size 2 --threads 2 --grid
for i in 1 2; do
    cmp -s one/im_00000$i.png two/im_00000$i.png
    check "picture $i depends on the batch" $?
done
cmp -s one/im_000001.png one/im_000002.png
[ $? = 1 ]
check "two seeds give one picture" $?
ls two | grep -q '^grid_'
check "no grid" $?
draws one --ckpt m1.safetensors --prompt 'a cat --d 1'
cmp -s one/im_000001.png one/im_000003.png
check "the next number, the same picture" $?

# a LoRA in the plan draws what the merged model draws; at 0 it is not there
runs "$g" extract --model_org m1.safetensors --model_tuned m2.safetensors --dim 4 \
    --conv_dim 2 --save_to l.safetensors
exits 0
runs "$g" merge --sd_model m1.safetensors --models l.safetensors --ratios 0.3 \
    --save_to merged.safetensors
exits 0
draws merged --ckpt merged.safetensors --prompt 'a cat --d 1' --sampler heun
draws lora --ckpt m1.safetensors --prompt 'a cat --d 1 --am 0.3' --sampler heun \
    --network_weights l.safetensors --network_module networks.lora
text lora/im_000001.png '<lora:l:0.3>'
draws none --ckpt m1.safetensors --prompt 'a cat --d 1' --network_weights l.safetensors \
    --network_mul 0
draws half --ckpt m1.safetensors --prompt 'a cat --d 1' --network_weights l.safetensors \
    --network_mul 0.5
runs "$g" generate --ckpt m1.safetensors --prompt 'a cat --d 1 --am 0.3' --W 64 --H 64 \
    --steps 3 --sampler heun --network_weights l.safetensors --outdir r \
    --record lora.safetensors
exits 0
runs "$g" generate --ckpt merged.safetensors --prompt 'a cat --d 1' --W 64 --H 64 \
    --steps 3 --sampler heun --outdir r --record merged.safetensors.rec
exits 0
# the pixels; a PNG's texts differ
pixels() { tail -c 12288 "$1" | od -An -v -tu1 -w1; }
pixels lora.safetensors >x
pixels merged.safetensors.rec >y
paste x y | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1) bad++ } END { exit bad > 0 }'
check "LoRA and merged model differ by more than 1 of 255" $?
pixels lora.safetensors | sort -u | wc -l | awk '{ exit !($1 > 10) }'
check "the picture is flat" $?
! cmp -s half/im_000001.png none/im_000001.png
check "half of a LoRA changes nothing" $?

# every sampler that is shipped draws
for file in $("$g" graphs list | sed -n 's|^samplers/\([a-z0-9_]*\)\.yaml .*|\1|p'); do
    [ "$file" = schedule ] && continue
    runs "$g" generate --ckpt m1.safetensors --prompt 'a cat' --W 64 --H 64 --steps 4 \
        --sampler "$file" --seed 1 --outdir s
    exits 0
done
for name in dpmsolver++ dpmsingle k_euler k_dpm_2_a k_lms; do
    runs "$g" generate --ckpt m1.safetensors --prompt 'a cat' --W 64 --H 64 --steps 4 \
        --sampler $name --seed 1 --outdir s
    exits 0
done

# from a picture: every sampler that says how; a black mask keeps all of it, whatever the
# sampler and the prompt are, a white one nothing
"$g" init-weights unet clip vae_decoder vae_encoder --variant tiny --seed 1 --dtype f32 \
    --quiet -o whole.safetensors || exit 1
bmp() { # bmp BYTE: one pixel, 24 bits
    printf 'BM\072\0\0\0\0\0\0\0\066\0\0\0\050\0\0\0\001\0\0\0\001\0\0\0\001\0\030\0'
    printf '\0\0\0\0\004\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
    printf "\\$1\\$1\\$1\\0"
}
bmp 000 >black.bmp
bmp 377 >white.bmp
from() { # from RECORD PROMPT OPTION...
    to=$1 text=$2
    shift 2
    runs "$g" generate --ckpt whole.safetensors --prompt "$text --d 1" --W 64 --H 64 \
        --steps 4 --outdir f --image_path one/im_000002.png --record "$to" "$@"
    exits 0
}
from kept 'another prompt' --mask_path black.bmp
for file in $("$g" graphs list | sed -n 's|^samplers/\([a-z0-9_]*\)\.yaml .*|\1|p'); do
    [ "$file" = schedule ] && continue
    from free 'a cat' --sampler "$file" --strength 0.5
    from white 'a cat --t 0.5' --sampler "$file" --mask_path white.bmp
    from black 'a cat' --sampler "$file" --mask_path black.bmp
    for name in free white black kept; do pixels $name >$name.pixels; done
    cmp -s free.pixels white.pixels
    check "$file: a white mask keeps something" $?
    cmp -s black.pixels kept.pixels
    check "$file: a black mask keeps not all" $?
    ! cmp -s free.pixels kept.pixels
    check "$file: nothing is drawn" $?
done
from more 'a cat' --strength 1
from less 'a cat' --strength 0
for name in more less; do pixels $name >$name.pixels; done
! cmp -s more.pixels less.pixels
check "strength changes nothing" $?
mkdir both && cp one/im_00000[12].png both || exit 1
draws many --ckpt whole.safetensors --from_file prompts.txt --image_path both
text many/im_000002.png 'Denoising strength: 1'

# a scale of its own for the negative prompt: without a negative prompt nothing else, with
# one something else
draws nl --ckpt m1.safetensors --prompt 'a cat --d 1' --record nl.0
draws nl --ckpt m1.safetensors --prompt 'a cat --d 1 --nl 3 --c a dog' --record nl.1
draws nl --ckpt m1.safetensors --prompt 'a cat --n dog --d 1' --record nl.2
draws nl --ckpt m1.safetensors --prompt 'a cat --n dog --d 1' --negative_scale 3 \
    --record nl.3
draws nl --ckpt m1.safetensors --prompt 'a cat --n dog --d 1 --nl none' \
    --negative_scale 3 --record nl.4
text nl/im_000002.png negative-scale
text nl/im_000002.png 'a dog'
for i in 0 1 2 3 4; do pixels nl.$i >nl.$i.pixels; done
paste nl.0.pixels nl.1.pixels |
    awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1) bad++ } END { exit bad > 0 }'
check "a scale of an empty negative prompt matters" $?
! cmp -s nl.2.pixels nl.3.pixels
check "the negative's scale changes nothing" $?
cmp -s nl.2.pixels nl.4.pixels
check "--nl none is not none" $?

# choices: a prompt each, or drawn by the seed
draws ways --ckpt m1.safetensors --prompt 'a {e$$cat|dog} --d 1' --images_per_prompt 5 \
    --record ways.0
[ "$(ls ways | wc -l)" = 2 ]
check "two ways, $(ls ways | wc -l) pictures" $?
text ways/im_000002.png 'a dog --d 1'
draws drawn --ckpt m1.safetensors --prompt '{a|b|c|d|e|f|g|h} {1|2|3|4}' --seed 1
draws drawn --ckpt m1.safetensors --prompt '{a|b|c|d|e|f|g|h} {1|2|3|4}' --seed 1
cmp -s drawn/im_000001.png drawn/im_000002.png
check "one seed, two choices" $?

# highres fix: the first go is the small picture itself, the second begins with it
draws low --ckpt whole.safetensors --prompt 'a cat --d 1 --s 5' --record low.rec
high() { # high FOLDER OPTION...
    to=$1
    shift
    draws "$to" --ckpt whole.safetensors --prompt "a cat --d 1 --w 128 --h 128" \
        --highres_fix_scale 0.5 --highres_fix_steps 5 --highres_fix_save_1st "$@"
}
high high --record high.rec --strength 0.5
pixels low.rec >low.pixels
pixels high.rec | cmp -s - low.pixels
check "the first go is not the small picture" $?
[ "$(ls high | tr '\n' ' ')" = 'im_0000001.png im_1000001.png ' ]
check "files of highres fix: $(ls high)" $?
text high/im_0000001.png 'Size: 64x64'
text high/im_1000001.png 'Denoising strength: 0.666667'
text high/im_1000001.png 'Hires upscale: 2'
high weak --strength 0
high latent --strength 0.5 --highres_fix_latents_upscaling
! cmp -s high/im_1000001.png weak/im_1000001.png
check "strength changes nothing in the second go" $?
tail -c +100 high/im_1000001.png >high.rest
! tail -c +100 latent/im_1000001.png | cmp -s - high.rest
check "latents enlarged give the picture of pictures enlarged" $?
runs "$g" generate --ckpt whole.safetensors --prompt x --W 64 --H 64 --highres_fix_scale 0.5
exits 2; says err "--highres_fix_scale: 0.5 of 64 x 64 is 32 x 32"

# textual inversion: a word with the vectors of "cat" and "dog" draws what they draw
key=cond_stage_model.transformer.text_model.embeddings.token_embedding.weight
header=$(od -An -tu8 -N8 m1.safetensors | tr -d ' ')
table=$(head -c $((8 + header)) m1.safetensors | tail -c "$header" |
    sed 's/.*"'$key'":{[^}]*"data_offsets":\[\([0-9]*\),.*/\1/')
vector() { # vector TOKEN: 64 numbers of 4 bytes
    tail -c +$((8 + header + table + 256 * $1 + 1)) m1.safetensors | head -c 256
}
learnt() { # learnt N BYTES: a file of N vectors on stdin
    printf '\120\0\0\0\0\0\0\0%-80s' \
        '{"emb_params":{"dtype":"F32","shape":['"$1"',64],"data_offsets":[0,'"$2"']}}'
    cat
}
{ vector 2368; vector 1929; } | learnt 2 512 >Mine.safetensors
vector 2368 | learnt 1 256 >other.safetensors
words() { # words RECORD PROMPT
    draws w --ckpt m1.safetensors --prompt "$2 --n bad --d 1" --record "$1" \
        --textual_inversion_embeddings Mine.safetensors other.safetensors
    pixels "$1" >"$1.pixels"
}
words w.0 'a cat dog on (a cat:1.3) mat'
words w.1 'a Mine on (a other:1.3) mat'
words w.2 'a other Mine1 on (a other:1.3) mat'
words w.3 'a mine on (a other:1.3) mat'
cmp -s w.0.pixels w.1.pixels && cmp -s w.0.pixels w.2.pixels
check "a word of textual inversion is not its vectors" $?
! cmp -s w.0.pixels w.3.pixels
check "a word of textual inversion in other letters" $?
vector 1 | learnt 1 256 >Mine1.safetensors
runs "$g" generate --ckpt m1.safetensors --prompt x --textual_inversion_embeddings \
    Mine.safetensors Mine1.safetensors
exits 1; says err "'Mine1.safetensors': the word 'Mine1' is known already"
head -c 256 /dev/zero | learnt 2 256 >bad.safetensors
runs "$g" generate --ckpt m1.safetensors --prompt x --textual_inversion_embeddings \
    bad.safetensors
exits 1; says err bad.safetensors
runs "$g" generate --ckpt m1.safetensors --prompt x --textual_inversion_embeddings m1.safetensors
exits 1; says err "tensors, want one, textual inversion's"
{ printf '\120\0\0\0\0\0\0\0%-80s' \
    '{"emb_params":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}'; printf 12345678; } \
    >narrow.safetensors
runs "$g" generate --ckpt m1.safetensors --prompt x --textual_inversion_embeddings \
    narrow.safetensors
exits 1; says err "'narrow.safetensors': vectors of 2 numbers, the model's have 64"

# what is wrong is said
runs "$g" generate --ckpt whole.safetensors --prompt x --mask_path black.bmp
exits 2; says err "--mask_path needs --image_path"
runs "$g" generate --ckpt whole.safetensors --prompt x --image_path a.gone
exits 1; says err "a.gone"
"$g" graphs copy graphs --quiet && grep -v '^picture:' graphs/samplers/ddim.yaml >blind.yaml
cp graphs/samplers/schedule.yaml .
runs "$g" generate --ckpt whole.safetensors --prompt x --image_path f --sampler ./blind.yaml
exits 2; says err "sampler 'ddim' does not say how it begins with a picture"
runs "$g" generate --ckpt m1.safetensors
exits 2; says err "--prompt TEXT or --from_file FILE"
runs "$g" generate --ckpt m1.safetensors --prompt x --W 60 --H 64
exits 2; says err "--W"
runs "$g" generate --ckpt m1.safetensors --prompt 'x --w 100'
exits 2; says err "the width is 100, want a multiple of 8"
runs "$g" generate --ckpt m1.safetensors --prompt x --sampler eulr
exits 2; says err "did you mean 'euler'"
runs "$g" generate --ckpt gone.safetensors --prompt x
exits 1; says err "gone.safetensors"
runs "$g" generate --ckpt m1.safetensors --prompt x --network_weights m2.safetensors
exits 1; says err "m2.safetensors"
runs "$g" generate --ckpt m1.safetensors --prompt 'x --zz 3' --W 64 --H 64 --steps 1 \
    --outdir s --seed 1
exits 0; says err "'--zz 3' is no option of a prompt"
runs "$g" generate --ckpt m1.safetensors --prompt x --network_weights l.safetensors \
    --adapter lora lora
exits 2; says err "got 2 --adapter for 1 --network_weights"
runs "$g" generate --ckpt m1.safetensors --prompt '{e$$0-9$$a|b|c|d|e|f|g|h|i|j|k|l|m}'
exits 2; says err "stands for more than 4096 prompts"
words=$(yes word | head -100 | tr '\n' ' ')
runs "$g" generate --ckpt m1.safetensors --prompt "$words" --W 64 --H 64 --steps 1 \
    --outdir s --seed 1
exits 0; says err "a prompt of 100 tokens is cut to 75; --max_embeddings_multiples 2"
runs "$g" generate --ckpt m1.safetensors --prompt "$words" --W 64 --H 64 --steps 1 \
    --outdir s --seed 1 --max_embeddings_multiples 2 --quiet
exits 0; silent err
finish
