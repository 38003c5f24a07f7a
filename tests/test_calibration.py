"""Temperature scaling and its figures, against sums written out and scores whose temperature is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.calibration import calibration_curve

from kdfas_jax.metrics import calibration
from kdfas_jax.metrics import detection as metrics


def videos(scores, labels):
    table = pd.DataFrame({"score": scores, "label": labels})
    return table.assign(
        video=[str(i) for i in table.index], subject="s", species=table["label"].map({1: "live", 0: "print"})
    )


def drawn(temperature, n=20_000):
    """Labels drawn from sigmoid(z), scores that say sigmoid(temperature z): too sure where temperature > 1."""
    rng = np.random.default_rng(0)
    z = rng.normal(0, 2, n)
    return videos(expit(temperature * z), (rng.uniform(size=n) < expit(z)).astype(int))


def test_figures_by_hand():
    """Four scores in three bins: gaps |0.15 - 1/2|, |0.5 - 1|, |0.9 - 1| weighted 2, 1, 1."""
    table = videos([0.12, 0.18, 0.5, 0.9], [1, 0, 1, 1])
    assert calibration.ece(table) == pytest.approx((2 * 0.35 + 0.5 + 0.1) / 4)
    assert calibration.nll(table) == pytest.approx(-np.log([0.12, 0.82, 0.5, 0.9]).mean())
    bins = calibration.reliability(table)
    assert list(bins.index) == [1, 5, 9]
    assert list(bins["videos"]) == [2, 1, 1]


def test_bins_are_scikit_learns():
    table = drawn(1.7, n=500)
    bins = calibration.reliability(table)
    live, score = calibration_curve(table["label"], table["score"], n_bins=calibration.BINS)
    np.testing.assert_allclose(bins["live"], live)
    np.testing.assert_allclose(bins["score"], score)


def test_scaling_by_hand():
    """Logit ln 4 of 0.8, halved: 2 / 3; a temperature of one changes nothing."""
    np.testing.assert_allclose(calibration.apply([0.8, 0.5], 2.0), [2 / 3, 0.5])
    np.testing.assert_allclose(calibration.apply([0.8, 0.1], 1.0), [0.8, 0.1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_put_in_is_found(temperature):
    table = drawn(temperature)
    found = calibration.fit(table)
    assert found == pytest.approx(temperature, rel=0.05)
    assert calibration.ece(table, found) < 0.015
    figures = calibration.figures(table, found)
    assert figures["nll_calibrated"] <= figures["nll"] + 1e-9
    around = [calibration.nll(table, found * factor) for factor in (0.99, 1.0, 1.01)]
    assert min(around) == around[1]


def test_scaling_changes_no_order():
    table = drawn(3.0, n=200)
    scaled = table.assign(score=calibration.apply(table["score"], 3.0))
    assert metrics.eer_threshold(scaled)[1] == metrics.eer_threshold(table)[1]


@pytest.mark.parametrize(
    ("scores", "labels"),
    [([0.0, 1.0], [0, 1]), ([1.0, 0.0], [0, 1]), ([0.5, 0.5], [0, 1])],
    ids=["no errors", "nothing but errors", "constant"],
)
def test_dev_scores_that_name_no_temperature_stay_within_bounds(scores, labels):
    low, high = calibration.BOUNDS
    table = videos(scores, labels)
    found = calibration.fit(table)
    assert low <= found <= high
    assert np.isfinite(list(calibration.figures(table, found).values())).all()
