"""Denoisers of a prompt around tiny U-Nets of diffusers."""

from tiny_diffusers import inputs, tiny_unet

from skiptune.denoisers.diffusers_network import DiffusersNetwork, Prompted
from skiptune.denoisers.discrete import DiscreteDenoiser, vp_alphas


def prompted(models, kind, guidance=1.0):
    """As ``tiny_unet``, guided away from another prompt; ``unet`` and ``prompts`` are what it is made of."""
    unet = tiny_unet(models, kind)
    network = DiffusersNetwork(unet)
    alphas = vp_alphas("scaled_linear", 0.00085, 0.012)
    denoiser = DiscreteDenoiser(network, (4, 8, 8), alphas).eval()
    _, named = inputs(kind)
    rows = {"context": named["encoder_hidden_states"], **named.get("added_cond_kwargs", {})}
    prompt, nothing = ({key: value[i : i + 1] for key, value in rows.items()} for i in range(2))
    made = Prompted(denoiser, prompt, nothing, guidance)
    made.unet = unet
    made.prompts = (nothing, prompt)
    return made
