"""The capture plan, verdicts against the requirements of schemes, and a self-test whose results.json is golden. 2 s."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from input_pipeline.datasets import csv
from input_pipeline.select.examples import Data
from kdfas_jax.commands import elsewhere
from kdfas_jax.commands.evaluate import scores_csv
from kdfas_jax.commands.selftest import page, plan, score
from kdfas_jax.metrics import exact, schemes
from kdfas_jax.targets import label
from tests.golden_files import GOLDEN
from tests.test_report import MODEL


def rate(errors, attempts):
    low, high = exact.interval(errors, attempts)
    return {"errors": errors, "attempts": attempts, "low": low, "high": high}


BY_NAME = {(of.scheme, of.rate): of for of in schemes.REQUIREMENTS}


@pytest.mark.parametrize(
    ("scheme", "counts", "verdict"),
    [
        (("iBeta level 1", "apcer"), [(0, 150)] * 6, "meets"),
        (("iBeta level 1", "apcer"), [(0, 150)] * 5, "too few attempts"),  # of six species
        (("iBeta level 1", "apcer"), [(0, 150)] * 6 + [(0, 20)], "too few attempts"),
        (("iBeta level 1", "apcer"), [(0, 150)] * 5 + [(1, 20)], "fails"),  # whatever the other 130 bring
        (("iBeta level 2", "apcer"), [(1, 150)] * 5, "meets"),
        (("iBeta level 2", "apcer"), [(1, 100)] * 5, "too few attempts"),  # 1 of 150 would do
        (("iBeta level 2", "apcer"), [(2, 100)] * 5, "fails"),
        (("iBeta level 1", "bpcer"), [(7, 50)], "meets"),
        (("iBeta level 1", "bpcer"), [(8, 50)], "fails"),
        (("iBeta level 2", "bpcer"), [(8, 50)], "too few attempts"),
        (("iBeta level 3", "bpcer"), [(2, 50)], "too few attempts"),  # up to 13.7 %
        (("iBeta level 3", "bpcer"), [(2, 100)], "meets"),
        (("FIDO, limit of 7 %", "iapar"), [(0, 50), (0, 60)], "too few attempts"),  # up to 7.1 %
        (("FIDO, limit of 7 %", "iapar"), [(0, 51), (0, 60)], "meets"),
        (("FIDO, limit of 15 %", "iapar"), [(9, 30)], "too few attempts"),  # 14.7 to 49.4 %
        (("FIDO, limit of 15 %", "iapar"), [(10, 30)], "fails"),
        (("NIST SP 800-63-4", "fmr"), [], "not measured"),
    ],
)
def test_verdicts(scheme, counts, verdict):
    assert schemes.verdict(BY_NAME[scheme], [rate(*count) for count in counts]) == verdict


def test_every_verdict_that_is_open_names_the_attempts_that_are_missing():
    for of in schemes.REQUIREMENTS:
        for errors, attempts in ((0, 10), (1, 30), (2, 120)):
            found = rate(errors, attempts)
            more = schemes.missing(of, found)
            if schemes.verdict(of._replace(species=None), [found]) != schemes.FEW:
                continue
            after = rate(errors, attempts + more)
            assert schemes.verdict(of._replace(species=None), [after]) == schemes.MEETS
            before = rate(errors, attempts + more - 1)
            assert schemes.verdict(of._replace(species=None), [before]) == schemes.FEW


def test_apcer_stands_in_for_iapar_only_where_it_is_low_enough():
    rows = schemes.compared({"apcer": {"print": rate(0, 200), "cut": rate(0, 30)}, "bpcer": rate(1, 60)})
    found = {(row["scheme"], row["rate"]): row for row in rows}
    assert len(rows) == len(schemes.REQUIREMENTS)
    fido = found["FIDO, limit of 15 %", "iapar"]
    assert (fido["basis"], fido["verdict"], fido["species"]) == ("apcer", "meets", "cut")
    assert found["FIDO, limit of 7 %", "iapar"]["verdict"] == "not measured"
    ibeta = found["iBeta level 1", "apcer"]
    assert (ibeta["asked"], ibeta["missing"], ibeta["tested"]) == ("at most 0 % of 150 attempts, 6 species", 120, 2)
    measured = schemes.compared({"apcer": {"print": rate(90, 100)}, "iapar": {"print": rate(60, 100)}})
    assert [row["verdict"] for row in measured if row["rate"] == "iapar"] == ["fails"] * 3


def test_a_plan_has_the_amounts_of_its_level_and_alternates_conditions():
    planned = plan.table("ibeta1", 15)
    assert planned["species"].value_counts().to_dict() == {**dict.fromkeys(plan.SPECIES, 150), "live": 60}
    assert planned["file"].is_unique
    one = planned[(planned["species"] == "print") & (planned["subject"] == "s03")]
    for column, values in (("session", 2), ("distance", 2), ("light", 3), ("instrument", 2)):
        counts = one[column].value_counts()
        assert len(counts) == values
        assert counts.max() - counts.min() <= 4  # of ten presentations
    assert plan.table("ibeta2", 10, ["mask"])["species"].value_counts().to_dict() == {"mask": 150, "live": 250}
    for arguments, message in (
        (("ibeta3", 5), r"--level=ibeta3: expected one of ibeta1, ibeta2"),
        (("ibeta1", 5, ["a", "a"]), r"--species=a,a: expected different names"),
        (("ibeta1", 5, ["../x"]), r"--species=\.\./x: expected different names"),
        (("ibeta1", 0), r"--subjects=0: expected 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            plan.table(*arguments)


def test_a_plan_is_written_read_and_not_replaced_by_another(tmp_path):
    planned = plan.table("ibeta1", 3, ["print"])
    plan.write(str(tmp_path), planned, "ibeta1")
    plan.write(str(tmp_path), planned, "ibeta1")
    pd.testing.assert_frame_equal(plan.read(str(tmp_path)), planned.astype(str), check_dtype=False)
    text = (tmp_path / "plan.html").read_text()
    assert text.index(plan.NOTE) < text.index("<h1>")
    assert text.count("☐") == len(planned)
    with pytest.raises(ValueError, match=r"plan\.csv is another plan; give another folder"):
        plan.write(str(tmp_path), plan.table("ibeta1", 4, ["print"]), "ibeta1")
    with pytest.raises(FileNotFoundError, match=r"make it by: python main\.py --mode=selftest --output="):
        plan.read(str(tmp_path / "nowhere"))


def evaluated_on(folder, on, *, changes, output):
    """Stands in for `elsewhere.evaluate_on`: scores by the name of a file, one capture without a face."""
    presentations = csv.read(on.removeprefix("csv:"))
    table = pd.DataFrame([of.columns() for of in presentations]).assign(role="test", found=True, frame=0)
    table.loc[0, "found"] = False
    number = table["video"].str[-3:].astype(int)
    table["score"] = np.where(table["label"] == 1, np.where(number % 8, 0.9, 0.2), np.where(number % 25, 0.1, 0.8))
    videos = table[table["found"]]
    sources = {role: ["own"] for role in ("train", "dev", "test")} | {"extra": []}
    data = Data(table, [], "", sources, missing=table[:0].assign(reason=""))
    threshold = {"value": 0.5, "source": "EER of dev of own", "operating_points": {"eer": 0.5}, "temperature": 1.0}
    results = {
        "config": {"name": "own", "model": MODEL, "data": {"image_size": 32, "dataset": "csv"}},
        "threshold": threshold,
        "sources": sources,
        "on": {"dataset": "csv", "seen": "none"},
        "folds": [],
        **label.figures_on_test(videos[[*label.VIDEO, "score"]], data, threshold),
    }
    Path(output).mkdir()
    (Path(output) / "scores.csv").write_text(scores_csv({"test": videos[[*label.VIDEO, "score"]]}))
    return results, output


@pytest.fixture
def captured(tmp_path, monkeypatch):
    """A folder with a plan of two species and all but one of its captures, and a file that is in no plan."""
    folder = tmp_path / "captures"
    planned = plan.table("ibeta1", 5, ["print", "replay"])
    plan.write(str(folder), planned, "ibeta1")
    for name in planned["file"].iloc[:-1]:
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "live" / "extra.jpg").touch()
    monkeypatch.setattr(elsewhere, "evaluate_on", evaluated_on)
    return folder


def test_a_self_test_has_the_golden_results_and_a_page(captured, tmp_path):
    content = score.selftest("runs/own", str(captured), str(tmp_path / "out"))
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written == json.loads(json.dumps(content))
    golden = json.loads((GOLDEN / "selftest.json").read_text())
    assert_close({name: of for name, of in written.items() if name != "test"}, golden)
    assert content["plan"] == {"planned": 350, "captured": 349, "not_captured": 1, "unplanned": 1}
    text = (tmp_path / "out" / "index.html").read_text()
    body = text[text.index("<main>") :]
    assert body.index(plan.NOTE) < body.index("<h1>")
    assert "Distance" in text  # one of the groups
    for row in content["schemes"]:
        assert row["verdict"] in text
    assert page.text(content).startswith(plan.NOTE)
    assert "| iBeta level 1, APCER" in page.text(content)


def assert_close(found, golden, path=""):
    """Equal but for the last bits of numbers."""
    if isinstance(golden, dict):
        assert list(found) == list(golden), path
        for name, value in golden.items():
            assert_close(found[name], value, f"{path}.{name}")
    elif isinstance(golden, list):
        assert len(found) == len(golden), path
        for number, (one, other) in enumerate(zip(found, golden, strict=True)):
            assert_close(one, other, f"{path}[{number}]")
    else:
        assert found == (pytest.approx(golden) if isinstance(golden, float) else golden), path


def test_captures_that_cannot_be_told_apart_or_are_not_there_are_refused(captured, tmp_path):
    (captured / "live" / "s01-001.jpg").touch()
    with pytest.raises(ValueError, match=r"live/s01-001 has the files .*s01-001\.jpg, .*s01-001\.png; expected one"):
        score.selftest("runs/own", str(captured), str(tmp_path / "out"))
    for path in (captured / "live").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"no presentation of the label live is there; expected both labels"):
        score.selftest("runs/own", str(captured), str(tmp_path / "out"))
    empty = tmp_path / "empty"
    plan.write(str(empty), plan.table("ibeta1", 5), "ibeta1")
    with pytest.raises(ValueError, match=r"none of the 950 planned presentations is there, such as live/s01-001\.jpg"):
        score.selftest("runs/own", str(empty), str(tmp_path / "out"))


def test_the_distance_and_the_instrument_are_groups(captured):
    found, _ = score.find_captured(str(captured), plan.read(str(captured)))
    table = score.as_csv_table(found)
    assert set(table) == {*csv.REQUIRED, "species", "subject", "video", "session", "medium", "light", "attributes"}
    assert set(table["attributes"]) == {"Distance=near", "Distance=far"}
