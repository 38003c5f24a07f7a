"""The table of docs/adapt.md: who adapts the model and who tests it, and how draws become rows."""

import random
from pathlib import Path

import pytest

from input_pipeline.datasets import nuaa
from input_pipeline.schema import LIVE
from kdfas_jax.commands.documented import sessions
from kdfas_jax.runs import released

EVERYONE = {f"{number:04d}" for number in range(1, 8)}


@pytest.fixture
def raw(tmp_path) -> Path:
    """NUAA's tree with seven people in session 1, twenty live pictures and three prints each, and one in session 2."""
    root = tmp_path / "NUAA"
    for folder, number in (("ClientRaw", 20), ("ImposterRaw", 3)):
        for person, session in (*((of, "01") for of in EVERYONE), ("0001", "02")):
            for frame in range(number):
                path = root / folder / person / f"{person}_00_00_{session}_{frame}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
    for kind in nuaa.KINDS:
        for split in ("train", "test"):
            (root / f"{kind}_{split}_raw.txt").touch()
    return root


def test_nobody_adapts_the_model_and_tests_it(raw):
    pictures = [of for of in nuaa.read(str(raw)) if of.session == "01"]
    adapting, others = sessions.divide(pictures, 4, random.Random(0))
    people = {of.subject for of in adapting}
    assert len(people) == 4
    assert {of.species for of in adapting} == {LIVE}
    assert len(adapting) == 4 * (30 // 4)
    assert {of.subject for of in others} == EVERYONE - people
    assert len(others) == 3 * (20 + 3)
    assert sessions.divide(pictures, 4, random.Random(1))[0] != adapting


def test_a_draw_is_measured_once_with_links_to_its_pictures(raw, tmp_path, monkeypatch):
    """The model that ships is measured before, and the run that adapt makes after, on the same folder."""
    calls = []

    def adapted(folder, live, output):
        calls.append((folder, sorted(path.parent.name for path in Path(live).glob("*/*.jpg"))))

    def evaluated(folder, on, changes, output):
        test = Path(on.removeprefix("folder:"), "test")
        live, prints = (len(list(test.glob(f"{name}/*.jpg"))) for name in ("live", "spoof/print"))
        calls.append((folder, (live, prints)))
        figures = {"auc": 0.9 if folder == released.FOLDER else 0.95, "bpcer100": 0.5, "bpcer": 0.25, "apcer_max": 0.1}
        return {"test": figures | {"counts": {"videos": live + prints, LIVE: live}}}, output

    monkeypatch.setattr(sessions.adapt, "adapt", adapted)
    monkeypatch.setattr(sessions.elsewhere, "evaluate_on", evaluated)
    found = sessions.measure(str(raw), str(tmp_path / "runs"), "01", 0)
    (model, people), (before, counts), (after, same) = calls
    assert model == before == released.FOLDER
    assert after == str(tmp_path / "runs" / "01-0" / "run")
    assert len(people) == 28
    assert counts == same == (60, 9)
    expected = {"auc": 0.95, "bpcer100": 0.5, "bpcer": 0.25, "apcer_max": 0.1, "live": 60, "attacks": 9}
    assert found["after"] == expected
    assert found["before"] == expected | {"auc": 0.9}
    assert sessions.measure(str(raw), str(tmp_path / "runs"), "01", 0) == found
    assert len(calls) == 3


def test_rows_have_means_and_deviations_before_and_after():
    def figures(auc, rate, live):
        return {"auc": auc, "bpcer100": rate, "bpcer": rate, "apcer_max": rate, "live": live, "attacks": 9}

    def draw(live, before, after):
        return {"before": figures(*before, live), "after": figures(*after, live)}

    first = [draw(60, (0.8, 0.5), (0.9, 0.1)), draw(50, (0.6, 0.3), (0.9, 0.3))]
    second = [draw(40, (0.5, 0.2), (0.7, 0.0))] * 2
    lines = sessions.table({"01": first, "02": second}).splitlines()
    assert lines[2].startswith("| 01 | 50 to 60, 9 | 0.700 ± 0.141, 0.900 ± 0.000 | 40.0 ± 14.1, 20.0 ± 14.1 |")
    assert lines[3].startswith("| 02 | 40, 9 | 0.500 ± 0.000, 0.700 ± 0.000 | 20.0 ± 0.0, 0.0 ± 0.0 |")
    assert lines[4].startswith("| mean | | 0.600, 0.800 | 30.0, 10.0 |")
