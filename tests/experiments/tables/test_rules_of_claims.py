"""Rules on simulated block values whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from experiments.tables.config import TableConfig
from experiments.tables.read import parse_table
from experiments.tables.results import EFFECT, ClaimResult
from experiments.tables.rules import RULES, Evidence, check_rules, judge
from experiments.tables.rules.shapes import SHAPES, correlation
from skiptune.errors import SkiptuneError

BLOCKS = 6
# Rules that need rows of another form; their own tests look at what is not measured.
OF_OTHER_TESTS = {"ratio_below", "ruined_beyond", "diverges_alone", "advantage_falls", "closer"}
OF_OTHER_TESTS |= {"gains", "closer_at_gain", "least_harm"}


def table(
    rows: Sequence[Mapping[str, Any]], rule: str, metrics: Sequence[str] = ("fid",), /, **parameters: Any
) -> TableConfig:
    """A figure with these rows and one claim."""
    return parse_table(
        {
            "paper": "skip_tuning",
            "figure": 99,
            "title": "simulated",
            "dataset": "none",
            "columns": [{"key": name, "title": name, "kind": "metric"} for name in metrics],
            "rows": [
                {
                    "label": row["id"],
                    "arm": "arm",
                    "role": "role",
                    "sampler": {"name": "heun", "steps": row.get("steps", 5)},
                    "intervention": {"name": "skip_tuning", "rho_bottom": row.get("rho", 1.0)},
                    **{key: value for key, value in row.items() if key not in ("steps", "rho")},
                }
                for row in rows
            ],
            "claims": [{"id": "C", "statement": "S", "rule": rule, "parameters": parameters}],
        },
        "simulated",
    )


def verdict(config: TableConfig, values: Mapping[str, Mapping[str, Sequence[float]]]) -> ClaimResult:
    (claim,) = judge(Evidence(config, "desk", values))
    return claim


def around(mean: float, noise: float = 0.01, seed: int = 0) -> list[float]:
    draw = np.random.default_rng(seed).standard_normal(BLOCKS)
    return list(mean * (1 + noise * draw))


def curves(
    rule: str, truth: Callable[[float, float], float], noise: float = 0.01, **more: Any
) -> ClaimResult:
    """A claim about metric(rho) at several steps."""
    grid = [(steps, rho) for steps in (5, 10, 20) for rho in (0.4, 0.6, 0.8, 1.0)]
    rows = [{"id": f"{s}_{r}", "steps": s, "rho": r} for s, r in grid]
    parameters = {"metric": "fid", "x": "rho_bottom", "group": "steps", "arms": ["arm"], **more}
    config = table(rows, rule, **parameters)
    values = {f"{s}_{r}": {"fid": around(truth(s, r), noise, i)} for i, (s, r) in enumerate(grid)}
    return verdict(config, values)


def bowl(best: float) -> Callable[[float, float], float]:
    return lambda steps, rho: 10 + 100 * (rho - best) ** 2


CURVES = [
    ("lowest_inside", bowl(0.6), "supported"),
    ("lowest_inside", lambda steps, rho: 10 - 5 * rho, "contradicted"),
    # One curve of three without an inside minimum contradicts, though the others have one.
    ("lowest_inside", lambda s, r: bowl(0.6)(s, r) if s < 20 else 10 - 5 * r, "contradicted"),
    ("best_rises", lambda s, r: 10 + 100 * (r - {5: 0.4, 10: 0.6, 20: 0.8}[int(s)]) ** 2, "supported"),
    ("best_rises", lambda s, r: 10 + 100 * (r - {5: 0.8, 10: 0.6, 20: 0.4}[int(s)]) ** 2, "contradicted"),
    ("best_never_falls", bowl(0.6), "supported"),  # what stays does not fall
    (
        "best_never_falls",
        lambda s, r: 10 + 100 * (r - {5: 0.6, 10: 0.8, 20: 0.4}[int(s)]) ** 2,
        "contradicted",
    ),
    ("best_above_first", lambda s, r: 10 + 100 * (r - {5: 0.4, 10: 0.8, 20: 0.6}[int(s)]) ** 2, "supported"),
    (
        "best_above_first",
        lambda s, r: 10 + 100 * (r - {5: 0.4, 10: 0.8, 20: 0.4}[int(s)]) ** 2,
        "contradicted",
    ),
    ("gain_falls", lambda s, r: bowl(0.6)(s, r) / (s if r == 0.6 else 1) * s, "contradicted"),
    ("gain_falls", lambda s, r: 10 + (40 / s) * (r == 1.0), "supported"),
    ("gain_falls", lambda s, r: 10 + (40 * (r == 1.0) if s == 5 else -r), "supported"),  # 1 is best on two
    ("gain_falls", lambda s, r: 10 - r, "contradicted"),  # it is on all: there is no gain to fall
    ("rises_as_x_falls", lambda s, r: 10 / r, "supported"),
    ("rises_as_x_falls", lambda s, r: 10 * r, "contradicted"),
    ("highest_inside", lambda s, r: 10 - 50 * (r - 0.6) ** 2, "supported"),
]


@pytest.mark.parametrize(("rule", "truth", "expected"), CURVES)
def test_shapes_of_curves(rule: str, truth: Callable[[float, float], float], expected: str) -> None:
    assert curves(rule, truth).verdict == expected


def best(curve: np.ndarray) -> int:
    return int(curve.argmin())


def gain(curve: np.ndarray) -> float:
    return curve[-1] / curve.min()


HELD: dict[str, Callable[[np.ndarray], bool]] = {  # of two curves, in other words than shapes.py
    "lowest_inside": lambda c: all(0 < best(one) < len(one) - 1 for one in c),
    "lowest_in_the_middle": lambda c: all(best(one) in range(3, len(one) - 3) for one in c),
    "best_rises": lambda c: best(c[0]) < best(c[1]) < c.shape[1] - 1,
    "best_never_falls": lambda c: best(c[0]) <= best(c[1]),
    "best_above_first": lambda c: best(c[0]) < best(c[1]),
    "gain_falls": lambda c: gain(c[1]) < gain(c[0]),
    "rises_as_x_falls": lambda c: all(spearmanr(range(len(one)), one).statistic < -0.8999 for one in c),
    "highest_inside": lambda c: all(0 < one.argmax() < len(one) - 1 for one in c),
    "helps_then_harms": lambda c: c[1, 1:].min() < c[1, 0] < c[1, -1] and c[0].min() < c[1].min(),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_hold_where_they_are_seen(name: str) -> None:
    rng, seen = np.random.default_rng(0), set()
    slopes = rng.normal(0, 1, (600, 2, 1)) * np.linspace(-1.5, 1.5, 8)
    for pair in np.exp(slopes + 0.3 * rng.normal(0, 1, (600, 2, 8))):
        held = SHAPES[name].holds([list(enumerate(curve)) for curve in pair])
        assert held == HELD[name](pair)
        seen.add(held)
    assert seen == {True, False}


@pytest.mark.parametrize(
    ("rule", "truth", "effect", "named"),
    [
        ("lowest_inside", bowl(0.6), 4.0, "fid at the better end of rho_bottom"),  # 14 at 0.4
        ("best_rises", lambda s, r: 20 - s * r / 2, 0.0, "best rho_bottom at the largest steps"),
        ("best_rises", lambda s, r: 10 + 100 * (r - s / 20) ** 2, -4.0, "fid at the last rho_bottom minus"),
        (
            "best_never_falls",
            lambda s, r: 10 + 100 * (r - {5: 0.6, 10: 0.8, 20: 0.4}[int(s)]) ** 2,
            -0.4,
            "best rho_bottom minus that of the steps before",
        ),
        (
            "best_above_first",
            lambda s, r: bowl({5: 0.4, 10: 0.8, 20: 0.6}[int(s)])(s, r),
            0.2,
            "least best rho_",
        ),
        ("gain_falls", lambda s, r: 10 + (40 / s) * (r == 1.0), 0.2, "gain (fid at the last rho_bottom over"),
        ("rises_as_x_falls", lambda s, r: 10 / r, -1.0, "largest correlation of fid with rho_bottom"),
        ("highest_inside", lambda s, r: 10 - 50 * (r - 0.6) ** 2, 2.0, "highest fid inside minus"),
    ],
)
def test_effect_of_curves_is_what_decides(
    rule: str, truth: Callable[[float, float], float], effect: float, named: str
) -> None:
    claim = curves(rule, truth, 0.001)
    assert claim.effect == pytest.approx(effect, rel=0.05, abs=1e-9) and f" Effect: {named}" in claim.test
    assert claim.low is not None and claim.high is not None and claim.low <= claim.effect <= claim.high
    assert "{" not in claim.test


def test_what_lies_in_the_noise_is_inconclusive() -> None:
    assert curves("lowest_inside", bowl(0.9), noise=0.5).verdict == "inconclusive"


def test_chance_seldom_decides() -> None:
    """Two equal points: by chance `falls` in a twentieth of the simulations at most, as does its opposite."""
    config = table(
        [{"id": "a", "rho": 0.5}, {"id": "b", "rho": 1.0}],
        "rises_as_x_falls",
        metric="fid",
        x="rho_bottom",
        arms=["arm"],
    )
    found = [
        verdict(config, {"a": {"fid": around(10, 0.1, 2 * i)}, "b": {"fid": around(10, 0.1, 2 * i + 1)}})
        for i in range(60)
    ]
    assert sum(claim.verdict != "inconclusive" for claim in found) <= 9  # 5% of either kind are 6


def test_gain_is_the_fall_from_the_baseline() -> None:
    rows = [{"id": "base", "arm": "base"}]
    rows += [{"id": f"r{r}", "rho": r, "baseline": "base"} for r in (0.2, 0.5, 0.8)]
    config = table(rows, "highest_inside", metric="fid", x="rho_bottom", arms=["arm"], gain=True)
    values = {"base": around(10), "r0.2": around(9.5), "r0.5": around(5), "r0.8": around(9)}
    assert verdict(config, {id: {"fid": v} for id, v in values.items()}).verdict == "supported"


def test_middle_of_many() -> None:
    rows = [{"id": f"w{i}", "rho": (i + 1) / 10} for i in range(9)]
    config = table(rows, "lowest_in_the_middle", metric="fid", x="rho_bottom", arms=["arm"])
    for best, expected in ((4, "supported"), (1, "contradicted")):
        values = {f"w{i}": {"fid": around(10 + abs(i - best), 0.001, i)} for i in range(9)}
        assert verdict(config, values).verdict == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"), [(9, 11, "supported"), (9, 9, "contradicted"), (9, 10, "inconclusive")]
)
def test_signs(a: float, b: float, expected: str) -> None:
    """Against a baseline of 10: the first is claimed to fall, the second to rise."""
    tests = [{"row": "a", "metric": "fid", "sign": "-"}, {"row": "b", "metric": "fid", "sign": "+"}]
    rows = [{"id": "base"}, {"id": "a", "baseline": "base"}, {"id": "b", "baseline": "base"}]
    values = {"base": {"fid": around(10)}, "a": {"fid": around(a, seed=1)}, "b": {"fid": around(b, seed=2)}}
    assert verdict(table(rows, "signs", tests={"desk": tests}), values).verdict == expected


def test_what_decides_is_printed_where_a_test_points_the_other_way() -> None:
    """Rises with a 95% interval above 0 whose widened one is not: inconclusive, and a reader sees why."""
    rises = [0.2, 0.9, 1.6, 0.1, 1.4, 0.6]
    rows = [{"id": "base"}, {"id": "a", "baseline": "base"}, {"id": "b", "baseline": "base"}]
    tests = [{"row": id, "metric": "fid", "sign": "-"} for id in ("a", "a", "a", "b")]
    base = around(10)
    values = {
        "base": {"fid": base},
        "a": {"fid": [value - 1 - rise for value, rise in zip(base, rises, strict=True)]},
        "b": {"fid": [value + rise for value, rise in zip(base, rises, strict=True)]},
    }
    claim = verdict(table(rows, "signs", tests={"desk": tests}), values)
    *agreeing, opposed = claim.test.split(";")
    assert claim.verdict == "inconclusive" and claim.effect is not None and claim.low is not None
    assert claim.low > 0 and "b minus base: 0.800 [0.1" in opposed
    assert " (widened for 4 tests to 98.75%: 0.800 [-0.1" in opposed
    assert not any("widened" in text for text in agreeing)


@pytest.mark.parametrize(
    ("course", "few", "tuned", "expected"),
    [
        ((4.0, 2.01, 2.0), 3.0, 1.5, "supported"),
        ((4.0, 2.01, 2.0), 4.0, 3.0, "contradicted"),
        ((4.0, 3.0, 2.0), 3.0, 1.5, "inconclusive"),  # still falling: there is no limit to be below of
        (
            (4.0, 2.01, 2.0),
            1.5,
            1.5,
            "inconclusive",
        ),  # it is the few steps that pass the limit, not the tuning
        ((4.0, 2.01, 2.0), 1.4, 1.5, "contradicted"),  # which even loses
    ],
)
def test_below_limit(course: Sequence[float], few: float, tuned: float, expected: str) -> None:
    rows = [{"id": f"u{s}", "steps": s} for s in (10, 20, 40)]
    rows += [{"id": "few"}, {"id": "tuned", "baseline": "few"}]
    limit = {"untouched": ["u10", "u20", "u40"], "change": 0.02}
    config = table(rows, "below_limit", metric="fid", **limit, rows={"desk": ["tuned"]})
    values = {f"u{s}": {"fid": around(v, 0.002)} for s, v in zip((10, 20, 40), course, strict=True)}
    values |= {"few": {"fid": around(few, 0.002, 1)}, "tuned": {"fid": around(tuned, 0.002)}}
    assert verdict(config, values).verdict == expected


@pytest.mark.parametrize(
    ("full", "other", "noise", "expected"),
    [
        (5.0, 5.01, 0.001, "supported"),
        (5.0, 6.0, 0.001, "contradicted"),
        (5.0, 5.3, 0.05, "inconclusive"),
        (10.0, 10.0, 0.05, "inconclusive"),  # nothing is gained, so there is no yardstick
        (12.0, 12.0, 0.001, "inconclusive"),  # nor where something is lost
    ],
)
def test_share_of_gain(full: float, other: float, noise: float, expected: str) -> None:
    rows = [{"id": "base"}, {"id": "full", "baseline": "base"}, {"id": "other", "baseline": "base"}]
    config = table(rows, "share_of_gain", metric="fid", rows={"desk": ["other", "full"]}, margin=0.05)
    means = {"base": 10.0, "full": full, "other": other}
    values = {id: {"fid": around(mean, noise, i)} for i, (id, mean) in enumerate(means.items())}
    claim = verdict(config, values)
    assert claim.verdict == expected
    assert ("loses against its baseline" in claim.test) == (full > 10.0)
    if claim.effect is not None:
        assert claim.low is not None and claim.high is not None and claim.low < claim.effect < claim.high


@pytest.mark.parametrize(("change", "expected"), [(-0.2, "supported"), (0.2, "contradicted")])
def test_never_rises(change: float, expected: str) -> None:
    claim = curves("never_rises", lambda s, r: 10 * (1 + change * s / 10), 0.002, margin=0.05)
    assert claim.verdict == "supported"  # along rho nothing changes
    claim = curves(
        "never_rises",
        lambda s, r: 10 * (1 + change * s / 10),
        0.002,
        margin=0.05,
        x="steps",
        group="rho_bottom",
    )
    assert claim.verdict == expected


def test_equal_values_do_not_contradict_never_rises() -> None:
    """Many neighbours that are equal but for noise: some rise by chance, none beyond it."""
    assert curves("never_rises", lambda s, r: 10.0, 0.01, margin=0.05).verdict == "supported"
    assert curves("never_rises", lambda s, r: 10.0, 0.1, margin=0.05).verdict == "inconclusive"


def test_mostly_below_and_below_bound() -> None:
    metrics = ("fid", "kid", "immd")
    rows = [{"id": "base"}, {"id": "tuned", "baseline": "base"}]
    base = {name: around(10, 0.001, i) for i, name in enumerate(metrics)}
    for means, expected in (((9, 9, 11), "supported"), ((11, 11, 9), "contradicted")):
        tuned = {
            name: around(m, 0.001, i + 9) for i, (name, m) in enumerate(zip(metrics, means, strict=True))
        }
        config = table(rows, "mostly_below", metrics, row="tuned", metrics=list(metrics))
        assert verdict(config, {"base": base, "tuned": tuned}).verdict == expected
    values = {"base": {"fid": around(1e-5), "kid": around(1.0), "immd": around(2.0, seed=3)}}
    for bound, pair, expected in (
        (1e-3, ["kid", "immd"], "supported"),
        (1e-3, ["immd", "kid"], "contradicted"),
        (1e-6, ["kid", "immd"], "contradicted"),
    ):
        config = table(rows, "below_bound", metrics, row="base", metrics=["fid"], bound=bound, smaller=[pair])
        assert verdict(config, values).verdict == expected


def of_two_rows(rule: str) -> TableConfig:
    """A claim about rows a and b."""
    parameters: dict[str, dict[str, Any]] = {
        "signs": {"tests": {"desk": [{"row": "b", "metric": "fid", "sign": "-"}]}},
        "within": {"tests": {"desk": [{"row": "b", "metric": "fid", "low": 1, "high": 2}]}},
        "sides": {"tests": {"desk": [{"row": "b", "metric": "fid", "below": 2}]}},
        "below_limit": {"metric": "fid", "untouched": ["a", "b"], "change": 0.1, "rows": {"desk": ["b"]}},
        "share_of_gain": {"metric": "fid", "rows": {"desk": ["b", "b"]}, "margin": 0.1},
        "beats_best": {"metric": "fid", "arms": ["arm"], "than": ["arm"]},
        "mostly_below": {"row": "b", "metrics": ["fid"]},
        "below_bound": {"row": "b", "metrics": ["fid"], "bound": 1},
        "never_rises": {"metric": "fid", "x": "rho_bottom", "group": "steps", "arms": ["arm"], "margin": 0.1},
        "minimum_at": {
            "metric": "fid", "x": "rho_bottom", "arm": "arm", "at": [0.5], "excess": 1.2, "falling": ["arm"],
            "margin": 0.1,
        },
    }  # fmt: skip
    curve = {"metric": "fid", "x": "rho_bottom", "arms": ["arm"]}
    rows = [{"id": "a", "rho": 1.0}, {"id": "b", "rho": 0.5, "baseline": "a"}]
    return table(rows, rule, **parameters.get(rule, curve))


@pytest.mark.parametrize("rule", sorted(set(RULES) - OF_OTHER_TESTS))
def test_nothing_measured_and_one_block_decide_nothing(rule: str) -> None:
    config = of_two_rows(rule)
    assert verdict(config, {}).verdict == "not run"
    assert verdict(config, {"a": {"fid": [2.0]}, "b": {"fid": [1.0]}}).verdict == "inconclusive"


LARGER = {name for name, shape in SHAPES.items() if shape.points > 2 or not shape.each}


@pytest.mark.parametrize("rule", sorted(set(RULES) - OF_OTHER_TESTS - LARGER))
def test_effects_are_named(rule: str) -> None:
    claim = verdict(of_two_rows(rule), {"a": {"fid": around(2.0)}, "b": {"fid": around(1.0, seed=1)}})
    assert claim.effect is not None or rule == "share_of_gain"  # b has no gain over itself
    assert claim.effect is None or EFFECT in claim.test or ". Ratio" in claim.test  # as the index says it


def test_curves_too_short_for_a_shape_are_refused() -> None:
    with pytest.raises(
        SkiptuneError, match="'lowest_inside' asks for 3 points or more along rho_bottom, a curve has 2"
    ):
        verdict(of_two_rows("lowest_inside"), {"a": {"fid": around(2.0)}, "b": {"fid": around(1.0)}})


def test_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    for size in (3, 6, 13):
        x, y = np.sort(rng.normal(size=size)), np.arange(size) % 5 * rng.choice([-1.0, 1.0])  # with ties
        assert correlation(list(zip(x, y, strict=True))) == pytest.approx(spearmanr(x, y).statistic)
    assert correlation([(0.5, 1.0), (1.0, 1.0)]) == 0


def test_unknown_rule_is_refused_before_anything_is_measured() -> None:
    with pytest.raises(SkiptuneError, match="claim C: unknown rule 'vibes'; known rules: .*signs"):
        check_rules(table([{"id": "a"}], "vibes").claims)


@pytest.mark.parametrize(
    ("rho", "ratio", "noise", "expected"),
    [
        ([0.9, 1.2], 3.0, 0.01, "supported"),
        ([0.9, 1.2], 1.5, 0.01, "contradicted"),
        ([0.9, 0.99], 3.0, 0.01, "contradicted"),
        ([0.9, 1.2], 2.0, 0.2, "inconclusive"),
    ],
)
def test_ruined_beyond(rho: list[float], ratio: float, noise: float, expected: str) -> None:
    rows = [{"id": "base"}, {"id": "learned", "baseline": "base"}]
    config = table(rows, "ruined_beyond", metric="fid", bound=1.0, factor=2.0, rows={"desk": ["learned"]})
    values = {"base": {"fid": around(10, noise, 3)}, "learned": {"fid": around(10 * ratio, noise, 1)}}
    (claim,) = judge(Evidence(config, "desk", values, {}, {"learned": {"rho": rho}}))
    assert claim.verdict == expected and f"largest coefficient {max(rho):.3f}" in claim.test
    assert "widened" not in claim.test  # for one row nothing is
    (claim,) = judge(Evidence(config, "desk", values))  # coefficients unknown
    assert claim.verdict == "not run"
    one = {"base": {"fid": [10.0]}, "learned": {"fid": [10 * ratio]}}
    (claim,) = judge(Evidence(config, "desk", one, {}, {"learned": {"rho": rho}}))
    assert claim.verdict == "inconclusive"


@pytest.mark.parametrize(
    ("course", "tuned", "noise", "expected"),
    [
        ((10, 9, 8, 14), 7, 0.01, "supported"),
        ((10, 9, 8, 14), 8.5, 0.01, "contradicted"),  # fine-tuning comes below Skip-Tuning
        ((10, 11, 12, 14), 7, 0.01, "contradicted"),  # it never helps
        ((10, 9, 8, 7.5), 7, 0.01, "contradicted"),  # it never harms
        ((10, 9.9, 9.9, 14), 7, 0.1, "inconclusive"),
    ],
)
def test_helps_then_harms(course: Sequence[float], tuned: float, noise: float, expected: str) -> None:
    rows: list[dict[str, Any]] = [{"id": f"m{m}", "facts": {"mimg": m}} for m in range(len(course))]
    rows += [{"id": id, "rho": rho, "facts": {"mimg": 0}} for id, rho in (("tuned", 0.8), ("worse", 0.5))]
    config = table(rows, "helps_then_harms", metric="fid", x="mimg", group="rho_bottom", arms=["arm"])
    values = {f"m{m}": {"fid": around(value, noise, m)} for m, value in enumerate(course)}
    values |= {"tuned": {"fid": around(tuned, noise, 9)}, "worse": {"fid": around(20, noise, 10)}}
    claim = verdict(config, values)
    assert claim.verdict == expected and "(falls in " in claim.test
    parts = (course[0] - min(course[1:]), course[-1] - course[0], min(course) - min(tuned, 20))
    assert min(abs(part - (claim.effect or 0)) for part in parts) < 40 * noise
    assert expected != "contradicted" or (claim.effect or 0) < 0  # the part that fails


@pytest.mark.parametrize("rule", ["helps_then_harms", "gain_falls", "best_rises", "best_above_first"])
def test_one_curve_cannot_be_related_to_others(rule: str) -> None:
    rows = [{"id": f"m{m}", "facts": {"mimg": m}} for m in range(4)]
    config = table(rows, rule, metric="fid", x="mimg", group="rho_bottom", arms=["arm"])
    values = {f"m{m}": {"fid": around(10, seed=m)} for m in range(4)}
    with pytest.raises(SkiptuneError, match=f"claim C: rule '{rule}' relates curves, but .* make up one"):
        verdict(config, values)
