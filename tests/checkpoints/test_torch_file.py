"""Torch files of every format load as torch.load gives them, over the mapped file."""

import io
import mmap
import struct

import pytest
import torch
from hostile import torch_tar
from safetensors.torch import save_file

from skiptune.checkpoints.reading.read import map_file, read_bytes, read_checkpoint
from skiptune.checkpoints.reading.storages import DTYPES
from skiptune.errors import SkiptuneError

FORMATS = [True, False]  # zip, legacy


def saved(value, new):
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def load(content):
    return read_bytes(memoryview(bytearray(content)))


def values(dtype):
    return torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype)


@pytest.mark.parametrize("new", FORMATS)
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_every_type(new, dtype):
    loaded = load(saved({"a": values(dtype), "b": torch.zeros(0, 4, dtype=dtype)}, new))
    assert loaded["a"].dtype == loaded["b"].dtype == dtype and loaded["b"].shape == (0, 4)
    assert torch.equal(loaded["a"], values(dtype))


@pytest.mark.parametrize("new", FORMATS)
def test_views_share_their_storage(new):
    base = torch.arange(24.0)
    parts = {"all": base, "part": base[4:12].view(2, 4), "across": base.view(4, 6).T, "scalar": base[7]}
    loaded = load(saved(parts, new))
    for name, part in parts.items():
        assert torch.equal(loaded[name], part) and loaded[name].stride() == part.stride()
    loaded["all"].zero_()
    assert not any(part.any() for part in loaded.values())


@pytest.mark.parametrize("new", FORMATS)
def test_training_state(new):
    """What ddim keeps: a list of network, optimizer, epoch and step; parameters come as tensors."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    groups = [{"lr": 1e-3, "betas": (0.9, 0.999), "foreach": None, "amsgrad": False, "params": [0, 1]}]
    optimizer = {
        "state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.randn(4, 3)}},
        "param_groups": groups,
    }
    content = [network.state_dict(), optimizer, 7, 8.5, torch.nn.Parameter(torch.ones(2))]
    state, moments, epoch, step, parameter = load(saved(content, new))
    assert {key: value.tolist() for key, value in state.items()} == {
        key: value.tolist() for key, value in network.state_dict().items()
    }
    assert moments["param_groups"] == groups
    assert torch.equal(moments["state"][0]["exp_avg"], optimizer["state"][0]["exp_avg"])
    assert (epoch, step) == (7, 8.5)
    assert type(parameter) is torch.Tensor and not parameter.requires_grad


@pytest.mark.parametrize("new", FORMATS)
def test_tensors_lie_over_the_file(new):
    file = bytearray(saved(torch.full((100,), 3.0), new))
    tensor = read_bytes(memoryview(file))
    at = bytes(file).index(struct.pack("<f", 3.0) * 100)
    file[at : at + 4] = struct.pack("<f", 9.0)
    assert tensor[0] == 9 and tensor[1] == 3


def test_the_mapped_file_is_not_changed(tmp_path):
    path = tmp_path / "a.pt"
    path.write_bytes(content := saved(torch.ones(2000), True))
    assert isinstance(map_file(path).obj, mmap.mmap)
    read_checkpoint(path).zero_()
    assert path.read_bytes() == content


@pytest.mark.parametrize("new", FORMATS)
def test_unaligned_tensors_compute(new):
    """A storage may begin at any byte; what counts is that copying it is right."""
    for gap in range(4):
        value = {"x" * gap: 1, "tensor": torch.randn(37)}
        linear = torch.nn.Linear(37, 1)
        linear.load_state_dict({"weight": load(saved(value, new))["tensor"][None], "bias": torch.zeros(1)})
        assert torch.equal(linear.weight[0], value["tensor"])


def test_tar_of_the_first_torch():
    assert load(torch_tar())["weight"].tolist() == [[1, 2], [3, 4]]


def test_safetensors(tmp_path):
    save_file({"a": torch.arange(3)}, tmp_path / "a.safetensors")
    (tmp_path / "renamed.bin").write_bytes((tmp_path / "a.safetensors").read_bytes())
    for name in ("a.safetensors", "renamed.bin"):
        assert read_checkpoint(tmp_path / name)["a"].tolist() == [0, 1, 2]
    (tmp_path / "a.safetensors").write_bytes((tmp_path / "renamed.bin").read_bytes()[:-1])
    with pytest.raises(SkiptuneError, match="a.safetensors cannot be loaded"):
        read_checkpoint(tmp_path / "a.safetensors")


@pytest.mark.parametrize("kind", ["zip", "legacy", "tar"])
def test_truncated_at_any_byte(tmp_path, kind):
    value = {"a": torch.arange(4.0), "b": [1, "text"]}
    content = torch_tar() if kind == "tar" else saved(value, kind == "zip")
    end = content.rindex(struct.pack("<f", 3.0)) + 4 if kind != "zip" else len(content)
    for length in range(0, end, 1 if len(content) < 1000 else 7):
        path = tmp_path / f"{length}.pt"
        path.write_bytes(content[:length])
        with pytest.raises(SkiptuneError) as caught:
            read_checkpoint(path)
        assert len(str(caught.value).splitlines()) == 1
