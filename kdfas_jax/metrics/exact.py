"""Exact binomial intervals of error rates, and what a number of attempts can support.

Clopper and Pearson, The use of confidence or fiducial limits illustrated in the case of the binomial, Biometrika 1934.
The intervals are two-sided, so 0 errors of 20 attempts give [0, 16.8 %], where a percentile bootstrap gives [0, 0].
Rates are fractions.
"""

import bisect

import numpy as np
import pandas as pd
from scipy import stats

LEVEL = 0.95
CLAIMS = (0.10, 0.05, 0.01)  # bounds for which `claim` says how many attempts are missing [C]


def interval(errors: float, attempts: float, level: float = LEVEL) -> tuple[float, float]:
    """Returns the exact interval of an error rate of which `attempts` (above 0) independent attempts show `errors`.

    Both numbers may be fractions, as effective numbers are: the interval is then that of Korn and Graubard, Survey
    Methodology 1998, without their correction of the degrees of freedom.
    """
    tail = (1 - level) / 2
    low = stats.beta.ppf(tail, errors, attempts - errors + 1) if errors > 0 else 0.0
    high = stats.beta.ppf(1 - tail, errors + 1, attempts - errors) if errors < attempts else 1.0
    return float(low), float(high)


def attempts_for(bound: float, errors: int = 0) -> int:
    """Returns the smallest number of attempts of which `errors` errors support the claim: error rate at most `bound`.

    bound: in (0, 1). The claim holds where the upper end of `interval` is at most `bound`. Without an error this is
    3.69 / bound for small bounds, the two-sided form of the rule of three.
    """
    most = errors + 1
    while interval(errors, most)[1] > bound:
        most *= 2
    return bisect.bisect_left(range(most + 1), True, lo=errors + 1, key=lambda n: interval(errors, n)[1] <= bound)


def claim(errors: int, attempts: int) -> tuple[float, int] | None:
    """Returns the next smaller bound of `CLAIMS` and how many more attempts without a further error would support it.

    None where the error rate itself is above every bound that the attempts do not support, or they support all.
    """
    high = interval(errors, attempts)[1]
    for bound in CLAIMS:
        if bound < high and errors <= bound * attempts:
            return bound, attempts_for(bound, errors) - attempts
    return None


def effective(wrong: np.ndarray, people: np.ndarray) -> float:
    """Returns how many independent attempts the attempts `wrong` [n] (bool), of the `people` [n], amount to.

    n / (1 + (m - 1) r), Kish, Survey Sampling, 1965. m is the number of attempts of a person, averaged over attempts,
    and r, within [0, 1], the correlation of the errors of one person by an analysis of variance (Fleiss, Statistical
    Methods for Rates and Proportions, 1981). Without any error, or with nothing else, r cannot be estimated and counts
    as 1 [C]: attempts of one person then count as one attempt.
    """
    of = pd.Series(np.asarray(wrong, float)).groupby(np.asarray(people))
    number, attempts = of.size(), len(wrong)
    mean = float((number**2).sum() / attempts)
    if mean == 1:
        return float(attempts)
    return attempts / (1 + (mean - 1) * _correlation(of, number, attempts))


def _correlation(of, number: pd.Series, attempts: int) -> float:
    """Returns the intraclass correlation of grouped errors `of`, `number` of attempts by person, within [0, 1]."""
    rate, people = of.mean(), len(number)
    total = float((rate * number).sum() / attempts)
    if total in (0.0, 1.0) or people < 2:
        return 1.0
    between = float((number * (rate - total) ** 2).sum()) / (people - 1)
    within = float((number * rate * (1 - rate)).sum()) / max(attempts - people, 1)
    size = (attempts - float((number**2).sum()) / attempts) / (people - 1)
    spread = between + (size - 1) * within
    return min(max((between - within) / spread, 0.0), 1.0) if spread else 1.0


def rate(wrong: pd.Series, people: pd.Series) -> dict[str, float]:
    """Returns what results.json says of an error rate: that of the attempts `wrong` [n], bool, n > 0.

    `people` names the person of each row of `wrong`, and may have further rows.
    errors, attempts: their numbers. people: how many there are. low, high: `interval` of the attempts as if they were
    independent. effective: the number of independent attempts that they amount to; effective_low, effective_high: the
    interval of the same rate of so many.
    """
    own = people[wrong.index].to_numpy()
    errors, attempts = int(wrong.sum()), len(wrong)
    low, high = interval(errors, attempts)
    independent = effective(wrong.to_numpy(), own)
    wider = interval(errors / attempts * independent, independent)
    return {
        "errors": errors,
        "attempts": attempts,
        "people": len(set(own)),
        "low": low,
        "high": high,
        "effective": independent,
        "effective_low": wider[0],
        "effective_high": wider[1],
    }


def rates(wrong: pd.Series, people: pd.Series, species: pd.Series) -> dict[str, dict[str, float]]:
    """Returns {species: `rate` of its attempts}; `people` and `species` may have more rows than `wrong`."""
    return {str(name): rate(of, people) for name, of in wrong.groupby(species[wrong.index])}


def total(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Returns an interval of the sum of two error rates, each given as (errors, attempts).

    The ends are the sums of the ends of the two 97.5 % intervals, so that it holds the sum with 95 % or more
    (Bonferroni) [C]. A sum of rates is no binomial rate, and has no exact interval.
    """
    parts = [interval(errors, attempts, (1 + LEVEL) / 2) for errors, attempts in (first, second)]
    return sum(low for low, _ in parts), sum(high for _, high in parts)
