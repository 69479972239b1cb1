"""An extension for a real web UI under test: keeps a request's noise, prompts and final latents in a file."""

import gradio as gr
import torch
from modules import scripts


class Latents(scripts.Script):
    def title(self):
        return "Latents under test"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def ui(self, is_img2img):
        return [gr.Textbox(value="", label="Latents under test", visible=False)]

    def process(self, p, path=""):
        p._kept = {}

    def process_before_every_sampling(self, p, path="", **kwargs):
        p._kept |= {"noise": kwargs["noise"].detach().clone().float().cpu()}
        for name in ("c", "uc"):
            p._kept[name] = first(kwargs[name]).float().cpu()

    def post_sample(self, p, ps, path=""):
        found = ps.samples if isinstance(ps.samples, torch.Tensor) else torch.stack(list(ps.samples))
        p._kept["final"] = found.detach().clone().float().cpu()  # after hires, pictures
        unet = getattr(getattr(p.sd_model, "forge_objects", None), "unet", p.sd_model).model.diffusion_model
        p._kept["hooks"] = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in unet.modules())

    def postprocess(self, p, processed, path=""):
        if path:
            torch.save(p._kept, path)


def first(cond):
    rows = [row[0] for row in cond.batch] if hasattr(cond, "batch") else cond
    found = [row.schedules[0].cond if hasattr(row, "schedules") else row[0].cond for row in rows]
    return torch.stack(found)
