"""Exact binomial intervals against published values and by their properties; the effective number of attempts. 2 s."""

import numpy as np
import pandas as pd
import pytest

from kdfas_jax.metrics import detection, exact
from kdfas_jax.report.sections import attempts
from tests.test_report import evaluated


@pytest.mark.parametrize(
    ("errors", "of", "low", "high"),
    [(0, 20, 0, 0.1684), (0, 50, 0, 0.0711), (0, 150, 0, 0.0243), (3, 150, 0.0041, 0.0573), (50, 50, 0.9289, 1.0)],
)
def test_intervals_are_the_published_ones_of_clopper_and_pearson(errors, of, low, high):
    assert exact.interval(errors, of) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_intervals_hold_the_rate_shrink_with_attempts_and_mirror():
    rng = np.random.default_rng(0)
    for of in rng.integers(1, 400, 40).tolist():
        errors = int(rng.integers(of + 1))
        low, high = exact.interval(errors, of)
        assert 0 <= low <= errors / of <= high <= 1
        assert exact.interval(of - errors, of) == (pytest.approx(1 - high), pytest.approx(1 - low))
        twice = exact.interval(2 * errors, 2 * of)
        assert twice[1] - twice[0] < high - low
        wider = exact.interval(errors, of, 0.99)
        assert wider[0] <= low
        assert wider[1] >= high


@pytest.mark.parametrize("rate", [0.02, 0.3])
def test_an_interval_holds_the_true_rate_of_95_in_100_samples_or_more(rate):
    errors = np.random.default_rng(1).binomial(60, rate, 2000)
    ends = {n: exact.interval(n, 60) for n in set(errors.tolist())}
    assert np.mean([ends[n][0] <= rate <= ends[n][1] for n in errors.tolist()]) >= 0.95


@pytest.mark.parametrize(("bound", "errors", "needed"), [(0.1, 0, 36), (0.01, 0, 368), (0.05, 3, None), (0.1, 7, None)])
def test_a_claim_needs_as_many_attempts_as_it_takes_and_no_more(bound, errors, needed):
    found = exact.attempts_for(bound, errors)
    assert needed in (None, found)
    assert exact.interval(errors, found)[1] <= bound < exact.interval(errors, found - 1)[1]


def test_what_may_be_claimed_next():
    assert exact.claim(0, 20) == (0.10, 16)  # the bound is 16.8 %
    assert exact.claim(0, 36) == (0.05, 36)
    assert exact.claim(10, 50) is None  # one in five is no rate of 10 %
    assert exact.claim(0, 400) is None  # 1 % is supported
    few, high, low = (
        {"errors": errors, "attempts": number, "high": exact.interval(errors, number)[1]}
        for errors, number in ((0, 20), (10, 50), (0, 400))
    )
    assert attempts.missing(few) == "at most 10 %: 16 more"
    assert attempts.missing(high) == "the rate is above 10 %"
    assert attempts.missing(low) == "at most 0.9 %"


def test_attempts_of_one_person_count_less_the_more_alike_they_are():
    people = np.repeat(np.arange(10), 6)
    alone = np.arange(60)
    mixed = np.tile([True, False, False, True, False, False], 10)
    alike = np.isin(people, (1, 4, 7))
    assert exact.effective(mixed, alone) == 60
    assert exact.effective(mixed, people) == 60  # everyone has the same rate
    assert exact.effective(alike, people) == pytest.approx(10)  # people are all or nothing
    assert exact.effective(np.zeros(60, bool), people) == pytest.approx(10)  # unknown, so the worst case
    assert 10 < exact.effective(alike ^ (np.arange(60) % 7 == 0), people) < 60
    assert exact.effective(np.zeros(4, bool), np.array([0, 0, 0, 1])) == pytest.approx(16 / 10)


def test_errors_of_persons_are_spread_as_the_effective_number_says():
    """Rates of drawn people deviate as those of so many independent attempts: sqrt(p (1 - p) / n) of `effective`."""
    rng = np.random.default_rng(2)
    people = np.repeat(np.arange(40), 8)
    own = rng.beta(1, 3, (300, 40))  # correlation 1 / (1 + 3 + 1) = 0.2
    wrong = rng.random((300, 320)) < own[:, people]
    found = np.mean([exact.effective(row, people) for row in wrong])
    rate = 1 / 4
    assert found == pytest.approx(rate * (1 - rate) / wrong.mean(1).var(), rel=0.2)


def test_results_and_page_have_both_intervals():
    run = evaluated("student", 0)
    test, threshold = run.results["test"], run.results["threshold"]
    found = test["exact"]
    assert set(found["apcer"]) == set(test["apcer"])
    for species, of in found["apcer"].items():
        assert of["errors"] / of["attempts"] == test["apcer"][species]
        assert (of["low"], of["high"]) == exact.interval(of["errors"], of["attempts"])
        assert of["people"] == 10
        assert of["effective_high"] >= of["high"]
    assert found["bpcer"]["attempts"] == 40
    assert threshold["apcer_bound"]["print1"] == exact.interval(0, 40)[1]
    section = attempts.supported(test)
    (table,) = section.parts
    assert [row[0] for row in table.rows][-1] == "BPCER"
    low, high = test["ci95"]["bpcer"]
    assert table.rows[-1][2:4] == (
        attempts.between(found["bpcer"]["low"], found["bpcer"]["high"]),
        attempts.between(low, high),
    )
    assert attempts.supported({}) is None


def test_a_class_without_videos_has_no_rate():
    live = pd.DataFrame({"score": [0.9], "label": 1, "species": "live", "subject": "1"})
    assert set(detection.exact_rates(live, 0.5)) == {"bpcer"}
    assert set(detection.exact_rates(live.assign(label=0, species="print"), 0.5)) == {"apcer"}


def test_the_sum_of_two_rates_has_the_ends_of_two_wider_intervals():
    low, high = exact.total((1, 20), (2, 30))
    first, second = exact.interval(1, 20, 0.975), exact.interval(2, 30, 0.975)
    assert (low, high) == (first[0] + second[0], first[1] + second[1])
