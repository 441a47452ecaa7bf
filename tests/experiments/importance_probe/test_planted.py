"""Rankings against planted importance: what is planted, how a ranking is judged, and a study in small."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

pytest.importorskip("diffusers", reason="diffusers is not installed")

from experiments.bench import Bench  # noqa: E402
from experiments.drawings.made import Made  # noqa: E402
from experiments.drawings.planted import draw_planted  # noqa: E402
from experiments.importance_probe import planted  # noqa: E402
from experiments.importance_probe.cases import CaseBlocks, CaseMeans, networks_of  # noqa: E402
from experiments.importance_probe.planting import planted as planting  # noqa: E402
from experiments.importance_probe.planting import shuffled  # noqa: E402
from experiments.importance_probe.rankings import Ranking, by_ablation, by_probe  # noqa: E402
from experiments.registry import kind_of, measurement  # noqa: E402
from experiments.scale import Scale  # noqa: E402
from experiments.tables.config import FigureConfig, RowConfig, TableConfig  # noqa: E402
from skiptune.errors import SkiptuneError  # noqa: E402
from skiptune.importance import RELEASED  # noqa: E402
from skiptune.interventions import find_transformer_blocks  # noqa: E402

GAINS = [0, 0.04, 0.1, 0.3, 0.5, 2, 20]
SAMPLER = {"name": "ddim", "steps": 2, "spacing": "trailing", "end": "first"}


def test_what_is_planted_is_removed_again(scales: dict[str, Scale]) -> None:
    networks = networks_of(scales["desk"], "sd_untrained")
    denoiser, other = networks.case(3).denoiser, networks.case(4).denoiser
    before = {name: value.clone() for name, value in denoiser.state_dict().items()}
    same = networks.case(3).denoiser.state_dict()
    assert all(torch.equal(same[name], value) for name, value in before.items())
    assert any(not torch.equal(other.state_dict()[name], value) for name, value in before.items())
    gains = shuffled(GAINS, 3)
    assert sorted(gains) == GAINS and gains == shuffled(GAINS, 3) != shuffled(GAINS, 4)
    blocks = find_transformer_blocks(denoiser)
    with planting(denoiser, gains):
        for block, gain in zip(blocks, gains, strict=True):
            name = f"{block.transformers[-1].name}.proj_out.weight"
            torch.testing.assert_close(denoiser.state_dict()[name], gain * before[name])
    assert all(torch.equal(denoiser.state_dict()[name], value) for name, value in before.items())
    with (
        pytest.raises(SkiptuneError, match="2 gains are planted in a network with 7 blocks"),
        planting(denoiser, [1, 2]),
    ):
        pass


def test_a_ranking_is_judged_by_what_is_true() -> None:
    gains = torch.tensor([2.0, 0.0, 1.0]).expand(2, 3)
    truths = {"planted": gains, "harm": -gains}
    right = planted.judged(Ranking(torch.tensor([[9, 1, 5], [3, 1, 2]]), 7), truths)
    assert right == {
        "planted": 1.0, "harm": -1.0, "calls": 7.0, "places": [1.0, 2.0, 3.0], "dead": 1.0, "essential": 1.0,
    }  # fmt: skip
    half = planted.judged(Ranking(torch.tensor([[9, 1, 5], [1, 3, 2]]), 7, 0.25, 0.0), truths)
    assert (
        half["planted"] == 0.0
        and half["accepted"] == 0.25
        and half["skipping"] == 0
        and half["dead"] == half["essential"] == 0.5
    )
    assert half["places"] == [2.0, 2.0, 2.0]
    assert "dead" not in planted.judged(Ranking(torch.tensor([[1, 2, 3]]), 7), {"harm": torch.ones(1, 3)})


def test_a_study_in_small(
    scales: dict[str, Scale], bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short = {"skipped": by_ablation(None), "released": by_probe(replace(RELEASED, runs=2, iterations=2))}
    monkeypatch.setattr(planted, "RANKINGS", short)
    monkeypatch.setattr(planted, "IMAGES", 2)

    rows = {}

    def measured(ranking: str, *metrics: str) -> CaseMeans:
        measure = {"kind": "planted_importance", "ranking": ranking, "gains": GAINS, "cases": 5}
        row = RowConfig(
            ranking, "label", "arm", "sd_untrained", measure, SAMPLER, {}, ("desk",), (), None, {}, {}
        )
        assert kind_of(row).images is not None
        rows[ranking] = row
        made = measurement(scales["desk"], row, {"name": "none"}, scales["desk"].report, metrics)
        assert isinstance(made, CaseMeans)
        return made

    direct = measured("skipped", "planted", "dead", "noise_skipped")
    probe = measured("released", "planted", "accepted")
    found = bench.measure([direct, probe])
    assert found[0].run == found[1].run and found[0].bounds == ((0, 4),)
    assert found[0].nfe == 2 + 2 * 7  # the teacher at 2 steps, and each of 7 blocks skipped at either
    assert 4 <= found[1].nfe <= 2 + 2 * 2 * 2
    assert found[0].blocks["dead"] == [1.0] * 5 and len(set(found[0].blocks["planted"])) > 1
    assert min(found[0].blocks["noise_skipped"]) > 0.5 and all(
        0 <= x <= 1 for x in found[1].blocks["accepted"]
    )
    assert direct.stored("places", bench.store).shape == (5, 7)
    figure = FigureConfig(
        "planted", "rankings", {"arms": ["arm"], "taus": {"planted": "order"}, "caption": "c"}
    )
    config = TableConfig("importance_probe", "supplement", "x", "t", "d", (), (), (), (), None, {})
    made = Made(
        config, scales["desk"], bench, tuple(rows.values()), {"skipped": direct, "released": probe},
        dict(zip(rows, found, strict=True)), {},
    )  # fmt: skip
    assert draw_planted(tmp_path / "picture.png", figure, made) == "c"
    width, height = Image.open(tmp_path / "picture.png").size
    assert width > 2 * height  # both panels, side by side
    with pytest.raises(SkiptuneError, match="no metric 'score_skipped' of skipped: stored are skipped_calls"):
        direct.stored("score_skipped", bench.store)
    with pytest.raises(SkiptuneError, match="7 cases do not fill whole chunks: give a multiple of 5"):
        CaseBlocks.of(7)
