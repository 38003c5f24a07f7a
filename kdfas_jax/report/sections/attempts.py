"""The section that says what the number of attempts supports: exact intervals, and attempts that a claim needs."""

from collections.abc import Mapping
from typing import Any

from kdfas_jax.metrics import exact
from kdfas_jax.report.render import names
from kdfas_jax.report.render.content import Named, Section, Table

WORDS = (
    "Few attempts support little: without an error in 20 attempts, the rate may still be up to 16.8 %. Exact: the 95 % "
    "interval of Clopper and Pearson, as if all attempts were independent. Over people: the bootstrap, which draws "
    "people. Effective: the number of independent attempts that these amount to, as one person's attempts are alike, "
    "and the exact interval of so many. To claim: the attempts that are missing for a smaller bound, if no further "
    "error occurs. In per cent."
)
HEAD = ("rate", "errors", "exact", "over people", "people", "effective attempts", "to claim")


def supported(test: Mapping[str, Any]) -> Section | None:
    """Returns the section on the intervals `test.exact` of results.json; None where there are none."""
    if not (found := test.get("exact")):
        return None
    drawn = test.get("ci95", {})
    rows = [
        row(f"APCER, {names.species(species)}", of, drawn.get("apcer", {}).get(species))
        for species, of in sorted(found.get("apcer", {}).items(), key=lambda item: -item[1]["high"])
    ]
    rows += [row("BPCER", found["bpcer"], drawn.get("bpcer"))] if "bpcer" in found else []
    return Section("What so many attempts support", WORDS, [Table(HEAD, rows)])


def row(name: str, of: Mapping[str, float], drawn: list[float] | None = None) -> tuple:
    """Returns the cells of `HEAD` for a rate (`exact.rate`); drawn: its interval by bootstrap, if there is one."""
    independent = "all"
    if of["effective"] < of["attempts"]:
        independent = Named(f"{of['effective']:.1f}", between(of["effective_low"], of["effective_high"]))
    return (
        name,
        f"{of['errors']} of {of['attempts']}",
        between(of["low"], of["high"]),
        between(*drawn) if drawn else "–",
        str(of["people"]),
        independent,
        missing(of),
    )


def between(low: float, high: float) -> str:
    """0.0041, 0.0573 -> '0.4 to 5.7'."""
    return f"{100 * low:.1f} to {100 * high:.1f}"


def missing(of: Mapping[str, float]) -> str:
    """Says how many more attempts of the rate `of` (`exact.rate`) a smaller bound needs (`exact.claim`)."""
    if found := exact.claim(of["errors"], of["attempts"]):
        return f"at most {100 * found[0]:.0f} %: {found[1]} more"
    if open_claims := [bound for bound in exact.CLAIMS if bound < of["high"]]:
        return f"the rate is above {100 * max(open_claims):.0f} %"
    return f"at most {100 * of['high']:.1f} %"
