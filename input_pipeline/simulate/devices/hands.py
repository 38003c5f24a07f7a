"""Fingers that hold an instrument: tapered, rounded at the tip, with joints and nails, lit by the room."""

import cv2
import numpy as np

from input_pipeline.simulate.devices import framing, optics

LENGTHS = (0.34, 0.42, 0.46, 0.42, 0.33)  # thumb to little finger as seen beyond the edge, in hand units
WIDTHS = (0.075, 0.062, 0.064, 0.060, 0.052)  # half widths at the root
NAIL = np.array([1.12, 1.02, 1.0], np.float32)


def held(light, lit, room, frame: framing.Frame, rng, *, share):
    """Draws fingers over the light [h, w, 3] of an instrument; also returns their share of each pixel.

    lit: light on the instrument [h, w, 3]. room: the Shot whose person holds it, and whose skin it is. The hand reaches
    in from a side of the crop or of the instrument.
    """
    total = np.zeros_like(share)
    skin = _skin(room)
    for _ in range(1 if rng.random() < 0.6 else 2):
        side = rng.integers(4)
        count = int(rng.integers(1, 5))
        thumb = rng.random() < 0.4
        scale = frame.face * optics.log_uniform(rng, 0.7, 2.2)  # photographs of faces are small
        root, inward = _root(share, side, scale, rng)
        if root is None:
            continue
        along = np.array([-inward[1], inward[0]])
        slant = rng.normal(0.0, 0.25)
        first = 0 if thumb else 1
        for number in range(first, min(first + (1 if thumb else count), 5)):
            turn = slant + 0.06 * (number - 2) + rng.normal(0.0, 0.04)
            c, s = np.cos(turn), np.sin(turn)
            direction = np.array([c * inward[0] - s * inward[1], s * inward[0] + c * inward[1]])
            start = root + along * (number - 2) * 0.135 * scale - direction * 0.3 * scale
            length = (LENGTHS[number] * rng.uniform(0.5, 1.0) + 0.3) * scale
            light, cover = _finger(light, lit, skin, (start, direction, length, WIDTHS[number] * scale), rng)
            total = np.maximum(total, cover)
    return light, total


def _skin(room):
    """Reflectance of skin [3], from the cheeks of the room's person relative to a white card."""
    x, y, side = framing.place(room.box)
    at = slice(int(y + 0.05 * side), int(y + 0.15 * side)), slice(int(x - 0.2 * side), int(x + 0.2 * side))
    colour = np.median(room.light[at].reshape(-1, 3), 0)
    lit = np.asarray(room.environment.irradiance(np.array([0.0, 0.0, 1.0], np.float32)), np.float32).reshape(3)
    return np.clip(colour / np.maximum(lit, 1e-3), 0.03, 0.8).astype(np.float32)


def _root(share, side, scale, rng):
    """Returns where a hand enters, pixels x, y, and the unit direction inwards; None where no instrument is there."""
    inward = np.array(((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0))[side])
    lines = share if side < 2 else share.T
    at = int(rng.integers(lines.shape[0]))
    inside = np.flatnonzero(lines[at] > 0.5)
    if inside.size == 0:
        return None, inward
    edge = inside[0] if side in (0, 2) else inside[-1]
    # From the instrument's edge, or, where it is outside, from the edge of the picture or beyond it.
    edge = float(edge) - (inward.sum()) * rng.uniform(0.0, 0.45) * scale
    return np.array([edge, at] if side < 2 else [at, edge], np.float64), inward


def _finger(light, lit, skin, of, rng):
    """Draws one finger: start, direction, length and half width in pixels."""
    start, direction, length, radius = of
    height, width = light.shape[:2]
    reach = length + 2 * radius
    corners = np.stack([start - 2 * radius, start + 2 * radius, start + reach * direction - 2 * radius,
                        start + reach * direction + 2 * radius])  # fmt: skip
    x0, y0 = np.clip(np.floor(corners.min(0)).astype(int), 0, (width, height))
    x1, y1 = np.clip(np.ceil(corners.max(0)).astype(int), 0, (width, height))
    cover = np.zeros((height, width), np.float32)
    if x1 <= x0 or y1 <= y0:
        return light, cover
    x, y = np.arange(x0, x1) - start[0], (np.arange(y0, y1) - start[1])[:, None]
    along, across = direction[0] * x + direction[1] * y, direction[0] * y - direction[1] * x
    part = np.clip(along / length, 0.0, 1.0)
    thick = radius * (1.0 - 0.22 * part + 0.06 * np.cos(2.0 * np.pi * (part * 2.2 + 0.1)))
    past = np.maximum(along - (length - 0.8 * radius), 0.0)
    away = np.hypot(across, past) / thick
    mask = np.clip((1.0 - away) * thick + 0.5, 0.0, 1.0).astype(np.float32)
    round_off = np.sqrt(np.clip(1.0 - away * away, 0.0, 1.0))
    shade = (0.35 + 0.65 * round_off) * (1.0 + 0.12 * across / thick * rng.choice((-1.0, 1.0)))
    crease = 1.0 - 0.18 * np.exp(-0.5 * (((part - 0.55) * length) / (0.12 * radius + 0.4)) ** 2)
    nail = np.clip(
        1.5 - 1.5 * np.hypot(across / (0.62 * thick), (along - length + 0.35 * radius) / (0.75 * radius)), 0, 1
    )
    paint = skin * (1.0 + (NAIL - 1.0) * nail[..., None] * 1.5)
    colour = paint * lit[y0:y1, x0:x1] * (shade * crease)[..., None]
    shadow = cv2.GaussianBlur(mask, (0, 0), max(0.25 * radius, 0.5))
    here = light[y0:y1, x0:x1] * (1.0 - 0.45 * shadow)[..., None]
    light = light.copy()
    light[y0:y1, x0:x1] = here + mask[..., None] * (colour - here)
    cover[y0:y1, x0:x1] = mask
    return light.astype(np.float32), cover
