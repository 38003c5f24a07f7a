"""Light of real rooms and landscapes: environment maps with their real dynamic range (`bake`, environments.npz).

A map is divided into two lamps, which cast shadows, and the rest, whose irradiance is nine spherical harmonics
(Ramamoorthi and Hanrahan, An Efficient Representation for Irradiance Environment Maps, SIGGRAPH 2001). Directions are
unit vectors: x right, y down, z towards the camera. Light is relative to a white card at the face that faces the
camera. The splits, and how maps are drawn, are our own choice [C].
"""

import dataclasses
import functools
from pathlib import Path

import cv2
import numpy as np

from input_pipeline.simulate.capture.light import harmonics

FILE = Path(__file__).with_name("environments.npz")
NAMES = (
    "apartment", "bridge", "city", "dawn", "esplanade", "forest", "hall", "lab", "lobby", "night", "park", "sky",
    "studio", "sunrise", "sunset", "venice", "warehouse", "workshop",
)  # fmt: skip
# No light is in two splits. Each has rooms and landscapes, soft and hard light.
SPLITS = {
    "train": ("apartment", "bridge", "city", "esplanade", "forest", "lab", "night", "studio", "sunset", "venice"),
    "dev": ("dawn", "hall", "park", "warehouse"),
    "test": ("lobby", "sky", "sunrise", "workshop"),
}
STOPS = 27.0  # range of the code, from 2^-8 to 2^19 of the median, which holds the sun
DARKEST = -8.0
COARSE = (32, 64)  # px of the map from which irradiance is computed
LAMP = 0.20  # radians around the brightest point that count as a lamp
BLURS = (0.03, 0.10, 0.25, 0.6)  # radians of the blurred maps that gloss reads
# Largest ratio of background and white card [C]: a camera that meters the face is not pointed at the sun.
MOST_BEHIND = 12.0


def encode(radiance: np.ndarray) -> np.ndarray:
    """Codes radiance, relative to the median, as uint8: 255 steps of 27 stops."""
    stops = np.log2(np.maximum(radiance, 2.0**DARKEST))
    return np.round(255 * np.clip((stops - DARKEST) / STOPS, 0, 1)).astype(np.uint8)


def decode(code: np.ndarray) -> np.ndarray:
    """The inverse of `encode`; 0 is black."""
    return np.where(code > 0, 2.0 ** (code.astype(np.float32) / 255 * STOPS + DARKEST), 0).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Environment:
    """The light at a place: map number `index`, turned by `turn` radians about the vertical, `mirrored` or not."""

    index: int
    turn: float = 0.0
    mirrored: bool = False

    @functools.cached_property
    def _lights(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        """Returns the harmonics [9, 3] of the rest, directions [2, 3] and colours [2, 3] of the lamps, and the gain."""
        radiance, directions, colours = _divided(self.index)
        directions = self.turned(directions)
        rest = _coefficients(self.turned(map_directions(*COARSE)), radiance)
        card = np.array([[0.0, 0.0, 1.0]])
        level = (harmonics(card) @ rest)[0] + (np.maximum(directions[:, 2:], 0) * colours).sum(0)
        behind = np.percentile(self._sampled(camera_directions(24, 24, 0.9, 0, 0)).mean(-1), 75)
        gain = 1 / max(float(level.mean()), behind / MOST_BEHIND, 1e-3)
        return rest, directions, colours, gain

    @property
    def gain(self) -> float:
        """The factor from the map's radiance to light relative to a white card that faces the camera."""
        return self._lights[3]

    @property
    def name(self) -> str:
        """The name of the map."""
        return NAMES[self.index]

    def light(self) -> dict[str, np.ndarray]:
        """Returns the light as `light.draw_light` does, with the harmonics `sh` [9, 3] in place of its sky."""
        rest, directions, colours, gain = self._lights
        ambient = gain * np.maximum(rest[0], 0) * harmonics(np.array([[0.0, 0.0, 1.0]]))[0, 0]
        found = {
            "direction": directions[0],
            "key": gain * colours[0],
            "second_direction": directions[1],
            "second": gain * colours[1],
            "ambient": ambient,
            "size": np.float32(LAMP),
            "behind": ambient,
            "sh": gain * rest,
        }
        return {name: np.asarray(value, np.float32) for name, value in found.items()}

    def irradiance(self, normal: np.ndarray) -> np.ndarray:
        """Returns the light of a white card with unit `normal` [..., 3], without shadows: [..., 3]."""
        rest, directions, colours, gain = self._lights
        flat = np.asarray(normal, np.float64).reshape(-1, 3)
        total = np.maximum(harmonics(flat) @ rest, 0) + np.maximum(flat @ directions.T, 0) @ colours
        return (gain * total).reshape(*normal.shape).astype(np.float32)

    def reflection(self, direction: np.ndarray, level: float) -> np.ndarray:
        """Returns the light [..., 3] from `direction` [..., 3], blurred as by a surface of roughness `level` in
        [0, 1]."""
        blurred = _blurred(self.index)
        at = level * len(blurred)
        low = min(int(at), len(blurred) - 1)
        high = min(low + 1, len(blurred) - 1)
        first, second = (self._sampled(direction, blurred[which]) for which in (low, high))
        return ((first + (at - low) * (second - first)) * self.gain).astype(np.float32)

    def view(self, height: int, width: int, field_of_view: float = 0.9, pitch: float = 0.0, roll: float = 0.0):
        """Returns what a camera sees of the place, without a person: [height, width, 3].

        field_of_view: of the width, in radians. pitch, roll: of the camera, in radians.
        """
        return self.gain * self._sampled(camera_directions(height, width, field_of_view, pitch, roll))

    def turned(self, directions: np.ndarray) -> np.ndarray:
        """Turns unit vectors [..., 3] of the map into the camera's directions [..., 3]."""
        c, s = np.cos(self.turn), np.sin(self.turn)
        x, y, z = np.moveaxis(directions, -1, 0)
        across = c * x + s * z
        return np.stack([-across if self.mirrored else across, y, c * z - s * x], -1)

    def _sampled(self, directions: np.ndarray, image: np.ndarray | None = None) -> np.ndarray:
        """Samples the map, or `image` [h, w, 3], in the camera's `directions` [..., 3]."""
        image = radiance_maps()[self.index] if image is None else image
        x, y, z = np.moveaxis(np.asarray(directions, np.float64), -1, 0)
        azimuth = np.arctan2(-x if self.mirrored else x, z) - self.turn
        height, width = image.shape[:2]
        column = (azimuth / (2 * np.pi)) % 1.0 * width
        row = np.arccos(np.clip(-y, -1, 1)) / np.pi * height - 0.5
        at = [np.atleast_2d(a).astype(np.float32) for a in (column, row)]
        around = np.concatenate([image[:, -1:], image, image[:, :1]], 1)  # the map's ends meet
        found = cv2.remap(around, at[0] + 0.5, at[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return found.reshape(*directions.shape)


def draw(rng: np.random.Generator, split: str) -> Environment:
    """Draws the light of a scene, for live faces and for the rooms of attacks alike: each map and turn as often."""
    index = NAMES.index(SPLITS[split][rng.integers(len(SPLITS[split]))])
    return Environment(index, float(rng.uniform(0, 2 * np.pi)), bool(rng.random() < 0.5))


@functools.cache
def radiance_maps() -> np.ndarray:
    """Returns radiance float32 [n, 256, 512, 3], relative to each map's median."""
    with np.load(FILE) as stored:
        files = np.split(stored["files"], stored["ends"][:-1])
    return np.stack([decode(cv2.imdecode(file, cv2.IMREAD_COLOR_RGB)) for file in files])


@functools.cache
def _blurred(index: int) -> list[np.ndarray]:
    """Returns the map and its blurred versions, coarser from one to the next."""
    image = cv2.resize(radiance_maps()[index], (256, 128), interpolation=cv2.INTER_AREA)
    found = [image]
    for blur in BLURS:
        sigma = blur / np.pi * 128
        wide = cv2.copyMakeBorder(image, 0, 0, 128, 128, cv2.BORDER_WRAP)
        found.append(cv2.GaussianBlur(wide, (0, 0), sigma)[:, 128:-128])
    return found


@functools.cache
def _divided(index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the rest [32, 64, 3] of a map without its two lamps, and their directions [2, 3] and colours [2, 3].

    A lamp is what exceeds its surroundings near the brightest point; its colour is the light of a white card that
    faces it.
    """
    image = cv2.resize(radiance_maps()[index], (256, 128), interpolation=cv2.INTER_AREA)
    directions, solid = map_directions(128, 256), solid_angles(128, 256)
    lamps, colours = [], []
    for _ in range(2):
        level = image.mean(-1)
        brightest = directions.reshape(-1, 3)[(cv2.GaussianBlur(level, (0, 0), 2) * (solid[:, None] > 0)).argmax()]
        angle = np.arccos(np.clip(directions @ brightest, -1, 1))
        around = np.median(image[(angle > LAMP) & (angle < 2 * LAMP)], 0)
        excess = np.maximum(image - around, 0) * (angle < LAMP)[..., None]
        weights = excess.mean(-1) * solid[:, None]
        centre = (weights[..., None] * directions).sum((0, 1))
        lamps.append(centre / max(np.linalg.norm(centre), 1e-9) if weights.sum() > 0 else brightest)
        colours.append((excess * solid[:, None, None]).sum((0, 1)) / np.pi)
        image = image - excess
    rest = cv2.resize(image, COARSE[::-1], interpolation=cv2.INTER_AREA)
    return rest, np.stack(lamps), np.stack(colours)


def map_directions(height: int, width: int) -> np.ndarray:
    """Returns the unit vectors [height, width, 3] to the pixels of an equirectangular map."""
    down = (np.arange(height) + 0.5) / height * np.pi
    around = (np.arange(width) + 0.5) / width * 2 * np.pi
    ring = np.sin(down)[:, None]
    return np.stack([ring * np.sin(around), np.repeat(-np.cos(down)[:, None], width, 1), ring * np.cos(around)], -1)


def solid_angles(height: int, width: int) -> np.ndarray:
    """Returns the solid angle, in steradians, of a pixel in each row [height] of an equirectangular map."""
    edges = np.cos(np.linspace(0, np.pi, height + 1))
    return (edges[:-1] - edges[1:]) * 2 * np.pi / width


def camera_directions(height: int, width: int, field_of_view: float, pitch: float, roll: float) -> np.ndarray:
    """Returns the unit vectors [height, width, 3] in which the pixels of a camera look; angles as in `view`."""
    step = 2 * np.tan(field_of_view / 2) / width
    x = (np.arange(width) - (width - 1) / 2) * step
    y = (np.arange(height) - (height - 1) / 2) * step
    x, y = np.meshgrid(x, y)
    x, y = np.cos(roll) * x - np.sin(roll) * y, np.sin(roll) * x + np.cos(roll) * y
    y, z = np.cos(pitch) * y - np.sin(pitch), -np.cos(pitch) - np.sin(pitch) * y
    found = np.stack([x, y, z], -1)
    return found / np.linalg.norm(found, axis=-1, keepdims=True)


def _coefficients(directions: np.ndarray, radiance: np.ndarray) -> np.ndarray:
    """Returns the coefficients [9, 3] of `harmonics` for the light of a white card, from the map of `directions`."""
    solid = np.repeat(solid_angles(*COARSE), COARSE[1])
    bands = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)  # the cosine's bands, over pi
    found = (harmonics(directions.reshape(-1, 3)) * solid[:, None]).T @ radiance.reshape(-1, 3)
    return bands[:, None] * found
