from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from kdfas_jax.metrics import detection as metrics


def videos(**scores):
    """videos(live=[...], print1=[...]) -> the table that the metrics read, one subject a position."""
    rows = [
        {"video": f"{species}-{i}", "subject": str(i), "species": species, "label": int(species == "live"), "score": s}
        for species, values in scores.items()
        for i, s in enumerate(values)
    ]
    return pd.DataFrame(rows)


def random_videos(seed, n=300):
    rng = np.random.default_rng(seed)
    return videos(
        live=np.round(rng.normal(1.0, 1, n), 2),
        print1=np.round(rng.normal(-1, 1, n), 2),
        replay1=np.round(rng.normal(0, 1, n // 3), 2),
    )


def test_figures_by_hand():
    table = videos(live=[0.9, 0.8, 0.4, 0.7], print=[0.1, 0.2, 0.3, 0.75], replay=[0.6, 0.1])
    found = metrics.at_threshold(table, 0.5)
    assert found["apcer"] == {"print": 0.25, "replay": 0.5}
    assert found["apcer_max"] == 0.5
    assert found["bpcer"] == 0.25
    assert found["acer"] == (0.5 + 0.25) / 2
    assert found["apcer_pooled"] == pytest.approx(2 / 6)
    assert found["hter"] == pytest.approx((2 / 6 + 0.25) / 2)


def test_a_score_on_the_threshold_is_accepted():
    table = videos(live=[0.5], print=[0.5])
    assert metrics.at_threshold(table, 0.5)["bpcer"] == 0
    assert metrics.at_threshold(table, 0.5)["apcer_max"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_eer_and_area_against_brute_force(seed):
    table = random_videos(seed)
    live = table.loc[table["label"] == 1, "score"].to_numpy()
    attack = table.loc[table["label"] == 0, "score"].to_numpy()
    gaps = {t: ((attack >= t).mean(), (live < t).mean()) for t in np.unique(table["score"])}
    far, frr = min(gaps.values(), key=lambda pair: abs(pair[0] - pair[1]))
    threshold, eer = metrics.eer_threshold(table)
    assert eer == pytest.approx((far + frr) / 2)
    assert abs((attack >= threshold).mean() - (live < threshold).mean()) == pytest.approx(abs(far - frr))
    wins = (live[:, None] > attack).mean() + 0.5 * (live[:, None] == attack).mean()
    assert metrics.figures(table, threshold)["auc"] == pytest.approx(wins)


@pytest.mark.parametrize("apcer", [0.10, 0.05, 0.01])
def test_bpcer_at_apcer_against_brute_force(apcer):
    table = random_videos(7)
    attacks = table[table["label"] == 0]
    live = table.loc[table["label"] == 1, "score"]
    scores = np.unique(table["score"])
    allowed = [
        t for t in scores if attacks.groupby("species")["score"].apply(lambda s, t=t: (s >= t).mean()).max() <= apcer
    ]
    assert metrics.bpcer_at_apcer(table, apcer) == pytest.approx((live < min(allowed)).mean())


def test_a_perfect_and_a_reversed_detector():
    table = videos(live=[0.9, 0.8], print=[0.1, 0.2], replay=[0.3, 0.2])
    threshold, eer = metrics.eer_threshold(table)
    found = metrics.figures(table, threshold)
    assert (eer, found["auc"], found["acer"], found["bpcer10"], found["tpr_at_fpr1"]) == (0, 1, 0, 0, 1)
    reversed_ = table.assign(score=1 - table["score"])
    assert metrics.figures(reversed_, 0.5)["auc"] == 0


def test_the_threshold_of_separated_scores_lies_in_the_middle_of_the_gap():
    assert metrics.eer_threshold(videos(live=[0.9, 0.7], print=[0.1, 0.3])) == (0.5, 0.0)
    low, high = 0.5, float(np.nextafter(0.5, 1))
    threshold, _ = metrics.eer_threshold(videos(live=[high], print=[low]))
    assert low < threshold <= high


def test_constant_scores_give_chance_and_a_finite_threshold():
    table = videos(live=[0.5] * 4, print=[0.5] * 4)
    threshold, eer = metrics.eer_threshold(table)
    assert np.isfinite(threshold)
    assert eer == 0.5
    assert metrics.figures(table, threshold)["auc"] == 0.5


def test_the_headline_is_the_worst_species_not_the_pool():
    table = videos(live=[0.9] * 10, print=[0.1] * 90, mask=[0.95] * 10)
    found = metrics.at_threshold(table, 0.5)
    assert found["apcer_max"] == 1.0
    assert found["apcer_pooled"] == 0.1
    assert metrics.literature(table, 0.5)["acer_pooled"] == pytest.approx(0.05)


def test_literature_takes_its_threshold_from_test():
    table = videos(live=[0.3, 0.4], print=[0.1, 0.2])
    assert metrics.at_threshold(table, 0.5)["hter"] == 0.5
    assert metrics.literature(table, 0.5)["hter_test_eer"] == 0


def test_intervals_hold_the_figure_and_shrink_with_subjects():
    table = random_videos(3, n=300)
    threshold, _ = metrics.eer_threshold(table)
    found, intervals = metrics.figures(table, threshold), metrics.confidence(table, threshold)
    for name in ("acer", "bpcer", "auc", "hter"):
        low, high = intervals[name]
        assert low <= found[name] <= high
        assert 0 < high - low < 0.2
    small = table[table["subject"].astype(int) < 20]
    assert np.ptp(metrics.confidence(small, threshold)["auc"]) > np.ptp(intervals["auc"])


def test_intervals_draw_subjects_not_videos():
    """Ten copies of each subject's videos carry no more evidence than one."""
    one = random_videos(5, n=30)
    ten = pd.concat([one] * 10, ignore_index=True)
    threshold, _ = metrics.eer_threshold(one)
    assert metrics.confidence(one, threshold)["auc"] == pytest.approx(metrics.confidence(ten, threshold)["auc"])


def test_one_subject_has_no_interval():
    assert metrics.confidence(videos(live=[0.9], print=[0.2]), 0.5) == {}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (videos(live=[0.9]), "test: no attack video"),
        (videos(print=[0.9]), "test: no bona fide video"),
        (videos(live=[0.9])[:0], "no bona fide and attack video"),
        (videos(live=[np.nan, 0.8], print=[0.1]), "1 scores are not finite, first: live-0"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(table, message):
    with pytest.raises(ValueError, match=message):
        metrics.check(table, "test")


def test_area_is_scikit_learns():
    table = random_videos(1)
    assert metrics.figures(table, 0.0)["auc"] == roc_auc_score(table["label"], table["score"])


def test_a_draw_of_everybody_once_has_the_figures_themselves():
    """The bootstrap's own arithmetic against that of `figures`, ties and species of unequal size included."""
    table = random_videos(4)
    threshold, _ = metrics.eer_threshold(table)
    found = metrics.weighted_figures(metrics.sorted_by_score(table), np.ones(len(table)), threshold)
    expected = metrics.figures(table, threshold)
    assert found["apcer"] == pytest.approx(expected["apcer"])
    assert {name: expected[name] for name in found if name != "apcer"} == pytest.approx(
        {name: value for name, value in found.items() if name != "apcer"}
    )


def test_of_two_thresholds_equally_near_to_equal_errors_a_draw_takes_the_same():
    """At 0.5 (far, frr) = (1/2, 1/4), at 0.9 (0, 1/4): the higher one, EER 1/8."""
    table = videos(live=[0.3, 0.9, 0.9, 0.9], print=[0.1, 0.1, 0.5, 0.5])
    assert metrics.eer_threshold(table)[1] == 0.125
    assert metrics.weighted_figures(metrics.sorted_by_score(table), np.ones(8), 0.5)["eer"] == 0.125


@pytest.mark.parametrize(("attacks", "bona_fide"), [(10, 5), (7, 5), (12, 7), (30, 11)])
def test_equally_close_errors_are_told_by_whole_numbers_not_by_rounding(attacks, bona_fide):
    """Against fractions, on scores with many ties of the gap: the highest threshold counts, in both computations."""
    rng = np.random.default_rng(attacks)
    for _ in range(40):
        live, other = rng.integers(0, 8, bona_fide), rng.integers(0, 8, attacks)
        table = videos(live=live.astype(float), print=other.astype(float))
        shares = [
            (Fraction(int((other >= t).sum()), attacks), Fraction(int((live < t).sum()), bona_fide))
            for t in sorted({*live, *other}, reverse=True)
        ]
        expected = float(sum(min(shares, key=lambda pair: abs(pair[0] - pair[1]))) / 2)
        assert metrics.eer_threshold(table)[1] == pytest.approx(expected)
        drawn = metrics.weighted_figures(metrics.sorted_by_score(table), np.ones(len(table)), 0.5)
        assert drawn["eer"] == pytest.approx(expected)


def test_a_video_drawn_twice_counts_as_two():
    table, rng = random_videos(2, n=60), np.random.default_rng(0)
    weight = rng.integers(0, 4, len(table))
    found = metrics.weighted_figures(metrics.sorted_by_score(table), weight, 0.3)
    repeated = table.loc[np.repeat(table.index, weight)]
    expected = metrics.figures(repeated, 0.3)
    for name in ("acer", "eer", "bpcer10", "bpcer100", "tpr_at_fpr1", "hter"):
        assert found[name] == pytest.approx(expected[name]), name
    assert found["auc"] == pytest.approx(roc_auc_score(table["label"], table["score"], sample_weight=weight))


def test_every_headline_figure_and_species_has_an_interval():
    table = random_videos(6, n=40)
    intervals = metrics.confidence(table, 0.5)
    assert set(intervals["apcer"]) == {"print1", "replay1"}
    assert set(intervals) == {
        "apcer", "apcer_max", "bpcer", "acer", "hter", "eer", "auc", "bpcer10", "bpcer20", "bpcer100", "tpr_at_fpr1"
    }  # fmt: skip
    found = metrics.figures(table, 0.5)
    assert all(low <= found[name] <= high for name, (low, high) in intervals.items() if name != "apcer")
    low, high = intervals["apcer"]["replay1"]
    assert low <= found["apcer"]["replay1"] <= high


def test_a_draw_that_misses_a_species_leaves_it_out():
    """One person alone did the mask: without her there is no mask, not one that never passes."""
    table = pd.concat([videos(live=[0.9] * 8, print=[0.1] * 8), videos(mask=[0.95])], ignore_index=True)
    assert metrics.confidence(table, 0.5)["apcer"]["mask"] == [1.0, 1.0]


def test_operating_points_are_what_dev_allows():
    """At each, dev's worst species has at most that APCER, and a lower threshold would let one more through."""
    dev = random_videos(8)
    points = metrics.operating_points(dev)
    assert points["eer"] == metrics.eer_threshold(dev)[0]
    for name, apcer in (("apcer10", 0.10), ("apcer5", 0.05), ("apcer1", 0.01)):
        assert metrics.at_threshold(dev, points[name])["apcer_max"] <= apcer
        assert metrics.at_threshold(dev, points[name] - 1e-6)["apcer_max"] > apcer
    test = random_videos(9)
    found = metrics.at_points(test, points)
    assert list(found) == [name for name in metrics.OPERATING_POINTS if name != "eer_sets"]
    for name, bpcer in (("accept90", 0.10), ("accept95", 0.05)):
        assert metrics.at_threshold(dev, points[name])["bpcer"] <= bpcer
        assert metrics.at_threshold(dev, points[name] + 1e-6)["bpcer"] > bpcer
    assert found["apcer5"] == {
        name: metrics.at_threshold(test, points["apcer5"])[name] for name in ("apcer_max", "bpcer", "acer")
    }


def test_data_sets_weigh_alike_at_their_own_operating_point():
    """Forty faces of a small set and a thousand of a large one, whose own thresholds are about 0.7 and 0.3."""
    rng = np.random.default_rng(0)

    def drawn(name, number, live, attack):
        return videos(live=rng.normal(live, 0.1, number), print=rng.normal(attack, 0.1, number)).assign(dataset=name)

    small, large = drawn("small", 20, 0.8, 0.6), drawn("large", 500, 0.4, 0.2)
    table = pd.concat([small, large], ignore_index=True)
    pooled, even = metrics.eer_threshold(table)[0], metrics.eer_threshold(table, sets_alike=True)[0]

    def gap(threshold):
        rates = [metrics.at_threshold(part, threshold) for part in (small, large)]
        return abs(sum(rate["apcer_pooled"] - rate["bpcer"] for rate in rates))

    assert gap(even) == min(gap(threshold) for threshold in np.linspace(0, 1, 1001)) < gap(pooled)
    points = metrics.operating_points(table)
    assert (points["eer"], points["eer_sets"]) == (pooled, even)
    alone = metrics.operating_points(large)
    assert "eer_sets" not in alone
    assert metrics.threshold_at(alone, "eer_sets") == alone["eer"]


def test_one_species_is_its_own_maximum():
    table = videos(live=[0.9, 0.1], print=[0.8, 0.2])
    found = metrics.at_threshold(table, 0.5)
    assert found["apcer"] == {"print": 0.5}
    assert found["apcer_max"] == found["apcer_pooled"] == 0.5


@pytest.mark.parametrize("table", [videos(live=[0.9]), videos(print=[0.9]), videos(live=[np.nan], print=[0.1])])
@pytest.mark.parametrize(
    "figure",
    [
        metrics.eer_threshold,
        metrics.operating_points,
        lambda table: metrics.figures(table, 0.5),
        lambda table: metrics.literature(table, 0.5),
        lambda table: metrics.confidence(table, 0.5),
        lambda table: metrics.bpcer_at_apcer(table, 0.1),
        lambda table: metrics.tpr_at_fpr(table, 0.1),
    ],
)
def test_no_figure_is_made_of_one_class_or_of_nan(figure, table):
    with pytest.raises(ValueError, match=r"no (attack|bona fide) video|not finite, first: live-0"):
        figure(table)


def test_the_same_number_in_two_data_sets_is_two_people():
    rows = [(d, s, k, n % 2) for n, (d, s, k) in enumerate((d, s, k) for d in "ab" for s in "12" for k in range(2))]
    table = pd.DataFrame(rows, columns=["dataset", "subject", "take", "label"])
    table = table.assign(species=table["label"].map({1: "live", 0: "print"}), score=0.2 + 0.6 * table["label"])
    assert metrics.figures(table, 0.5)["counts"]["subjects"] == 4
    assert metrics.figures(table.drop(columns="dataset"), 0.5)["counts"]["subjects"] == 2
