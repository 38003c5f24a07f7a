"""The page of a self-test."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from kdfas_jax.metrics import schemes
from kdfas_jax.report import hero, summary, system
from kdfas_jax.report.parts import Shown
from kdfas_jax.report.render import html, names
from kdfas_jax.report.render.content import Hero, Named, Section, Table
from kdfas_jax.report.sections import attempts, groups, stability

RATES = {"apcer": "APCER", "bpcer": "BPCER", "iapar": "IAPAR", "fmr": "FMR"}


def selftest(content: Mapping[str, Any], evaluated: Mapping[str, Any], whole: str) -> str:
    """Returns the page of the self-test.

    content: as of `score.selftest`. evaluated: the results of the whole evaluation. whole: the path of its page.
    """
    verdicts = Counter(row["verdict"] for row in content["schemes"])
    listed = (
        f"meets {verdicts[schemes.MEETS]} of {len(content['schemes'])} requirements and fails "
        f"{verdicts[schemes.FAILS]}; {verdicts[schemes.FEW]} have too few attempts, {verdicts[schemes.UNMEASURED]} "
        "were not measured"
    )
    number = content["plan"]
    words = [
        f"{number['captured']} of {number['planned']} planned presentations were captured; {number['unplanned']} files "
        f"are in no plan. Run {content['run']}, threshold {content['threshold']['value']:.6g} "
        f"({content['threshold']['source']}), applied unchanged. Seen by the run: {content['seen']}.",
        f"The whole evaluation, with the worst errors, is in {whole}.",
    ]
    top = Hero(f"{evaluated['config']['name']} {listed}.", words=words)
    test = content["test"]
    sections = [
        _presentations(content["presentations"]),
        _schemes(content["schemes"]),
        system.of_run(evaluated),
        attempts.supported(test),
        groups.by_group(evaluated),
        stability.stable(test),
        _sources(),
    ]
    title = f"Self-test of {evaluated['config']['name']}"
    return html.document(title, sections, hero=top, cautions=[content["note"], *hero.cautions(evaluated, Shown())])


def text(content: Mapping[str, Any]) -> str:
    """Returns the requirements and verdicts of `score.selftest` as a table for the screen."""
    rows = {
        f"{of['scheme']}, {RATES[of['rate']]}": {
            "asked": of["asked"],
            "got": "–" if of["errors"] is None else f"{of['errors']} of {of['attempts']} {of['species']}".strip(),
            "bound": _bound(of),
            "verdict": of["verdict"],
        }
        for of in content["schemes"]
    }
    return f"{content['note']}\n{summary.markdown(rows, corner='requirement')}"


def _presentations(rows: list[Mapping[str, Any]]) -> Section:
    cells = []
    for of in rows:
        rate, captured = of["rate"], of["captured"]
        share = f"{of['non_response']} of {captured}" if captured else "–"
        errors = f"{rate['errors']} of {rate['attempts']}" if rate else "–"
        percent = f"{100 * rate['errors'] / rate['attempts']:.2f} %" if rate else "–"
        ends = attempts.between(rate["low"], rate["high"]) if rate else "–"
        name = "Bona fide" if of["species"] == "live" else names.species(of["species"])
        cells.append((name, str(of["planned"]), str(captured), share, errors, percent, ends))
    head = ("presentations", "planned", "captured", "non-response", "errors", "APCER, BPCER", "exact 95 %, %")
    words = (
        "An attack that is accepted is an error (APCER, attack presentation classification error rate, of each PAI "
        "species), and so is a bona fide presentation that is rejected (BPCER). A presentation in which no face was "
        "found is a non-response (APNRR, BPNRR), and counts in neither rate."
    )
    return Section("In the terms of ISO/IEC 30107-3", words, [Table(head, cells)])


def _schemes(rows: list[Mapping[str, Any]]) -> Section:
    cells = [(_name(of), of["asked"], _got(of), _bound(of), _verdict(of)) for of in rows]
    words = (
        "Bound: the upper end of the exact 95 % interval of the worst species. Where a scheme asks for a number of "
        "attempts, the verdict is that of the observed rate, as in a laboratory; where it asks for none that we know, "
        "the bound must keep the limit. IAPAR is that of a whole system with a comparison of faces: where it was not "
        "measured, APCER stands in for it, which it cannot exceed."
    )
    head = ("requirement", "asked", "got", "bound", "verdict")
    return Section("Against the schemes", words, [Table(head, cells)])


def _name(of: Mapping[str, Any]) -> Named:
    stands = f", by {RATES[of['basis']]}" if of["basis"] != of["rate"] else ""
    return Named(of["scheme"], f"{RATES[of['rate']]}{stands}")


def _got(of: Mapping[str, Any]) -> Named | str:
    if of["errors"] is None:
        return "–"
    worst = f"{names.species(of['species'])}; {of['tested']} species" if of["species"] else ""
    return Named(f"{of['errors']} of {of['attempts']}", worst)


def _bound(of: Mapping[str, Any]) -> str:
    return "–" if of["bound"] is None else f"{100 * of['bound']:.1f} %"


def _verdict(of: Mapping[str, Any]) -> Named | str:
    if not of["missing"]:
        return of["verdict"]
    return Named(of["verdict"], f"{of['missing']} more without a further error")


def _sources() -> Section:
    found = {of.scheme: of.source for of in schemes.REQUIREMENTS}
    rows = [("ISO/IEC 30107-3", "ISO/IEC 30107-3:2023: terms and metrics; it sets no limits"), *found.items()]
    return Section("Sources", "Where the numbers of the schemes come from.", [Table(("scheme", "source, year"), rows)])
