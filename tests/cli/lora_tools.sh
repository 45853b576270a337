#!/bin/sh
# merge, svd-merge, extract, extract-dylora, resize-rank on small models made here: what
# they say, exit codes, and that each gives back what it was given.
. "$(dirname "$0")/lib.sh"
cd "$tmp" || exit 1
g=$GRAPHRUN

for seed in 1 2; do
    runs "$g" init-weights unet clip vae_encoder --variant tiny --seed $seed --dtype f32 \
        -o m$seed.safetensors
    exits 0
done

# two models that differ everywhere: every layer, a rank that holds all of it
runs "$g" extract --model_org m1.safetensors --model_tuned m2.safetensors --dim 8 \
    --conv_dim 4 --save_to x.safetensors
exits 0; silent out; says err "of the energy kept"; says err "largest difference"
says err "extracted"
# merged into the model, the difference is a LoRA again: nothing is lost at its own rank
runs "$g" merge --sd_model m1.safetensors --models x.safetensors --ratios 0.5 \
    --save_to t.safetensors
exits 0; says err "modules merged"
runs "$g" extract --model_org m1.safetensors --model_tuned t.safetensors --dim 8 \
    --conv_dim 4 --min_diff 1e-6 --save_to y.safetensors --json
exits 0; says out '"energy_kept": 0.9999'
# and it is the LoRA that was merged, at half of its strength
runs "$g" merge --models x.safetensors --ratios 0.5 --save_to h.safetensors
exits 0
runs "$g" diff h.safetensors y.safetensors --json
exits 0
off=$(sed -n 's/.*"only_b": 0, "relative": \([^,]*\),.*/\1/p' out)
awk -v x="$off" 'BEGIN { exit !(x != "" && x + 0 < 1e-5) }'
check "the LoRA comes back with an error of '$off', want 1e-5" $?
# the same layer by layer on one thread: the same bytes
runs "$g" extract --model_org m1.safetensors --model_tuned t.safetensors --dim 8 \
    --conv_dim 4 --min_diff 1e-6 --save_to y1.safetensors --threads 1 --no_metadata
exits 0
runs "$g" extract --model_org m1.safetensors --model_tuned t.safetensors --dim 8 \
    --conv_dim 4 --min_diff 1e-6 --save_to y2.safetensors --threads 2 --no_metadata
exits 0
cmp -s y1.safetensors y2.safetensors
check "one and two threads give different files" $?

# equal models, and a text encoder below min_diff
runs "$g" extract --model_org m1.safetensors --model_tuned m1.safetensors \
    --save_to none.safetensors
exits 1; says err "do not differ"
[ ! -e none.safetensors ]
check "a file was written" $?
runs "$g" extract --model_org m1.safetensors --model_tuned m2.safetensors --min_diff 1000 \
    --save_to u.safetensors
exits 0; says err "min_diff 1e+03: the same, left out"

# ranks chosen by singular values
for rule in sv_ratio=4 sv_fro=0.9 sv_cumulative=0.8; do
    runs "$g" resize-rank --model x.safetensors --new_rank 6 --save_to r.safetensors \
        --dynamic_method ${rule%=*} --dynamic_param ${rule#*=}
    exits 0; says err "of the energy kept"
    runs "$g" extract --model_org m1.safetensors --model_tuned m2.safetensors --dim 6 \
        --save_to r.safetensors --dynamic_method ${rule%=*} --dynamic_param ${rule#*=}
    exits 0; says err "of the energy kept"
done
runs "$g" resize-rank --model x.safetensors --new_rank 8 --save_to r.safetensors
exits 0; says err "100.0000 % of the energy kept"
runs "$g" resize-rank --model x.safetensors --dynamic_method sv_fro --save_to r.safetensors
exits 2; says err "--dynamic_method and --dynamic_param go together"

# LoRA + LoRA: side by side, then cut again
runs "$g" merge --models x.safetensors u.safetensors --ratios 1.0 -0.4 \
    --save_to l.safetensors --save_precision bf16
exits 0; says err "rank Dynamic"
runs "$g" svd-merge --models x.safetensors u.safetensors --ratios 1.0 -0.4 --new_rank 12 \
    --save_to s.safetensors
exits 0; says err "100.0000 % of the energy kept"
runs "$g" merge --models x.safetensors --ratios 1 2 --save_to l2.safetensors
exits 2; says err "got 2 --ratios for 1 --models"
runs "$g" merge --models x.safetensors --ratios one --save_to l2.safetensors
exits 2; says err "--ratios: got 'one', want a number"
runs "$g" merge --models x.safetensors --ratios 1 --lbws "[1, 2]" --save_to l2.safetensors
exits 2; says err "want a list of 12, 17, 20, 25 or 26 numbers"
runs "$g" merge --models x.safetensors u.safetensors --ratios 1 1 --save_to l2.safetensors \
    --compat sd-scripts
exits 1; says err "different dims?"
runs "$g" merge --models gone.safetensors --ratios 1 --save_to l2.safetensors
exits 1; says err "gone.safetensors"
[ ! -e l2.safetensors ]
check "a file was written" $?
runs "$g" merge --models x.safetensors --ratios 1 --save_to l2.safetensors --device cuda
exits 1; says err "--device cuda"

# into torch's form and back
runs "$g" merge --sd_model m1.safetensors --models x.safetensors --ratios 0.5 \
    --save_to t.ckpt
exits 0
runs "$g" extract --model_org t.safetensors --model_tuned t.ckpt --save_to none.safetensors
exits 1; says err "do not differ"
# every name that is read as torch's form is written so
runs "$g" merge --sd_model m1.safetensors --models x.safetensors --ratios 0.5 \
    --save_to t.bin
exits 0
runs "$g" merge --models x.safetensors --ratios 1 --save_to l.bin
exits 0
for f in t.bin l.bin; do
    [ "$(head -c 2 "$f")" = PK ]
    check "$f is no zip" $?
done

# into a Diffusers folder, from a file and from a folder: the model that a file would hold
runs "$g" convert m1.safetensors folder --quiet
exits 0
runs "$g" merge --sd_model m1.safetensors --models x.safetensors --ratios 0.5 \
    --save_to merged.safetensors
exits 0
runs "$g" convert merged.safetensors want --quiet
exits 0
for model in m1.safetensors folder; do
    runs "$g" merge --sd_model $model --models x.safetensors --ratios 0.5 --save_to into
    exits 0; silent out; says err "into: 290 modules merged, 828 tensors"
    diff -r want into >/dev/null
    check "the folder made from $model is another than that of the file" $?
    runs "$g" merge --sd_model $model --models x.safetensors --ratios 1 --save_to into/
    exits 1; says err "it is there and not empty"
    diff -r want into >/dev/null
    check "the folder was changed" $?
    rm -r into
done
[ -z "$(find . -name '*.tmp')" ]
check "a temporary folder is left" $?
runs "$g" merge --models x.safetensors --ratios 1 --save_to into
exits 2; says err "--save_to: got 'into', want a name that ends with .safetensors"
runs "$g" merge --sd_model folder --models x.safetensors --ratios 1 --save_to into.txt
exits 2; says err "note: a Diffusers folder is written where the name has no ending"
runs "$g" convert folder into.txt
exits 2; says err "DST: got 'into.txt', want a name"
runs "$g" init-weights clip --variant tiny -o into.txt
exits 2; says err "-o: got 'into.txt', want a name"
[ ! -e into ] && [ ! -e into.txt ]
check "something was written" $?
# .bin is the plain dict, .ckpt has it in "state_dict"
runs "$g" init-weights clip --variant tiny --quiet -o c.ckpt
exits 0
runs "$g" convert c.ckpt c.bin --quiet
exits 0
grep -aq state_dict c.ckpt && ! grep -aq state_dict c.bin
check "the form of c.ckpt or c.bin" $?
runs "$g" convert c.ckpt d.bin --epoch 3
exits 2; says err "'d.bin' has no place for them"
runs "$g" diff c.ckpt c.bin
exits 0; says out "36 tensors are equal, 0 differ, 0 are only in A, 0 only in B"

# an ending that tells no format is misuse, in every tool
for tool in "merge --models x.safetensors --ratios 1" "svd-merge --models x.safetensors \
    --ratios 1" "resize-rank --model x.safetensors --new_rank 2" "extract-dylora --model \
    x.safetensors" "extract --model_org a --model_tuned b"; do
    # shellcheck disable=SC2086
    runs "$g" $tool --save_to y.txt
    exits 2; says err "--save_to: got 'y.txt', want a name that ends with .safetensors,"
    [ ! -e y.txt ]
    check "y.txt was written" $?
done

# a LoRA for another model: refused by name, the old file stays
printf old >keep.safetensors
runs "$g" init-weights unet clip --variant tiny --set unet.context=96 -o n.safetensors
exits 0
runs "$g" merge --sd_model n.safetensors --models x.safetensors --ratios 1 \
    --save_to keep.safetensors
exits 1; says err "is made for another model: 32 of its"; says err "attn2_to_k"
[ "$(cat keep.safetensors)" = old ]
check "the old file was changed" $?
runs "$g" init-weights unet clip --variant tiny --set unet.context=96 --seed 9 -o n2.safetensors
exits 0
runs "$g" extract --model_org n.safetensors --model_tuned n2.safetensors --dim 2 --save_to n3.safetensors
exits 0
for tool in merge svd-merge; do
    runs "$g" $tool --models x.safetensors n3.safetensors --ratios 1 1 --save_to keep.safetensors
    exits 1; says err "'n3.safetensors' is made for another model: 32 of its"
    says err "attn2_to_k: "; says err "  ..."
done
[ "$(cat keep.safetensors)" = old ]
check "the old file was changed by LoRA + LoRA" $?

# parts of a DyLoRA
runs "$g" extract-dylora --model u.safetensors --save_to d.safetensors --unit 2
exits 0; says err "d-0002.safetensors: rank 2 of 4"; says err "d-0004.safetensors"
runs "$g" extract-dylora --model u.safetensors --save_to e.safetensors --unit 2 \
    --compat sd-scripts
exits 0
[ -e e-0002.safetensors ] && [ ! -e e-0004.safetensors ]
check "sd-scripts leaves out the largest rank" $?
runs "$g" extract-dylora --model u.safetensors --save_to e.safetensors --unit 5
exits 1; says err "has rank 4: nothing to extract with --unit 5"
finish
