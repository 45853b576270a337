"""Pictures of `graphrun generate` beside those of Diffusers' pipelines.

    diffusers_pictures.py PROGRAM MODEL [LORA]

MODEL: Stable Diffusion 1.x (golden/tiny-sd/tiny-sd-diffusers; the folder, whose configs tell how
many heads there are; or model/). The model goes to Diffusers by `graphrun convert`, LORA, or one
made by `graphrun extract` from a model of tiny-sd's shape, by load_lora_weights; both programs get the same starting noise. Run by hand (needs diffusers,
peft, transformers, torch); what it said stands in docs/parity.md. Exit 1: a pixel is off by
more than 2 of 255.
"""
import os
import shutil
import subprocess
import sys
import tempfile

import diffusers
import numpy as np
import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler,
                       HeunDiscreteScheduler, StableDiffusionImg2ImgPipeline,
                       StableDiffusionInpaintPipeline, StableDiffusionPipeline,
                       UniPCMultistepScheduler)
from diffusers.pipelines.stable_diffusion import (pipeline_stable_diffusion_img2img,
                                                  pipeline_stable_diffusion_inpaint)
from PIL import Image
from safetensors.torch import load_file, save_file

program, model = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
lora = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else None
os.chdir(tempfile.mkdtemp())
W, H, LIMIT, failed = 96, 64, 2, 0
schedule = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
diffusers.logging.set_verbosity_error()
samplers = {
    "ddim": lambda: DDIMScheduler(**schedule, clip_sample=False),
    "euler": lambda: EulerDiscreteScheduler(**schedule, timestep_spacing="linspace"),
    "heun": lambda: HeunDiscreteScheduler(**schedule, timestep_spacing="linspace"),
    "dpmpp_2m": lambda: DPMSolverMultistepScheduler(**schedule, final_sigmas_type="zero"),
    "unipc": lambda: UniPCMultistepScheduler(**schedule, final_sigmas_type="zero"),
}


def run(*args):
    subprocess.run([program, *map(str, args), "--quiet"], check=True)


def ours(*args):
    run("generate", "--ckpt", model, "--W", W, "--H", H, "--outdir", "out", "--inputs",
        "in.safetensors", "--record", "record.safetensors", "--network_weights",
        "lora.safetensors", *args)
    return load_file("record.safetensors")


def compare(what, record, theirs):
    global failed
    got = record["image"][0].numpy().astype(int)
    want = np.asarray(theirs).astype(int)
    worst = abs(got - want).max()
    failed += worst > LIMIT
    print("ok  " if worst <= LIMIT else "FAIL", f"{what}: {worst} of 255, mean "
          f"{abs(got - want).mean():.3f}; the picture spans {want.min()} ... {want.max()}", flush=True)


def pipe_as(kind, pipe, sampler):
    p = kind(**{**pipe.components, "scheduler": samplers[sampler]()})
    p.set_progress_bar_config(disable=True)
    return p


noise = torch.randn(1, 4, H // 8, W // 8, generator=torch.Generator().manual_seed(5))
save_file({"noise": noise}, "in.safetensors")
run("convert", model, "--to", "diffusers", "base")
if lora:
    shutil.copy(lora, "lora.safetensors")
else:
    run("init-weights", "unet", "clip", "vae_decoder", "--variant", "tiny", "--seed", 2,
        "--dtype", "f32", "-o", "other.safetensors")
    run("extract", "--model_org", model, "--model_tuned", "other.safetensors", "--dim", 4,
        "--save_to", "lora.safetensors")
pipe = StableDiffusionPipeline.from_pretrained("base", torch_dtype=torch.float32, safety_checker=None)
pipe.load_lora_weights("lora.safetensors")
text, minus, steps = "a dog on a mat", "low quality", 6
ask = dict(prompt=text, negative_prompt=minus, num_inference_steps=steps, guidance_scale=5.0,
           output_type="pil")

for sampler in samplers:
    for mul in ((0, 0.5, 1) if sampler == "ddim" else (1,)):
        pipe.set_adapters(pipe.get_active_adapters(), adapter_weights=[float(mul)])
        theirs = pipe_as(StableDiffusionPipeline, pipe, sampler)(
            **ask, height=H, width=W, latents=noise.clone()).images[0]
        record = ours("--prompt", f"{text} --n {minus} --am {mul}", "--steps", steps,
                      "--scale", 5, "--sampler", sampler)
        compare(f"{sampler}, LoRA x {mul}", record, theirs)

y, x = np.mgrid[:H, :W]
start = Image.fromarray(np.stack([x * 2, y * 3, x + y], 2).astype(np.uint8))
start.save("start.png")
half = np.zeros((H, W, 3), np.uint8)
half[:, W // 2:] = 255
Image.fromarray(half).save("mask.png")
for module in (pipeline_stable_diffusion_img2img, pipeline_stable_diffusion_inpaint):
    module.randn_tensor = lambda *a, **k: noise.clone()
for sampler in samplers:
    # 4 of 6 steps: graphrun runs int(steps x strength) + 1, Diffusers the first of these
    args = ("--prompt", f"{text} --n {minus} --t 0.5", "--steps", steps, "--scale", 5,
            "--sampler", sampler, "--image_path", "start.png")
    record = ours(*args)
    theirs = pipe_as(StableDiffusionImg2ImgPipeline, pipe, sampler)(
        **ask, image=record["init"], strength=4 / 6 + 1e-6).images[0]
    compare(f"img2img, {sampler}", record, theirs)
    record = ours(*args, "--mask_path", "mask.png")
    inpaint = pipe_as(StableDiffusionInpaintPipeline, pipe, sampler)
    inpaint._encode_vae_image = lambda *a, **k: record["init"]
    theirs = inpaint(
        **ask, image=start, mask_image=Image.open("mask.png").convert("L"), height=H,
        width=W, strength=4 / 6 + 1e-6).images[0]
    compare(f"inpainting, {sampler}", record, theirs)
mean = pipe.vae.encode(torch.from_numpy(np.asarray(start).copy()).permute(2, 0, 1)[None] / 127.5 - 1)
off = ((record["init"] / 0.18215 - mean.latent_dist.mean) / mean.latent_dist.std).detach()
print(f"img2img's first latent: mean {float(off.mean()):.3f} and deviation {float(off.std()):.3f}, "
      "in Diffusers' mean and deviation for the picture (0 and 1 if it is a sample)")
print(f"diffusers {diffusers.__version__}, torch {torch.__version__}: {failed} failed")
sys.exit(1 if failed else 0)
