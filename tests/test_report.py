"""The page and the comparison: their numbers are those of results.json, and nothing is fetched from anywhere."""

import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import evaluate
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.parallel import sharding
from kdfas_jax.report import comparison as report_compare
from kdfas_jax.report import hero as report_hero
from kdfas_jax.report import page as report
from kdfas_jax.report import plots as report_plots
from kdfas_jax.report import runs as report_runs
from kdfas_jax.report import summary
from kdfas_jax.report.parts import Evaluated, Looked, Shown, worst
from kdfas_jax.targets.label import VIDEO
from kdfas_jax.training import step

MODEL = {"name": "vit", "variant": "Ti/16", "width": 48, "depth": 2, "heads": 3}


def scored(seed, shift=0.0, n=40):
    """Scored videos of 10 people under two print and one replay species, as score_videos gives them."""
    rng = np.random.default_rng(seed)
    rows = [
        ("simulated", f"{species}_{i}", str(i % 10), species, int(species == "live"), (i % 2) + 1, score)
        for species, centre in (("live", 1.5), ("print1", -1.0), ("print2", 0.0), ("replay1", -2.0))
        for i, score in enumerate(1 / (1 + np.exp(-rng.normal(centre + shift, 1.2, n))))
    ]
    return pd.DataFrame(rows, columns=[*VIDEO, "session", "score"]).assign(frames=2)


@pytest.fixture(scope="module")
def run():
    """Results as evaluation makes them of drawn scores, without a model: (results, its test videos)."""
    return evaluated("student", 0)


def evaluated(name, seed, protocol="1", shift=0.3, point="eer"):
    videos = {"dev": scored(seed), "test": scored(seed + 1, shift)}
    table = pd.concat([rows.assign(role=role, video=role + rows["video"]) for role, rows in videos.items()])
    blank = {"domain": "simulated", "sensor": "", "medium": "", "light": "", "environment": "", "support": ""}
    blank["attributes"] = ""
    table = table.assign(**blank, found=True, session=table["session"].astype(str))
    videos = {role: table.loc[table["role"] == role, [*VIDEO, "score", "frames"]] for role in videos}
    sources = {role: ["simulated"] for role in ("train", "dev", "test")} | {"extra": []}
    data = Data(table, [], "", sources)
    results = {
        "config": {"name": name, "model": MODEL, "data": {"image_size": 32, "dataset": "simulated"}},
        "step": 160,
        "protocol": protocol,
        **targets.LABEL.results(videos, data, point),
        "sources": data.sources,
        "params": {"student": models.count(MODEL, 32), "teachers": {}},
        "folds": [],
    }
    return Evaluated(json.loads(json.dumps(results)), videos["test"])


@pytest.fixture(scope="module")
def journal():
    rows = [(10 * i, name, 1 / i) for i in range(1, 17) for name in ("loss", "ce", "grad_norm", "dev_auc", "dev_eer")]
    return pd.DataFrame(rows, columns=["step", "metric", "value"])


def test_all_that_is_fixed_comes_from_dev_alone(run):
    """Threshold, operating points and temperature stay where they are, whatever test is; its figures do not."""
    other = evaluated("student", 0, shift=-2.0).results
    assert other["threshold"] == run.results["threshold"]
    assert other["dev"] == run.results["dev"]
    assert set(run.results["threshold"]) == {"value", "source", "operating_points", "temperature", "apcer_bound"}
    assert run.results["threshold"]["operating_points"]["eer"] == run.results["threshold"]["value"]
    assert other["test"]["operating_points"] != run.results["test"]["operating_points"]
    assert other["test"]["calibration"] != run.results["test"]["calibration"]
    assert set(run.results["test"]["breakdown"]) == {"domain", "session"}
    sessions = run.results["test"]["breakdown"]["session"]
    assert {name: of["counts"]["videos"] for name, of in sessions.items()} == {"1": 80, "2": 80}


def test_a_run_decides_by_the_operating_point_of_its_config(run):
    threshold, points = evaluated("student", 0, point="accept90").results["threshold"], run.results["threshold"]
    assert threshold["operating_points"] == points["operating_points"]
    assert threshold["value"] == points["operating_points"]["accept90"] != points["value"]
    assert threshold["source"] == "BPCER 10 % of dev of simulated"


class Page(HTMLParser):
    """What a page shows: exact numbers, headings, text, addresses."""

    def __init__(self, html):
        super().__init__()
        self.values, self.headings, self.addresses, self.text, self._tag = [], [], [], "", ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self._tag = tag
        for name, value in attributes:
            if tag == "data":
                self.values.append(float(value))
            if name in ("src", "href", "xlink:href", "srcset"):
                self.addresses.append(value)

    def handle_data(self, data):
        self.text += data
        if self._tag in ("h2", "h3"):
            self.headings.append(data)
        self._tag = ""


def leaves(tree):
    return [leaf for value in tree.values() for leaf in (leaves(value) if isinstance(value, dict) else [value])]


def test_every_number_on_the_page_is_one_of_the_results(run, journal):
    html = report.detection(run.results, Shown(run.videos, journal))
    test, literature = run.results["test"], run.results["literature"]
    shown = set(Page(html).values)
    scores = [
        float(score)
        for rows in worst(run.videos, run.results["threshold"]["value"]).values()
        for score in rows["score"]
    ]
    assert shown <= {*leaves(test | {"ci95": {}}), *leaves(literature), *scores}
    groups = leaves(
        {name: {k: of[k] for k in ("apcer_max", "bpcer")} for name, of in test["breakdown"]["session"].items()}
    )
    assert shown >= {*(test[name] for name in report.WORDS), *leaves(test["apcer"]), *leaves(literature), *groups}
    points = test["operating_points"]
    assert shown >= {*(point[name] for point in points.values() for name in ("apcer_max", "bpcer"))}
    assert all(f"; ACER {100 * point['acer']:.2f} %" in html for point in points.values())
    assert shown >= {*leaves(test["calibration"]), *scores}
    low, high = test["ci95"]["acer"]
    assert f">{100 * low:.2f} to {100 * high:.2f}</td>" in html


def test_the_page_says_how_many_files_of_the_test_could_not_be_read(run):
    assert run.results["test"]["missing"] == {}  # as of records of an earlier version
    assert "whether files are absent or corrupt is not known" in report.detection(run.results, Shown(run.videos))
    results = {**run.results, "test": run.results["test"] | {"missing": {"absent": 3, "corrupt": 2}}}
    assert "Files of the test that are absent: 3, that cannot be read to their end: 2." in report.detection(
        results, Shown()
    )


def test_the_page_fetches_nothing_and_its_plots_are_well_formed(run, journal):
    html = report.detection(run.results, Shown(run.videos, journal, seen=seen(run)))
    page = Page(html)
    assert html == report.detection(run.results, Shown(run.videos, journal, seen=seen(run)))
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in page.addresses)
    assert not re.search(r"https?:|@import|<script|<link|url\((?!#)", html)
    svgs = re.findall(r"<svg viewBox.*?</svg>", html, flags=re.DOTALL)
    assert len(svgs) == 7
    named = [ET.fromstring(svg.replace("xlink:href", "href")).get("aria-label") for svg in svgs]
    assert len(set(named)) == 7  # five plots and two grids
    ids = re.findall(r'<clipPath id="([^"]*)"', html)
    assert len(ids) == len(set(ids))


def test_the_page_says_in_words_what_it_is_about(run):
    page = Page(report.detection(run.results, Shown(run.videos)))
    test = run.results["test"]
    passing, refused = round(100 * test["apcer_max"]), round(100 * test["bpcer"])
    verdict = f"student accepts {passing} of 100 attacks of the worst species (Print, printer 2) and rejects {refused}"
    assert f"At its threshold, {verdict} of 100 live faces." in page.text
    assert "Score = P(live): 1 is a live face, 0 an attack" in page.text
    assert f"Threshold {run.results['threshold']['value']:.6g} (EER of dev of simulated)" in page.text
    assert page.headings == [
        "Key figures on test", "By attack species", "What so many attempts support", "Operating points",
        "Scores and error curves", "Where the errors are",
        "The worst group of each column",
        "The model", "As papers print it",
        "Are the scores probabilities?", "The worst errors", "Attacks that pass", "Live faces turned away",
        "Provenance", "Dev and test, names as in results.json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("rate", "words"),
    [
        (0.0, "none of 100"),
        (0.31, "31 of 100"),
        (0.012, "1 of 100"),
        (0.0031, "3 of 1,000"),
        (0.0001, "1 of 10,000"),
    ],
)
def test_rates_in_words(rate, words):
    assert report_hero.of_hundred(rate) == words


def test_the_worst_errors_are_the_most_wrong_first():
    rows = [("print", 0, s) for s in (0.95, 0.6, 0.4)] + [("live", 1, s) for s in (0.1, 0.9, 0.3)]
    videos = pd.DataFrame(rows, columns=["species", "label", "score"])
    found = worst(videos, 0.5)
    assert found["attack"]["score"].tolist() == [0.95, 0.6]
    assert found["live"]["score"].tolist() == [0.1, 0.3]
    many = pd.concat([videos] * 20)
    assert [len(rows) for rows in worst(many, 0.5).values()] == [12, 12]


def seen(run):
    wrong = pd.concat(worst(run.videos, run.results["threshold"]["value"]).values())
    look = Looked(np.full((32, 32, 3), 99, np.uint8), np.eye(32))
    return {(video.dataset, video.video): look for video in wrong.itertuples()}


def test_faces_are_in_the_page_only_where_they_are_given(run):
    without, with_faces = (report.detection(run.results, Shown(run.videos, seen=faces)) for faces in (None, seen(run)))
    assert "<img" not in without
    assert "--config.report.faces=true" in without
    assert with_faces.count("<img") == len(seen(run)) > 12
    assert "--config.report.faces" not in with_faces


def test_names_from_outside_are_shown_and_not_run(run):
    videos = run.videos.assign(video="<script>alert(1)</script>")
    videos["species"] = videos["species"].replace("print1", "$\\print<b>")  # no mathematics, and no tag
    html = report.detection(run.results, Shown(videos))
    assert "<script" not in html
    assert "\\print<b>" not in html
    assert "$\\print&lt;b&gt;" in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_the_teacher_stands_beside_the_student(run):
    teacher = evaluated("teacher", 7)
    page = Page(report.detection(run.results, Shown(run.videos, teachers={"spoof": teacher})))
    assert set(page.values) >= {teacher.results["test"][name] for name in ("acer", "apcer_max", "bpcer", "auc", "eer")}
    assert "teacher spoof" in page.text
    assert f"{models.count(MODEL, 32):,}" in page.text


@pytest.mark.parametrize("kind", ["perfect", "constant", "reversed"])
def test_detectors_at_their_limits_can_be_drawn(kind):
    videos = scored(3)
    videos["score"] = {"perfect": videos["label"], "constant": 0.5, "reversed": 1 - videos["label"]}[kind] * 1.0
    threshold, _ = metrics.eer_threshold(videos)
    for svg in (
        report_plots.scores(videos, threshold),
        report_plots.det({"it": (videos, threshold)}, "DET"),
        report_plots.reliability(videos, 0.05),
    ):
        assert svg.startswith("<svg")


def write(folder, run):
    (folder / "eval").mkdir(parents=True)
    (folder / "eval" / "results.json").write_text(json.dumps(run.results))
    run.videos.assign(split="test").to_csv(folder / "eval" / "scores.csv", index=False)
    return str(folder)


def test_hostile_names_in_scores_are_neutral_there_and_exact_when_read_back(run, tmp_path):
    """A spreadsheet runs none, a line break begins no row, and comparisons see the data set's own names."""
    videos = run.videos.assign(species=run.videos["species"].replace("print1", "=1+1\r"))
    text = evaluate.scores_csv({"test": videos})
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "scores.csv").write_bytes(text.encode())
    (tmp_path / "eval" / "results.json").write_text(json.dumps(run.results))
    assert '"\'=1+1\r"' in text
    read = report_runs.read(str(tmp_path)).videos
    assert read["species"].tolist() == videos["species"].tolist()
    np.testing.assert_allclose(read["score"], videos["score"])


def test_runs_are_compared_in_a_table_and_a_page(run, tmp_path):
    other = evaluated("other", 20)
    folders = [write(tmp_path / "a", run), write(tmp_path / "b", other)]
    table = report_compare.compare(folders, str(tmp_path / "out"))
    assert "warning" not in table
    for name, results in (("a", run.results), ("b", other.results)):
        line = next(line for line in table.splitlines() if line.startswith(f"| {name} "))
        assert f"| {100 * results['test']['acer']:.2f} " in line
        assert f"{models.count(MODEL, 32):,}" in line
    html = (tmp_path / "out" / "index.html").read_text()
    page = Page(html)
    assert set(page.values) >= {of.results["test"][name] for of in (run, other) for name in report_compare.SHOWN}
    assert "http" not in html
    best = min(("a", run), ("b", other), key=lambda pair: pair[1].results["test"]["acer"])
    assert f"{best[0]} has the lowest ACER, {100 * best[1].results['test']['acer']:.2f} %." in page.text


def test_runs_of_different_protocols_are_warned_about(run, tmp_path):
    folders = [write(tmp_path / "a", run), write(tmp_path / "b", evaluated("other", 20, protocol="2"))]
    table = report_compare.compare(folders, str(tmp_path))
    assert table.startswith(
        "warning: the runs have different test data: a on protocol 1 of simulated (live 40, print1 40"
    )
    assert "Warning: the runs have different test data" in (tmp_path / "index.html").read_text()


def test_what_cannot_be_compared_is_refused(run, tmp_path):
    one = write(tmp_path / "a", run)
    with pytest.raises(ValueError, match="expected two or more folders"):
        report_compare.compare([one], str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"none/eval/results.json does not exist; make it by: .*--mode=eval"):
        report_compare.compare([one, str(tmp_path / "none")], str(tmp_path))
    other = run.results | {"test": {"auc": 0.5}}
    two = write(tmp_path / "b", run._replace(results=other))
    with pytest.raises(ValueError, match=r"b has no APCER; expected runs with config\.data\.target='label'"):
        report_compare.compare([one, two], str(tmp_path))
    assert not (tmp_path / "index.html").exists()


def test_runs_of_the_same_name_keep_their_paths():
    assert report_compare.names_of_runs(["x/a", "y/b/"]) == ["a", "b"]
    assert report_compare.names_of_runs(["x/a", "y/a"]) == ["x/a", "y/a"]


def test_a_run_is_read_back_as_it_was_scored(run, tmp_path):
    """Subjects and videos that look like numbers stay text, and scores keep every digit."""
    videos = run.videos.assign(subject="01", video=[f"00{i}" for i in range(len(run.videos))])
    found = report_runs.read(write(tmp_path / "a", run._replace(videos=videos)))
    pd.testing.assert_frame_equal(found.videos[videos.columns], videos.reset_index(drop=True), check_exact=True)


@pytest.mark.slow
def test_a_look_is_at_the_middle_frame_of_each_error(tiny):
    """An untrained model; all test pictures of a class as one video: the stored pixels, and a map of their size."""
    data, mesh = pipeline.open_data(tiny.data, targets.get(tiny.data.target)), sharding.make_mesh(tiny.mesh)
    data = data._replace(table=data.table.assign(video=data.table["label"].astype(str)))
    model = models.create(tiny.model)
    variables = step.init_variables(model, tiny.data.image_size, 0)
    wrong = pd.DataFrame({"dataset": "folder", "video": ["0", "1"]})
    found = evaluate.look(model, variables, data, tiny.data, mesh, wrong)
    assert set(found) == {("folder", "0"), ("folder", "1")}
    (batch,) = pipeline.test_batches(data, data.rows("test"), tiny.data, batch_size=48, shard=(0, 1))
    for (_, video), looked in found.items():
        rows = data.table.index[(data.table["role"] == "test") & (data.table["video"] == video)]
        stored = batch["image"][batch["index"] == rows[12]]
        np.testing.assert_array_equal(looked.image, stored[0])
        assert looked.heat.shape == (16, 16)
        assert (looked.heat.min(), looked.heat.max()) == (0, pytest.approx(1))
    assert evaluate.look(model, variables, data, tiny.data, mesh, wrong[:0]) == {}


def test_a_checkpoint_is_chosen_on_dev_or_the_last():
    for dev, chosen in (({"auc": 0.9}, "chosen on dev"), ({}, "the last")):
        results = {
            "threshold": {"value": 0.5, "source": "x"},
            "step": 7,
            "folds": [],
            "dev": dev,
            "test": {"apcer": {}},
        }
        assert f"Checkpoint of step 7, {chosen}." in summary.selection_note(results)


def test_where_test_has_no_right_answer_the_row_is_of_dev():
    results = {"test": {"counts": {"scores": 0}}, "dev": {"accuracy": 0.9, "by_domain": {"a": 0.9}}}
    assert summary.row(results) == {"dev accuracy": "90.00"}
