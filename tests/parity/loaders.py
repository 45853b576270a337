"""Files of graphrun in the programs that people load them with: Diffusers, peft, PyTorch.

    loaders.py PROGRAM MODEL

MODEL: a checkpoint of Stable Diffusion 1.x (tests/golden/nano/nano-sd.safetensors). Run by
hand (needs diffusers, peft, transformers, torch); what it said stands in docs/parity.md.
A LoRA goes into Diffusers under kohya's names and peft's; the U-Net and the text encoder
with it must answer as the model does that `graphrun merge` made. Exit 1: something differs.
"""
import os
import subprocess
import sys
import tempfile

import diffusers
import peft
import safetensors.torch
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel

program, model = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
work = tempfile.mkdtemp()
failed = 0


def run(*args):
    subprocess.run([program, *args, "--quiet"], cwd=work, check=True)


def check(what, ok, said=""):
    global failed
    failed += not ok
    print("ok  " if ok else "FAIL", what, said, flush=True)


def pipeline(folder):
    path = os.path.join(work, folder)
    unet = UNet2DConditionModel.from_pretrained(path + "/unet", torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(path + "/text_encoder", torch_dtype=torch.float32)
    vae = AutoencoderKL.from_pretrained(path + "/vae", torch_dtype=torch.float32)
    return StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=None, unet=unet, scheduler=DDIMScheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def answers(pipe):
    torch.manual_seed(1)
    ids = torch.randint(0, pipe.text_encoder.config.vocab_size, (2, 77))
    x = torch.randn(2, 4, 16, 16)
    with torch.no_grad():
        hidden = pipe.text_encoder(ids)[0]
        return hidden, pipe.unet(x, torch.tensor([10, 800]), hidden).sample


def off(a, b):
    return max((float((x - y).norm() / y.norm()) for x, y in zip(a, b)))


def random_lora(names):
    """kohya's names, ranks 4 and (3x3) 2, alphas that are not the ranks"""
    torch.manual_seed(2)
    pipe, out = pipeline("base"), {}
    nets = {"lora_unet_": pipe.unet, "lora_te_": pipe.text_encoder}
    for prefix, net in nets.items():
        for path, m in net.named_modules():
            name = prefix + path.replace(".", "_")
            if prefix == "lora_te_" and not path.startswith("text_model."):
                name = prefix + "text_model_" + path.replace(".", "_")
            if name not in names:
                continue
            w, r = m.weight, 2 if m.weight.dim() == 4 and m.weight.shape[2] > 1 else 4
            one = (1, 1) if w.dim() == 4 else ()
            out[name + ".lora_down.weight"] = torch.randn(r, *w.shape[1:]) * 0.1
            out[name + ".lora_up.weight"] = torch.randn(w.shape[0], r, *one) * 0.1
            out[name + ".alpha"] = torch.tensor(float(r) / 2)
    return out


print("diffusers", diffusers.__version__, "peft", peft.__version__, "transformers",
      transformers.__version__, "torch", torch.__version__)
run("convert", model, "base", "--to", "diffusers", "--save_precision", "float")
base = pipeline("base")
plain = answers(base)
check("the Diffusers folder loads: U-Net, text encoder, VAE", True)

# names of modules as the extraction of a model from itself (moved a little) gives them
tensors = safetensors.torch.load_file(model)
torch.manual_seed(3)
moved = {k: v + torch.randn(v.shape).to(v.dtype) * 0.02 if v.dim() > 1 and v.is_floating_point()
         else v for k, v in tensors.items()}
safetensors.torch.save_file(moved, work + "/moved.safetensors")
run("extract", "--model_org", model, "--model_tuned", "moved.safetensors", "--dim", "4",
    "--conv_dim", "2", "--save_to", "extracted.safetensors")
names = {k.split(".")[0] for k in safetensors.torch.load_file(work + "/extracted.safetensors")}
lora = random_lora(names)
check("every module of an extracted LoRA has a place in Diffusers",
      {k.split(".")[0] for k in lora} == names, f"{len(names)} modules")
safetensors.torch.save_file(lora, work + "/drawn.safetensors")
run("convert", "drawn.safetensors", "kohya.safetensors", "--to", "kohya")
run("convert", "drawn.safetensors", "folded.safetensors", "--to", "kohya", "--fold_alpha")
run("convert", "drawn.safetensors", "peft.safetensors", "--to", "diffusers")
run("merge", "--sd_model", model, "--models", "kohya.safetensors", "--ratios", "1",
    "--save_to", "merged.safetensors")
run("convert", "merged.safetensors", "merged", "--to", "diffusers")
want = answers(pipeline("merged"))
moved_by = off(plain, want)
for name in ("kohya", "folded", "peft"):
    try:
        pipe = pipeline("base")
        pipe.load_lora_weights(work, weight_name=name + ".safetensors")
        error = off(answers(pipe), want)
        check(f"load_lora_weights of {name}.safetensors", error < 1e-3 * moved_by,
              f"off by {error:.1e}; the LoRA moves the answers by {moved_by:.2f}")
    except Exception as why:  # what a loader says is the result
        check(f"load_lora_weights of {name}.safetensors", False, f"{type(why).__name__}: {why}")

run("convert", model, "whole.ckpt")
run("convert", "kohya.safetensors", "kohya.pt")
for name, of in (("whole.ckpt", tensors), ("kohya.pt",
                 safetensors.torch.load_file(work + "/kohya.safetensors"))):
    got = torch.load(f"{work}/{name}", weights_only=True)
    got = got.get("state_dict", got)
    same = got.keys() == of.keys() and all(torch.equal(got[k], of[k]) for k in of)
    check(f"torch.load(weights_only=True) of {name}", same, f"{len(got)} tensors, equal bytes")
sys.exit(failed > 0)
