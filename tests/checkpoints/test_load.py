"""What is built from a file: description, mistakes in one line, types and places of the weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from experiments.benchmarks.official_layout import Persistent, write_edm, write_snapshot
from skiptune.checkpoints.building.assemble import build_empty, innermost
from skiptune.checkpoints.building.convert import convert
from skiptune.checkpoints.building.load import HEADER, load_checkpoint, load_official
from skiptune.checkpoints.building.own_memory import OwnMemory, mappings
from skiptune.checkpoints.reading.read import read_checkpoint
from skiptune.denoisers import build_denoiser
from skiptune.errors import SkiptuneError

sys.path.insert(0, str(Path(__file__).resolve().parent))

from official_files import DDIM, DESCRIPTIONS, EDM, LATENT, write  # noqa: E402

linux = pytest.mark.skipif(sys.platform != "linux", reason="what is mapped where is known on Linux only")


def refused(message: str, path: Path, *arguments: Any) -> None:
    with pytest.raises(SkiptuneError, match=message) as caught:
        load_official(path, *arguments)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def changed(description: Mapping[str, Any], **kwargs: Any) -> dict[str, Any]:
    return {**description, "kwargs": {**description["kwargs"], **kwargs}}


class TestDescription:
    def test_an_argument_that_contradicts_the_file(self, tmp_path: Path) -> None:
        path, *_ = write("EDMPrecond", tmp_path)
        right = DESCRIPTIONS["EDMPrecond"]
        for name, other in (("model_channels", 32), ("sigma_data", 0.6), ("encoder_type", "standard")):
            said = {**EDM, "sigma_data": 0.5}[name]
            message = f"was made with {name} = {said!r}, the description says {other!r}"
            refused(message, path, changed(right, **{name: other}))
        refused("holds EDMPrecond, the description says VPPrecond", path, {**right, "class": "VPPrecond"})

    def test_defaults_may_be_left_out_and_training_may_differ(self, tmp_path: Path) -> None:
        path, *_ = write("EDMPrecond", tmp_path)
        left_out = {k: v for k, v in EDM.items() if k not in ("dropout", "decoder_type")}
        given = {"class": "EDMPrecond", "kwargs": {**left_out, "channel_mult": (1, 2), "sigma_data": 0.5}}
        load_official(path, given)
        refused("channel_mult_noise = 2", path, changed(given, channel_mult_noise=1))

    def test_a_network_of_another_family(self, tmp_path: Path) -> None:
        path, *_ = write("consistency", tmp_path)
        message = "holds a network of guided diffusion, the description says "
        refused(message + "EDMPrecond", path, DESCRIPTIONS["EDMPrecond"])
        refused(message + "DDIMUNet", path, DESCRIPTIONS["DDIM"])

    def test_a_known_network_with_the_same_parameters_comes_before_guesses(self, tmp_path: Path) -> None:
        network = changed(DDIM["network"], image_size=16, attn_resolutions=[8])
        small = {
            "class": "DiscreteDenoiser",
            "kwargs": {**DDIM, "network": network, "image_shape": [3, 16, 16]},
        }
        wider = changed(small, network=changed(network, ch=64))
        path, *_ = write("DDIM", tmp_path)
        guessed = load_checkpoint(path)
        assert guessed.denoiser.image_shape == (3, 32, 32)
        assert "images of 32 x 32 (attention at 16 x 16)" in guessed.assumed
        for known in ([wider], [DESCRIPTIONS["U-ViT"], wider]):
            assert load_checkpoint(path, known=known).assumed == guessed.assumed
        found = load_checkpoint(path, known=[wider, small])
        assert found.description == small and "as for the known model that they fit" in found.assumed[0]
        (assumed,) = load_checkpoint(path, known=[small, changed(small, prediction="v")]).assumed
        assert "1 more of the known ones fit as well" in assumed

    def test_guidance_is_a_choice_and_not_a_property_of_the_file(self, tmp_path: Path) -> None:
        path, *_ = write("latent diffusion", tmp_path)
        convert(load_checkpoint(path), tmp_path / "converted.safetensors")
        other = {**DESCRIPTIONS["latent diffusion"], "guidance": {"scale": 3.0, "null": 5}}
        loaded = load_checkpoint(tmp_path / "converted.safetensors", other)
        assert loaded.denoiser.get_submodule("model").scale == 3.0
        # Without anything assumed the header counts as much as the record of a pickle.
        convert(loaded, tmp_path / "again.safetensors")
        load_checkpoint(tmp_path / "again.safetensors", DESCRIPTIONS["latent diffusion"])
        wrong = changed(other, schedule={"kind": "linear", "beta_start": 0.0015, "beta_end": 0.0195})
        refused("was made with schedule", tmp_path / "again.safetensors", wrong)
        network = changed(LATENT["network"], num_heads=2)
        refused(
            "was made with num_heads = 1", tmp_path / "again.safetensors", changed(other, network=network)
        )

    def test_what_is_left_out_is_told(self, tmp_path: Path) -> None:
        left_out = load_checkpoint(write("latent diffusion", tmp_path)[0]).left_out
        assert left_out["betas"] == 1 and left_out["model_ema"] > 10

    def test_other_surplus_of_a_latent_model_is_refused(self, tmp_path: Path) -> None:
        path, *_ = write("latent diffusion", tmp_path)
        checkpoint = read_checkpoint(path)
        assert isinstance(checkpoint, dict)
        for name in (
            "model.diffusion_model.extra",
            "cond_stage_model.extra",
            "first_stage_model.extra",
            "extra",
        ):
            torch.save(
                {"state_dict": {**checkpoint["state_dict"], name: torch.zeros(1)}}, tmp_path / "more.ckpt"
            )
            refused(
                "do not fit .*: surplus: .*extra$", tmp_path / "more.ckpt", DESCRIPTIONS["latent diffusion"]
            )


class TestParameters:
    @pytest.fixture
    def state(self) -> dict[str, Tensor]:
        torch.manual_seed(0)
        return build_denoiser(DESCRIPTIONS["EDMPrecond"]).state_dict()

    def test_missing_surplus_and_of_another_shape(self, state: dict[str, Tensor], tmp_path: Path) -> None:
        path, names = tmp_path / "weights.safetensors", list(state)
        for count, message in ((1, f"missing: {names[5]}$"), (5, r"missing: .*, .*, .* and 2 more$")):
            save_file({name: state[name] for name in names if name not in names[5 : 5 + count]}, path)
            refused(f"its parameters do not fit EDMPrecond: {message}", path, DESCRIPTIONS["EDMPrecond"])
        save_file({**state, "model.extra": torch.zeros(1)}, path)
        refused("surplus: model.extra$", path, DESCRIPTIONS["EDMPrecond"])
        save_file({**state, names[0]: torch.zeros(3, 3), "z": torch.zeros(1)}, path)
        shape = list(state[names[0]].shape)
        message = f"surplus: z; of another shape: {names[0]} is [3, 3] instead of {shape}"
        with pytest.raises(SkiptuneError) as caught:
            load_official(path, DESCRIPTIONS["EDMPrecond"])
        assert str(caught.value).endswith(message)

    def test_half_precision_becomes_float32(self, state: dict[str, Tensor], tmp_path: Path) -> None:
        half = {name: value.half() for name, value in state.items()}
        save_file(half, tmp_path / "weights.safetensors")
        loaded = load_official(tmp_path / "weights.safetensors", DESCRIPTIONS["EDMPrecond"]).state_dict()
        assert all(torch.equal(value, half[name].float()) for name, value in loaded.items())
        assert {value.dtype for value in loaded.values()} == {torch.float32}

    def test_edm2_computes_from_float16_as_from_float32(self, tmp_path: Path) -> None:
        stored = load_official(write("EDM2Precond", tmp_path)[0])
        assert {p.dtype for p in stored.parameters()} == {torch.float16}
        wide = build_denoiser(DESCRIPTIONS["EDM2Precond"]).eval()
        wide.load_state_dict({name: value.float() for name, value in stored.state_dict().items()})
        x, sigma = torch.randn(2, 3, 16, 16), torch.tensor([0.3, 5.0])
        with torch.no_grad():
            # Only the scalar gains over a fan-in are rounded, as in the official code.
            torch.testing.assert_close(stored(x, sigma), wide(x, sigma), rtol=0, atol=5e-3)

    def test_nothing_is_built_on_the_way(self) -> None:
        for description in DESCRIPTIONS.values():
            empty, full = build_empty(description), build_denoiser(description)
            shapes = {name: value.shape for name, value in full.state_dict().items()}
            assert {name: value.shape for name, value in empty.state_dict().items()} == shapes
            held = sum(p.numel() for p in empty.parameters() if not p.is_meta)
            assert held < 0.05 * sum(p.numel() for p in full.parameters())
            for name, module in empty.named_modules():  # what no file holds has its values
                theirs = vars(full.get_submodule(name))
                for key, value in vars(module).items():
                    if isinstance(value, Tensor):
                        assert torch.equal(value, theirs[key])


class TestPlace:
    @linux
    @pytest.mark.parametrize("case", ["consistency", "latent diffusion", "DDIM"])
    def test_weights_of_zip_files_lie_in_the_mapped_file(self, case: str, tmp_path: Path) -> None:
        path, *_ = write(case, tmp_path)
        denoiser = load_official(path, DESCRIPTIONS[case])
        assert in_file(denoiser, path) == [True] * len(list(denoiser.parameters()))

    @linux
    @pytest.mark.parametrize("case", ["EDMPrecond", "EDM2Precond"])
    def test_weights_of_pickles_are_copied_only_where_they_must(self, case: str, tmp_path: Path) -> None:
        path, *_ = write(case, tmp_path)
        denoiser = load_official(path, DESCRIPTIONS[case])
        assert all(p.data_ptr() % p.element_size() == 0 for p in denoiser.parameters())
        assert {True, False} == set(in_file(denoiser, path))

    @linux
    def test_converted_weights_lie_in_the_mapped_file(self, tmp_path: Path) -> None:
        target = tmp_path / "converted.safetensors"
        convert(load_checkpoint(write("EDM2Precond", tmp_path)[0]), target)
        denoiser = load_official(target)
        assert all(in_file(denoiser, target))

    def test_changing_weights_does_not_change_the_file(self, tmp_path: Path) -> None:
        path, *_ = write("consistency", tmp_path)
        before = path.read_bytes()
        with torch.no_grad():
            for parameter in load_official(path).parameters():
                parameter.add_(1)
        assert path.read_bytes() == before

    def test_own_memory(self, tmp_path: Path) -> None:
        content = torch.arange(4000, dtype=torch.float32)
        (tmp_path / "numbers").write_bytes(b"x" * 5 + content.numpy().tobytes())
        size = (tmp_path / "numbers").stat().st_size
        mapped = torch.UntypedStorage.from_file(str(tmp_path / "numbers"), shared=False, nbytes=size)
        odd = torch.frombuffer(bytearray(4 * 4000 + 1), dtype=torch.float32, offset=1, count=4000)
        inside = torch.empty(0, dtype=torch.uint8).set_(mapped, 5, (16000,))
        with OwnMemory() as memory:
            assert torch.equal(memory.copy(inside).view(torch.float32), content)
            assert torch.equal(memory.copy(odd), torch.zeros(4000))
            across = content.reshape(40, 100).t()
            assert torch.equal(memory.copy(across), across)
            (tmp_path / "numbers").write_bytes(b"")  # an ill-timed change: never numbers out of nowhere
            with open(tmp_path / "numbers", "wb") as file:
                file.truncate(size)
            assert memory.copy(inside).shape == inside.shape


def in_file(network: nn.Module, path: Path) -> list[bool]:
    """Whether each parameter lies where the file is mapped."""
    places = [place for place in mappings() if place.path == str(path.resolve())]
    return [any(m.start <= p.data_ptr() < m.end for m in places) for p in network.parameters()]


class TestOtherFiles:
    def test_what_is_no_network(self, tmp_path: Path) -> None:
        path, second, *_ = write("U-ViT", tmp_path)
        assert second is not None
        refused("holds an autoencoder, not a network: give it as the second file", second)
        refused("no checkpoint of an autoencoder", path, None, write("DDIM", tmp_path)[0])
        unet = innermost(build_denoiser(DESCRIPTIONS["latent diffusion"])).get_submodule("model")
        torch.save(unet.state_dict(), tmp_path / "unet.ckpt")
        refused("holds the U-Net of latent diffusion alone", tmp_path / "unet.ckpt")
        torch.save({"a": 1}, tmp_path / "other.pt")
        refused("holds no state dict: 'a' is a int, no tensor", tmp_path / "other.pt")
        torch.save({"a": torch.zeros(2)}, tmp_path / "other.pt")
        refused("holds no network of a known family .*: it begins with a$", tmp_path / "other.pt")
        write_snapshot(tmp_path / "other.pkl", {"ema": Persistent("Generator")})
        refused("holds a Generator, which is no network that is known", tmp_path / "other.pkl")
        (tmp_path / "text.pt").write_text("what?")
        refused("text.pt cannot be loaded", tmp_path / "text.pt")
        refused("cannot read", tmp_path / "missing.pt")

    def test_a_record_of_an_unknown_class_or_argument(self, tmp_path: Path) -> None:
        network = build_empty(DESCRIPTIONS["EDMPrecond"])
        path = tmp_path / "other.pkl"
        write_edm(path, "CTPrecond", EDM, network)
        refused(r"holds a CTPrecond, which is no network that is known \(EDMPrecond, ", path)
        write_edm(path, "EDMPrecond", {**EDM, "colour": 1}, network)
        refused("cannot build EDMPrecond: .*colour", path)

    def test_a_header_that_says_nonsense(self, tmp_path: Path) -> None:
        path, source = tmp_path / "converted.safetensors", tmp_path / "network"
        source.mkdir()
        convert(load_checkpoint(write("DDIM", source)[0]), path)
        state = load_file(path)
        for said in ("{", "[]", "{}", json.dumps({"description": {"class": "Linear"}, "assumed": []})):
            save_file(state, path, {HEADER: said})
            refused("its header does not say how to build the network", path)
