"""Paired differences between the runs of two variants, seed by seed."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

ROLES = ("dev", "test")  # a variant is chosen by dev, before its test figures are looked at


Studies = Mapping[str, Mapping[int, dict | None]]  # {variant: {seed: content of results.json, None if it diverged}}


def rows(results: Studies, controls: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Returns the cells of each variant whose control is another one, by `compared` of the AUC of dev and of test.

    A seed counts where both runs have figures.
    """
    found = {}
    for name, control in controls.items():
        if name == control or not results.get(name) or not results.get(control):
            continue
        cells = {"control": control}
        for role in ROLES:
            if len(difference := differences(results[name], results[control], role)):
                cells |= {f"{role} {key}": cell for key, cell in compared(difference).items()}
        found[name] = cells
    return _filled(found)


def differences(own: Mapping[int, dict | None], control: Mapping[int, dict | None], role: str) -> np.ndarray:
    """Returns the AUC on `role` minus the control's [n], for the seeds whose two runs have one.

    own, control: {seed: content of results.json}.
    """

    def auc(results: dict | None) -> float:
        return (results or {}).get(role, {}).get("auc", np.nan)

    found = np.array([auc(own[seed]) - auc(control.get(seed)) for seed in own])
    return found[np.isfinite(found)]


def compared(difference: np.ndarray) -> dict[str, str]:
    """Returns what paired differences [n] say: how often one is better, their mean, deviation and 95 % interval.

    The interval is Student's, of the mean of n differences; it needs two of them.
    """
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
