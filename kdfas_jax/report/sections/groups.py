"""The section on error rates by group: by domain, phone, session, light, and by the attributes of the people."""

from collections.abc import Mapping
from typing import Any

from kdfas_jax.metrics.groups import worst_of
from kdfas_jax.report.render import names
from kdfas_jax.report.render.content import Columns, Figure, Section, Table
from kdfas_jax.report.sections.attempts import between

RATES = {"apcer_max": "APCER, worst species", "bpcer": "BPCER"}
MOST = 16  # groups of a column that the page lists [C]
WORST = ("groups by", "rate", "worst group", "errors", "exact, %", "times the rate of all", "smallest group")


def by_group(results: Mapping[str, Any]) -> Section | None:
    """Returns the section on `test.breakdown` and `test.groups` of results.json; None where there are no groups.

    Results of earlier versions, and of folds, have neither intervals nor the comparison with the overall rate.
    """
    test, datasets = results["test"], results["config"]["data"].get("dataset", "").split("+")
    parts = {column: of for column, of in test.get("breakdown", {}).items() if len(of) > 1}  # else as the whole
    if not parts:
        return None
    tables = [_rates(column, groups, datasets) for column, groups in parts.items()]
    words = "At the same threshold: the APCER of the worst species, and BPCER, of the videos of each group"
    words += ", with errors of attempts and the exact 95 % interval, in per cent." if "groups" in test else "."
    worst = [
        _worst(test, column, rate, of, datasets)
        for column, rates in test.get("groups", {}).items()
        for rate, of in rates.items()
    ]
    title = "The worst group of each column"
    head = [Table(WORST, worst, title)] if worst else []
    return Section("Where the errors are", words, [*head, Columns(tables)])


def _worst(test: Mapping[str, Any], column: str, rate: str, of: Mapping[str, Any], datasets: list[str]) -> tuple:
    found = worst_of(test["breakdown"][column][of["worst"]]["exact"], rate)
    return (
        names.column(column),
        RATES[rate],
        names.value(column, of["worst"], datasets),
        f"{found['errors']} of {found['attempts']}",
        between(found["low"], found["high"]),
        "–" if of["ratio"] is None else f"x {of['ratio']:.2f}",
        str(of["smallest"]),
    )


def _rates(column: str, groups: Mapping[str, Any], datasets: list[str]) -> Table:
    shown = groups
    if len(groups) > MOST:
        largest = sorted(groups, key=lambda value: -groups[value]["counts"]["videos"])[:MOST]
        shown = {value: groups[value] for value in groups if value in largest}
    rows = [
        (
            names.value(column, value, datasets),
            *(Figure(of.get(rate), _counted(of, rate), bar=True) for rate in RATES),
            str(of["counts"]["videos"]),
        )
        for value, of in shown.items()
    ]
    title = f"The {MOST} largest of {len(groups)} groups; results.json has all" if len(groups) > MOST else ""
    return Table((names.column(column), "APCER, worst", "BPCER", "videos"), rows, title)


def _counted(group: Mapping[str, Any], rate: str) -> str:
    """'3 of 40; 1.6 to 20.4': errors, attempts and exact interval; '' where the group has none."""
    found = worst_of(group.get("exact", {}), rate)
    return f"{found['errors']} of {found['attempts']}; {between(found['low'], found['high'])}" if found else ""
