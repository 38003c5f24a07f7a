"""Cameras: families of phones, webcams and others, and the way from linear light to an 8-bit picture.

A picture is simulated at `share` of the sensor's resolution where that would exceed what the crop keeps: blur,
sharpening and noise, which are in sensor pixels, shrink with it, and the Bayer pattern is left out below 0.7.
"""

import dataclasses

import cv2
import numpy as np

from input_pipeline.simulate.devices import optics

FAMILIES = ("phone", "selfie", "webcam", "laptop", "action", "security")
PER_SPLIT = {"train": range(360), "dev": range(360, 480), "test": range(480, 600)}  # numbers; the family is number % 6
SKIN = np.array([1.20, 0.97, 0.83], np.float32)  # the mean colour that white balance expects of a picture of a face
# Ranges by family, in FAMILIES' order. `blur`: of the lens, sensor pixels; `denoise`, `sharpen`: strength; `radius`: of
# sharpening, sensor pixels; `gain`: of noise; `local`: local tone mapping; `levels`: automatic contrast; `contrast`: of
# the tone curve; `beauty`: smoothing of skin; `balance`: of white; `veil`: glare; `face`: pixels that a face spans.
RANGES = {
    "blur": ((0.3, 0.8), (0.4, 1.0), (0.5, 1.5), (0.6, 1.6), (0.5, 1.3), (0.6, 1.8)),
    "gain": ((0.2, 1.0), (0.4, 1.6), (0.8, 3.0), (1.0, 3.5), (0.5, 2.0), (1.0, 4.0)),
    "denoise": ((0.3, 1.0), (0.4, 1.0), (0.0, 0.9), (0.0, 0.9), (0.2, 0.9), (0.2, 1.0)),
    "sharpen": ((0.2, 1.2), (0.0, 0.9), (0.0, 1.4), (0.0, 1.0), (0.4, 1.8), (0.2, 1.8)),
    "radius": ((0.8, 1.6), (0.8, 2.0), (0.9, 2.2), (0.9, 2.2), (0.8, 1.8), (1.0, 2.6)),
    "local": ((0.1, 0.5), (0.1, 0.5), (0.0, 0.2), (0.0, 0.2), (0.0, 0.4), (0.0, 0.5)),
    "contrast": ((0.7, 1.3), (0.6, 1.2), (0.6, 1.4), (0.6, 1.3), (0.8, 1.5), (0.6, 1.4)),
    "beauty": ((0.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.5), (0.0, 0.0), (0.0, 0.0)),
    "saturation": ((0.85, 1.25), (0.8, 1.2), (0.6, 1.2), (0.6, 1.1), (0.9, 1.4), (0.4, 1.1)),
    "balance": ((0.6, 0.95), (0.6, 0.95), (0.3, 0.95), (0.3, 0.9), (0.4, 0.9), (0.2, 0.9)),
    "black": ((-0.02, 0.01), (-0.02, 0.02), (-0.03, 0.05), (-0.02, 0.05), (-0.04, 0.02), (-0.03, 0.05)),
    "levels": ((0.3, 1.0), (0.2, 1.0), (0.0, 1.0), (0.0, 1.0), (0.2, 1.0), (0.0, 1.0)),
    "veil": ((0.0, 0.02), (0.0, 0.03), (0.0, 0.06), (0.0, 0.05), (0.0, 0.03), (0.0, 0.05)),
    "vignette": ((0.0, 0.15), (0.0, 0.2), (0.0, 0.25), (0.0, 0.2), (0.0, 0.3), (0.0, 0.3)),
    "face": ((50.0, 700.0), (80.0, 700.0), (50.0, 320.0), (60.0, 360.0), (50.0, 300.0), (50.0, 220.0)),
}


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera model: its name, family and the centre of each of its parameters (`RANGES`); [C]."""

    name: str
    family: str
    values: dict[str, float]


def camera(number: int) -> Camera:
    """Returns camera `number` (from 0); equal numbers give equal cameras."""
    rng, column = optics.generator(0xCA3E7A, number), number % len(FAMILIES)
    values = {name: float(rng.uniform(*rows[column])) for name, rows in RANGES.items() if name != "face"}
    family = FAMILIES[column]
    return Camera(f"{family}{number:03d}", family, values | {"tint": float(rng.normal(0.0, 0.03))})


def face_pixels(rng, of: Camera) -> float:
    """Draws how many pixels of the sensor the face spans."""
    return optics.log_uniform(rng, *RANGES["face"][FAMILIES.index(of.family)])


def photograph(light: np.ndarray, of: Camera, rng, *, share: float = 1.0) -> np.ndarray:
    """Takes a picture uint8 [h, w, 3] of linear light [h, w, 3] that falls on this part of the sensor.

    share: pixels of `light` per pixel of the sensor, at most 1. The errors of focus, exposure and white balance are
    drawn from the same ranges for every camera and subject.
    """
    v = of.values
    height, width = light.shape[:2]
    light = _through_lens(light, v, rng, share)
    level = _metered(light)
    light = light * (_gains(light, v, rng) * (level * 2.0 ** _exposure_error(rng)))
    amount = v["gain"] * optics.log_uniform(rng, 0.5, 2.5)
    raw = _sensor(light, amount * share, rng, bayer=share > 0.7)
    shot = _denoised(raw, v["denoise"] * rng.uniform(0.5, 1.2), amount * share, share)
    if (local := v["local"] * rng.uniform(0.5, 1.5)) > 0.03:
        shot = _local_tone(shot, local)
    shot = _levelled(shot, v["levels"] * rng.uniform(0.0, 1.0))
    grey = optics.luma(shot)[..., None]
    shot = grey + v["saturation"] * rng.uniform(0.85, 1.15) * (shot - grey)
    shot = optics.curve(_tone_curve(v, rng), shot)
    if v["beauty"] > 0.3 and rng.random() < 0.7:
        radius = max(1, round(0.015 * max(height, width)))
        shot = shot + v["beauty"] * (optics.smooth(shot, radius, 0.06 * v["beauty"]) - shot)
    sigma = v["radius"] * share
    if sigma > 0.3:
        halo = shot - optics.blur(shot, sigma)
        shot = shot + v["sharpen"] * rng.uniform(0.5, 1.3) * np.clip(halo, -0.12, 0.12)
    return cv2.convertScaleAbs(np.clip(shot, 0.0, 1.0), alpha=255.0)


def _through_lens(light, v, rng, share):
    """Lens blur, defocus, motion, vignette and veiling glare."""
    sigma = v["blur"] * share * rng.uniform(0.8, 1.3)
    if rng.random() < 0.25:
        sigma += optics.log_uniform(rng, 0.3, 2.0) * min(1.0, light.shape[0] / 160.0)
    light = optics.blur(light, sigma)
    if rng.random() < 0.2:
        light = optics.motion(light, rng.uniform(1.5, 6.0) * min(1.0, light.shape[0] / 160.0), rng.uniform(0, np.pi))
    mean = np.minimum(cv2.resize(light, (32, 32), interpolation=cv2.INTER_AREA), 4.0).mean((0, 1))
    light = light + v["veil"] * rng.uniform(0.0, 2.0) * mean
    if v["vignette"] > 0.02:
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) ** 2 for n in light.shape[:2])
        at = rng.uniform(-0.3, 0.3)
        light = light * (1.0 - 0.5 * v["vignette"] * (y[:, None] + x + at).clip(0.0))[..., None]
    return light


def _metered(light):
    """Returns the factor by which automatic exposure brings the middle of the picture to a medium grey."""
    small = optics.luma(cv2.resize(light, (24, 24), interpolation=cv2.INTER_AREA))
    line = np.linspace(-1, 1, 24)
    weight = np.exp(-0.5 * (line**2 + line[:, None] ** 2) / 0.45**2)
    middle = np.exp((weight * np.log(small + 1e-3)).sum() / weight.sum())
    return 0.20 / middle


def _exposure_error(rng):
    """Draws the error of automatic exposure in stops: normal with a deviation of 0.65, at most 1.5."""
    return float(np.clip(rng.normal(0.0, 0.65), -1.5, 1.5))


def _gains(light, v, rng):
    """Draws the gains of white balance [3]."""
    small = cv2.resize(light, (32, 32), interpolation=cv2.INTER_AREA)
    mean = np.minimum(small, 8.0 * np.median(small)).mean((0, 1)) + 1e-4
    mean = mean / mean.mean() / SKIN
    gains = mean ** -min(1.0, v["balance"] * rng.uniform(0.7, 1.1))
    error = np.array([1.0, 0.0, -1.0]) * (rng.normal(0.0, 0.07) + v["tint"])
    gains = gains * np.exp(error + np.array([-0.5, 1.0, -0.5]) * rng.normal(0.0, 0.025))
    return (gains / (gains @ optics.LUMA)).astype(np.float32)


def _sensor(light, amount, rng, bayer):
    """Shot noise, read noise and clipping; with `bayer` each pixel measures one colour, and two are interpolated."""
    grain = optics.noise(rng, *light.shape[:2])
    raw = light + (0.012 * amount) * cv2.sqrt(np.maximum(light, 0.0) + 0.02) * grain
    raw = np.clip(raw, 0.0, 1.0)
    if not bayer:
        return raw
    mosaic = raw[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = raw[::2, ::2, 0], raw[1::2, 1::2, 2]
    code = (cv2.sqrt(mosaic) * 65535.0).astype(np.uint16)
    pattern = cv2.COLOR_BayerRGGB2RGB_EA if rng.random() < 0.6 else cv2.COLOR_BayerRGGB2RGB
    return (cv2.cvtColor(code, pattern).astype(np.float32) / 65535.0) ** 2


def _denoised(raw, strength, amount, share):
    """Smooths chroma more than luminance, with strength in [0, 1.2]."""
    if strength < 0.05:
        return raw
    grey = optics.luma(raw)[..., None]
    chroma = optics.blur(raw - grey, 1.6 * strength * max(share, 0.4))
    if strength > 0.35:
        fine = optics.smooth(cv2.sqrt(np.maximum(grey, 0.0)), 2, 0.012 * amount * strength + 0.004)
        grey = (fine * fine)[..., None]
    return np.maximum(grey + chroma, 0.0)


def _local_tone(shot, strength):
    """Brightens dark regions and darkens bright ones."""
    small = optics.luma(cv2.resize(shot, (32, 32), interpolation=cv2.INTER_AREA))
    base = optics.blur(np.log(small + 0.02), 3.0)
    gain = np.exp(-strength * (base - base.mean())).astype(np.float32)
    return shot * cv2.resize(gain, shot.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]


def _levelled(shot, strength):
    """Automatic contrast: takes the darkest light for black, and the lightest for white where nothing is burnt."""
    if strength < 0.05:
        return shot
    small = optics.luma(cv2.resize(shot, (32, 32), interpolation=cv2.INTER_AREA))
    low, high = np.percentile(small, (2, 98))
    black = 0.9 * strength * low
    return (shot - black) * (1.0 / (1.0 - black + strength * (min(high, 1.0) - 1.0 + 0.1) * (high < 0.9)))


def _tone_curve(v, rng):
    """Returns the tone curve: sRGB, an S of the drawn contrast around a medium grey, and a black point."""
    bent = optics.s_curve(optics.srgb(optics.steps()), v["contrast"] * optics.log_uniform(rng, 0.75, 1.35))
    black = v["black"] + rng.uniform(-0.03, 0.03)
    return (black + (1.0 - black) * bent).astype(np.float32)
