"""What laboratories and schemes ask of presentation attack detection, and whether measured rates meet it.

A comparison of a self-test with these numbers is no certificate: schemes also prescribe who tests, how attacks are
made and much else. Rates are fractions. [C] marks our own choices.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from kdfas_jax.metrics import exact

MEETS, FAILS, FEW, UNMEASURED = "meets", "fails", "too few attempts", "not measured"


class Requirement(NamedTuple):
    """One number that a scheme asks for.

    Fields:
      scheme: its name and level.
      rate: 'apcer' or 'iapar', of each PAI species, 'bpcer' or 'fmr'.
      limit: of the rate; it must be below, where `below`, else at most the limit.
      attempts: how many, of each species for a rate of species; None where the scheme names no number that we know.
      species: the number of PAI species; None where the scheme names none that we know.
      source: the document and its year.
    """

    scheme: str
    rate: str
    limit: float
    below: bool
    attempts: int | None
    species: int | None
    source: str


IBETA = "iBeta, ISO/IEC 30107-3 test levels, as published in 2025"
FIDO = "FIDO Biometrics Requirements v4.0, 2024: below 7 % or below 15 % of each species"
NIST = "NIST SP 800-63A-4, section 3.11, and SP 800-63B-4, 2025"
REQUIREMENTS = (
    Requirement("iBeta level 1", "apcer", 0.0, False, 150, 6, IBETA),
    Requirement("iBeta level 1", "bpcer", 0.15, False, 50, None, IBETA),
    Requirement("iBeta level 2", "apcer", 0.01, False, 150, 5, IBETA),
    Requirement("iBeta level 2", "bpcer", 0.15, False, 250, None, IBETA),
    Requirement("iBeta level 3", "bpcer", 0.10, False, None, None, IBETA),
    Requirement("FIDO, limit of 15 %", "iapar", 0.15, True, None, None, FIDO),
    Requirement("FIDO, limit of 7 %", "iapar", 0.07, True, None, None, FIDO),
    Requirement("NIST SP 800-63-4", "iapar", 0.07, True, None, None, NIST),
    Requirement("NIST SP 800-63-4", "fmr", 1e-4, False, None, None, NIST),
)


def compared(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns a row for each of `REQUIREMENTS`.

    found: `exact.rate` of bpcer and fmr, and {species: `exact.rate`} of apcer and iapar, where they were measured.
    Without iapar, that of apcer stands in for it: a system with a comparison accepts no attack that the check of
    liveness rejects, so IAPAR is at most APCER, and only the verdict 'meets' can be drawn from it.
    A row has scheme, rate, asked (in words), tested (the number of species), species (the one with the highest upper
    end), its errors, attempts, bound (that upper end) and missing (attempts, where these are too few: `missing`),
    verdict, basis ('apcer' where it stands in for iapar, else the rate) and source; None for what was not measured.
    """
    return [_row(requirement, found) for requirement in REQUIREMENTS]


def _row(of: Requirement, found: Mapping[str, Any]) -> dict[str, Any]:
    basis = "apcer" if of.rate == "iapar" and not found.get("iapar") else of.rate
    rates = found.get(basis) or {}
    rates = rates if basis in ("apcer", "iapar") or not rates else {"": rates}
    name, worst = max(rates.items(), key=lambda item: item[1]["high"], default=("", {}))
    result = verdict(of, list(rates.values()))
    if basis != of.rate and result != MEETS:
        result = UNMEASURED
    return {
        "scheme": of.scheme,
        "rate": of.rate,
        "asked": asked(of),
        "tested": len(rates),
        "species": name,
        "errors": worst.get("errors"),
        "attempts": worst.get("attempts"),
        "bound": worst.get("high"),
        "missing": missing(of, worst) if result == FEW else None,
        "verdict": result,
        "basis": basis,
        "source": of.source,
    }


def asked(of: Requirement) -> str:
    """Returns what a requirement asks, in words: 'at most 1 % of 150 attempts, 5 species'."""
    words = f"{'below' if of.below else 'at most'} {100 * of.limit:g} %"
    words += f" of {of.attempts} attempts" if of.attempts else ""
    return words + (f", {of.species} species" if of.species else "")


def verdict(of: Requirement, rates: list[Mapping[str, float]]) -> str:
    """Returns whether `rates` (`exact.rate`, one a species) meet a requirement, or why that is not known.

    Where the scheme names a number of attempts, the observed rate counts, as it does for a laboratory. It fails where
    there are too many errors for the number of attempts asked, whatever further attempts would bring; with fewer
    attempts or species it is open. Where the scheme names no number, the exact 95 % interval counts [C]: it meets the
    limit where the upper end does, and fails where the lower end is above it.
    """
    if not rates:
        return UNMEASURED
    if of.attempts is None:
        return _by_interval(of, rates)
    if any(rate["errors"] > of.limit * max(rate["attempts"], of.attempts) for rate in rates):
        return FAILS
    enough = sum(rate["attempts"] >= of.attempts for rate in rates)
    return MEETS if enough == len(rates) and enough >= (of.species or 1) else FEW


def _by_interval(of: Requirement, rates: list[Mapping[str, float]]) -> str:
    if any(rate["low"] > of.limit for rate in rates):
        return FAILS
    met = all(rate["high"] < of.limit if of.below else rate["high"] <= of.limit for rate in rates)
    return MEETS if met else FEW


def missing(of: Requirement, rate: Mapping[str, float]) -> int | None:
    """Returns how many more attempts, without a further error, the verdict on one `exact.rate` needs to be 'meets'.

    None where no number would do.
    """
    errors, attempts = rate["errors"], rate["attempts"]
    if of.attempts is None:
        return max(exact.attempts_for(of.limit, errors) - attempts, 0)
    return None if errors > of.limit * max(attempts, of.attempts) else max(of.attempts - attempts, 0)
