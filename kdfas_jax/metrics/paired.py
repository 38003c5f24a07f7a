"""Paired differences between the runs of two variants, seed by seed."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

ROLES = ("dev", "test")  # a variant is chosen by dev, before its test figures are looked at


def rows(results: Mapping[str, Mapping[int, dict | None]], controls: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns the cells of each variant whose control is another one, by `compared` of the AUC of dev and of test.

    results: {variant: {seed: content of results.json, None where the run diverged}}. A seed counts where both runs have
    figures.
    """
    found = {}
    for name, control in controls.items():
        if name == control or not results.get(name) or not results.get(control):
            continue
        cells = {"control": control}
        for role in ROLES:
            pairs = [
                (own[role]["auc"], other[role]["auc"])
                for own, other in ((results[name][seed], results[control].get(seed)) for seed in results[name])
                if own and other and "auc" in own.get(role, {}) and "auc" in other.get(role, {})
            ]
            if pairs:
                cells |= {f"{role} {key}": cell for key, cell in compared(*np.transpose(pairs)).items()}
        found[name] = cells
    return _filled(found)


def compared(own: np.ndarray, control: np.ndarray) -> dict[str, str]:
    """Returns the paired difference of two rows of figures [n]: how often better, mean, deviation and 95 % interval.

    The interval is Student's, of the mean of n differences; it needs two of them.
    """
    difference = own - control
    n, mean = len(difference), difference.mean()
    cells = {"better": f"{int((difference > 0).sum())} of {n}", "difference": f"{mean:+.4f}", "95 %": "-"}
    if n > 1:
        spread = difference.std(ddof=1)
        reach = stats.t.ppf(0.975, n - 1) * spread / np.sqrt(n)
        cells["difference"] += f" ± {spread:.4f}"
        cells["95 %"] = f"{mean - reach:+.4f} to {mean + reach:+.4f}"
    return cells


def _filled(found: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The same with a dash where a row lacks a column of another."""
    columns = list(dict.fromkeys(column for cells in found.values() for column in cells))
    return {name: {column: cells.get(column, "-") for column in columns} for name, cells in found.items()}
