"""The parts of a report that are of recognition, and of a whole system of recognition and liveness."""

from collections.abc import Mapping
from typing import Any

from kdfas_jax.report.html import Html, area, bar, named, section, share, table

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


def verification(figures: Mapping[str, Any]) -> Html:
    """Figures of pairs (`verification.verification`); nothing where there are none."""
    if "tar_at_far" not in figures:
        return Html("")
    rows = [
        (named(*words), area(figures[name]) if name == "auc" else share(figures[name]))
        for name, words in VERIFICATION.items()
    ]
    rows += [
        (named(f"TAR at FAR {float(far):.1%}", "pairs of one person accepted where so many of two are"), share(rate))
        for far, rate in figures["tar_at_far"].items()
    ]
    return section("Recognition", f"Of {figures['counts']['scores']:,} pairs.", table(("figure", "test"), rows))


def system(figures: Mapping[str, Any], match: Mapping[str, Any] | None) -> Html:
    """Figures of attempts to be let in (`authentication.figures`), by species the worst first."""
    rows = [(named(*words), share(figures[name])) for name, words in SYSTEM.items()]
    by_species = [
        (species, bar(rate), bar(figures["riapar"][species]))
        for species, rate in sorted(figures["iapar"].items(), key=lambda item: -item[1])
    ]
    threshold = f" The match needs a cosine of {match['value']:.4f} ({match['source']})." if match else ""
    return section(
        "The whole system",
        f"An attempt is let in only if the face matches and is live.{threshold} IAPAR: attacks on a person that are "
        "let in; RIAPAR adds FRR to it (ISO/IEC 30107-3).",
        table(("figure", "test"), rows),
        table(("attack on a person", "IAPAR", "RIAPAR"), by_species),
    )
