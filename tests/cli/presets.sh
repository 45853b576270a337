#!/bin/sh
# graphrun presets: what there is, what it comes to by block, the picture.
. "$(dirname "$0")/lib.sh"

runs "$GRAPHRUN" presets list
exits 0; silent err
says out "uneven           25 blocks"
says out "17 numbers: BASE IN01 IN02 IN04"
# numbers of parameters as lora.md has them: SD 1.5, rank 4
runs "$GRAPHRUN" presets show
exits 0; silent err
says out "all         264     2359296"
runs "$GRAPHRUN" presets show --network_args conv_dim=4
says out "all         350     4866816"
runs "$GRAPHRUN" presets show uneven --network_dim 8
exits 0
says out "   -  TEXT         72     1327104        8      0.125       0.0001"
says out "   8  IN08         12      127488        3   0.333333      0.00015"
says out "   1  IN01          0           0        -          -            -"
runs "$GRAPHRUN" presets show --network_args down_lr_weight=zeros up_lr_weight=linear+.5
says out "   7  IN07          0           0        -          -            -"
says out "  24  OUT11        12       47104        4       0.25      0.00015"
runs "$GRAPHRUN" presets show sine --recipe dylora --json --set pretrained_model_name_or_path=x
exits 1
# DyLoRA takes them too, and rules by path
runs "$GRAPHRUN" presets show uneven --recipe dylora --network_dim 8 \
    --set pretrained_model_name_or_path=tests/golden/nano/nano-sd.safetensors
exits 0
says out "   8  IN08         12        3264        3   0.333333      0.00015"
cat >"$tmp/dy.yaml" <<'END'
recipe: dy
from: [dylora.yaml]
rules:
  - {match: "unet.**.attn2.to_v", rank: 4, alpha: 2}
END
runs "$GRAPHRUN" train "$tmp/dy.yaml" --dry-run --json --network_dim 8 --set unit=2 \
    --pretrained_model_name_or_path tests/golden/nano/nano-sd.safetensors
exits 0
[ "$(grep -c 'attn2_to_v", .*"dim": 4, "alpha": 2' "$tmp/out")" = 16 ]
check "the rule is not for all of attn2.to_v" $?
runs "$GRAPHRUN" presets show sine --json
exits 0; says out '"slot": 12, "block": "M00", "modules": 12'

# lists of numbers: the mapping
for n in 12 17 20 25 26; do
    runs "$GRAPHRUN" presets show "$(seq -s, "$n")"
    exits 0
    says out "$n numbers, slot by slot"
    [ "$(wc -l <"$tmp/out")" = $((n + 3)) ]
    check "not $n slots" $?
done
says out "  13  MID            14       12"
says out "0 modules have no slot"
runs "$GRAPHRUN" presets show 1,2,3
exits 2; says err "got 3 numbers, want 12, 17, 20, 25 or 26"

runs "$GRAPHRUN" presets plot sine -o "$tmp/sine.svg"
exits 0
python3 -c 'import sys, xml.dom.minidom as m; m.parse(sys.argv[1])' "$tmp/sine.svg" 2>/dev/null ||
    grep -q '</svg>' "$tmp/sine.svg"
check "no picture" $?
[ "$(grep -c '<rect' "$tmp/sine.svg")" = 79 ]
check "not three bars a block" $?
runs "$GRAPHRUN" presets show sien
exits 2; says err "no preset 'sien'; did you mean 'sine'?"
runs "$GRAPHRUN" presets draw
exits 2; says err "got 'draw', want list, show or plot"
finish
