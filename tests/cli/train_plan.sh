#!/usr/bin/env bash
# Before a training: --dry-run tells memory under compile's names, time, and what would need
# less, and that is true; --plan takes a plan that fits, and compiles its own with a warning
# where it does not.
. "$(dirname "$0")/lib.sh"
export GRAPHRUN_CACHE=
model=$tmp/base.safetensors
"$GRAPHRUN" init-weights unet clip vae_encoder vae_decoder --variant tiny --seed 1 \
    -o "$model" --quiet
mkdir -p "$tmp/pictures/1_thing"
cp tests/golden/pictures/rgb.png "$tmp/pictures/1_thing/a.png"
cp tests/golden/pictures/rgb.png "$tmp/pictures/1_thing/b.png"
echo 'a thing' >"$tmp/pictures/1_thing/a.txt"

train() { # train OPTION…
    runs "$GRAPHRUN" train --pretrained_model_name_or_path "$model" \
        --train_data_dir "$tmp/pictures" --allow_missing_captions --caption_extension .txt \
        --resolution 64 --network_dim 4 --max_train_steps 2 --seed 3 --no_metadata \
        --output_dir "$tmp" "$@"
}
compile() { # compile PLAN OPTION…
    local plan=$1
    shift
    runs "$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$model" \
        --set 'data.resolution=[64,64]' -o "$plan" --json "$@"
    exits 0
}

# ---- what it will need ----
compile "$tmp/fits.plan"
cp "$tmp/out" "$tmp/compiled.json"
train --dry-run --json
exits 0
cp "$tmp/out" "$tmp/dry.json"
[ ! -e "$tmp/last.safetensors" ]
check "a dry run writes a LoRA" $?
if command -v python3 >/dev/null; then
runs python3 - "$tmp/dry.json" "$tmp/compiled.json" <<'P'
import json, sys
dry, compiled = (json.load(open(f)) for f in sys.argv[1:])
t = compiled["totals"]
del t["compile_ms"], t["cached"]
assert dry["totals"] == t, (dry["totals"], t)
assert dry["captions_found"] == 1 and dry["captions_missing"] == 1
assert dry["estimate"]["seconds"] > 0 and dry["fits"] and dry["machine_bytes"] > t["total_bytes"]
less = {x["option"].split()[0]: x for x in dry["less_memory"]}
assert set(less) == {"--gradient_checkpointing", "--memory_budget", "--mixed_precision"}
assert all(x["total_bytes"] < t["total_bytes"] for x in less.values())
assert less["--memory_budget"]["total_bytes"] <= less["--gradient_checkpointing"]["total_bytes"]
print(less["--memory_budget"]["option"])
P
exits 0
budget=$(cat "$tmp/out")
train --dry-run $budget
exits 0
says out 'it fits'
says out 'captions: 1 found, 1 missing'
says out 'by the roofline of this machine'
fi

# ---- a plan by hand ----
train --output_name own
exits 0
train --output_name given --plan "$tmp/fits.plan"
exits 0
! grep -q warning "$tmp/err"
check "a plan that fits is warned of" $?
cmp -s "$tmp/own.safetensors" "$tmp/given.safetensors"
check "another LoRA with the plan given" $?

# plans of the training and of the VAE are kept, and what comes from the cache is the same
export GRAPHRUN_CACHE=$tmp/cache
train --output_name cold
n=$(ls "$tmp/cache/plans" | wc -l)
[ "$n" -ge 2 ]
check "$n plans in the cache, want the training's and the VAE's" $?
train --output_name kept
exits 0
[ "$(ls "$tmp/cache/plans" | wc -l)" = "$n" ]
check "the second run compiles again" $?
cmp -s "$tmp/own.safetensors" "$tmp/cold.safetensors" &&
    cmp -s "$tmp/own.safetensors" "$tmp/kept.safetensors"
check "another LoRA with plans from the cache" $?
export GRAPHRUN_CACHE=

compile "$tmp/other.plan" --set network_dim=8
train --output_name other --plan "$tmp/other.plan"
exits 0
says err 'warning: the given plan was made from something else: adapter entry 0'
cmp -s "$tmp/own.safetensors" "$tmp/other.safetensors"
check "another LoRA with a plan that does not fit" $?

head -c 3000 "$tmp/fits.plan" >"$tmp/cut.plan"
train --output_name cut --plan "$tmp/cut.plan"
exits 0
says err 'warning: the plan is compiled again'
cmp -s "$tmp/own.safetensors" "$tmp/cut.safetensors"
check "another LoRA with a damaged plan" $?
finish
