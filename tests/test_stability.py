"""Decisions in other views of the same faces and under a white-box attack: views, draw, figures, page. 5 s."""

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import linen as nn

from input_pipeline.stream import pipeline, views
from kdfas_jax import targets
from kdfas_jax.commands import evaluate
from kdfas_jax.commands.robustness import stability as measured
from kdfas_jax.commands.robustness import whitebox
from kdfas_jax.metrics import stability
from kdfas_jax.parallel import sharding
from kdfas_jax.report import page
from kdfas_jax.report.parts import Shown
from kdfas_jax.report.render import content
from kdfas_jax.report.sections import stability as section
from tests.test_report import evaluated


@pytest.fixture
def crop():
    """Smooth shades that rise to the right (red) and down (green)."""
    y, x = np.mgrid[:64, :64] * 3 + 20
    return np.stack([x, y, np.full_like(x, 90)], -1).astype(np.uint8)


def test_a_moved_box_shows_the_pixels_where_it_is_and_repeats_the_edge(crop):
    """A shift of 10 % of a box of 64 / 1.28 = 50 px is 5 px of the crop."""
    right = views.VIEWS["shift_right"](crop, 1.28)
    np.testing.assert_array_equal(right[:, :-5], crop[:, 5:])
    np.testing.assert_array_equal(right[:, -5:], np.repeat(crop[:, -1:], 5, 1))
    up = views.VIEWS["shift_up"](crop, 1.28)
    np.testing.assert_array_equal(up[5:], crop[:-5])
    larger, smaller = (views.VIEWS[name](crop, 1.28).astype(int) for name in ("box_x1.25", "box_x0.8"))
    middle = crop[31:33, 31:33].mean((0, 1))
    for view, size in ((larger, 1.25), (smaller, 0.8)):
        np.testing.assert_allclose(view[31:33, 31:33].mean((0, 1)), middle, atol=1)
        slope = (view[32, 40, 0] - view[32, 24, 0]) / 16
        assert slope == pytest.approx(3 * size, rel=0.05)
    assert (larger[:, :6, 0] == 20).all()  # 6.4 px lie outside
    assert smaller.min() > 20


def test_light_and_compression_change_what_they_should(crop):
    means = {name: views.VIEWS[name](crop, 1.3).mean() for name in ("exposure_-1", "exposure_+1", "jpeg_30", "blur")}
    assert means["exposure_-1"] < 0.85 * crop.mean()
    assert means["exposure_+1"] > 1.15 * crop.mean()
    assert means["jpeg_30"] == pytest.approx(crop.mean(), abs=2)
    noise = np.repeat(np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8), 3, 2)
    error = {name: np.abs(views.VIEWS[name](noise, 1.3).astype(int) - noise).mean() for name in ("jpeg_30", "jpeg_95")}
    assert error["jpeg_30"] > 2 * error["jpeg_95"] > 0
    assert views.VIEWS["blur"](noise, 1.3).std() < noise.std()
    assert set(sum(views.TOGETHER.values(), ())) < set(views.VIEWS) == set(section.VIEWS) - set(views.TOGETHER)


def test_half_of_the_images_are_live_and_species_are_alike():
    rows = (
        [("live", v, 3) for v in range(50)] + [("print", v, 5) for v in range(40)] + [("mask", v, 1) for v in range(4)]
    )
    table = pd.DataFrame(
        [("set", f"{name}{v}", name, int(name == "live"), frame) for name, v, n in rows for frame in range(n)],
        columns=["dataset", "video", "species", "label", "frame"],
    )
    table.index += 100
    found = stability.chosen(table, 40)
    kept = table.loc[found]
    assert kept["species"].value_counts().to_dict() == {"live": 20, "print": 10, "mask": 4}
    assert kept["video"].is_unique
    assert set(kept["frame"][kept["species"] == "print"]) == {2}  # the middle one
    np.testing.assert_array_equal(found, stability.chosen(table, 40))
    assert found.tolist() != stability.chosen(table, 40, seed=1).tolist()
    assert len(stability.chosen(table, 1000)) == 94


def faces(labels):
    return pd.DataFrame(
        {"dataset": "set", "subject": "1", "video": [*map(str, range(len(labels)))], "label": labels}
    ).assign(species=np.where(np.array(labels) == 1, "live", "print"))


def test_figures_by_hand():
    table = faces([1, 1, 1, 0, 0, 0, 0])
    scores = pd.DataFrame({
        "as_is": [0.9, 0.8, 0.2, 0.6, 0.1, 0.1, 0.3],
        "dark":  [0.9, 0.4, 0.2, 0.6, 0.1, 0.1, 0.3],
        "light": [0.9, 0.8, 0.7, 0.6, 0.1, 0.8, 0.9],
    })  # fmt: skip
    found = stability.figures(scores, table, 0.5, {"any": ("dark", "light")})
    assert found["counts"] == {"images": 7, "live": 3}
    assert found["as_is"]["apcer_max"] == 1 / 4
    assert found["as_is"]["bpcer"] == pytest.approx(1 / 3)
    dark, light = found["views"]["dark"], found["views"]["light"]
    assert (dark["flips"], dark["live_turned_away"], dark["attacks_let_in"]) == (1 / 7, 1 / 2, 0)
    assert (light["flips"], light["live_turned_away"], light["attacks_let_in"]) == (3 / 7, 0, pytest.approx(2 / 3))
    assert (light["apcer_max"], light["bpcer"]) == (3 / 4, 0)
    assert found["any"] == 4 / 7
    everything = stability.figures(scores + 1, table, 0.5, {})
    assert "attacks_let_in" not in everything["views"]["dark"]  # none was rejected


def test_a_model_that_looks_at_brightness_flips_with_light_and_not_with_compression(tiny):
    """In the tiny data attacks are brighter: their mean is 150, that of live faces 90."""
    data = pipeline.open_data(tiny.data, targets.LABEL)
    tiny.eval.stability = 20

    def scored(batches):
        rows = [
            (index, image.mean())
            for batch in batches
            for index, image, mask in zip(batch["index"], batch["image"], batch["mask"], strict=True)
            if mask
        ]
        frame = pd.DataFrame(rows).set_index(0)
        return pd.DataFrame({0: 1 - frame[1].to_numpy() / 255}, index=frame.index)

    found = measured.measure(scored, data, tiny, threshold=1 - 120 / 255)
    assert found["counts"] == {"images": 20, "live": 10}
    assert found["as_is"] == {"auc": 1.0, "apcer_max": 0.0, "bpcer": 0.0}
    assert set(found["views"]) == set(views.VIEWS)
    assert found["views"]["exposure_-1"]["attacks_let_in"] == 1
    assert found["views"]["exposure_+1"]["live_turned_away"] >= 0.8
    assert found["views"]["jpeg_95"]["flips"] == found["any_box"] == 0
    assert found["any_box_or_exposure"] >= 0.9
    tiny.eval.stability = 0
    assert measured.measure(scored, data, tiny, 0.5) == {}


def test_the_page_has_the_table_and_the_plot():
    run = evaluated("student", 0)
    scores = pd.DataFrame({name: [0.9, 0.2, 0.7, 0.1] for name in ("as_is", *views.VIEWS)})
    scores.loc[1, "exposure_+1"] = 0.8
    found = stability.figures(scores, faces([1, 0, 1, 0]), 0.5, views.TOGETHER)
    shown = section.stable({"stability": found})
    table, plots = shown.parts
    assert isinstance(plots, content.Plots)
    rows = {row[0]: row[1:] for row in table.rows}
    assert (rows["One stop brighter"][0].value, rows["One stop brighter"][4].value) == (0.25, 0.5)
    assert rows["Any box or exposure"][0].value == 0.25
    assert rows["Any box or exposure"][0].words == "0.6 to 80.6"  # 1 of 4
    results = {**run.results, "test": run.results["test"] | {"stability": found}}
    text = page.detection(results, Shown())
    assert "Do decisions stay?" in text
    assert "4 images of the test, 2 of them of live faces" in text
    assert section.stable({}) is None


class Brightness(nn.Module):
    """P(live) falls with the mean of the image: a model whose best attack is to darken or to brighten every pixel."""

    @nn.compact
    def __call__(self, images):
        slope = self.param("slope", nn.initializers.constant(40.0), ())
        return jnp.stack([jnp.zeros(len(images)), slope * (120 / 255 - images.mean((1, 2, 3)))], -1), {}


def test_a_white_box_attack_moves_each_pixel_by_eps_towards_the_wrong_side():
    mesh = sharding.make_mesh({"data": -1, "fsdp": 1})
    model, variables = Brightness(), {"params": {"slope": jnp.float32(40.0)}}
    image = np.stack([np.full((4, 4, 3), shade, np.uint8) for shade in (115, 127, 105)])
    batch = {"image": image, "index": np.arange(3), "mask": np.ones(3, np.float32), "label": np.int32([1, 0, 1])}
    score = whitebox.attacker(model, mesh)

    def mean_of(eps):
        rows = {**batch, "eps": np.full(3, eps, np.float32)}
        live, _, _ = score(variables, rows)
        return 255 * (120 / 255 - np.log(live / (1 - live)) / 40)

    np.testing.assert_allclose(mean_of(0.0), [115, 127, 105], atol=0.01)
    np.testing.assert_allclose(mean_of(2 / 255), [117, 125, 107], atol=0.01)
    np.testing.assert_allclose(mean_of(8 / 255), [123, 119, 113], atol=0.01)


def test_the_figures_and_the_page_of_a_white_box_attack(tiny):
    data = pipeline.open_data(tiny.data, targets.LABEL)
    mesh = sharding.make_mesh(tiny.mesh)
    tiny.eval.whitebox = 20
    variables = {"params": {"slope": jnp.float32(40.0)}}

    def scored(score, batches):
        return evaluate.score_examples(score, variables, batches, mesh)

    found = whitebox.measure(scored, Brightness(), data, tiny, mesh, threshold=0.5)
    assert found["counts"] == {"images": 20, "live": 10}
    assert (found["as_is"]["auc"], list(found["views"])) == (1.0, ["eps_2", "eps_8"])
    assert found["views"]["eps_8"]["auc"] == 1.0  # 8 of the 60 shades between the classes
    shown = section.attacked({"whitebox": found})
    assert [row[0] for row in shown.parts[0].rows] == ["as it is", "2 of 255", "8 of 255"]
    assert section.attacked({}) is None
    tiny.eval.whitebox = 0
    assert whitebox.measure(scored, Brightness(), data, tiny, mesh, 0.5) == {}
