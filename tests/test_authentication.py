"""Recognition and liveness in one model: the attempts, the figures of the whole system, what a task makes of them."""

import numpy as np
import pandas as pd
import pytest

from input_pipeline.select.examples import Data
from kdfas_jax import targets
from kdfas_jax.metrics import authentication, exact
from kdfas_jax.report import summary
from kdfas_jax.report import system as report_system
from kdfas_jax.report.render import html

MATCHES = {"mated": (0.9, 0.8, 0.7, 0.2), "nonmated": (0.5, 0.3, 0.1, 0.0), "attack": (0.9, 0.6, 0.95, 0.3)}
SCORES = {"mated": (0.9, 0.3, 0.8, 0.9), "nonmated": (0.9, 0.9, 0.2, 0.9), "attack": (0.7, 0.1, 0.8, 0.9)}
SPECIES = {"mated": ["live"] * 4, "nonmated": ["live"] * 4, "attack": ["print", "print", "replay", "replay"]}


def rows():
    return pd.concat(
        [
            pd.DataFrame({"kind": kind, "match": MATCHES[kind], "score": SCORES[kind], "species": SPECIES[kind]})
            for kind in MATCHES
        ],
        ignore_index=True,
    ).assign(dataset="set", subject="p1")


def test_an_attempt_passes_only_if_the_face_matches_and_is_live():
    """By hand, at a cosine of 0.45 and a score of 0.5."""
    found = authentication.figures(rows(), 0.45, 0.5)
    assert (found["fnmr"], found["fmr"]) == (0.25, 0.25)  # 0.2 of the mated; 0.5 of the others
    assert (found["frr"], found["far"]) == (0.5, 0.25)  # and 0.8, whose score is 0.3
    assert found["iapar"] == {"print": 0.5, "replay": 0.5}
    assert (found["iapar_max"], found["riapar_max"]) == (0.5, 1.0)
    assert found["riapar"] == {"print": 1.0, "replay": 1.0}
    assert found["counts"] == {"attack": 4, "mated": 4, "nonmated": 4}
    exact_of = found["exact"]
    assert (exact_of["fnmr"]["errors"], exact_of["fnmr"]["attempts"]) == (1, 4)
    assert (exact_of["far"]["low"], exact_of["far"]["high"]) == exact.interval(1, 4)
    assert exact_of["iapar"]["print"]["high"] == exact.interval(1, 2)[1]
    assert tuple(exact_of["riapar"]["print"]) == exact.total((2, 4), (1, 2))
    strict = authentication.figures(rows(), 0.85, 0.75)
    assert strict["iapar"] == {"print": 0.0, "replay": 0.5}
    assert (strict["iapar_max"], strict["frr"], strict["riapar_max"]) == (0.5, 0.75, 1.25)


def test_the_threshold_of_the_match_is_the_lowest_that_so_few_others_reach():
    others = np.linspace(0, 1, 101)
    points = authentication.match_thresholds(others)
    assert {fmr: (others >= points[fmr]).sum() for fmr in points} == {"0.1": 10, "0.01": 1, "0.001": 0}
    assert (others >= np.nextafter(points["0.1"], 0)).sum() == 11


def videos(people=3, live=3, attacks=2):
    """Videos of `people`, each on an axis of its own; live ones first."""
    names = [(f"p{p}", f"p{p}/live{i}", "live", 1) for p in range(people) for i in range(live)]
    names += [(f"p{p}", f"p{p}/print{i}", "print", 0) for p in range(people) for i in range(attacks)]
    table = pd.DataFrame(names, columns=["subject", "video", "species", "label"]).assign(dataset="set", score=0.5)
    return table, np.eye(people)[table["subject"].str[1:].astype(int)]


def test_every_bona_fide_video_meets_its_own_reference_and_others():
    table, unit = videos()
    found = authentication.attempts(table, unit)
    assert found["kind"].value_counts().to_dict() == {"mated": 6, "nonmated": 12, "attack": 6}
    assert set(found["reference"]) == {"p0/live0", "p1/live0", "p2/live0"}
    assert not found["video"].isin(found["reference"]).any()
    own = found["video"].str[:2] == found["reference"].str[:2]
    assert (own == (found["kind"] != "nonmated")).all()
    np.testing.assert_array_equal(found["match"], own.astype(float))


def test_attacks_on_people_without_a_reference_and_people_beyond_some_are_left_out():
    table, unit = videos(people=15)
    stranger = table[table["label"] == 0].iloc[:1].assign(subject="stranger")
    found = authentication.attempts(pd.concat([table, stranger]), np.vstack([unit, unit[:1]]))
    assert (found["kind"] == "nonmated").sum() == 30 * authentication.OTHERS
    assert not found[found["kind"] == "nonmated"].duplicated(["video", "reference"]).any()
    assert "stranger" not in set(found["subject"])


def test_the_same_name_in_two_sets_is_two_people():
    table, unit = videos(people=1)
    assert authentication.attempts(table, unit).empty  # one person alone
    assert authentication.attempts(*(of[:1] for of in videos(live=1))).empty
    both = pd.concat([table, table.assign(dataset="other")])
    found = authentication.attempts(both, np.vstack([unit, unit]))
    assert (found["kind"] == "nonmated").sum() == 4


@pytest.fixture
def data():
    """Recognition images of six people, and two bona fide and two attack videos of two frames of three more."""
    collected = [("identity", f"c{p}", f"c{p}/{i}.jpg", 0, "", -1) for p in range(6) for i in range(3)]
    shown = [
        ("set", f"p{p}", f"p{p}/{species}{i}", frame, species, int(species == "live"))
        for p in range(3)
        for species in ("live", "print")
        for i in range(2)
        for frame in range(2)
    ]
    table = pd.DataFrame(collected + shown, columns=["dataset", "subject", "video", "frame", "species", "label"])
    table = table.assign(found=True, role="dev", domain=table["dataset"])
    for name in ("sensor", "session", "medium", "light", "environment", "support", "attributes"):
        table[name] = ""
    sources = {"train": ["set"], "dev": ["identity", "set"], "test": ["identity", "set"]}
    return Data(table, [], "", sources)


def kept(data, noise=0.1):
    """What a good model keeps: a score, and an embedding near the person's axis."""
    rng = np.random.default_rng(0)
    person = pd.factorize(data.table["dataset"] + data.table["subject"])[0]
    vectors = np.eye(person.max() + 1)[person] + noise * rng.standard_normal((len(person), person.max() + 1))
    score = data.table["label"].to_numpy() * 0.6 + 0.2 + noise * rng.random(len(person))
    return pd.DataFrame(np.column_stack([score, 3 * vectors]), index=data.table.index)


def test_a_model_of_two_tasks_is_judged_by_presentations_pairs_and_attempts(data):
    task = targets.LABEL_IDENTITY
    dev = task.scored(kept(data), data)
    assert dev["kind"].value_counts().to_dict() == {
        "pair": 36,
        "presentation": 12,
        "nonmated": 6,
        "attack": 6,
        "mated": 3,
    }
    pairs = dev[dev["kind"] == "pair"]
    assert set(pairs["first"].str[0]) == {"c"}  # the sets collected for recognition
    whole = data._replace(table=pd.concat([data.table, data.table.assign(role="test")], ignore_index=True))
    results = task.results({"dev": dev, "test": dev}, whole)
    assert task.scored_roles(whole) == ("dev", "test")
    assert results["threshold"]["source"] == "EER of dev of identity, set"
    assert results["threshold"]["match"]["source"].startswith("FMR 0.01 of attempts of dev")
    assert results["test"]["auc"] == 1.0
    assert results["test"]["verification"]["counts"] == {"scores": 36}
    assert results["test"]["verification"]["auc"] > 0.99
    system = results["test"]["system"]
    assert (system["frr"], system["far"], system["iapar_max"], system["riapar_max"]) == (0, 0, 0, 0)
    assert results["dev"]["system"] == system
    selection = task.selection(dev)
    assert selection["selection"] == pytest.approx((1 + selection["match_auc"]) / 2)
    shown = summary.row(results)
    assert {"acer", "match_accuracy", "match_tar@far=0.1", "frr", "riapar_max"} <= set(shown)


def test_a_blind_matcher_lets_the_wrong_people_in_however_live_they_are(data):
    task = targets.LABEL_IDENTITY
    blind = kept(data)
    blind.iloc[:, 1:] = 1.0 + 0.1 * np.random.default_rng(1).standard_normal(blind.iloc[:, 1:].shape)
    dev = task.scored(blind, data)
    results = task.results({"dev": dev, "test": dev}, data)
    assert results["test"]["auc"] == 1.0
    assert results["test"]["verification"]["auc"] < 0.8
    assert results["test"]["system"]["frr"] > 0.3


def test_the_page_shows_the_whole_system_and_escapes_what_it_is_given():
    figures = authentication.figures(rows(), 0.45, 0.5)
    section = report_system.system(figures, {"value": 0.45, "source": "FMR 0.01 of <dev>"})
    page = html.document("page", [section])
    assert "cosine of 0.4500 (FMR 0.01 of &lt;dev&gt;)" in page
    assert ">Print</td>" in page
    assert "1 of 4; 0.6 to 80.6" in page  # FNMR
    assert report_system.system({name: of for name, of in figures.items() if name != "exact"}, None)  # earlier results
    assert report_system.verification({"auc": 1.0}) is None


def test_one_person_before_the_camera_of_dev_leaves_the_threshold_to_the_pairs(data):
    """As in NUAA, whose dev is subject 6: test's two people still make attempts."""
    task = targets.LABEL_IDENTITY
    few = data.table["subject"].isin(["p1", "p2"])
    alone, whole = (task.scored(kept(data)[~out], data) for out in (few, few & False))
    assert set(alone["kind"]) == {"presentation", "pair"}
    results = task.results({"dev": alone, "test": whole}, data)
    assert results["threshold"]["match"]["source"].startswith("FMR 0.01 of pairs of dev")
    assert "system" not in results["dev"]
    assert results["test"]["system"]["counts"]["mated"] == 3
    assert "riapar_max" in summary.row(results)
