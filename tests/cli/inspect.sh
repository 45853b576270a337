#!/bin/sh
# graphrun inspect and diff, and plans and traces in training.
. "$(dirname "$0")/lib.sh"
export GRAPHRUN_CACHE="$tmp/cache"
nano=tests/golden/nano/nano-sd.safetensors
plan="$tmp/a.plan"
"$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$nano" \
    --set 'data.resolution=[64,64]' -o "$plan" --quiet >"$tmp/out"
"$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$nano" \
    --set 'data.resolution=[64,64]' --set network_dim=8 -o "$tmp/b.plan" --quiet >"$tmp/out"

runs "$GRAPHRUN" inspect "$plan"
exits 0
silent err
for part in 'plan lora' 'what the passes did' 'work by block' 'activations over the step' \
    'the largest of' 'adapters' "the gradient's frontier" 'work by op and kernel'; do
    says out "$part"
done
runs "$GRAPHRUN" inspect "$plan" --part nodes
says out 'unet.conv_in'
says out 'networks/unet.yaml:'

runs "$GRAPHRUN" inspect "$plan" why unet.conv_in
exits 0
says out 'written at'
says out 'conv_in'
says out 'read by step'
runs "$GRAPHRUN" inspect "$plan" why 0
exits 0
runs "$GRAPHRUN" inspect "$plan" why unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q
says out "is wrapped by adapter 'lora'"
says out 'scale 0.25'
runs "$GRAPHRUN" inspect "$plan" why unet.conv_inn
exits 2
says err "did you mean 'unet.conv_in'?"
runs "$GRAPHRUN" inspect "$plan" why 999999
exits 2
runs "$GRAPHRUN" inspect "$plan" how unet.conv_in
exits 2

# JSON that a parser takes, and whose sums are the totals
runs "$GRAPHRUN" inspect "$plan" --json
exits 0
cp "$tmp/out" "$tmp/plan.json"
if command -v python3 >/dev/null; then
runs python3 - "$tmp/plan.json" <<'P'
import json, sys
p = json.load(open(sys.argv[1])); t = p["totals"]
assert len(p["nodes"]) == t["steps"] == len(p["memory"]["live_bytes"])
assert sum(n["flops"] for n in p["nodes"]) == t["flops"] == sum(b["flops"] for b in p["blocks"])
assert sum(b["saved_bytes"] for b in p["blocks"]) == t["saved_bytes"]
assert max(p["memory"]["live_bytes"]) == t["activation_peak_bytes"]
assert t["lower_bound_bytes"] <= t["arena_bytes"] <= 1.005 * t["lower_bound_bytes"]
f = p["fusion"]
assert {g["pattern"] for g in f["groups"]} >= {"merge", "norm", "scale"}
assert all(r["reason"].isupper() and ".yaml:" in r["place"] for r in f["refused"]) and f["refused"]
g = p["gradients"]
assert g["steps_with"] > g["steps_without"] > 0 and g["because_of"].endswith("lora_down.weight")
assert p["nodes"][g["first_step"]]["path"] == g["path"]
assert p["recompute"] == [] and p["casts"] == {"between_types": p["casts"]["between_types"]}
assert len(p["adapters"]) == 264 - 60 and all(m["scale"] == 0.25 for m in p["adapters"])
P
exits 0
fi

# files
runs "$GRAPHRUN" inspect "$plan" --html "$tmp/p.html" --dot "$tmp/p.dot"
exits 0
silent out
grep -q '^digraph "lora" {' "$tmp/p.dot"
check "no drawing" $?
grep -q '@PLAN@' "$tmp/p.html"
[ $? = 1 ]
check "a page without its plan" $?
grep -Eq '(src|href)="?http|@import|url\(' "$tmp/p.html"
[ $? = 1 ]
check "a page that wants the network" $?
runs "$GRAPHRUN" inspect "$plan" --html "$tmp/no/p.html"
exits 1
runs "$GRAPHRUN" inspect "$nano"
exits 1
says err 'does not start like one'
[ "$(grep -o error: "$tmp/err" | wc -l)" = 1 ]
check "the word error comes more than once" $?

# recomputation: every copy has its original, and what it bought
"$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$nano" --gradient_checkpointing \
    --set 'data.resolution=[64,64]' -o "$tmp/r.plan" --quiet >"$tmp/out"
runs "$GRAPHRUN" inspect "$tmp/r.plan" --json
exits 0
cp "$tmp/out" "$tmp/plan.json"
if command -v python3 >/dev/null; then
runs python3 - "$tmp/plan.json" <<'P'
import json, sys
p = json.load(open(sys.argv[1])); n = p["nodes"]
r = p["recompute"]
assert len(r) == sum(x["phase"] == "recompute" for x in n) > 100
for x in r:
    a, b = n[x["step"]], n[x["original"]]
    assert b["phase"] == "forward" and a["step"] > b["step"]
    assert a["op"] == b["op"] and a["path"] == b["path"]
    assert [o["type"] for o in a["out"]] == [o["type"] for o in b["out"]]
assert sum(x["bytes"] for x in r) > 0
P
exits 0
fi
runs "$GRAPHRUN" inspect "$tmp/r.plan" --part recompute
says out 'steps run again'
runs "$GRAPHRUN" inspect "$tmp/r.plan" why unet.down_blocks.0.attentions.0.transformer_blocks.0.norm1
says out 'has a gradient: it depends on @lora'
says out 'computed again in step'
says out 'runs again, for'
head -c 5000 "$plan" >"$tmp/cut.plan"
runs "$GRAPHRUN" inspect "$tmp/cut.plan"
exits 1

# on cards
"$GRAPHRUN" compile lora --set "pretrained_model_name_or_path=$nano" --device cuda \
    --set 'data.resolution=[64,64]' -o "$tmp/gpu.plan" --quiet >"$tmp/out"
runs "$GRAPHRUN" inspect "$tmp/gpu.plan" --card rtx-4090
exits 0
says out 'rtx-4090 (sm_89)'
says out 'without the context'
says out 'assumptions'
runs "$GRAPHRUN" inspect "$tmp/gpu.plan" --card all
[ "$(grep -c '^  [a-z0-9-]* .* [0-9.]*$' "$tmp/out")" = 5 ]
check "not five cards" $?
runs "$GRAPHRUN" inspect "$tmp/gpu.plan" --card rtx-4091
exits 2
says err "did you mean 'rtx-4090'?"
runs "$GRAPHRUN" inspect "$plan" --card all
exits 2
says err 'compile --device cuda'

# diff
runs "$GRAPHRUN" diff "$plan" "$plan"
exits 0
says out 'made from the same but for: nothing'
says out 'nodes: 0 added, 0 removed, 0 changed'
runs "$GRAPHRUN" diff "$plan" "$tmp/b.plan"
says out 'made from the same but for: adapter entry 0, adapter entry 1'
grep -Eq '^nodes: ([0-9]+) added, \1 removed, [1-9][0-9]* changed' "$tmp/out"
check "another rank adds as many nodes as it removes, by what is fused" $?
says out 'makes f32['
runs "$GRAPHRUN" diff "$plan" "$tmp/b.plan" --json
grep -Eq '"added": ([0-9]+), "removed": \1, "changed": [1-9]' "$tmp/out"
check "no counts" $?
runs "$GRAPHRUN" diff "$plan" "$nano"
exits 1
finish
