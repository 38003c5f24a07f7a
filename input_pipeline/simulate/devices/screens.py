"""Displays: phones, tablets, laptops and monitors with their sub-pixels, frames and glass."""

import dataclasses

import cv2
import numpy as np

from input_pipeline.simulate.devices import optics

KINDS = ("phone", "oled_phone", "tablet", "laptop", "monitor", "cheap_tablet", "oled_tablet", "old_monitor")
PER_SPLIT = {"train": range(384), "dev": range(384, 512), "test": range(512, 640)}  # numbers; the kind is number % 8
OLED = ("oled_phone", "oled_tablet")
PHONES = ("phone", "oled_phone")
# Ranges by kind. `pitch`: pixels of the display per face box; `white`: luminance of white relative to a white card in a
# room of medium light; `black`: light that the panel leaks; `gamut`; `contrast`; `blue`: of white; `mirror`: the
# share of Fresnel's reflection that the glass leaves; `rough`: blur of the mirrored room (anti-glare); `bezel`: width
# in face boxes; `fall`: loss of contrast at an angle; `bands`: refresh; `grid`: strength of the black matrix.
RANGES = {
    "pitch": ((180, 600), (220, 700), (180, 500), (110, 330), (80, 260), (110, 260), (200, 500), (60, 180)),
    "white": ((0.7, 3.5), (0.7, 4.0), (0.6, 3.0), (0.5, 2.5), (0.6, 2.5), (0.5, 2.0), (0.6, 3.0), (0.4, 1.6)),
    "black": (
        (0.0007, 0.002), (0.0, 0.0001), (0.0008, 0.002), (0.001, 0.004), (0.0008, 0.003), (0.002, 0.008), (0.0, 0.0001),
        (0.003, 0.015),
    ),
    "gamut": ((0.9, 1.1), (1.0, 1.35), (0.9, 1.15), (0.65, 1.0), (0.8, 1.1), (0.6, 0.9), (1.0, 1.3), (0.7, 0.95)),
    "contrast": ((0.9, 1.3), (0.9, 1.5), (0.9, 1.3), (0.75, 1.3), (0.8, 1.4), (0.7, 1.3), (0.9, 1.4), (0.7, 1.4)),
    "blue": (
        (-0.02, 0.10), (-0.05, 0.06), (-0.04, 0.10), (-0.02, 0.14), (-0.05, 0.14), (0.0, 0.18), (-0.05, 0.08),
        (-0.02, 0.2),
    ),
    "mirror": ((0.3, 1.0), (0.3, 1.0), (0.3, 1.0), (0.2, 1.0), (0.15, 0.6), (0.6, 1.0), (0.3, 1.0), (0.15, 0.5)),
    "rough": ((0.0, 0.08), (0.0, 0.08), (0.0, 0.1), (0.0, 0.7), (0.3, 0.8), (0.0, 0.1), (0.0, 0.1), (0.4, 0.8)),
    "bezel": ((0.03, 0.16), (0.02, 0.08), (0.08, 0.3), (0.06, 0.3), (0.04, 0.3), (0.15, 0.4), (0.05, 0.15), (0.1, 0.4)),
    "fall": ((0.0, 0.3), (0.0, 0.15), (0.0, 0.3), (0.2, 0.9), (0.0, 0.4), (0.3, 1.0), (0.0, 0.15), (0.2, 0.9)),
    "bands": ((0.0, 0.04), (0.0, 0.14), (0.0, 0.05), (0.0, 0.06), (0.0, 0.06), (0.0, 0.12), (0.0, 0.10), (0.0, 0.10)),
    "grid": ((0.5, 0.9), (0.6, 1.0), (0.5, 0.9), (0.6, 1.0), (0.6, 1.0), (0.7, 1.0), (0.6, 1.0), (0.7, 1.0)),
    "halo": ((0.0, 0.4), (0.0, 0.5), (0.0, 0.4), (0.0, 0.3), (0.0, 0.6), (0.0, 0.6), (0.0, 0.4), (0.0, 0.9)),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Screen:
    """A display: its name, kind, parameters (`RANGES`) and the lightness of its frame; [C]."""

    name: str
    kind: str
    values: dict[str, float]
    frame: float


def screen(number: int) -> Screen:
    """Returns instrument `number` (from 0); equal numbers give equal instruments."""
    rng, column = optics.generator(0x5C2EE9, number), number % len(KINDS)
    values = {name: float(rng.uniform(*rows[column])) for name, rows in RANGES.items()}
    frame = optics.log_uniform(rng, 0.02, 0.08) if rng.random() < 0.75 else rng.uniform(0.3, 0.85)
    return Screen(f"{KINDS[column]}{number:03d}", KINDS[column], values, float(frame))


def shown(code: np.ndarray, of: Screen, face: float, rng) -> np.ndarray:
    """Returns the light float32 [h, w, 3] of a photograph uint8 on the panel, 1 for full drive, before its sub-pixels.

    face: pixels of the photograph per face box.
    """
    v = of.values
    linear = optics.decode(code)
    if (sigma := 0.35 * face / v["pitch"]) > 0.2:
        linear = optics.blur(linear, sigma)
    if v["halo"] > 0.1:
        linear = np.maximum(linear + v["halo"] * (linear - optics.blur(linear, 0.012 * face + 0.6)), 0.0)
    linear = optics.curve(optics.tone(v["contrast"] * rng.uniform(0.95, 1.3), rng.normal(0.0, 0.1)), linear)
    grey = optics.luma(linear)[..., None]
    linear = np.clip(grey + v["gamut"] * (linear - grey), 0.0, 1.0)
    blue = v["blue"] + (rng.uniform(-0.25, 0.0) if rng.random() < 0.15 else 0.0)  # night mode
    return (linear * np.array([1.0 - 0.5 * blue, 1.0, 1.0 + blue], np.float32)).astype(np.float32)


def interface(code: np.ndarray, rng) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Draws what a display shows around a photograph: bars, a status line, buttons, text.

    Returns the picture uint8 that is larger than `code`, and the share of its sides at left, top, right, bottom.
    """
    height, width = code.shape[:2]
    bars = [round(a * height) for a in (rng.uniform(0.1, 0.9, 2) * (rng.random(2) < 0.8))]
    sides = [round(a * width) for a in (rng.uniform(0.05, 0.6, 2) * (rng.random() < 0.3))]
    paint = rng.choice((0, 0, 18, 245, 255, 120))
    out = cv2.copyMakeBorder(code, *bars, *sides, cv2.BORDER_CONSTANT, value=(int(paint),) * 3)
    ink = 235 if paint < 128 else 40
    for top, bottom in ((0, bars[0]), (bars[0] + height, out.shape[0])):
        y = top + 4
        while y < bottom - 4 and rng.random() < 0.8:
            step, x = int(rng.integers(4, 12)), int(rng.integers(2, 12))
            while x < out.shape[1] - 8:
                length = int(rng.integers(3, 30))
                tone = int(np.clip(ink + rng.integers(-60, 60), 0, 255))
                cv2.rectangle(out, (x, y), (min(x + length, out.shape[1] - 3), y + step // 2), (tone,) * 3, -1)
                x += length + int(rng.integers(2, 40))
            y += step + int(rng.integers(2, 20))
    total_h, total_w = out.shape[:2]
    return out, (sides[0] / total_w, bars[0] / total_h, sides[1] / total_w, bars[1] / total_h)


def subpixels(of: Screen, u: np.ndarray, v: np.ndarray, seen) -> np.ndarray | float:
    """Returns factors [h, w, 3] of mean 1: stripes of an LCD, or the diamonds of an OLED's PenTile.

    u, v and `seen` as in `papers.dotted`. PenTile has half as many red and blue sub-pixels as green, in a chequerboard.
    """
    pitch, grid = of.values["pitch"], of.values["grid"]
    first = grid * seen(pitch)
    if first < 0.004:
        return 1.0
    x, y = (2.0 * np.pi * pitch) * u, (2.0 * np.pi * pitch) * v
    if of.kind not in OLED:
        second = 0.7 * grid * seen(2.0 * pitch)
        line = 1.0 + 0.6 * first * np.cos(y)
        out = np.empty((*u.shape, 3), np.float32)
        for channel, phase in enumerate((-2.0944, 0.0, 2.0944)):
            out[..., channel] = 1.0 + 1.5 * first * np.cos(x - phase)
            if second > 0.01:
                out[..., channel] += second * np.cos(2.0 * (x - phase))
        return out * line[..., None]
    half = 0.9 * grid * seen(0.7071 * pitch)
    a, b = np.cos(0.5 * (x + y)), np.cos(0.5 * (x - y))
    green = 1.0 + 0.8 * first * (np.cos(x) + np.cos(y))
    return np.maximum(np.stack([1.0 + half * (a + b), green, 1.0 - half * (a + b)], -1), 0.0).astype(np.float32)
