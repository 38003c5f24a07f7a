"""Error rates of groups: parts of a split that share a value of a column, such as a phone, a light or an attribute."""

import pandas as pd

from kdfas_jax.metrics import detection

RATES = ("apcer_max", "bpcer")
MOST = 64  # groups of a column that are kept, the largest ones [C]: hundreds of cameras make no groups of use
LEAST = 10  # attempts that a group needs to be compared with the others [C]: the rate of one attempt is 0 or 1


def breakdown(videos: pd.DataFrame, groups: pd.DataFrame, threshold: float) -> dict[str, dict[str, dict]]:
    """Returns {column: {value: rates}} of the groups that each column of `groups` makes of `videos`.

    groups: metadata of the same rows; '' means unknown, and those rows are left out. The rates of a group are
    apcer_max, of its worst species, and bpcer, with their `exact` intervals (`detection.exact_rates`), and
    counts.videos. A group without attacks has no apcer_max, a group without bona fide no bpcer; a column without known
    values is left out, and so are groups beyond the `MOST` largest of a column.
    """
    found = {}
    for name, values in groups.items():
        kept = values[values != ""].value_counts(sort=True).index[:MOST]
        of_kept = values.isin(kept)
        parts = videos[of_kept].groupby(values[of_kept])
        found |= {name: {str(value): _rates(rows, threshold) for value, rows in parts}} if parts.ngroups else {}
    return found


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


def compared(
    parts: dict[str, dict[str, dict]], overall: dict[str, float], least: int = LEAST
) -> dict[str, dict[str, dict]]:
    """Returns {column: {rate: facts}} of the columns of `parts` (`breakdown`) in which two groups or more are compared.

    overall: the same rates of all videos. least: the attempts that a group needs, for apcer_max of its worst species.
    The facts of apcer_max and of bpcer are `worst`, the value with the highest rate; its `rate`; `ratio`, that rate by
    the overall rate, None where this is 0; and `smallest`, the attempts of the smallest group that is compared.
    """
    found = {}
    for column, groups in parts.items():
        facts = {name: _compared(groups, name, overall[name], least) for name in RATES}
        if kept := {name: of for name, of in facts.items() if of}:
            found[column] = kept
    return found


def _compared(groups: dict[str, dict], name: str, overall: float, least: int) -> dict | None:
    sizes = {value: worst_of(of["exact"], name)["attempts"] for value, of in groups.items() if name in of}
    sizes = {value: size for value, size in sizes.items() if size >= least}
    if len(sizes) < 2:
        return None
    rates = {value: groups[value][name] for value in sizes}
    worst = max(rates, key=rates.get)
    return {
        "worst": worst,
        "rate": rates[worst],
        "ratio": rates[worst] / overall if overall else None,
        "smallest": min(sizes.values()),
    }
