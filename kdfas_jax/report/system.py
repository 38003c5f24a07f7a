"""The sections of a report that are of recognition, and of a whole system of recognition and liveness."""

from collections.abc import Mapping
from typing import Any

from kdfas_jax.report.render import names
from kdfas_jax.report.render.content import Figure, Named, Section, Table
from kdfas_jax.report.sections.attempts import between

VERIFICATION = {
    "accuracy": ("Accuracy", "pairs that are decided rightly"),
    "auc": ("AUC", "how often two pictures of one person are more alike than those of two"),
    "eer": ("EER", "error rate where both kinds of error are equal"),
}
SYSTEM = {
    "frr": ("FRR", "attempts of the right person that are turned away, by either check"),
    "far": ("FAR", "attempts of another person that are let in"),
    "fnmr": ("FNMR", "attempts of the right person that do not match"),
    "fmr": ("FMR", "attempts of another person that match"),
}


def verification(figures: Mapping[str, Any]) -> Section | None:
    """Returns the section on the figures of pairs (`verification.verification`); None where there are none."""
    if "tar_at_far" not in figures:
        return None
    rows = [(Named(*words), Figure(figures[name], area=name == "auc")) for name, words in VERIFICATION.items()]
    rows += [
        (Named(f"TAR at FAR {float(far):.1%}", "pairs of one person accepted where so many of two are"), Figure(rate))
        for far, rate in figures["tar_at_far"].items()
    ]
    return Section(
        "Recognition", f"Of {figures['counts']['scores']:,} pairs.", [Table(("figure", "test"), rows)], half=True
    )


def system(figures: Mapping[str, Any], match: Mapping[str, Any] | None) -> Section:
    """Returns the section on attempts to be let in (`authentication.figures`), with the worst species first."""
    exact = figures.get("exact", {})  # which results of earlier versions lack
    rows = [(Named(*words), Figure(figures[name], _interval(exact.get(name)))) for name, words in SYSTEM.items()]
    by_species = [
        (
            names.species(species),
            Figure(rate, _interval(exact.get("iapar", {}).get(species)), bar=True),
            Figure(figures["riapar"][species], _interval(exact.get("riapar", {}).get(species)), bar=True),
        )
        for species, rate in sorted(figures["iapar"].items(), key=lambda item: -item[1])
    ]
    threshold = f" The match needs a cosine of {match['value']:.4f} ({match['source']})." if match else ""
    return Section(
        "The whole system",
        f"An attempt is let in only if the face matches and is live.{threshold} IAPAR: attacks on a person that are "
        "let in; RIAPAR adds FRR to it (ISO/IEC 30107-3). Below each rate: the exact 95 % interval of so many "
        "attempts, in per cent.",
        [Table(("figure", "test"), rows), Table(("attack on a person", "IAPAR", "RIAPAR"), by_species)],
        half=True,
    )


def of_run(results: Mapping[str, Any]) -> Section | None:
    """Returns `system` of results.json's content; None where it has no figures of a whole system."""
    test = results["test"]
    return system(test["system"], results["threshold"].get("match")) if "system" in test else None


def _interval(of: Mapping[str, Any] | list[float] | None) -> str:
    """Returns errors, attempts and exact interval of a rate (`exact.rate`), or the ends of a sum; '' for neither."""
    if not of:
        return ""
    if isinstance(of, list):
        return between(*of)
    return f"{of['errors']} of {of['attempts']}; {between(of['low'], of['high'])}"
