import math
import shutil
import subprocess
import sys

import pytest
import torch
from golden_folder import CASE, KEPT, REPOSITORY, Folder, kept_entry
from safetensors.torch import load_file, save_file

from scripts.verify_golden import main
from skiptune.denoisers import VPPrecond
from skiptune.denoisers.layers import UNetBlock


@pytest.fixture
def folder(tmp_path):
    """The straddling network under another name: the name decides nothing."""
    made = Folder(tmp_path)
    entry = {**kept_entry(), "case": "renamed"}
    files = {name: load_file(KEPT / CASE / f"{name}.safetensors") for name in ("weights", "io")}
    made.add(entry, **files)
    return made


def test_table_of_the_kept_data(capsys):
    assert main([str(KEPT), "--case", CASE, "--case", "unipc_edm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["case", "outputs", "largest", "/", "tolerance", "tensor", "result"]
    assert [line.split()[0] for line in lines[1:3]] == ["unipc_edm", CASE]
    cells = lines[2].split()
    assert (cells[1], cells[-1]) == ("11", "pass") and 0 < float(cells[2]) < 1
    assert lines[-1] == "2 pass, 0 fail, 0 unsupported"


def test_json_of_an_intact_folder(folder, capsys):
    code, reports = folder.check(capsys)
    assert code == 0
    assert reports["renamed"]["status"] == "pass" and reports["renamed"]["outputs"] == 11


def test_wrong_folders_are_one_line(tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/manifest.json").write_text("{")
    (tmp_path / "twice").mkdir()
    (tmp_path / "twice/manifest.json").write_text('{"cases": [{"case": "a"}, {"case": "a"}]}')
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/manifest.json").write_text('{"cases": []}')
    for arguments, line in (
        ([str(tmp_path / "nowhere")], "is no folder of reference data"),
        ([str(tmp_path)], "cannot read manifest.json"),
        ([str(tmp_path / "broken")], "is damaged"),
        ([str(tmp_path / "empty")], "lists no cases"),
        ([str(tmp_path / "twice")], "lists a case twice"),
        ([str(KEPT), "--case", "edm_adm", "--case", "nothing"], "has no case nothing; it has edm_adm"),
    ):
        assert main(arguments) == 2
        caught = capsys.readouterr()
        assert caught.out == "" and line in caught.err and caught.err.count("\n") == 1


def test_command_line(tmp_path):
    command = [sys.executable, str(REPOSITORY / "scripts/verify_golden.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_damaged_and_missing_files_fail(folder, capsys):
    weights = folder.root / "renamed/weights.safetensors"
    whole = weights.read_bytes()
    for damage, line in (
        (lambda: weights.write_bytes(whole[:-1]), f"has {len(whole) - 1} bytes instead of {len(whole)}"),
        (
            lambda: weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1])),
            "does not have the recorded sha256",
        ),
        (weights.unlink, "renamed/weights.safetensors is missing"),
    ):
        damage()
        code, reports = folder.check(capsys)
        assert (code, reports["renamed"]["status"]) == (1, "fail")
        assert line in reports["renamed"]["reason"] and reports["renamed"]["outputs"] == 0


def test_another_output_fails(folder, capsys):
    path = folder.root / "renamed/io.safetensors"
    tensors = load_file(path)
    tensors["F_raw"][3, 1, 2, 5, 5] += 1e-3
    save_file(tensors, path)
    folder.sign(folder.entries[0])
    code, reports = folder.check(capsys)
    report = reports["renamed"]
    assert (code, report["status"], report["tensor"]) == (1, "fail", "F_raw")
    assert report["largest"] > 1 and report["reason"] == "1 differ or are missing: F_raw"


def test_statements_of_the_manifest_are_checked(folder, capsys):
    entry = folder.entries[0]
    for name, wrong in (
        ("num_parameters", 1),
        ("skip_connections", entry["skip_connections"][::-1]),
        ("sigma_min", 0.1),
    ):
        folder.entries[0] = {**entry, name: wrong}
        code, reports = folder.check(capsys)
        assert code == 1 and reports["renamed"]["reason"] == f"1 differ or are missing: {name}"
        assert reports["renamed"]["largest"] == "inf"


def test_listed_but_unknown_output_fails(folder, capsys):
    folder.entries[0]["io"]["D_guided"] = {"role": "output", "rtol": 1, "atol": 1}
    code, reports = folder.check(capsys)
    assert code == 1 and reports["renamed"]["reason"] == "1 differ or are missing: D_guided"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"pickle_files": {}}, "lists no pickle files"),
        ({"constructor": {"class": "UNetModel", "kwargs": {}}}, "family not in this version: NVlabs/edm"),
        (
            {"source": {"repository": "NVlabs/edm2", "file": "x", "class": "EDMPrecond"}},
            "family not in this version",
        ),
        ({"constructor": {"class": "EDMPrecond", "kwargs": {"depth": 3}}}, "depth"),
        ({"runs": {"a": {"function": "new_sampler"}}}, "family not in this version"),
        ({"io": {}}, "lists no outputs"),
    ],
)
def test_what_cannot_be_done_is_never_a_pass(folder, capsys, change, line):
    entry = folder.entries[0]
    if change.get("constructor", {}).get("class") == "EDMPrecond":
        change["constructor"]["kwargs"].update(entry["constructor"]["kwargs"])
    entry.update(change)
    code, reports = folder.check(capsys)
    assert (code, reports["renamed"]["status"]) == (0, "unsupported")
    assert line in reports["renamed"]["reason"]


def test_failures_that_are_not_differences(folder, capsys):
    entry = folder.entries[0]
    entry["constructor"]["kwargs"]["num_blocks"] = 2  # the weights no longer fit
    folder.entries.append({**kept_entry("unipc_edm_net"), "weights_from": "nowhere"})
    shutil.copytree(KEPT / "unipc_edm_net", folder.root / "unipc_edm_net")
    code, reports = folder.check(capsys)
    assert code == 1
    assert reports["renamed"]["status"] == "fail" and "Error" in reports["renamed"]["reason"]
    lender = reports["unipc_edm_net"]
    assert (
        lender["status"] == "fail"
        and lender["reason"] == "needs case nowhere, which the manifest does not list"
    )


def test_samplers_are_told_by_their_source(tmp_path, capsys):
    folder = Folder(tmp_path)
    for number, case in enumerate(["edm_adm", "edm_sampler", "unipc_vp", "unipc_edm", "unipc_edm_net"]):
        entry = {**kept_entry(case), "case": f"hidden_{number}"}
        if "weights_from" in entry:
            entry["weights_from"] = "hidden_0"
        shutil.copytree(KEPT / case, tmp_path / entry["case"])
        folder.entries.append(entry)
    code, reports = folder.check(capsys, *(f"--case=hidden_{number}" for number in (1, 2, 3, 4)))
    assert code == 0
    assert {case: report["status"] for case, report in reports.items()} == {
        f"hidden_{i}": "pass" for i in (1, 2, 3, 4)
    }
    weights = tmp_path / "hidden_0/weights.safetensors"
    weights.write_bytes(b"")
    code, reports = folder.check(capsys, "--case", "hidden_4")
    assert code == 1 and reports["hidden_4"]["reason"].startswith("hidden_0/weights.safetensors has 0 bytes")


def output(atol=1e-6):
    return {"role": "output", "rtol": 1e-5, "atol": atol}


def test_other_arguments_without_rho(tmp_path, capsys):
    """Auxiliary encoder and decoder, another filter, one channel, small widths, one block."""
    kwargs = {
        "model_type": "SongUNet", "img_resolution": 8, "img_channels": 1, "label_dim": 2, "model_channels": 4,
        "channel_mult": [1, 2], "channel_mult_emb": 3, "num_blocks": 1, "attn_resolutions": [4],
        "encoder_type": "skip", "decoder_type": "skip", "resample_filter": [1, 3, 3, 1], "beta_d": 10.0,
        "M": 100,
    }  # fmt: skip
    denoiser = VPPrecond(**kwargs).eval()
    io = {
        "x": torch.randn(2, 3, 1, 8, 8),
        "sigmas": torch.tensor([0.1, 3.0], dtype=torch.float64),
        "class_labels": torch.eye(2)[[0, 1, 0]],
    }
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.copy_(torch.randn_like(parameter).mul(0.2).half())
        io["D"] = torch.stack(
            [denoiser(x, sigma, io["class_labels"]) for x, sigma in zip(io["x"], io["sigmas"], strict=True)]
        )
        io["D_no_labels"] = torch.stack(
            [denoiser(x, sigma) for x, sigma in zip(io["x"], io["sigmas"], strict=True)]
        )
    entry = {
        "case": "other",
        "source": kept_entry()["source"],
        "constructor": {"class": "VPPrecond", "kwargs": kwargs},
        "io": {
            **{name: {"role": "input"} for name in ("x", "sigmas", "class_labels")},
            "D": output(),
            "D_no_labels": output(),
        },
        "sigma_max": math.sqrt(math.exp(5.1) - 1),
    }
    folder = Folder(tmp_path)
    folder.add(entry, weights=denoiser.state_dict(), io=io)
    code, reports = folder.check(capsys)
    assert (code, reports["other"]["reason"], reports["other"]["outputs"]) == (0, "", 2)
    entry["sigma_max"] *= 1.001
    assert folder.check(capsys)[0] == 1


def test_block_case(tmp_path, capsys):
    kwargs = {
        "in_channels": 12, "out_channels": 8, "emb_channels": 4, "attention": True, "num_heads": 2,
        "eps": 1e-6, "adaptive_scale": False, "skip_scale": 0.5, "resample_filter": [1, 1],
        "init": {"init_mode": "x"},
    }  # fmt: skip
    block = UNetBlock(12, 8, 4, heads=2, eps=1e-6, adaptive_scale=False, skip_scale=0.5).eval()
    io = {"u": torch.randn(2, 7, 4, 4), "d": torch.randn(2, 5, 4, 4), "emb": torch.randn(2, 4)}
    io["rho"] = torch.tensor([0.5, 0.8], dtype=torch.float64)
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn_like(parameter).mul(0.3))
        io["y"] = block(torch.cat([io["u"], io["d"]], dim=1), io["emb"])
        scaled = [block(torch.cat([io["u"], rho * io["d"]], dim=1), io["emb"]) for rho in io["rho"].float()]
        io["y_rho_full"] = torch.stack(scaled)
    outputs = {"y": output(), "y_rho_full": output()}
    entry = {
        "case": "block",
        "source": kept_entry()["source"],
        "constructor": {"class": "UNetBlock", "kwargs": kwargs},
        "io": {**{name: {"role": "input"} for name in ("u", "d", "emb", "rho")}, **outputs},
        "num_heads": 2,
        "norm0_groups": 3,
    }
    folder = Folder(tmp_path)
    folder.add(entry, weights=block.state_dict(), io=io)
    code, reports = folder.check(capsys)
    assert (code, reports["block"]["reason"], reports["block"]["outputs"]) == (0, "", 2)
    entry["num_heads"] = 1
    assert folder.check(capsys)[0] == 1
