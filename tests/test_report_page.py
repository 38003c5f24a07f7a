"""What a page says and shows: the verdict, cautions, faces, human names, colours, and paired differences."""

import colorsys
import re

import numpy as np
import pandas as pd
import pytest

from kdfas_jax.metrics import amounts, exact, groups
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.report import comparison, hero, made, page, plots
from kdfas_jax.report.parts import Looked, Shown, pictured, typical, worst
from kdfas_jax.report.render import html, names
from kdfas_jax.report.render.content import Section, Text
from tests.test_report import evaluated, write


@pytest.fixture(scope="module")
def run():
    return evaluated("student", 0)


def seen(videos):
    return {(row.dataset, row.video): Looked(np.full((8, 8, 3), 99, np.uint8)) for row in videos.itertuples()}


def test_the_grids_show_the_two_error_rates_of_one_hundred(run):
    test = run.results["test"]
    top = hero.hero(run.results, Shown())
    wrong = [round(100 * test["apcer_max"]), round(100 * test["bpcer"])]
    assert [grid.wrong for grid in top.grids] == wrong
    text = html.document("page", [], hero=top)
    attack, live = re.findall(r'<svg viewBox="0 0 100 100".*?</svg>', text, flags=re.DOTALL)
    assert (attack.count('class="wrong"'), attack.count('class="right"')) == (wrong[0], 100 - wrong[0])
    assert live.count("#live-icon") == 100
    assert f"{round(40 * test['apcer_max'])} of 40 on test" in text
    low, high = test["ci95"]["apcer_max"]
    assert f"{round(100 * low)} to {round(100 * high)} of 100 (95 % interval)" in text
    assert ("Rounded to whole icons." in text) == any(100 * test[name] % 1 for name in ("apcer_max", "bpcer"))


def test_no_error_in_few_presentations_is_said_with_its_bound(run):
    """A bootstrap of no error is 0 to 0, which 40 presentations do not support."""
    test = run.results["test"]
    none = test | {"apcer": dict.fromkeys(test["apcer"], 0.0), "apcer_max": 0.0, "bpcer": 0.0}
    none["ci95"] = test["ci95"] | {"apcer_max": [0.0, 0.0], "bpcer": [0.0, 0.0]}
    bound = exact.interval(0, 40)[1]
    text = page.detection({**run.results, "test": none}, Shown())
    assert text.count(f"the rate is at most {100 * bound:.1f} %") == 2
    assert "accepts none of 100 attacks" in text
    assert "0.00 to 0.00" not in text
    assert f"0 to {100 * bound:.2f}" in text


@pytest.mark.parametrize(
    ("dataset", "train", "test", "found"),
    [
        ("simulated", ["simulated"], ["simulated"], ("trained", "figures")),
        ("simulated+nuaa", ["simulated"], ["nuaa"], ("trained",)),
        ("simulated+nuaa", ["nuaa"], ["simulated"], ("figures",)),
        ("simulated+nuaa", ["nuaa", "simulated"], ["nuaa"], ()),
        ("folder", ["folder"], ["folder"], ()),
    ],
)
def test_the_banner_says_what_is_simulated(run, dataset, train, test, found):
    config = run.results["config"] | {"data": {"image_size": 32, "dataset": dataset}}
    results = {**run.results, "config": config, "sources": {"train": train, "dev": [], "test": test, "extra": []}}
    cautions = hero.cautions(results, Shown())
    assert tuple("trained" if "was trained" in caution else "figures" for caution in cautions) == found
    assert ('class="amber"' in page.detection(results, Shown())) == bool(found)


def test_pictures_are_of_simulated_faces_alone_unless_faces_are_asked_for(run):
    videos, threshold = run.videos, run.results["threshold"]["value"]
    chosen = pictured(videos, threshold, faces=False)
    assert set(pd.concat(worst(videos, threshold).values()).index) | set(typical(videos, threshold).index) == set(
        chosen.index
    )
    real = videos.assign(dataset="folder")
    assert pictured(real, threshold, faces=False).empty
    assert len(pictured(real, threshold, faces=True)) == len(chosen)
    mixed = videos.assign(dataset=np.where(videos["label"] == 1, "folder", "simulated"))
    assert set(pictured(mixed, threshold, faces=False)["dataset"]) == {"simulated"}


def test_the_page_opens_with_an_example_of_each_kind_and_the_gallery(run):
    threshold = run.results["threshold"]["value"]
    examples = typical(run.videos, threshold)
    assert [re.sub(r"\d", "", name) for name in examples["species"]] == ["live", "print", "replay"]
    assert ((examples["score"] >= threshold) == (examples["label"] == 1)).all()
    groups = pd.DataFrame({"sensor": "3", "session": "2"}, index=run.videos.index)
    text = page.detection(
        run.results, Shown(run.videos, seen=seen(pictured(run.videos, threshold, False)), groups=groups)
    )
    assert text.index('id="the-worst-errors"') < text.index('id="operating-points"')
    assert text.count("Phone 3, Session 2") == text.count("<img") > 12
    assert "The faces are simulated." in text
    text = page.detection(run.results, Shown(run.videos, seen={}))
    assert text.index('id="the-worst-errors"') > text.index('id="operating-points"')


def test_parts_of_the_test_have_counts_and_intervals(run):
    threshold = run.results["threshold"]["value"]
    session = pd.Series(["1" if int(name) % 2 == 0 else "2" for name in run.videos["subject"]], run.videos.index)
    breakdown = groups.breakdown(run.videos, session.to_frame("session"), threshold)
    results = {**run.results, "test": run.results["test"] | {"breakdown": breakdown}}
    text = page.detection(results, Shown(run.videos))
    live = run.videos[(session == "2") & (run.videos["label"] == 1)]
    errors = int((live["score"] < threshold).sum())
    low, high = exact.interval(errors, len(live))
    assert f"{errors} of {len(live)}; {100 * low:.1f} to {100 * high:.1f}" in text
    assert "Session 2" in text


def test_every_section_is_in_the_navigation_and_every_link_leads_somewhere(run):
    text = page.detection(run.results, Shown(run.videos))
    ids = re.findall(r'<h2 id="([^"]+)"', text)
    links = re.findall(r'<li><a href="#([^"]+)"', text)
    assert links == ids * 2  # at the side, and in the list of narrow screens
    assert len(set(ids)) == len(ids)


def test_names_are_those_that_people_use():
    assert names.species("print1") == "Print, printer 1"
    assert names.species("replay") == "Replay"
    assert names.species("my species") == "my species"
    assert names.domain("simulated-msu") == "simulated after MSU-MFSD"
    assert names.domain("mine") == "mine"
    assert names.value("sensor", "1", ["simulated"]) == "Phone 1"
    assert names.value("sensor", "3", ["oulu"]) == "Phone 3 (Meizu X5)"
    assert names.value("sensor", "2", ["siw"]) == "Camera 2"
    assert names.value("sensor", "webcam", ["siw"]) == "webcam"
    assert names.value("medium", "2", ["siw"]) == "2"


def test_orange_means_an_error_and_nothing_else(run):
    """No curve, banner or heat map is orange or red, and only what shows errors uses that colour."""
    journal = pd.DataFrame([(10 * i, "loss", 1 / i) for i in range(1, 9)], columns=["step", "metric", "value"])
    threshold = run.results["threshold"]["value"]
    for svg in (
        plots.det({"it": (run.videos, threshold)}, "DET"),
        plots.reliability(run.videos, 1.5),
        plots.curves(journal, {"loss": "loss"}, "loss", 10),
        plots.accuracy_against_cost({"it": (1e6, 0.1, (0.05, 0.2))}),
        plots.gains({"kl": {1.0: np.array([0.01, 0.02]), 3.0: np.array([0.03])}}),
    ):
        assert "var(--err)" not in svg
        assert html.LIGHT["err"] not in svg
    assert "var(--err)" in plots.scores(run.videos, threshold)
    for palette in (html.LIGHT, html.DARK):
        for name in set(palette) - {"err", "bar"}:
            rgb = [int(palette[name][i : i + 2], 16) / 255 for i in (1, 3, 5)]
            hue = 360 * colorsys.rgb_to_hls(*rgb)[0]
            assert max(rgb) - min(rgb) < 0.2 or 42 <= hue <= 335, (name, hue)
    assert html.HEAT[2] == html.HEAT.max()


def test_the_trade_off_ends_at_one_error(run):
    """Of 40 live videos and 40 attacks no rate but 0 is below 2.5 %, where the axes begin."""
    svg = plots.det({"it": (run.videos[run.videos["species"].isin(["live", "print1"])], 0.5)}, "DET")
    shares = [float(text) for text in re.findall(r">([\d.]+) %<", svg)]
    assert min(shares) >= 2.5
    assert max(shares) == 100


def test_paired_differences_are_those_of_the_figures(run):
    other = run.videos.assign(score=run.videos["score"] ** 2)
    same = metrics.paired(run.videos, run.videos, (0.5, 0.5))
    assert all(value == (0.0, 0.0, 0.0) for value in same.values())
    found = metrics.paired(run.videos, other, (0.5, 0.4))
    first, second = metrics.figures(run.videos, 0.5), metrics.figures(other, 0.4)
    for name, (value, low, high) in found.items():
        assert value == pytest.approx(second[name] - first[name], abs=1e-9)
        assert low <= value + 1e-9
        assert value - 1e-9 <= high
    assert found["auc"] == (0.0, 0.0, 0.0)  # squares keep the order
    assert metrics.paired(run.videos.assign(subject="1"), other.assign(subject="1"), (0.5, 0.5)) == {}


def test_runs_are_paired_only_on_the_same_videos(run, tmp_path):
    fewer = run._replace(videos=run.videos.iloc[1:])
    folders = [write(tmp_path / name, of) for name, of in (("a", run), ("b", run), ("c", fewer))]
    comparison.compare(folders, str(tmp_path / "out"))
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count("no pair: its test videos are not those of a") == 1
    assert text.count("+0.00 to +0.00") == 4  # b less a; AUC has four decimals
    assert 'aria-label="accuracy against cost"' in text
    assert text.count("trained on simulated faces only") == 1  # once for all runs


def test_the_page_says_from_what_it_was_made(run):
    kinds = [(1, "live", ""), (0, "print1", "1")] * 4
    rows = [
        (role, True, label, "simulated", f"{role}{i}", str(i % 3), species, medium, "1")
        for role in ("train", "test")
        for i, (label, species, medium) in enumerate(kinds)
    ]
    columns = ["role", "found", "label", "dataset", "video", "subject", "species", "medium", "sensor"]
    table = pd.DataFrame(rows, columns=columns)
    splits = amounts.counted(table)
    assert splits["test"] == {
        "presentations": 8, "people": 3, "species": {"live": 4, "print1": 4}, "medium": {"1": 4}, "sensor": {"1": 8},
    }  # fmt: skip
    note = {"commit": "abc123", "data_fingerprint": "fedcba", "date": "2026-01-02", "packages": {"jax": "1.2"}}
    section = made.provenance(run.results, Shown(splits=splits, made=note))
    text = html.document("page", [section])
    for said in ("abc123", "fedcba", "2026-01-02", "jax 1.2", "Print, printer 1: 4", "Phone 1: 8"):
        assert said in text
    begun = {"run": "runs/a", "protocol": "1", "step": 7, "config": "1234", "parameters": 5, "overlap": "none"}
    assert "runs/a" in html.document("page", [made.taught({}, begun)])
    assert made.taught({}) is None


def test_texts_are_escaped_and_a_missing_value_is_an_error():
    text = html.document("<i>", [Section("A & B", "<script>", [Text("<b>")])], cautions=["<u>"])
    assert not re.search(r"<(i|b|u|script)>", text)
    assert 'id="a-b"' in text
    with pytest.raises(Exception, match="undefined"):
        html.TEMPLATES.from_string("{{ nothing }}").render()
