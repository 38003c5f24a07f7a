"""Verification figures by hand and against brute force."""

import numpy as np
import pytest

from kdfas_jax.metrics.verification import cosine, verification


def random_pairs(seed=0, n=400):
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.5
    return np.round(rng.normal(same * 1.5, 1), 1), same


def test_figures_by_hand():
    """Same 0.9 0.8 0.3, different 0.7 0.2 0.1 0.0: two of the twelve comparisons go wrong."""
    found = verification([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.0], [1, 1, 1, 0, 0, 0, 0])
    assert found["auc"] == pytest.approx(11 / 12)
    assert found["eer"] == pytest.approx(
        (1 / 4 + 1 / 3) / 2
    )  # at 0.8 > t > 0.7: 0 and 1/3; at 0.7 >= t > 0.3: 1/4, 1/3
    assert found["accuracy"] == pytest.approx(5 / 7)  # at that threshold, between 0.3 and 0.7
    assert found["tar_at_far"] == {}


def test_separated_pairs_are_all_told_apart():
    found = verification([0.9, 0.8, 0.2, 0.1] * 10, [1, 1, 0, 0] * 10, folds=np.repeat(np.arange(10), 4))
    assert (found["auc"], found["eer"], found["accuracy"]) == (1.0, 0.0, 1.0)
    assert found["tar_at_far"] == {"0.1": 1.0}


def test_constant_scores_are_chance():
    found = verification([0.5] * 40, [1, 0] * 20)
    assert (found["auc"], found["eer"], found["accuracy"]) == (0.5, 0.5, 0.5)


def test_each_fold_is_judged_at_the_best_threshold_of_the_others():
    """Fold 0 is best cut at 0.8, where fold 1 loses two pairs of four; fold 1 at 0.4, where fold 0 loses one."""
    scores = [0.9, 0.8, 0.5, 0.1, 0.6, 0.4, 0.2, 0.1]
    same = [1, 1, 0, 0, 1, 1, 0, 0]
    assert verification(scores, same, folds=[0] * 4 + [1] * 4)["accuracy"] == pytest.approx((3 / 4 + 2 / 4) / 2)
    with pytest.raises(ValueError, match="without fold 0: found 0 same-person pairs among"):
        verification([0.9, 0.8, 0.1], [1, 1, 0], folds=[0, 0, 1])


@pytest.mark.parametrize("seed", range(3))
def test_folds_against_brute_force(seed):
    scores, same = random_pairs(seed)
    folds = np.arange(len(scores)) % 10
    expected = []
    for fold in range(10):
        others = folds != fold
        rights = {t: ((scores[others] >= t) == same[others]).mean() for t in [np.inf, *np.unique(scores)[::-1]]}
        best = max(rights, key=rights.get)
        expected.append(((scores[~others] >= best) == same[~others]).mean())
    assert verification(scores, same, folds)["accuracy"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize("seed", range(3))
def test_tar_at_far_against_brute_force(seed):
    scores, same = random_pairs(seed)
    found = verification(scores, same)["tar_at_far"]
    assert set(found) == {"0.1", "0.01"}  # some 200 different pairs: too few for a rate of 0.001
    for far, tar in found.items():
        allowed = [t for t in np.unique(scores) if (scores[~same] >= t).mean() <= float(far)]
        assert tar == pytest.approx((scores[same] >= min(allowed)).mean())


@pytest.mark.parametrize(("different", "rates"), [(9, set()), (10, {"0.1"}), (100, {"0.1", "0.01"}), (1000, None)])
def test_a_rate_needs_enough_different_pairs(different, rates):
    found = verification([1.0] * 5 + [0.0] * different, [1] * 5 + [0] * different)["tar_at_far"]
    assert set(found) == ({"0.1", "0.01", "0.001"} if rates is None else rates)


@pytest.mark.parametrize(
    ("scores", "same", "message"),
    [
        ([0.1, 0.2], [1, 1], "found 2 same-person pairs among 2"),
        ([0.1, 0.2], [0, 0], "found 0 same-person pairs among 2"),
        ([], [], "found 0 same-person pairs among 0"),
        ([0.1, np.nan, np.inf], [0, 1, 1], "2 of 3 scores are not finite"),
    ],
)
def test_what_cannot_be_judged_is_refused(scores, same, message):
    with pytest.raises(ValueError, match=message):
        verification(scores, same)


def test_cosine_by_hand():
    first, second = (
        np.array([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]),
        np.array([[6.0, 8.0], [0.0, 2.0], [-2.0, -2.0], [1.0, 0.0]]),
    )
    np.testing.assert_allclose(cosine(first, second), [1, 0, -1, 0], atol=1e-12)
