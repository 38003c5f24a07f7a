"""Scenes: a person in the light of a place, as linear light that spans 2.7 face boxes, with its depth.

A scene depends on its user, its key and the seed alone: people on user and seed; light, room, pose, framing, expression
and clothes on the key. Live faces, the photographs that attacks show, and the places in which attacks are held are all
drawn here, from the same distribution. The ranges are our own choice [C].
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.capture.room import backdrop
from input_pipeline.simulate.noise import draw, fold
from input_pipeline.simulate.people import face, head, worn
from input_pipeline.simulate.people.attributes import attributes as attributes_of
from input_pipeline.simulate.people.person import CLOTHES, moment, person
from input_pipeline.simulate.wild import environments
from input_pipeline.simulate.wild.environments import Environment

SPAN = 2.7  # side of a scene / longer side of the face box
CHUNK = 8  # scenes per compiled call; results do not depend on the division into chunks
METRES = 0.2 / 1.8  # of a head unit: a face box is 1.8 units
CHEST, WALL = -0.9, -12.0  # depth of clothes and of the room, in head units
MIDDLE = np.array([[0.0, face.CENTRE_Y, face.PLANE]], np.float32)  # of the face box, in head coordinates
DISTANCE = 0.8  # metres from the camera to the middle of the head
FURNISHED = 0.7  # share of the scenes with furniture before the map, whose details are sharper than the map's
PITCH, ROLL = (-0.25, 0.25), (-0.08, 0.08)  # radians of the camera
VIEWS = (0.5, 1.2)  # radians of the width that the camera sees of the place


def _mouth_and_nose() -> np.ndarray:
    """Returns the vertices of the tip of the nose and of the corners of the mouth, left and right in the image."""
    lips = np.flatnonzero(head.REGION[:, head.WEIGHTS.index("lips")] > 0.5)
    across = head.MEAN[lips, 0]
    return np.array([head.MEAN[:, 2].argmax(), lips[across.argmin()], lips[across.argmax()]])


NOSE_AND_MOUTH = _mouth_and_nose()


@dataclasses.dataclass(frozen=True)
class Shot:
    """One scene of s x s pixels.

    Fields:
      light: float32 [s, s, 3], relative to a white card at the face that faces the camera; it has no upper limit.
      room: float32 [s, s, 3], the same light without the person.
      depth: float32 [s, s], metres from the camera.
      cover: float32 [s, s] in [0, 1], the person's share of a pixel.
      instrument: float32 [s, s] in [0, 1], the share of a worn mask; 0 for live faces.
      box: x, y, w, h of the face in pixels.
      landmarks: float32 [5, 2], as of `faces.Face`.
      environment: the light of the place.
    """

    light: np.ndarray
    room: np.ndarray
    depth: np.ndarray
    cover: np.ndarray
    instrument: np.ndarray
    box: tuple[float, float, float, float]
    landmarks: np.ndarray
    environment: Environment


def shoot(
    users: Sequence[int],
    keys: Sequence[int],
    *,
    size: int = 256,
    seed: int = 0,
    split: str = "train",
    masks: Sequence[dict[str, float]] | None = None,
    changes: Mapping[str, float] | None = None,
) -> list[Shot]:
    """Renders the scene of each user and key.

    split: selects the places, train, dev or test. masks: of each scene, the values of a `devices.masks.Mask` with the
    features of the user, which somebody wears. changes: values of `person.PERSON` or of a moment (`person.POSE`,
    `FRAMING`, `EXPRESSION`) in place of everybody's own; all else stays as it is. ValueError for an unknown one.
    """
    shots = []
    for start in range(0, len(users), CHUNK):
        part = slice(start, start + CHUNK)
        worn_here = None if masks is None else masks[part]
        who = _who(np.asarray(users[part]), np.asarray(keys[part]), seed, worn_here, changes or {})
        shots += _chunk(who, np.asarray(keys[part]), size, seed, split)
    return shots


def _who(users: np.ndarray, keys: np.ndarray, seed: int, masks, changes: Mapping[str, float]) -> tuple:
    """Returns person, moment, clothes and the room's key of each scene of a chunk, as `_people` does."""
    rows = np.resize(np.arange(len(users)), CHUNK)
    who, now, clothes, room_key = _people(users[rows].astype(np.uint32), keys[rows].astype(np.uint32), jnp.uint32(seed))
    for name, value in changes.items():
        if name not in who and name not in now:
            raise ValueError(f"simulate.wild: {name!r} is no part of a person or a moment: {', '.join([*who, *now])}")
        changed = who if name in who else now
        changed[name] = jnp.full_like(changed[name], value)
    if masks is not None:
        who = who | {"mask": jax.tree.map(lambda *of: np.array(of, np.float32)[rows], *masks)}
        who["glasses"], now = 0.0 * who["glasses"], now | {name: 0.0 * now[name] + v for name, v in worn.STILL.items()}
    return who, now, clothes, room_key


def _chunk(people: tuple, keys: np.ndarray, size: int, seed: int, split: str) -> list[Shot]:
    who, now, clothes, room_key = people
    places = [_place(int(key), seed, split, size) for key in keys]
    rows = np.resize(np.arange(len(keys)), CHUNK)
    light = jax.tree.map(lambda *of: np.stack(of)[rows], *(place.light() for place, *_ in places))
    behind = np.stack([view for _, view, _ in places])[rows]
    furnished = np.array([has for *_, has in places], np.float32)[rows]
    room = _rooms(room_key, behind, furnished, size)
    out = jax.tree.map(np.asarray, (room, *_heads(who, now, clothes, light, room, size)))
    return [_shot(*(a[i] for a in out), place) for i, (place, *_) in enumerate(places)]


def place(key: int, seed: int, split: str) -> Environment:
    """Returns the light of the scene with this key."""
    return environments.draw(_generator(key, seed), split)


def _generator(key: int, seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, 7, key))


def _place(key: int, seed: int, split: str, size: int) -> tuple[Environment, np.ndarray, bool]:
    """Draws the place of a scene: its light, what the camera sees of it [size, size, 3], whether it is furnished."""
    rng = _generator(key, seed)
    place = environments.draw(rng, split)
    angles = {"pitch": rng.uniform(*PITCH), "roll": rng.uniform(*ROLL)}
    view = place.view(size, size, rng.uniform(*VIEWS), **angles)
    return place, view.astype(np.float32), bool(rng.random() < FURNISHED)


@jax.jit
def _people(users, keys, seed):
    def one(user, key):
        video = fold(seed, 2, user, key)
        return person(fold(seed, 0, user)), moment(fold(video, 0), 0, 0), draw(fold(video, 1), CLOTHES), fold(video, 2)

    return jax.vmap(one)(users, keys)


def attributes(users: Sequence[int], keys: Sequence[int], *, seed: int = 0) -> list[dict[str, int]]:
    """Returns the attributes of the person of each scene, as of `people.attributes`, and Dark_Skin."""
    values = _attributes(np.asarray(users, np.uint32), np.asarray(keys, np.uint32), jnp.uint32(seed))
    values = {name: np.asarray(of) for name, of in values.items()}
    return [{name: int(of[i]) for name, of in values.items()} for i in range(len(users))]


@jax.jit
def _attributes(users, keys, seed):
    who, now, *_ = _people(users, keys, seed)
    dark = {"Dark_Skin": (who["tone"] >= 3.0).astype(jnp.int32)}
    return jax.vmap(attributes_of)(who, now) | dark


@functools.partial(jax.jit, static_argnames="size")
def _rooms(keys, behind, furnished, size):
    """Returns rooms [n, size, size, 3]: the view of the place, with furniture in its light where there is any."""

    def one(key, view, has):
        mean = view.mean((0, 1))
        things = backdrop(key, size, jnp.ones(3))
        shade = 0.3 + 0.7 * view / (mean + 1e-4)  # furniture takes half of its light from where it stands
        return view + has * (things * mean * jnp.minimum(shade, 3.0) - view)

    return jax.vmap(one)(keys, behind, furnished)


@functools.partial(jax.jit, static_argnames="size")
def _heads(who, now, clothes, light, room, size):
    """Returns scenes [n, size, size, 3] and their truth.

    The truth is points [n, 6, 2] in pixels (eyes, nose, corners of the mouth, middle of the face box), the depth of the
    heads [n, size, size] in head units, the share of a worn mask [n, size, size], and the side of the face box [n] in
    pixels.
    """
    now = now | {"zoom": now["zoom"] * 2 * face.HALF / 1.8 / SPAN}

    def one(who, now, clothes, light, room):
        points, turn = face.placed(who, now)
        cells = face.to_cells(points, now, size)
        groups = head.windows(head.QUADS, 2.0 * face.HALF / size)
        keys = head.rasterise(cells, points[:, 2], head.QUADS, groups, size)
        depth = jnp.where(keys > 0, head.depth_of(keys), WALL)
        marks = [points[jnp.array(head.EYES)], points[NOSE_AND_MOUTH], MIDDLE @ turn.T]
        marks = face.to_cells(jnp.concatenate(marks), now, size)
        side = 1.8 * size * now["zoom"] / (2 * face.HALF)
        covered = jnp.zeros_like(depth)
        if "mask" in who:
            y, x = (a.astype(jnp.float32) for a in jnp.mgrid[:size, :size])
            at = head.interpolate(jnp.asarray(head.MEAN), cells, head.QUADS, head.quad_of(keys), x, y)
            covered = worn.coverage(who["mask"], *jnp.moveaxis(at, -1, 0))[0] * (keys > 0)
        return face.render(who, now, clothes, light, room, size), marks, depth, covered, side

    return jax.vmap(one)(who, now, clothes, light, room)


def _shot(room, light, points, depth, covered, side, place: Environment) -> Shot:
    *marks, middle = points
    cover = (np.abs(light - room).max(-1) > 1e-4).astype(np.float32)
    height = np.where((cover > 0.5) & (depth <= WALL), CHEST, depth)
    eyes = sorted(marks[:2], key=lambda point: point[0])
    return Shot(
        light=light.astype(np.float32),
        room=room.astype(np.float32),
        depth=(DISTANCE - METRES * height).astype(np.float32),
        cover=cover,
        instrument=covered.astype(np.float32),
        box=(float(middle[0] - 0.4 * side), float(middle[1] - 0.5 * side), float(0.8 * side), float(side)),
        landmarks=np.stack([*eyes, *marks[2:]]).astype(np.float32),
        environment=place,
    )
