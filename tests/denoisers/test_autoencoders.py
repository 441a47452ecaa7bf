import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from experiments.golden.autoencoders import build_first_stage, check_autoencoder
from experiments.golden.networks import Unsupported
from skiptune.denoisers.autoencoder_parts import Quantizer
from skiptune.denoisers.autoencoders import (
    KL_F8,
    VQ_F4,
    DiagonalGaussian,
    KLAutoencoder,
    VQAutoencoder,
    autoencoder_state,
    build_autoencoder,
)
from skiptune.errors import SkiptuneError

REPOSITORY = Path(__file__).parents[2]
KEPT, SHARED = REPOSITORY / "tests/data/golden", REPOSITORY.parent / "shared/golden"
DDCONFIG = {
    "double_z": True, "z_channels": 4, "resolution": 8, "in_channels": 3, "out_ch": 3, "ch": 32,
    "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "dropout": 0.0,
}  # fmt: skip


NO_VARIANCE, OTHER_ATTENTION = {**DDCONFIG, "double_z": False}, {**DDCONFIG, "attn_type": "x"}


def entry_of(root, case):
    return next(e for e in json.loads((root / "manifest.json").read_text())["cases"] if e["case"] == case)


def small_kl(**changes):
    torch.manual_seed(0)
    return KLAutoencoder({**DDCONFIG, **changes}, embed_dim=2).eval()


def small_vq(**changes):
    torch.manual_seed(0)
    return VQAutoencoder({**NO_VARIANCE, **changes}, embed_dim=2, n_embed=16).eval()


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("root", "case"), [(KEPT, "ldm_vq"), (SHARED, "ldm_vq"), (SHARED, "ldm_kl")])
def test_equals_the_official_autoencoder(root, case):
    if not (root / case).is_dir():
        pytest.skip("no shared/golden beside the repository")
    entry = entry_of(root, case)
    results = list(check_autoencoder(root / case, entry))
    assert [result for result in results if not result.passed] == []
    listed = {name for name, io in entry["io"].items() if io["role"] == "output"}
    assert {result.tensor for result in results} == listed | {
        "buffers", "num_parameters", "num_state_dict_entries",
    }  # fmt: skip


def test_state_dict_has_the_published_names_and_shapes():
    autoencoder = build_first_stage(entry_of(KEPT, "ldm_vq")["constructor"])
    own = {name: list(value.shape) for name, value in autoencoder.state_dict().items()}
    with safe_open(KEPT / "ldm_vq/weights.safetensors", "pt") as file:
        assert own == {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


@pytest.mark.parametrize(
    ("description", "decoder", "total", "latent_shape"),
    [
        ({"class": "VQAutoencoder", "kwargs": VQ_F4}, 32_960_771, 55_322_782, (3, 64, 64)),
        ({"class": "KLAutoencoder", "kwargs": KL_F8}, 49_490_179, 83_653_863, (4, 32, 32)),
    ],
    ids=["vq_f4", "kl_f8"],
)
def test_published_autoencoders_at_full_size(description, decoder, total, latent_shape):
    with torch.device("meta"):
        autoencoder = build_autoencoder(description)
    assert sum(parameter.numel() for parameter in autoencoder.decoder.parameters()) == decoder
    assert sum(parameter.numel() for parameter in autoencoder.parameters()) == total
    assert (autoencoder.image_shape, autoencoder.latent_shape) == ((3, 256, 256), latent_shape)


def test_posterior_is_clamped_and_sampled_with_the_given_noise():
    moments = torch.tensor([[1.0, 2.0, -99.0, 99.0]]).reshape(1, 4, 1, 1)
    posterior = DiagonalGaussian.from_moments(moments)
    assert posterior.logvar.flatten().tolist() == [-30.0, 20.0]
    assert torch.equal(posterior.mode(), moments[:, :2])
    noise = torch.tensor([1.0, 0.5]).reshape(1, 2, 1, 1)
    expected = [1.0 + 1.0 * torch.tensor(-15.0).exp().item(), 2.0 + 0.5 * torch.tensor(10.0).exp().item()]
    assert posterior.sample(noise).flatten().tolist() == pytest.approx(expected)


@torch.no_grad()
def test_kl_encoding_is_the_mode_or_a_sample():
    autoencoder, x, noise = small_kl(), draw(2, 3, 8, 8), draw(2, 2, 4, 4)
    posterior = autoencoder.posterior(x)
    assert autoencoder.moments(x).shape == (2, 4, 4, 4)
    assert torch.equal(autoencoder.encode(x), posterior.mean)
    assert torch.equal(autoencoder.encode(x, noise), posterior.sample(noise))
    assert torch.equal(autoencoder(x), autoencoder.decode(posterior.mean))


@torch.no_grad()
def test_quantiser_takes_the_nearest_entry():
    torch.manual_seed(0)
    quantizer, z = Quantizer(16, 3), 0.05 * draw(2, 3, 5, 70)  # 700 points
    entries, index = quantizer(z)
    points = z.permute(0, 2, 3, 1).double()
    expected = torch.cdist(points, quantizer.embedding.weight.double()).argmin(dim=-1)
    assert index.shape == (2, 5, 70) and torch.equal(index, expected)
    torch.testing.assert_close(entries, quantizer.embedding(index).permute(0, 3, 1, 2))


@torch.no_grad()
def test_quantiser_works_in_pieces():
    torch.manual_seed(0)
    quantizer, z = Quantizer(8, 2), draw(3, 2, 50, 60)  # 9000 points, more than one piece
    separate = torch.cat([quantizer(image[None])[1] for image in z])
    assert torch.equal(quantizer(z)[1], separate)


def test_gradient_passes_the_quantiser():
    torch.manual_seed(0)
    quantizer, z = Quantizer(8, 2), draw(1, 2, 3, 3).requires_grad_()
    quantizer(z)[0].mul(draw(1, 2, 3, 3)).sum().backward()
    assert torch.equal(z.grad, draw(1, 2, 3, 3))


@torch.no_grad()
def test_vq_decoding_quantises_unless_told():
    autoencoder, z = small_vq(), draw(2, 2, 4, 4)
    entries = autoencoder.quantize(z)[0]
    assert torch.equal(autoencoder.decode(z), autoencoder.decode(entries, force_not_quantize=True))
    assert (autoencoder.decode(z) - autoencoder.decode(z, force_not_quantize=True)).abs().max() > 1e-3


@torch.no_grad()
def test_options_of_the_network():
    plain, bounded = small_kl(), small_kl(tanh_out=True)
    z = draw(2, 2, 4, 4)
    torch.testing.assert_close(bounded.decode(z), plain.decode(z).tanh())
    attention = {name for name in plain.state_dict() if ".attn" in name}
    assert {name.rpartition(".attn")[0] for name in attention} == {
        "encoder.down.1", "encoder.mid", "decoder.mid", "decoder.up.1",
    }  # fmt: skip
    without = small_kl(attn_type="none")
    assert without.state_dict().keys() == plain.state_dict().keys() - attention
    assert without.decode(z).shape == plain.decode(z).shape
    assert not [name for name in small_kl(resamp_with_conv=False).state_dict() if "sample" in name]


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"class": "Autoencoder"}, "unknown autoencoder class 'Autoencoder'; choose one of VQAutoencoder"),
        ({"class": "KLAutoencoder", "kwargs": {"embed_dim": 2}}, "cannot build KLAutoencoder: .*ddconfig"),
        ({"class": "KLAutoencoder", "kwargs": {"embed_dim": 2, "ddconfig": {"foo": 1}}}, "foo"),
        (
            {
                "class": "KLAutoencoder",
                "kwargs": {"embed_dim": 2, "ddconfig": {**DDCONFIG, "double_z": False}},
            },
            "set double_z of its ddconfig to true",
        ),
        (
            {"class": "VQAutoencoder", "kwargs": {"embed_dim": 2, "n_embed": 4, "ddconfig": DDCONFIG}},
            "set double_z of its ddconfig to false",
        ),
        (
            {
                "class": "AutoencoderKL",
                "kwargs": {"embed_dim": 2, "ddconfig": {**DDCONFIG, "attn_type": "x"}},
            },
            "attn_type 'x' is not supported",
        ),
    ],
)
def test_wrong_descriptions_are_refused_in_one_line(description, message):
    with pytest.raises(SkiptuneError, match=message) as error:
        build_autoencoder(description)
    assert "\n" not in str(error.value)
    with pytest.raises(Unsupported):
        build_first_stage(description)


def test_official_arguments_that_only_training_needs():
    kwargs = {"embed_dim": 2, "ddconfig": DDCONFIG, "lossconfig": {"target": "x"}, "monitor": "val/rec_loss"}
    autoencoder = build_autoencoder({"class": "AutoencoderKL", "kwargs": kwargs})
    assert autoencoder.state_dict().keys() == small_kl().state_dict().keys()


def test_official_checkpoints():
    state = small_kl().state_dict()
    assert autoencoder_state(state) == state
    loss = {"loss.discriminator.main.0.weight": torch.zeros(1), "loss.logvar": torch.zeros(())}
    lightning = {"state_dict": {**state, **loss, "model_ema.decay": torch.zeros(())}, "global_step": 5}
    assert autoencoder_state(lightning) == state
    inside = {f"first_stage_model.{name}": value for name, value in state.items()}
    latent_model = {"state_dict": {"betas": torch.zeros(3), "model.w": torch.zeros(3), **inside}}
    assert autoencoder_state(latent_model) == state


@pytest.mark.parametrize("checkpoint", [None, [], 3, {}, {"state_dict": 3}, {"epoch": 3}])
def test_other_files_are_refused(checkpoint):
    with pytest.raises(SkiptuneError, match="no checkpoint of an autoencoder"):
        autoencoder_state(checkpoint)
