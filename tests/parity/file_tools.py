"""The file tools against the recorded golden/lora and against their own promises.

    file_tools.py PROGRAM GOLDEN

GOLDEN: the folder with golden/lora and golden/tiny-sd. Run by hand (needs numpy, safetensors,
Pillow; the sets are too large for the repository); what it said stands in docs/parity.md.
parity_tools.py compares tensors case by case; here are the pictures of resize-images, the
hashes and metadata of every file, exactness of merging, and round trips. Exit 1: a limit is
not kept.
"""
import filecmp
import json
import os
import subprocess
import sys
import tempfile

import numpy
from PIL import Image
from safetensors.numpy import load_file, save_file

program, golden = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
lora, tools, tiny = golden + "/lora", golden + "/lora/tools", golden + "/tiny-sd"
model = tiny + "/tiny-sd.safetensors"
work = tempfile.mkdtemp()
failed = 0


def run(*args, out=False):
    p = subprocess.run([program, *args], cwd=work, capture_output=True, text=True, check=False)
    if p.returncode:
        sys.exit(f"{' '.join(args)}: exit {p.returncode}: {p.stderr.strip()}")
    return json.loads(p.stdout) if out else None


def say(what, good, outcome):
    global failed
    failed += not good
    print(f"{'ok  ' if good else 'FAIL'} {what}: {outcome}", flush=True)


# ---- resize-images ----
LEVELS = {"area": 1, "cubic": 1, "lanczos4": 2}


def resize(name, case):
    o = case["options"]
    args = ["--max_resolution", o["max_resolution"], "--divisible_by", str(o["divisible_by"])]
    if o["interpolation"]:
        args += ["--interpolation", o["interpolation"]]
    args += ["--save_as_png"] * o["save_as_png"]
    args += ["--copy_associated_files"] * o["copy_associated_files"]
    to, want = f"{work}/{name}", f"{lora}/resize/expected_{name}"
    run("resize-images", f"{lora}/resize/src", to, *args, "--compat", "sd-scripts")
    have, names = sorted(os.listdir(to)), sorted(os.listdir(want))
    worst, sizes, copies = 0, have == names, 0
    for f in names if sizes else []:
        if "+" not in f or not f.endswith((".png", ".jpg")):
            copies += filecmp.cmp(f"{to}/{f}", f"{want}/{f}", shallow=False)
            continue
        a, b = Image.open(f"{to}/{f}"), Image.open(f"{want}/{f}")
        sizes &= a.size == b.size == tuple(case["files"][f])
        if sizes and f.endswith(".png"):
            off = numpy.asarray(a.convert("RGB"), int) - numpy.asarray(b.convert("RGB"), int)
            worst = max(worst, int(abs(off).max()))
    others = sum("+" not in f or not f.endswith((".png", ".jpg")) for f in names)
    limit = LEVELS[o["interpolation"] or "area"]
    say(f"resize-images {name}", sizes and copies == others and worst <= limit,
        f"{len(names)} files, names and sizes {'equal' if sizes else 'DIFFER'}, {copies} of {others} "
        f"copies equal, worst level {worst} of {limit}")


# ---- hashes and metadata ----
def hashes():
    want, n, bad = json.load(open(tools + "/hashes.json")), 0, []
    for name, w in want.items():
        path = next(p for p in (f"{tools}/{name}", f"{lora}/{name}") if os.path.exists(p))
        if "sd_two" in name:
            continue  # parts of a model
        said = run("info", path, "--json", out=True)
        model_hash, legacy = said["sshs_model_hash"], said["sshs_legacy_hash"]
        n += 1
        if (model_hash["computed"], legacy["computed"]) != (
                w["sshs_model_hash_of_content"], w["sshs_legacy_hash_of_content"]):
            bad.append(name)
        if [model_hash["in_file"], legacy["in_file"]] != w["sshs_in_file"]:
            bad.append(name + " (as in the file)")
    say("hashes.json", not bad, f"{n} files, {bad or 'all equal'}")


SCRIPT = {"merge_lora": "merge", "svd_merge_lora": "svd-merge", "resize_lora": "resize-rank",
          "extract_lora_from_models": "extract"}
VARIES = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.date", "modelspec.implementation_version")


def inputs():
    for f in os.listdir(tools):
        if f.startswith("in_"):
            os.symlink(f"{tools}/{f}", f"{work}/{f}")
    for f in os.listdir(lora):
        if f.startswith("net_") and f.endswith("_lora.safetensors"):
            os.symlink(f"{lora}/{f}", f"{work}/{f}")
    for f in os.listdir(tiny):
        os.symlink(f"{tiny}/{f}", f"{work}/{f}")
    every = load_file(f"{work}/in_delta.safetensors")
    save_file({k: v for k, v in every.items() if k.startswith("lora_unet")},
              f"{work}/in_delta_unet.safetensors")
    for source, to in (("in_delta", "tuned"), ("in_delta_unet", "tuned_unet")):
        run("merge", "--sd_model", model, "--models", f"{source}.safetensors", "--ratios", "1",
            "--save_to", f"{to}.safetensors")


def metadata():
    cases, n, bad = json.load(open(tools + "/tools.json")), 0, []
    for name, c in cases.items():
        script = SCRIPT.get(os.path.basename(c["script"])[:-3])
        to = c["args"][c["args"].index("--save_to") + 1]
        if not script or "metadata" not in c or not to.endswith(".safetensors"):
            continue
        run(script, *c["args"], "--compat", "sd-scripts")
        header = open(f"{work}/{to}", "rb").read(8 + (1 << 22))
        meta = json.loads(header[8:8 + int.from_bytes(header[:8], "little")]).get("__metadata__", {})
        n += 1
        for key in sorted(set(meta) | set(c["metadata"])):
            a, b = meta.get(key), c["metadata"].get(key)
            if (a is None) != (b is None) or (a != b and key not in VARIES):
                bad.append(f"{name}: {key}: {a!r}, want {b!r}")
    say("metadata of the recorded cases", not bad, f"{n} files, {len(bad)} differences")
    for line in bad:
        print("     ", line)


# ---- exactness ----
def weights(path):
    return {k: v.astype(numpy.float64) for k, v in load_file(f"{work}/{path}").items()
            if v.dtype.kind == "f"}


def change(path, base):
    return {k: v - base[k] for k, v in weights(path).items() if k in base}


def off(a, b):
    """|A - B| / |B| of the worst tensor that B changes"""
    worst = 0
    for k in b:
        size = numpy.linalg.norm(b[k])
        if size > 0:
            worst = max(worst, numpy.linalg.norm(a[k] - b[k]) / size)
    return worst


def product(path):
    sd, out = weights(path), {}
    for k in sd:
        if not k.endswith(".lora_down.weight"):
            continue
        name = k[:-len(".lora_down.weight")]
        down, up = sd[k], sd[name + ".lora_up.weight"]
        rank = down.shape[0]
        alpha = load_file(f"{work}/{path}").get(name + ".alpha")
        scale = 1 if alpha is None else float(alpha) / rank
        out[name] = scale * up.reshape(up.shape[0], rank) @ down.reshape(rank, -1)
    return out


def weighted(paths, ratios):
    out = {}
    for path, ratio in zip(paths, ratios):
        for name, x in product(path).items():
            out[name] = out.get(name, 0) + ratio * x
    return out


def exactness():
    pair, ratios = ["net_lierla_lora.safetensors", "net_c3lier_lora.safetensors"], [0.7, -0.4]
    words = ["--models", *pair, "--ratios", *map(str, ratios)]
    run("merge", *words, "--save_to", "sum.safetensors")
    want = weighted(pair, ratios)
    worst = off(product("sum.safetensors"), want)
    say("LoRA + LoRA, any ranks and alphas", worst <= 1e-6, f"{worst:.1e} relative, worst of {len(want)}")
    run("merge", "--sd_model", model, *words, "--save_to", "both.safetensors")
    run("merge", "--sd_model", model, "--models", "sum.safetensors", "--ratios", "1", "--save_to",
        "once.safetensors")
    both, once = weights("both.safetensors"), weights("once.safetensors")
    worst = off(once, both)
    say("merged with each other, then into the model, as both into the model", worst <= 1e-6,
        f"{worst:.1e} of the weights")
    run("svd-merge", *words, "--new_rank", "64", "--save_to", "svd.safetensors")
    worst = off(product("svd.safetensors"), want)
    say("svd-merge at sufficient rank", worst <= 1e-6, f"{worst:.1e} relative, worst of {len(want)}")
    run("merge", "--sd_model", model, "--models", pair[1], "--ratios", "1", "--save_to", "c3.safetensors")
    said = run("extract", "--model_org", model, "--model_tuned", "c3.safetensors", "--dim", "8",
               "--conv_dim", "8", "--min_diff", "0", "--save_to", "back.safetensors", "--json", out=True)
    a, b = product("back.safetensors"), product(pair[1])
    lost = sum(numpy.linalg.norm(a[k] - b[k]) ** 2 for k in b) / sum(numpy.linalg.norm(b[k]) ** 2 for k in b)
    say("extract of a merged LoRA", 1 - lost >= 0.9999 and said["energy_kept"] >= 0.9999,
        f"{100 * (1 - lost):.6f} % of the energy, says {100 * said['energy_kept']:.6f} %")


# ---- round trips ----
def same(a, b, what):
    x, y = (run("diff", a, p, "--json", out=True) for p in (b, a))
    n = len(y["tensors"])
    say(what, x["equal"] == n and not x["only_a"], f"{x['equal']} of {n} tensors with equal bytes")


def round_trips():
    run("convert", model, "folder", "--to", "diffusers")
    run("convert", "folder", "ldm.safetensors")
    same(model, "ldm.safetensors", "tiny-sd LDM -> Diffusers -> LDM")
    run("convert", model, "folder-bin", "--to", "diffusers", "--bin")
    run("convert", "folder-bin", "ldm-bin.safetensors")
    same(model, "ldm-bin.safetensors", "tiny-sd LDM -> Diffusers (.bin) -> LDM")
    run("convert", model, "x.ckpt")
    run("convert", "x.ckpt", "x.safetensors")
    same(model, "x.safetensors", "tiny-sd safetensors -> ckpt -> safetensors")
    run("convert", f"{tiny}/tiny-sd.ckpt", "y.safetensors")
    run("convert", "y.safetensors", "y.ckpt")
    same(f"{tiny}/tiny-sd.ckpt", "y.ckpt", "tiny-sd ckpt -> safetensors -> ckpt")


for case in json.load(open(lora + "/resize/resize.json")).items():
    resize(*case)
hashes()
inputs()
metadata()
exactness()
round_trips()
print(f"{failed} failed")
sys.exit(failed > 0)
