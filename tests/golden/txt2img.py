#!/usr/bin/env python3
"""Makes tests/golden/txt2img.safetensors: whole pictures of StableDiffusionPipeline.

    txt2img.py PROGRAM          (needs diffusers, transformers, torch)

The model is made of random numbers by `graphrun init-weights` (variant tiny, seed 1), so it
need not be stored; tests/parity/txt2img.c makes it again. Of run N: rN.noise, rN.step_noise,
rN.embeddings (the negative prompt's first), rN.latents.K after step K, rN.image."""
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler,
                       EulerAncestralDiscreteScheduler, StableDiffusionPipeline)
from diffusers.schedulers import scheduling_euler_ancestral_discrete
from safetensors.torch import save_file

program = os.path.abspath(sys.argv[1])
target = os.path.join(os.path.dirname(os.path.abspath(__file__)), "txt2img.safetensors")
os.chdir(tempfile.mkdtemp())
subprocess.run([program, "init-weights", "unet", "clip", "vae_decoder", "vae_encoder", "--variant",
                "tiny", "--seed", "1", "--dtype", "f32", "--quiet", "-o", "m.safetensors"], check=True)
subprocess.run([program, "convert", "m.safetensors", "m", "--to", "diffusers", "--quiet"], check=True)
config = pathlib.Path("m/text_encoder/config.json")  # a file does not tell how many heads there are
config.write_text(config.read_text().replace('"num_attention_heads": 1', '"num_attention_heads": 4')
                  .replace('"num_attention_heads":1', '"num_attention_heads":4'))
pipe = StableDiffusionPipeline.from_pretrained("m", torch_dtype=torch.float32, safety_checker=None)
pipe.set_progress_bar_config(disable=True)
schedule = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
runs = [  # as txt2img.c has them
    (DDIMScheduler(**schedule, clip_sample=False),
     dict(prompt="a photo of a dog, on a mat", negative_prompt="low quality", width=96, height=64,
          num_inference_steps=4, guidance_scale=7.5)),
    (EulerAncestralDiscreteScheduler(**schedule, timestep_spacing="linspace"),
     dict(prompt="a castle", negative_prompt="", width=64, height=64, num_inference_steps=3,
          guidance_scale=5.0)),
    (DPMSolverMultistepScheduler(**schedule, final_sigmas_type="zero"),
     dict(prompt="no guidance", width=64, height=64, num_inference_steps=5, guidance_scale=1.0)),
]
out = {}
for i, (scheduler, ask) in enumerate(runs):
    draw = torch.Generator().manual_seed(i)
    shape = (1, 4, ask["height"] // 8, ask["width"] // 8)
    noise = torch.randn(shape, generator=draw)
    steps = torch.randn(ask["num_inference_steps"], *shape, generator=draw)
    left = list(steps)
    scheduling_euler_ancestral_discrete.randn_tensor = lambda *a, **k: left.pop(0)
    text, minus = pipe.encode_prompt(ask["prompt"], "cpu", 1, ask["guidance_scale"] > 1,
                                     ask.get("negative_prompt"))
    latents = []

    def look(p, k, t, values):
        latents.append(values["latents"].clone())
        return values

    pipe.scheduler = scheduler
    picture = pipe(**ask, latents=noise.clone(), callback_on_step_end=look, output_type="pt").images
    out |= {f"r{i}.noise": noise, f"r{i}.step_noise": steps,
            f"r{i}.embeddings": text if minus is None else torch.cat([minus, text]),
            f"r{i}.image": (picture * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()}
    out |= {f"r{i}.latents.{k}": x for k, x in enumerate(latents)}
save_file({k: v.detach().contiguous() for k, v in out.items()}, target)
print({k: tuple(v.shape) for k, v in out.items()})
