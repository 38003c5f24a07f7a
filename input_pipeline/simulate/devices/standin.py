"""Whole scenes by the renderer of `scene`, until the scenes in real light exist."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate import scene
from input_pipeline.simulate.people import face, head

FULL = 2.7


@dataclasses.dataclass(frozen=True)
class Environment:
    name: str
    light: dict
    room: np.ndarray

    def irradiance(self, normal):
        up = 0.6 - 0.4 * normal[..., 1:2] + 0.15 * normal[..., 2:3]
        key = np.clip(normal @ self.light["direction"], 0, None)[..., None]
        return (up * self.light["ambient"] + key * self.light["key"]).astype(np.float32)

    def reflection(self, direction, level):
        off = 1.0 - direction @ self.light["direction"]
        width = 0.02 + level * level
        spot = np.exp(-off / width)[..., None] / (width + 0.05)
        row = np.clip((direction[..., 1] * 0.5 + 0.5) * self.room.shape[0], 0, self.room.shape[0] - 1).astype(int)
        col = np.clip((direction[..., 0] * 0.5 + 0.5) * self.room.shape[1], 0, self.room.shape[1] - 1).astype(int)
        return (self.room[row, col] + spot * self.light["key"]).astype(np.float32)

    def view(self, height, width, field_of_view=0.9, pitch=0.0, roll=0.0):
        import cv2

        return cv2.resize(self.room, (width, height))


@dataclasses.dataclass(frozen=True)
class Shot:
    light: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    instrument: np.ndarray
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    environment: Environment


@functools.partial(jax.jit, static_argnames="size")
def _eyes(who, now, size):
    def one(who, now):
        points, _ = face.placed(who, now)
        return face.to_cells(points[jnp.array(head.EYES)], now, size)

    return jax.vmap(one)(who, now)


def _render(users, keys, seed, size):
    rows = [np.resize(a, 8).astype(np.int32) for a in (users, keys)]
    numbers = [rows[0], rows[1] % 6 + 1, rows[1] % 3 + 1, np.ones(8, np.int32), rows[1] // 6]
    p = scene._draw(numbers, jnp.uint32(seed), 0)
    p["now"]["zoom"] = p["now"]["zoom"] * 1.3 / FULL
    room = scene._rooms(p["room"], p["light"], size)
    return scene._heads(p["who"], p, p["light"], room, size), room, p["light"], _eyes(p["who"], p["now"], size)


def shoot(users, keys, *, size=256, seed=0, split="train", masks=None):
    if len(users) > 8:
        return shoot(users[:8], keys[:8], size=size, seed=seed) + shoot(users[8:], keys[8:], size=size, seed=seed)
    out = jax.tree.map(np.asarray, _render(users, keys, seed, size))
    shots = []
    for i in range(len(users)):
        picture, room, light, eyes = jax.tree.map(lambda a, i=i: a[i], out)
        middle, gap = eyes.mean(0), np.abs(eyes[1, 0] - eyes[0, 0])
        side = size / FULL
        centre = middle + np.array([0.0, 0.1 * side])
        y, x = np.mgrid[:size, :size] / side
        r = np.hypot((x - centre[0] / side) / 0.45, (y - centre[1] / side) / 0.6)
        head_height = 0.1 * np.sqrt(np.clip(1 - r * r, 0, 1))
        cover = (np.abs(picture - room).max(-1) > 1e-4).astype(np.float32)
        depth = np.where(cover > 0.5, 0.7 - head_height, 3.0).astype(np.float32)
        box = (centre[0] - 0.4 * side, centre[1] - 0.5 * side, 0.8 * side, side)
        marks = np.concatenate(
            [eyes[np.argsort(eyes[:, 0])], centre + gap * np.array([[0, 0.1], [-0.35, 0.6], [0.35, 0.6]])]
        )
        environment = Environment(f"room{int(keys[i]) % 7}", light, room)
        shots.append(
            Shot(
                picture.astype(np.float32),
                depth,
                cover,
                np.zeros_like(cover),
                box,
                marks.astype(np.float32),
                environment,
            )
        )
    return shots
