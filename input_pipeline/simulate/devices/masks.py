"""Masks that cover a face, rigid, soft or of paper: their materials, openings and finish."""

import dataclasses

from input_pipeline.simulate.devices import optics

KINDS = ("resin", "plaster", "silicone", "plastic", "paper")
PER_SPLIT = {"train": range(400), "dev": range(400, 520), "test": range(520, 640)}  # numbers; the kind is number % 5
# Ranges by kind [C]. `flat`: how far the paint lacks the variation of skin, in [0, 1]; `contrast`, `colour`: of the
# paint relative to skin; `light`: its lightness; `gloss`: strength of the highlights, skin's is about 0.6; `rough`:
# their width in [0, 1]; `thick`: how dark the gap at the openings and along the rim is; `eye`: half the width of an
# opening in head units; `wide`: reach of the mask across the face, in head units; `mouth`: above 0.7 it has a slit.
RANGES = {
    "flat": ((0.2, 0.7), (0.1, 0.6), (0.3, 0.8), (0.6, 1.0), (0.0, 0.4)),
    "contrast": ((0.7, 1.5), (0.6, 1.3), (0.7, 1.2), (0.5, 1.6), (0.7, 1.7)),
    "colour": ((0.6, 1.3), (0.5, 1.2), (0.7, 1.2), (0.6, 1.5), (0.6, 1.3)),
    "light": ((0.8, 1.2), (0.8, 1.3), (0.8, 1.2), (0.7, 1.5), (0.7, 1.3)),
    "gloss": ((0.1, 0.9), (0.0, 0.2), (0.3, 1.2), (0.8, 2.5), (0.0, 0.15)),
    "rough": ((0.0, 0.8), (0.5, 1.0), (0.0, 0.6), (0.0, 0.3), (0.6, 1.0)),
    "thick": ((0.3, 0.9), (0.3, 0.9), (0.1, 0.6), (0.2, 0.9), (0.1, 0.7)),
    "eye": ((0.13, 0.19), (0.13, 0.19), (0.12, 0.16), (0.13, 0.2), (0.14, 0.26)),
    "wide": ((0.55, 0.8), (0.55, 0.8), (0.65, 0.9), (0.55, 0.85), (0.65, 1.0)),
    "mouth": ((0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
}


@dataclasses.dataclass(frozen=True)
class Mask:
    """A kind of mask: its name, kind and parameters (`RANGES`); [C]."""

    name: str
    kind: str
    values: dict[str, float]


def mask(number: int) -> Mask:
    """Returns instrument `number` (from 0); equal numbers give equal instruments."""
    rng, column = optics.generator(0x3A5C, number), number % len(KINDS)
    values = {name: float(rng.uniform(*rows[column])) for name, rows in RANGES.items()}
    return Mask(f"{KINDS[column]}{number:03d}", KINDS[column], values)
