"""Error rates of groups: parts of a split that share a value of a column, such as a phone, a light or an attribute."""

import pandas as pd

from kdfas_jax.metrics import detection

RATES = ("apcer_max", "bpcer")


def breakdown(videos: pd.DataFrame, groups: pd.DataFrame, threshold: float) -> dict[str, dict[str, dict]]:
    """Returns {column: {value: rates}} of the groups that each column of `groups` makes of `videos`.

    groups: metadata of the same rows; '' means unknown, and those rows are left out. The rates of a group are
    apcer_max, of its worst species, and bpcer, with their `exact` intervals (`detection.exact_rates`), and
    counts.videos. A group without attacks has no apcer_max, a group without bona fide no bpcer; a column without known
    values is left out.
    """
    known = {name: videos[values != ""].groupby(values[values != ""]) for name, values in groups.items()}
    return {
        name: {str(value): _rates(rows, threshold) for value, rows in parts}
        for name, parts in known.items()
        if parts.ngroups
    }


def _rates(videos: pd.DataFrame, threshold: float) -> dict:
    exact = detection.exact_rates(videos, threshold)
    rates = {"counts": {"videos": len(videos)}, "exact": exact}
    if worst := worst_of(exact, "apcer_max"):
        rates["apcer_max"] = worst["errors"] / worst["attempts"]
    if "bpcer" in exact:
        rates["bpcer"] = exact["bpcer"]["errors"] / exact["bpcer"]["attempts"]
    return rates


def worst_of(exact: dict, name: str) -> dict | None:
    """Returns the `exact.rate` behind apcer_max or bpcer in `exact` intervals; of equal species the one with fewer
    attempts, None where there is none."""
    found = [exact["bpcer"]] if name == "bpcer" and "bpcer" in exact else []
    found = list(exact.get("apcer", {}).values()) if name == "apcer_max" else found
    return max(found, key=lambda of: (of["errors"] / of["attempts"], -of["attempts"]), default=None)


def compared(parts: dict[str, dict[str, dict]], overall: dict[str, float]) -> dict[str, dict[str, dict]]:
    """Returns {column: {rate: facts}} of the columns of `parts` (`breakdown`) in which two groups or more have a rate.

    overall: the same rates of all videos. The facts of apcer_max and of bpcer are `worst`, the value with the highest
    rate; its `rate`; `ratio`, that rate by the overall rate, None where this is 0; and `smallest`, the number of
    attempts of the smallest group, for apcer_max of its worst species.
    """
    found = {}
    for column, groups in parts.items():
        facts = {name: _compared(groups, name, overall[name]) for name in RATES}
        if kept := {name: of for name, of in facts.items() if of}:
            found[column] = kept
    return found


def _compared(groups: dict[str, dict], name: str, overall: float) -> dict | None:
    rates = {value: of[name] for value, of in groups.items() if name in of}
    if len(rates) < 2:
        return None
    worst = max(rates, key=rates.get)
    return {
        "worst": worst,
        "rate": rates[worst],
        "ratio": rates[worst] / overall if overall else None,
        "smallest": min(worst_of(groups[value]["exact"], name)["attempts"] for value in rates),
    }
