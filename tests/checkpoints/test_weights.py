import torch
from safetensors import safe_open
from safetensors.torch import load

from skiptune.checkpoints.desk import DESK_FOLDER
from skiptune.checkpoints.weights import safetensors_bytes


def test_equal_content_gives_equal_bytes():
    tensors = {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.float16)}
    metadata = {str(i): f"value {i} é" for i in range(8)}
    first = safetensors_bytes(tensors, metadata)
    assert all(safetensors_bytes(tensors, dict(reversed(metadata.items()))) == first for _ in range(5))
    loaded = load(first)
    assert loaded.keys() == tensors.keys() and all(torch.equal(loaded[key], tensors[key]) for key in tensors)


def test_shipped_weights_are_written_like_that():
    for path in DESK_FOLDER.glob("*.safetensors"):
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
            metadata = file.metadata()
        assert safetensors_bytes(tensors, metadata) == path.read_bytes(), path.name
