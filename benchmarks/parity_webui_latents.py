"""A web UI's script that keeps the final latents of the last run as $PARITY_LATENTS/latents.pt, for parity_webui.py."""

import os

import torch
from modules import scripts


class KeepLatents(scripts.Script):
    """Runs with every generation."""

    def title(self):
        return "Keep latents"

    def show(self, is_img2img):
        return scripts.AlwaysVisible

    def post_sample(self, p, ps, *args):
        """Written under another name first, so that none is read half."""
        path = os.path.join(os.environ["PARITY_LATENTS"], "latents.pt")
        torch.save(ps.samples.detach().float().cpu(), path + ".new")
        os.replace(path + ".new", path)
