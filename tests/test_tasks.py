"""Recognition and domain classification as targets: what is scored, the figures, the report; a run of each."""

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from jax.sharding import PartitionSpec

from input_pipeline.prepare import faces as detection
from input_pipeline.prepare import parts
from input_pipeline.select import pairs
from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import models, targets
from kdfas_jax.commands import confuse, evaluate, train, verify
from kdfas_jax.parallel import sharding
from kdfas_jax.report import summary
from kdfas_jax.report.parts import Shown
from kdfas_jax.targets import attributes, identity
from kdfas_jax.training import validate

RECOGNISER = {"name": "iresnet", "classes": 8, "width": 8, "blocks": (1, 1, 1, 1), "embedding": 16, "dtype": "float32"}


def people(number, images):
    """Data of people with `images` pictures each, all in dev, in rows 100, 101, ..."""
    rows = [(f"p{i}", f"p{i}/{j}.jpg") for i in range(number) for j in range(images)]
    table = pd.DataFrame(rows, columns=["subject", "video"], index=range(100, 100 + len(rows)))
    table = table.assign(dataset="identity", domain="lfw", species="", label=-1, frame=0, found=True, role="dev")
    return Data(table, [], "", {})


def test_pairs_are_scored_by_the_cosine_of_their_embeddings():
    data = people(4, 3)
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(12, 5)), index=data.table.index)
    scored = targets.IDENTITY.scored(vectors, data)
    assert list(scored) == ["first", "second", "same", "fold", "score"]
    assert (len(scored), scored["same"].sum()) == (24, 12)
    of = dict(zip(data.table["video"], vectors.to_numpy(), strict=True))
    for pair in scored.itertuples():
        one, two = of[pair.first], of[pair.second]
        assert pair.score == pytest.approx(one @ two / np.linalg.norm(one) / np.linalg.norm(two))
        assert pair.same == (pair.first.split("/")[0] == pair.second.split("/")[0])


def test_an_embedding_that_knows_people_is_ranked_first():
    data = people(5, 3)
    person = data.table["subject"].str[1:].astype(int)
    rng = np.random.default_rng(0)
    right = pd.DataFrame(np.eye(5)[person] + rng.normal(0, 0.1, (15, 5)), index=data.table.index)
    noise = pd.DataFrame(rng.normal(size=(15, 5)), index=data.table.index)
    good, bad = (targets.IDENTITY.selection(targets.IDENTITY.scored(vectors, data)) for vectors in (right, noise))
    assert (good["auc"], good["eer"], good["accuracy"], good["selection"]) == (1, 0, 1, 1)
    assert bad["selection"] == bad["auc"] < 0.8


def test_listed_pairs_are_scored_as_they_are():
    data = people(3, 2)
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 4)), index=data.table.index)
    listed = [pairs.Pair("p0/0", "p0/1", True, 0), pairs.Pair("p2/0", "p1/1", False, 1)]
    scored = identity.score_pairs(vectors, data.table, listed)
    assert scored[["first", "second", "fold"]].to_numpy().tolist() == [
        ["p0/0.jpg", "p0/1.jpg", 0],
        ["p2/0.jpg", "p1/1.jpg", 1],
    ]


def domains(*rows):
    table = pd.DataFrame(rows, columns=["domain", "role"])
    table = table.assign(
        dataset="x", video=[str(i) for i in range(len(rows))], frame=0, subject="", label=1, found=True
    )
    return Data(table, [], "", {})


def test_accuracy_is_over_the_domains_that_were_trained_on():
    data = domains(("b", "train"), ("a", "train"), ("a", "test"), ("b", "test"), ("b", "test"), ("c", "test"))
    predicted = pd.DataFrame([[0.0], [0.0], [1.0], [1.0]], index=[2, 3, 4, 5])  # a, a, b, b
    scored = targets.DOMAIN.scored(predicted, data)
    assert scored[["domain", "predicted"]].to_numpy().tolist() == [["a", "a"], ["b", "a"], ["b", "b"]]
    results = targets.DOMAIN.results({"test": scored}, data)
    assert results["test"]["accuracy"] == pytest.approx(2 / 3)
    assert results["test"]["by_domain"] == {"a": 1.0, "b": 0.5}
    assert (results["test"]["counts"], results["test"]["non_response"], results["dev"]) == ({"scores": 3}, 0, {})
    assert targets.DOMAIN.selection(scored) == {"accuracy": 2 / 3, "selection": 2 / 3}


def test_a_target_domain_that_nobody_trained_on_has_no_accuracy():
    data = domains(("a", "train"), ("b", "train"), ("c", "test"))
    scored = targets.DOMAIN.scored(pd.DataFrame([[1.0]], index=[2]), data)
    assert len(scored) == 0
    assert "accuracy" not in targets.DOMAIN.results({"test": scored}, data)["test"]


def faces(*said, attributes=("Young", "Male")):
    """Data of dev images of which the column `attributes` says these."""
    table = pd.DataFrame({"attributes": said}, index=range(len(said)))
    table = table.assign(dataset="x", video=[f"{i}.jpg" for i in range(len(said))], frame=0, found=True, role="dev")
    return Data(table, [], "", {}, attributes)


def test_attributes_are_scored_by_image_and_attribute_where_the_data_know_them():
    data = faces("Male=1;Young=0", "Male=0;Young=1", "Young=1", "")
    logits = pd.DataFrame([[0.0, np.log(3)], [2.0, -1.0], [1.0, 9.0]], index=[0, 1, 2])
    scored = targets.ATTRIBUTES.scored(logits, data)
    assert list(scored) == ["dataset", "video", "frame", "attribute", "label", "score"]
    assert scored[["video", "attribute", "label"]].to_numpy().tolist() == [
        ["0.jpg", "Young", 0],
        ["1.jpg", "Young", 1],
        ["2.jpg", "Young", 1],
        ["0.jpg", "Male", 1],
        ["1.jpg", "Male", 0],
    ]
    sigmoid = [0.5, 1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-1)), 0.75, 1 / (1 + np.exp(1))]
    np.testing.assert_allclose(scored["score"], sigmoid, rtol=1e-6)


def test_figures_of_attributes_are_means_over_them_of_accuracy_and_area():
    said = [f"Male={i % 2};Young={int(i < 2)};Bald=0" for i in range(4)]
    data = faces(*said, attributes=("Male", "Young", "Bald"))
    logits = pd.DataFrame([[1.0, 2.0, -9.0], [2.0, 1.0, -9.0], [-1.0, -1.0, 9.0], [3.0, -2.0, -9.0]])
    figures = attributes.attribute_figures(targets.ATTRIBUTES.scored(logits, data))
    assert figures["by_attribute"] == {
        "Male": {"accuracy": 0.75, "auc": 1.0},
        "Young": {"accuracy": 1.0, "auc": 1.0},
        "Bald": {"accuracy": 0.75},  # nobody is: no area
    }
    assert (figures["accuracy"], figures["auc"]) == (pytest.approx(2.5 / 3), 1.0)
    worse = targets.ATTRIBUTES.scored(logits.assign(**{"0": 0})[[0, "0", 2]], data)
    assert targets.ATTRIBUTES.selection(worse) == {
        "auc": 0.75, "accuracy": pytest.approx(2 / 3), "selection": 0.75,
    }  # fmt: skip
    results = targets.ATTRIBUTES.results({"test": worse}, data._replace(table=data.table.assign(role="test")))
    assert (results["test"]["auc"], results["test"]["counts"]) == (0.75, {"scores": 12})
    with pytest.raises(ValueError, match="no attribute that dev shows with and without"):
        targets.ATTRIBUTES.selection(worse[worse["attribute"] == "Bald"])


def test_what_is_kept_of_an_example():
    logits, out = jnp.array([[0.0, 2.0, 1.0], [3.0, 0.0, 0.0]]), {"embedding": jnp.ones((2, 4))}
    assert targets.DOMAIN.read(logits, out).tolist() == [1, 0]
    assert targets.IDENTITY.read(logits, out).shape == (2, 4)
    assert targets.ATTRIBUTES.read(logits, out) is logits
    np.testing.assert_allclose(targets.LABEL.read(jnp.array([[0.0, jnp.log(3.0)]]), out), [0.75], rtol=1e-6)
    with pytest.raises(ValueError, match=r"needs a model with an embedding, such as iresnet; this has \['logits'\]"):
        targets.IDENTITY.read(logits, {"logits": logits})


def results(**test):
    test = {"counts": {"scores": 9}, "non_response": 0, **test}
    threshold = {"value": None, "source": "none"}
    config = {"name": "run"}
    return {
        "config": config,
        "protocol": "official",
        "step": 7,
        "threshold": threshold,
        "dev": {},
        "test": test,
        "folds": [],
    }


def test_the_report_of_another_target_shows_its_headline():
    found = results(auc=0.91234, eer=0.1, accuracy=0.875, tar_at_far={"0.1": 0.5, "0.01": 0.25})
    assert summary.row(found) == {
        "auc": "0.9123", "eer": "10.00", "accuracy": "87.50", "tar@far=0.1": "50.00", "tar@far=0.01": "25.00",
    }  # fmt: skip
    assert summary.selection_note(found) == "Checkpoint of step 7, the last."
    assert summary.selection_note({**found, "dev": {"auc": 1.0}}) == "Checkpoint of step 7, chosen on dev."
    page = targets.IDENTITY.page(found, Shown())
    assert ">87.50</td>" in page
    assert page.endswith("</body></html>\n")
    over_folds = {**results(accuracy=0.5, deviation={"accuracy": 0.1}), "folds": [{}, {}]}
    assert summary.row(over_folds) == {"accuracy": "50.00 ± 10.00"}
    assert summary.selection_note(over_folds) == "Mean ± deviation over 2 folds."
    nothing = results()
    assert targets.DOMAIN.page(nothing, Shown())
    assert summary.markdown({"run": summary.row(nothing)})


def test_class_centres_are_made_for_classes_and_split_by_class():
    image = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
    for classes in (0, 8):
        model = models.create({**RECOGNISER, "classes": classes})
        (_, out), variables = jax.eval_shape(lambda x, model=model: model.init_with_output(jax.random.key(0), x), image)
        assert ("centres" in out) == ("centres" in variables["params"]) == (classes > 0)
    assert out["centres"].shape == variables["params"]["centres"].shape == (8, 16)
    placed = sharding.tree(sharding.make_mesh({"data": 1, "fsdp": -1}), variables["params"])
    assert placed["centres"].spec == PartitionSpec("fsdp", None)
    assert placed["bn1"]["scale"].spec == PartitionSpec()


def config_of(arguments, target):
    """The tiny config for two epochs (6 steps) of another target."""
    from tests import tiny

    config = tiny.alone(SimpleNamespace(**arguments), target, 16)
    config.data.target = target
    config.data.augment.update({"mixup": 0.0, "cutmix": 0.0})
    config.train.update({"epochs": 2.0, "eval_epochs": 1.0})
    config.optim.update({"lr": 1e-2, "warmup_epochs": 0.0})
    return config


def arguments_of(tiny_config):
    return dict(part.split("=") for part in tiny_config.partition(":")[2].split(","))


@pytest.mark.slow
def test_a_domain_classifier_is_trained_chosen_and_evaluated(tiny_config, tmp_path):
    """Live faces and prints, of other brightness, as domains; then the attack makes them look alike."""
    config = config_of(arguments_of(tiny_config), "domain")
    config.data.domain_by = "species"
    config.train.epochs = 10.0
    results = train.train(config, str(tmp_path))
    assert min(results[role]["accuracy"] for role in ("dev", "test")) > 0.8
    assert results["test"]["counts"]["scores"] == 48
    assert "dev_accuracy" in (tmp_path / "metrics.csv").read_text()
    rows = pd.read_csv(tmp_path / "eval" / "scores.csv").query("split == 'test'")
    assert results["test"]["accuracy"] == (rows["domain"] == rows["predicted"]).mean()

    found = confuse.confuse(str(tmp_path), steps=(1, 8), eps=(4, 160))
    assert found.iloc[0].accuracy == pytest.approx(results["test"]["accuracy"])  # as many images of each
    assert (found["images"] == 48).all()
    assert (found["changed"] <= found["eps"] + 1e-4).all()
    by = found.set_index(["target", "steps", "eps"])["accuracy"]
    assert by["confuse", 8, 160] < 0.6 < by["confuse", 1, 4]
    assert "confuse, 8 steps" in confuse.table(found)


@pytest.fixture(scope="module")
def run(tiny_config, tmp_path_factory):
    """A recogniser of the tiny data, trained for 6 steps; the pictures are noise, so nothing is learned."""
    arguments = arguments_of(tiny_config)
    config = config_of(arguments, "identity")
    config.model = RECOGNISER
    config.terms = {"arcface": {"kind": "arcface", "weight": 1.0, "s": 16.0, "m": 0.2}}
    folder = tmp_path_factory.mktemp("recogniser") / "run"
    return config, folder, arguments, train.train(config, str(folder))


@pytest.mark.slow
def test_a_recogniser_is_trained_chosen_and_evaluated_by_pairs(run):
    _, folder, _, results = run
    assert json.loads((folder / "eval" / "results.json").read_text()) == results
    assert evaluate.evaluate_run(str(folder)) == results
    for role in ("dev", "test"):
        assert {"auc", "eer", "accuracy", "tar_at_far", "counts", "missing", "non_response"} == set(results[role])
        assert set(results[role]["tar_at_far"]) == {"0.1"}  # 24 pairs of two people: attacks are nobody's
    scores = pd.read_csv(folder / "eval" / "scores.csv")
    assert list(scores) == ["split", "first", "second", "same", "fold", "score"]
    assert scores.groupby(["split", "same"]).size().tolist() == [24] * 4
    assert scores["score"].between(-1, 1).all()
    rows = (folder / "metrics.csv").read_text()
    assert "dev_auc" in rows
    assert "arcface" in rows
    assert "chosen on dev" in summary.selection_note(results)


@pytest.mark.slow
def test_a_recogniser_is_verified_on_another_set_beside_raw_pixels(run, monkeypatch):
    """The set is named by its folder, so that its records are its own."""
    _, folder, arguments, _ = run
    face = detection.Face((0.0, 0.0, 24.0, 24.0), parts.UNKNOWN_LANDMARKS, 1.0)
    monkeypatch.setattr(detection, "detect", lambda images: [face for _ in images])
    other = {"dataset": "folder", "raw_dir": arguments["raw_dir"]}
    figures = verify.verify(str(folder), **other, options={"subject_level": 1})
    assert set(figures) == {"embedding", "raw pixels"}
    assert figures["embedding"]["counts"]["left_out"] == 0
    shown = verify.table(figures)
    assert all(f"{of['auc']:.4f}" in shown for of in figures.values())
    with pytest.raises(ValueError, match=r"^config\.data\.options"):
        verify.verify(str(folder), **other, options={"subject_lvl": 1})


@pytest.mark.slow
def test_a_run_that_does_not_fit_its_target_is_refused(run, tmp_path):
    config, folder, _, _ = run
    other = config.copy_and_resolve_references()
    other.model.classes = 9
    with pytest.raises(ValueError, match=r"config\.model\.classes=9, but .* has 8 classes"):
        train.train(other, str(tmp_path / "run"))
    note = json.loads((folder / "config.json").read_text())
    note["config"]["data"]["target"] = "label"
    Path(tmp_path, "config.json").write_text(json.dumps(note))
    with pytest.raises(ValueError, match="target='label'; expected a run of 'identity' or"):
        verify.verify(str(tmp_path))


def test_listed_pairs_that_cannot_be_scored_are_counted():
    """Of four listed pairs, two have an image that is absent."""
    data = people(3, 2)
    vectors = pd.DataFrame(np.random.default_rng(0).normal(size=(6, 4)), index=data.table.index)
    names = (("p0/0", "p0/1"), ("p1/0", "p1/9"), ("p2/0", "p1/1"), ("p7/0", "p1/1"))
    listed = [pairs.Pair(one, other, one[:2] == other[:2], 0) for one, other in names]
    scored = identity.score_pairs(vectors, data.table, listed)
    assert verify.pair_counts(scored, listed) == {"scores": 2, "left_out": 2}
    assert verify.pair_counts(scored, None) == {"scores": 2, "left_out": 0}


def test_grey_pixels_are_less_their_mean():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    batch = {"image": images, "index": np.array([7, 5, 0]), "mask": np.array([1.0, 1.0, 0.0])}
    rows = verify.grey_rows([batch])
    assert list(rows.index) == [7, 5]
    np.testing.assert_allclose(rows.loc[5], (images[1].mean(-1) - images[1].mean()).ravel())


SPECIES = """
import numpy as np

from kdfas_jax.targets import domain
from kdfas_jax.targets.target import Target, plain_results

NAMES = ["live", "print"]


def labels(data):
    own = data.table["species"].to_numpy()
    return lambda rows: np.float32(own[rows, None] == NAMES)


def scored(kept, data):
    rows = data.table.loc[kept.index, ["dataset", "video"]].assign(domain=data.table["species"])
    return rows.assign(predicted=np.array(NAMES)[kept[0].astype(int)])


TARGET = Target(
    name="species",
    classes=lambda data: NAMES,
    labels=labels,
    read=domain.DOMAIN.read,
    scored=scored,
    selection=domain.accuracy_selection,
    results=plain_results(domain.accuracy),
)
"""


def test_a_new_target_is_one_file_and_one_line(tiny, tmp_path, monkeypatch):
    """Its run is accepted, trains on its labels and is judged by its own figures."""
    (tmp_path / "species.py").write_text(SPECIES)
    monkeypatch.syspath_prepend(tmp_path)
    tiny = tiny.teachers.spoof.config
    tiny.data.target = "species"
    with pytest.raises(ValueError, match=r"target='species': expected one of label, identity"):
        validate.check(tiny)
    with pytest.raises(ValueError, match=r"target='species' is unknown; known: label, identity, .*, attributes"):
        targets.get("species")
    monkeypatch.setitem(targets.TARGETS, "species", importlib.import_module("species").TARGET)
    validate.check(tiny)
    target = targets.get("species")
    data = pipeline.open_data(tiny.data, target)
    tiny.data.augment.update({"mixup": 0.0, "cutmix": 0.0})
    batch = next(pipeline.train_batches(data, tiny.data, target, batch_size=16, seed=0, start=0, steps=1))
    assert set(batch) == {"image", "label", "index"}
    np.testing.assert_array_equal(batch["label"][:, 1], data.table["species"][batch["index"]] == "print")
    rows = data.rows("test")
    scores = target.scored(pd.DataFrame(np.zeros(len(rows)), index=rows), data)  # "live", for every image
    assert target.scored_roles(data) == ("dev", "test")
    found = target.results({"dev": scores, "test": scores}, data)
    assert found["test"]["by_domain"] == {"live": 1.0, "print": 0.0}
    config = {"name": "run", "data": {"target": "species"}}
    run = {"config": config, "protocol": "official", "step": 1, "folds": []}
    page = target.page({**found, **run}, Shown())
    assert ">50.00</td>" in page
