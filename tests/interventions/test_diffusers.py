"""A user's own diffusers pipeline, and FreeU against diffusers' own."""

import json

import pytest
import torch

from skiptune.errors import SkiptuneError
from skiptune.interventions import FreeU, SkipTuning, TimeSchedule, Window, find_skip_sites, record_skip_norms

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")


def unet(**options):
    torch.manual_seed(0)
    return (
        diffusers.UNet2DConditionModel(
            8, 4, 4, layers_per_block=1, block_out_channels=(16, 32, 32), norm_num_groups=8,
            cross_attention_dim=12, attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), **options,
        )
        .eval()
        .requires_grad_(False)
    )  # fmt: skip


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    """Stable Diffusion in small: text encoder, U-Net, autoencoder and scheduler, with random weights."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    folder = tmp_path_factory.mktemp("tokenizer")
    letters = [letter + end for letter in "abcdefghijklmnopqrstuvwxyz" for end in ("", "</w>")]
    words = ["<|startoftext|>", "<|endoftext|>", *letters]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=12, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    autoencoder = diffusers.AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
    )  # fmt: skip
    made = diffusers.StableDiffusionPipeline(
        vae=autoencoder.eval(),
        text_encoder=transformers.CLIPTextModel(config).eval(),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


def picture(pipe):
    generator = torch.Generator().manual_seed(0)
    settings = {"num_inference_steps": 3, "height": 16, "width": 16, "output_type": "pt"}
    return pipe("a fox", generator=generator, **settings).images


def test_pipeline_with_a_prompt(pipe):
    untouched = picture(pipe)
    for neutral in (SkipTuning.interpolated(1.0), FreeU()):
        with neutral.attached_to(pipe.unet):
            assert torch.equal(picture(pipe), untouched)
    with SkipTuning.interpolated(rho_bottom=0.7).attached_to(pipe.unet):
        tuned = picture(pipe)
    with record_skip_norms(pipe.unet) as norms:
        assert torch.equal(picture(pipe), untouched)
    assert (tuned - untouched).abs().max() > 1e-4
    assert len(norms.u) == 3 and norms.u[0].shape == (6, 2)  # guidance doubles the batch
    assert norms.proportions().shape == (6,)


def test_unconditional_pipeline():
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        8, 3, 3, layers_per_block=1, block_out_channels=(16, 32), norm_num_groups=8, attention_head_dim=8,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    pipe = diffusers.DDIMPipeline(network.eval(), diffusers.DDIMScheduler())
    pipe.set_progress_bar_config(disable=True)

    def image():
        generator = torch.Generator().manual_seed(0)
        return torch.from_numpy(pipe(2, generator, num_inference_steps=3, output_type="np").images)

    untouched = image()
    with SkipTuning.interpolated(rho_bottom=0.7).attached_to(pipe.unet):
        assert (image() - untouched).abs().max() > 1e-4
    with FreeU(b1=1.4, b2=1.6, s1=0.9, s2=0.2, by="width").attached_to(pipe.unet):
        assert (image() - untouched).abs().max() > 1e-4
    with record_skip_norms(pipe.unet) as norms:
        assert torch.equal(image(), untouched)
    assert norms.proportions().shape == (4,) and norms.u[0].shape == (4, 2)


def test_pipeline_itself_is_no_network(pipe):
    with pytest.raises(SkiptuneError, match="StableDiffusionPipeline is no torch module; .* pipe.unet"):
        SkipTuning.interpolated(0.7).attached_to(pipe).__enter__()


@pytest.fixture(scope="module")
def call():
    network = unet()
    generator = torch.Generator().manual_seed(1)
    x, prompt = torch.randn(2, 4, 8, 8, generator=generator), torch.randn(2, 5, 12, generator=generator)
    return network, lambda t, **options: network(x, t, prompt, **options).sample


FACTORS = {"b1": 1.4, "b2": 1.6, "s1": 0.9, "s2": 0.2}


def test_freeu_is_that_of_diffusers(call):
    network, output = call
    untouched = output(300)
    network.enable_freeu(**FACTORS)
    expected = output(300)
    network.disable_freeu()
    with FreeU(**FACTORS).attached_to(network):
        torch.testing.assert_close(output(300), expected, rtol=1e-6, atol=1e-6)
    assert (expected - untouched).abs().max() > 1e-2
    assert torch.equal(output(300), untouched)


def test_official_freeu_differs(call):
    network, output = call
    with FreeU(**FACTORS).attached_to(network):
        constant = output(300)
    with FreeU(**FACTORS, variant="map", by="width").attached_to(network):
        assert (output(300) - constant).abs().max() > 1e-3


def test_schedules_need_the_noise_level_of_a_time(call):
    network, output = call
    alphas = diffusers.DDIMScheduler().alphas_cumprod.double()

    def sigma_of(t):
        return (1 / alphas[t.long()] - 1).sqrt()

    low = float(sigma_of(torch.tensor(299))), float(sigma_of(torch.tensor(301)))
    tuning = SkipTuning.interpolated(0.5, schedules=(Window(*low),))
    with (
        pytest.raises(
            SkiptuneError, match="UNet2DConditionModel is not called with sigma: .* sigma_of"
        ) as caught,
        tuning.attached_to(network),
    ):
        pass
    assert "\n" not in str(caught.value)
    with SkipTuning.interpolated(0.5).attached_to(network):
        expected = output(300)
    untouched = output(300), output(500)
    with tuning.attached_to(network, sigma_of=sigma_of):
        assert torch.equal(output(300), expected)
        assert torch.equal(output(torch.tensor([300, 300])), expected)
        assert torch.equal(output(torch.tensor(500)), untouched[1])
        mixed = output(torch.tensor([300, 500]))
        assert torch.equal(mixed[0], expected[0]) and torch.equal(mixed[1], untouched[1][1])
    assert torch.equal(output(300), untouched[0])
    halfway = TimeSchedule("decreasing", (float(sigma_of(torch.tensor(600))), low[0], 0.01))
    with SkipTuning.interpolated(0.5, schedules=(halfway,)).attached_to(network, sigma_of=sigma_of):
        assert (output(299) - output(300)).abs().max() > 0


def test_time_given_by_name(call):
    network, _ = call
    x, prompt = torch.zeros(1, 4, 8, 8), torch.zeros(1, 5, 12)
    inputs = {"sample": x, "timestep": torch.tensor(7), "encoder_hidden_states": prompt}
    tuning = SkipTuning.interpolated(0.5, schedules=(Window(0, 1),))
    with tuning.attached_to(network, sigma_of=lambda t: t / 1000):
        tuned = network(**inputs).sample
    with SkipTuning.interpolated(0.5).attached_to(network):
        assert torch.equal(network(**inputs).sample, tuned)


def test_blocks_of_one_skip_each():
    """K-blocks concatenate once, before their first residual block, and the lowest not at all."""
    torch.manual_seed(0)
    network = diffusers.UNet2DConditionModel(
        8, 4, 4, block_out_channels=(32, 32, 64, 64), layers_per_block=3, cross_attention_dim=12,
        attention_head_dim=16, mid_block_type=None, time_embedding_type="fourier", norm_num_groups=None,
        resnet_time_scale_shift="scale_shift",
        down_block_types=("KDownBlock2D", *["KCrossAttnDownBlock2D"] * 3),
        up_block_types=(*["KCrossAttnUpBlock2D"] * 3, "KUpBlock2D"),
    ).eval()  # fmt: skip
    found = [(site.name, site.u_channels, site.d_channels) for site in find_skip_sites(network)]
    assert found == [(f"up_blocks.{i}.resnets.0", c, c) for i, c in ((1, 64), (2, 32), (3, 32))]
    x, prompt = torch.randn(1, 4, 16, 16), torch.randn(1, 5, 12)
    with torch.no_grad():
        untouched = network(x, 3.0, prompt).sample
        with SkipTuning.interpolated(0.5).attached_to(network):
            assert not torch.equal(network(x, 3.0, prompt).sample, untouched)
