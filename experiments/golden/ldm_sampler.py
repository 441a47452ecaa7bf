"""Runner for the recorded sampler of CompVis/latent-diffusion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from experiments.golden.compare import Comparison, compare_outputs
from experiments.golden.discrete_samplers import lending_case, trajectory
from experiments.golden.samplers import Recorder
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas
from skiptune.denoisers.guidance import ClassifierFreeGuidance
from skiptune.denoisers.guided import LatentUNet
from skiptune.samplers import DDIM, DiscreteSchedule, Timesteps, bind


@torch.no_grad()
def check_ldm_sampler(case_dir: Path, entry: Mapping[str, Any]) -> Iterator[Comparison]:
    """CompVis/latent-diffusion: its DDIM discretisation, eta, classifier-free guidance."""
    io = load_file(case_dir / "io.safetensors")
    given = entry["constructor"]["schedule"]
    alphas = vp_alphas("scaled_linear", given["linear_start"], given["linear_end"], given["timesteps"])
    lender, state = lending_case(case_dir, entry)
    network = LatentUNet(**lender["constructor"]["kwargs"])
    network.load_state_dict(state, strict=True)
    tokens = RecordedTokens(io["context"], io["uncond_context"])
    shape = io["x_T"].shape
    inner = DiscreteDenoiser(network, (*shape[1:],), alphas.float(), shape[0], embedding=tokens).eval()
    betas = 1 - alphas / torch.cat([torch.ones(1, dtype=torch.float64), alphas[:-1]])
    produced = {"betas": betas.float(), "alphas_cumprod": alphas.float()}
    for run, settings in entry["runs"].items():
        denoiser = ClassifierFreeGuidance(inner, settings["guidance_scale"])
        timesteps = Timesteps(settings["S"], offset=1, end="first")
        levels = timesteps.levels(DiscreteSchedule.of(denoiser))
        sampler = DDIM(levels, settings["eta"], timesteps=timesteps).fitted(denoiser)
        recorder = Recorder(bind(denoiser, torch.eye(shape[0])))
        produced[f"{run}/xs"] = trajectory(sampler, recorder, io["x_T"], io.get(f"{run}/noise"))
        produced[f"{run}/x0"] = torch.stack(recorder.outputs)
        produced[f"{run}/timesteps"] = torch.tensor(timesteps.times(len(alphas)))
        scale = 1 / (1 + sampler.sigmas**2)
        produced[f"{run}/alphas"] = scale[:-1].flip(0)
        produced[f"{run}/alphas_prev"] = scale[1:].flip(0)
        produced[f"{run}/sigmas"] = (sampler.spread * scale[1:].sqrt()).flip(0)
    yield from compare_outputs(entry["case"], entry, produced, io)


class RecordedTokens(nn.Module):
    """Row i of the identity matrix has the recorded tokens of image i, a zero row its unconditional ones."""

    def __init__(self, context: Tensor, unconditional: Tensor):
        super().__init__()
        self.context, self.unconditional = context, unconditional

    def forward(self, condition: Tensor) -> Tensor:
        nothing = self.unconditional.repeat(len(condition) // len(self.unconditional), 1, 1)
        return torch.where(condition.any(1)[:, None, None], self.context[condition.argmax(1)], nothing)
