"""The sections on what decisions withstand: other views of the same faces, and an attack on the pixels."""

from collections.abc import Mapping
from typing import Any

from kdfas_jax.metrics import exact, stability
from kdfas_jax.report import plots
from kdfas_jax.report.render.content import Figure, Plots, Section, Table
from kdfas_jax.report.sections.attempts import between

VIEWS = {
    "box_x0.8": "Face box x 0.8",
    "box_x1.25": "Face box x 1.25",
    "shift_left": "Box 10 % to the left",
    "shift_right": "Box 10 % to the right",
    "shift_up": "Box 10 % up",
    "shift_down": "Box 10 % down",
    "exposure_-1": "One stop darker",
    "exposure_+1": "One stop brighter",
    "jpeg_30": "JPEG quality 30",
    "jpeg_95": "JPEG quality 95",
    "blur": "Blur",
    "any_box": "Any of the boxes",
    "any_box_or_exposure": "Any box or exposure",
}
WORDS = (
    "Small changes that no attacker and no user can be kept from: the face box of another detector, a brighter or "
    "darker picture, compression. Flips: decisions that differ from those on the unchanged image. Let in: attacks that "
    "were rejected and are now accepted. Turned away: live faces that were accepted and are now rejected. Where a "
    "moved box leaves the stored crop, the pixels at its edge are repeated."
)
HEAD = ("view", "flips", "AUC", "APCER, worst", "BPCER", "let in", "turned away")


def stable(test: Mapping[str, Any]) -> Section | None:
    """Returns the section on `test.stability` of results.json; None where it was not measured."""
    if not (found := test.get("stability")):
        return None
    images = found["counts"]["images"]
    rows = [("As it is", "–", *_rates(found[stability.AS_IS]), "–", "–")]
    for name, of in found["views"].items():
        shares = (Figure(of.get(share)) for share in ("attacks_let_in", "live_turned_away"))
        rows.append((VIEWS.get(name, name), _flips(of["flips"], images), *_rates(of), *shares))
    together = {name: found[name] for name in VIEWS if name in found}
    rows += [(VIEWS[name], _flips(share, images), *["–"] * 5) for name, share in together.items()]
    shares = {name: of["flips"] for name, of in found["views"].items()} | together
    drawn = plots.flips({VIEWS.get(name, name): share for name, share in shares.items()})
    words = f"{WORDS} {images} images of the test, {found['counts']['live']} of them of live faces."
    return Section("Do decisions stay?", words, [Table(HEAD, rows), Plots([("Share of decisions that flip.", drawn)])])


def attacked(test: Mapping[str, Any]) -> Section | None:
    """Returns the section on `test.whitebox` of results.json; None where it was not measured."""
    if not (found := test.get("whitebox")):
        return None
    rows = [("as it is", *_rates(found[stability.AS_IS]), "–", "–")]
    for name, of in found["views"].items():
        shares = (Figure(of.get(share), bar=True) for share in ("attacks_let_in", "live_turned_away"))
        rows.append((f"{name.removeprefix('eps_')} of 255", *_rates(of), *shares))
    words = (
        "An attacker who knows the model and can change the pixels between camera and model, by at most so much each, "
        "which nobody sees: no print and no display does that, an injected video does. Success: of the attacks that "
        "were rejected, those that are then accepted, and of the live faces that were accepted, those that are then "
        "rejected. A model that was not trained against such attacks withstands few of them, so protect the way from "
        f"the camera to the model. {found['counts']['images']} images of the test."
    )
    head = ("largest change", "AUC", "APCER, worst", "BPCER", "attacks let in", "live turned away")
    return Section("Under a white-box attack", words, [Table(head, rows)])


def _rates(of: Mapping[str, float]) -> tuple[Figure, ...]:
    return Figure(of["auc"], area=True), Figure(of["apcer_max"]), Figure(of["bpcer"])


def _flips(share: float, images: int) -> Figure:
    """A share of flips, and the exact interval of so many images in per cent."""
    return Figure(share, between(*exact.interval(round(share * images), images)))
