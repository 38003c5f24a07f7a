"""Prints: kinds of paper and printing, and the shapes that sheets take."""

import dataclasses

import numpy as np

from input_pipeline.simulate.devices import optics

KINDS = ("matt", "office", "gloss", "photo", "newsprint", "poster", "laser", "card")
PER_SPLIT = {"train": range(384), "dev": range(384, 512), "test": range(512, 640)}  # numbers; the kind is number % 8
SHAPES = ("flat", "bent", "folded", "curled", "torn")
# Reflectance of solid ink in red, green and blue [C]: cyan, magenta, black. Yellow dots are nearly invisible.
INKS = np.array([[0.06, 0.42, 0.66], [0.58, 0.08, 0.26], [0.05, 0.05, 0.05]], np.float32)
ANGLES = (0.26, 1.31, 0.79)
# Ranges by kind. `black`: reflectance under full ink; `white`: of bare paper; `soft`: resolution, in face boxes;
# `lines`: printed dots per face box; `dots`: share of ink in clustered dots; `grain`: of paper and ink; `gloss`: share
# of Fresnel's reflection that stays mirror-like; `rough`: level of blur of the mirrored room; `bands`: of the head.
RANGES = {
    "black": (
        (0.015, 0.05), (0.02, 0.06), (0.005, 0.02), (0.003, 0.015), (0.05, 0.11), (0.01, 0.04), (0.01, 0.04),
        (0.01, 0.04),
    ),
    "white": ((0.78, 0.9), (0.78, 0.92), (0.82, 0.92), (0.86, 0.94), (0.5, 0.7), (0.78, 0.9), (0.76, 0.9), (0.7, 0.9)),
    "gamut": ((0.8, 1.1), (0.7, 1.1), (0.9, 1.25), (0.95, 1.25), (0.45, 0.9), (0.8, 1.2), (0.75, 1.2), (0.8, 1.1)),
    "soft": (
        (0.002, 0.008), (0.003, 0.01), (0.001, 0.005), (0.001, 0.004), (0.004, 0.014), (0.003, 0.014), (0.002, 0.007),
        (0.002, 0.009),
    ),
    "lines": ((140, 300), (100, 260), (160, 400), (300, 700), (45, 110), (40, 160), (70, 200), (120, 300)),
    "dots": ((0.2, 0.6), (0.3, 0.9), (0.2, 0.5), (0.0, 0.1), (0.7, 1.0), (0.6, 1.0), (0.6, 1.0), (0.3, 0.8)),
    "grain": (
        (0.01, 0.025), (0.012, 0.03), (0.005, 0.015), (0.002, 0.008), (0.02, 0.05), (0.005, 0.02), (0.01, 0.025),
        (0.008, 0.025),
    ),
    "gloss": ((0.0, 0.2), (0.0, 0.2), (0.4, 1.0), (0.5, 1.0), (0.0, 0.1), (0.1, 0.8), (0.1, 0.5), (0.1, 0.7)),
    "rough": ((0.7, 1.0), (0.7, 1.0), (0.15, 0.5), (0.0, 0.3), (0.9, 1.0), (0.3, 0.8), (0.4, 0.8), (0.3, 0.8)),
    "bands": ((0.0, 0.03), (0.0, 0.07), (0.0, 0.02), (0.0, 0.01), (0.0, 0.02), (0.0, 0.02), (0.0, 0.05), (0.0, 0.03)),
    "contrast": ((0.8, 1.3), (0.75, 1.4), (0.9, 1.4), (0.9, 1.3), (0.7, 1.3), (0.8, 1.4), (0.8, 1.6), (0.8, 1.3)),
    "halo": ((0.0, 0.6), (0.0, 0.6), (0.0, 0.8), (0.0, 0.6), (0.0, 1.0), (0.0, 0.8), (0.0, 0.6), (0.0, 0.5)),
    "stiff": ((0.2, 0.6), (0.0, 0.4), (0.2, 0.7), (0.5, 1.0), (0.0, 0.3), (0.0, 0.6), (0.0, 0.4), (0.8, 1.0)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Paper:
    """A kind of print: its name, kind, parameters (`RANGES`) and the tint of its white [3]; [C]."""

    name: str
    kind: str
    values: dict[str, float]
    tint: np.ndarray


def paper(number: int) -> Paper:
    """Returns instrument `number` (from 0); equal numbers give equal instruments."""
    rng, column = optics.generator(0x9A9E12, number), number % len(KINDS)
    values = {name: float(rng.uniform(*rows[column])) for name, rows in RANGES.items()}
    tint = (
        1.0 + np.array([1.0, 0.0, -1.0]) * rng.normal(0.0, 0.035) + np.array([0.0, 1.0, 0.0]) * rng.normal(0.0, 0.012)
    )
    return Paper(f"{KINDS[column]}{number:03d}", KINDS[column], values, tint.astype(np.float32))


def printed(code: np.ndarray, of: Paper, face: float, rng) -> np.ndarray:
    """Returns the reflectance float32 [h, w, 3] of a print of a photograph uint8, before its dots.

    face: pixels of the photograph per face box.
    """
    v = of.values
    linear = optics.blur(optics.decode(code), v["soft"] * face)
    if v["halo"] > 0.1:
        linear = np.maximum(linear + v["halo"] * (linear - optics.blur(linear, 2.5 * v["soft"] * face + 0.8)), 0.0)
    linear = optics.curve(optics.tone(v["contrast"] * rng.uniform(1.0, 1.45), rng.normal(0.0, 0.15)), linear)
    grey = optics.luma(linear)[..., None]
    linear = np.clip(grey + v["gamut"] * rng.uniform(0.95, 1.25) * (linear - grey), 0.0, 1.0)
    if v["bands"] > 0.01:
        height = linear.shape[0]
        lines = optics.patches(rng, 1, 64, rng.uniform(10, 60))[0]
        lines = np.interp(np.linspace(0, 63, height), np.arange(64), lines).astype(np.float32)
        linear = linear * (1.0 + v["bands"] * lines[:, None, None])
    cast = 1.0 + np.array([1.0, 0.0, -1.0]) * rng.normal(0.0, 0.03)
    return (v["black"] + (v["white"] - v["black"]) * np.clip(linear * cast, 0.0, 1.0)).astype(np.float32) * of.tint


def dotted(area: np.ndarray, of: Paper, u: np.ndarray, v: np.ndarray, seen) -> np.ndarray:
    """Breaks a reflectance [h, w, 3], as the sensor samples it, into the dots of three inks.

    u, v: coordinates on the sheet, in face boxes. seen: function of a frequency (per face box) that returns the
    contrast that lens and pixels leave; moire arises as the sensor samples what is left.
    """
    lines, strength = of.values["lines"], of.values["dots"] * seen(of.values["lines"])
    if strength < 0.01:
        return area
    for ink, angle in enumerate(ANGLES):
        c, s = 2.0 * np.pi * lines * np.cos(angle), 2.0 * np.pi * lines * np.sin(angle)
        wave = 0.5 * (np.cos(c * u + s * v) + np.cos(c * v - s * u))
        cover = 1.0 - area[..., ink] if ink < 2 else 1.0 - area.max(-1)
        swing = (strength * 1.6) * wave * cover * (1.0 - cover)
        area = area * (1.0 - swing[..., None] * (1.0 - INKS[ink]))
    return area


@dataclasses.dataclass(frozen=True)
class Shape:
    """How a sheet is bent. Heights and lengths in face boxes.

    Fields:
      kind: a name of SHAPES.
      angle: direction of the axis across which it bends, radians from the vertical.
      at: position of the axis or the crease.
      amount: curvature per face box, or slope at a crease.
      torn: the corner that is missing, as (u sign, v sign, size), or None.
    """

    kind: str
    angle: float
    at: float
    amount: float
    torn: tuple[float, float, float] | None

    def height(self, u, v):
        """Returns the height towards the camera of the points u, v, and its slope across the axis."""
        across = np.cos(self.angle) * u + np.sin(self.angle) * v - self.at
        if self.kind == "flat":
            return 0.0 * u, 0.0 * u
        if self.kind == "folded":
            width = 0.03
            soft = np.sqrt(across * across + width * width)
            return self.amount * soft, self.amount * across / soft
        if self.kind == "curled":  # flat in the middle, rolled at one side
            past = np.maximum(across - 0.2, 0.0)
            return self.amount * past * past, 2.0 * self.amount * past
        return 0.5 * self.amount * across * across, self.amount * across


def draw_shape(rng, of: Paper, *, worn: bool = False) -> Shape:
    """Draws the shape of a sheet; stiff papers bend less. `worn`: half of the sheets are bent around a head."""
    if worn and rng.random() < 0.5:
        return Shape("bent", float(rng.normal(0.0, 0.1)), float(rng.normal(0.0, 0.05)), -rng.uniform(0.5, 1.8), None)
    kind = SHAPES[rng.choice(len(SHAPES), p=(0.3, 0.34, 0.14, 0.14, 0.08))]
    amount = rng.choice((-1.0, 1.0)) * optics.log_uniform(rng, 0.12, 0.9) * (1.1 - of.values["stiff"])
    angle = rng.normal(0.0, 0.35) + (np.pi / 2 if rng.random() < 0.25 else 0.0)
    torn = None
    if kind == "torn" or rng.random() < 0.08:
        torn = (rng.choice((-1.0, 1.0)), rng.choice((-1.0, 1.0)), rng.uniform(0.2, 0.8))
    if kind == "torn":
        kind = "bent"
    return Shape(kind, float(angle), float(rng.uniform(-0.5, 0.5)), float(amount), torn)
