"""The tables of what models trained on simulated faces do on real ones: which pictures, which runs, which rows. 1 s."""

import json
from pathlib import Path

import pytest

from kdfas_jax.commands.documented import transfer
from tests.test_documented_sessions import raw as nuaa_tree  # noqa: F401

FIGURES = {"auc": 0.9, "acer": 0.25, "apcer_max": 0.4, "bpcer": 0.1}


@pytest.fixture
def msu001(tmp_path) -> Path:
    """A folder with two live pictures and three attacks."""
    root = tmp_path / "msu"
    for name, number in (("live", 2), ("spoof", 3)):
        (root / name).mkdir(parents=True)
        for frame in range(number):
            (root / name / f"{frame}.jpg").touch()
    return root


@pytest.fixture
def study(tmp_path) -> Path:
    """A study with two finished runs and one that is not, in an order that is not the alphabet's."""
    root = tmp_path / "study"
    for run in ("recipe-seed0", "px64-seed0"):
        (root / run / "eval").mkdir(parents=True)
        own = {"dev": {"auc": 0.8}, "test": {"auc": 0.85, "bpcer": 0.07, "apcer": {"replay": 0.2, "print": 0.1}}}
        (root / run / "eval" / "results.json").write_text(json.dumps(own))
    (root / "runs.csv").write_text("variant,seed,auc\nrecipe,0,0.8\nno_truth,0,\npx64,0,0.7\n")
    return root


def test_each_run_is_applied_to_both_sets_once(nuaa_tree, msu001, study, tmp_path, monkeypatch, capsys):  # noqa: F811
    """All frames of NUAA, and the pictures of msu001, each live or an attack; each run in its study's order."""
    calls = []

    def evaluated(run, on, changes, output):
        pictures = Path(on.removeprefix("folder:"))
        live, attacks = (len(list(pictures.glob(f"{name}/**/*.jpg"))) for name in ("live", "spoof"))
        calls.append((Path(run).name, pictures.name, live, attacks))
        Path(output).mkdir()
        test = FIGURES | {"auc": 0.9 if pictures.name == "NUAA" else 0.95}
        Path(output, "results.json").write_text(json.dumps({"test": test}))

    monkeypatch.setattr(transfer.elsewhere, "evaluate_on", evaluated)
    links = f"--folder={tmp_path / 'links'}"
    given = [f"--studies={study},{study}", f"--nuaa={nuaa_tree}", f"--msu001={msu001}", links]
    monkeypatch.setattr("sys.argv", ["transfer", *given])
    transfer.main()
    expected = [("recipe-seed0", "NUAA", 160, 24), ("recipe-seed0", "msu001", 2, 3)]
    assert calls[:2] == expected
    assert [run for run, *_ in calls] == ["recipe-seed0"] * 2 + ["px64-seed0"] * 2  # once, though it is named twice
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines()
        if "-seed0 " in line
    ]
    figures = ["0.800, 0.850", "10, -, 20, -", "7", "0.900", "0.950", "25.0; 25.0", "40, 10; 40, 10"]
    assert rows == [[f"{of}{run}-seed0", *figures] for of in ("", "study/") for run in ("recipe", "px64")]


def test_variants_are_compared_with_the_first_one_seed_by_seed():
    """Dev and test of simulated faces, and each real set; a single seed says nothing of the spread, and has no row."""

    def figures(auc):
        return {role: {"auc": auc + step} for step, role in enumerate(("dev", "test", "NUAA", "msu001"))}

    studies = {"none": {0: figures(0.5), 1: figures(0.25)}, "kdfas": {0: figures(0.75), 1: figures(0.375)}}
    rows = transfer.against_control(studies | {"kl": {0: figures(0.5)}})
    assert list(rows) == ["kdfas"]
    assert rows["kdfas"]["NUAA better"] == "2 of 2"
    assert rows["kdfas"]["msu001 difference"] == "+0.1875 ± 0.0884"
    assert len(rows["kdfas"]) == 4 * 3


def test_a_folder_without_a_study_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"runs\.csv does not exist; expected a study"):
        transfer.runs_of(str(tmp_path))
