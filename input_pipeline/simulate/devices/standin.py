"""Scenes by the renderer of `scene` and its two lamps, until `wild.stage` renders people in real light.

It has the interface of `wild.stage`: `shoot` returns scenes that span 2.7 face boxes, as linear light in which a white
card that faces the camera is 1.
"""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate import scene
from input_pipeline.simulate.people import face, head

FULL = 2.7
CHUNK = 8
METRES = 0.2 / 1.8  # of a head unit: a face box is 1.8 units
CHEST, WALL = -0.9, -12.0  # depth of clothes and of the room, in head units


@dataclasses.dataclass(frozen=True)
class Environment:
    """The light of a room: two lamps, a sky, and a picture of the wall."""

    light: dict
    room: np.ndarray

    def irradiance(self, normal):
        """Returns the light on a white card with unit `normal` [..., 3] (x right, y down, z to the camera)."""
        up = 0.6 - 0.4 * normal[..., 1:2] + 0.15 * normal[..., 2:3]
        key = np.clip(normal @ self.light["direction"], 0.0, None)[..., None]
        return (up * self.light["ambient"] + key * self.light["key"]).astype(np.float32)

    def reflection(self, direction, level):
        """Returns the radiance from `direction` [..., 3], blurred by `level` in [0, 1]."""
        width = 0.02 + level * level
        spot = np.exp((direction @ self.light["direction"] - 1.0) / width)[..., None] / (width + 0.05)
        side = self.room.shape[0]
        x, y = (np.clip((0.5 * direction[..., i] + 0.5) * side, 0, side - 1).astype(int) for i in (0, 1))
        blurred = cv2.GaussianBlur(self.room, (0, 0), 0.5 + 0.2 * level * side)
        return (blurred[y, x] + spot * self.light["key"]).astype(np.float32)

    def view(self, height, width, field_of_view=0.9, pitch=0.0, roll=0.0):
        """Returns the empty room, linear light [height, width, 3]."""
        return cv2.resize(self.room, (width, height))


@dataclasses.dataclass(frozen=True)
class Shot:
    """One scene [s, s]: light, depth in metres, the person's share, a mask's share, box, landmarks, environment."""

    light: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    instrument: np.ndarray
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    environment: Environment


def _places(who, now, size):
    """Returns the eyes [2, 2] in pixels and the depth [size, size] of the head in head units, of one person."""
    points, _ = face.placed(who, now)
    cells = face.to_cells(points, now, size)
    groups = head.windows(head.QUADS, 2.0 * face.HALF / size)
    keys = head.rasterise(cells, points[:, 2], head.QUADS, groups, size)
    return face.to_cells(points[jnp.array(head.EYES)], now, size), jnp.where(keys > 0, head.depth_of(keys), WALL)


_placed = jax.jit(jax.vmap(_places, in_axes=(0, 0, None)), static_argnums=2)


def _rendered(users, keys, seed, size):
    rows = [np.resize(a, CHUNK).astype(np.int32) for a in (users, keys)]
    numbers = [rows[0], rows[1] % 6 + 1, (rows[0] + rows[1]) % 3 + 1, np.ones(CHUNK, np.int32), rows[1] // 6]
    p = scene._draw(numbers, jnp.uint32(seed), 0)
    p["now"]["zoom"] = p["now"]["zoom"] * 1.3 / FULL
    room = scene._rooms(p["room"], p["light"], size)
    eyes, depth = _placed(p["who"], p["now"], size)
    return jax.tree.map(np.asarray, (scene._heads(p["who"], p, p["light"], room, size), room, p["light"], eyes, depth))


def shoot(users, keys, *, size=256, seed=0, split="train", masks=None) -> list[Shot]:
    """Renders a scene for each user (1 to 999) and key; there are no masks, and the splits share their rooms."""
    shots = []
    for start in range(0, len(users), CHUNK):
        part = slice(start, start + CHUNK)
        out = _rendered(users[part], keys[part], seed, size)
        for i in range(len(users[part])):
            shots.append(_shot(*jax.tree.map(lambda a, i=i: a[i], out)))
    return shots


def _shot(light, room, lamps, eyes, depth) -> Shot:
    side = light.shape[0] / FULL
    middle = eyes.mean(0) + np.array([0.0, 0.1 * side])
    below = np.array([[0.0, 0.12], [-0.15, 0.3], [0.15, 0.3]]) * side + eyes.mean(0)
    cover = (np.abs(light - room).max(-1) > 1e-4).astype(np.float32)
    height = np.where((cover > 0.5) & (depth <= WALL), CHEST, depth)
    white = float(Environment(lamps, room).irradiance(np.array([0.0, 0.0, 1.0], np.float32)).mean())
    lamps = lamps | {name: lamps[name] / white for name in ("key", "ambient")}
    return Shot(
        light=(light / white).astype(np.float32),
        depth=(0.8 - METRES * height).astype(np.float32),
        cover=cover,
        instrument=np.zeros_like(cover),
        box=(middle[0] - 0.4 * side, middle[1] - 0.5 * side, 0.8 * side, side),
        landmarks=np.concatenate([eyes[np.argsort(eyes[:, 0])], below]).astype(np.float32),
        environment=Environment(lamps, (room / white).astype(np.float32)),
    )
