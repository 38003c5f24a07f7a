"""One presentation, from its name to its picture: a face before a camera, or a face, camera, instrument and camera.

The set is shaped like OULU-NPU: six phones, three sessions, five accesses (1 live, 2 and 3 prints by two printers, 4
and 5 replays on two displays). Every key comes from what it describes (the user alone for the identity; user and
session for clothes, room and light; the video; the frame), and live faces and attacks draw from the same ranges.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate import camera, face, instruments
from input_pipeline.simulate.noise import draw, fold
from input_pipeline.simulate.person import CLOTHES, moment, person

PHONES, SESSIONS, ACCESSES, USERS = 6, 3, 5, 55
CHUNK = 8  # pictures compiled together; results do not depend on how a request is split into chunks
SMALLEST = 32  # side of a picture in pixels

# Light by session: an office lamp from ahead, a window at one side, a dim warm room [C].
LIGHT = {
    "across": ((-0.5, 0.5), (0.5, 1.1), (-0.8, 0.8)),  # direction of the lamp, against 1 towards the camera
    "down": ((-0.7, -0.2), (-0.4, 0.1), (-1.2, -0.6)),
    "level": ((0.7, 0.9), (0.8, 1.1), (0.45, 0.65)),
    "warmth": ((-0.08, 0.08), (-0.22, -0.02), (0.12, 0.32)),
    "sky": ((0.30, 0.50), (0.18, 0.35), (0.10, 0.22)),
    "sky_warmth": ((-0.08, 0.08), (0.0, 0.2), (0.05, 0.25)),
}


def draw_light(key, session) -> dict:
    """The light of a session (1 to 3): unit `direction` [3] of the lamp, colours `key` [3] of it and `ambient` [3]."""
    ranges = {name: jnp.array(rows)[session - 1] for name, rows in LIGHT.items()}
    v = draw(key, dict.fromkeys(LIGHT, (0.0, 1.0)) | {"mirror": (-1.0, 1.0)})
    v |= {name: low + (high - low) * v[name] for name, (low, high) in ranges.items()}
    direction = jnp.stack([v["across"] * jnp.sign(v["mirror"]), v["down"], jnp.ones_like(v["down"])])
    tint = jnp.array([1.0, 0.0, -1.0])
    return {
        "direction": direction / jnp.linalg.norm(direction),
        "key": v["level"] * (1.0 + v["warmth"] * tint),
        "ambient": v["sky"] * (1.0 + v["sky_warmth"] * tint),
    }


def parameters(user, phone, session, access, frame, *, seed) -> dict:
    """Everything drawn for one picture, as nested dicts of scalars and small arrays; all arguments are integers.

    `who`, `clothes` and `room` (a key) depend on the user and session; `light`, `now` (pose, framing, expression) and
    `camera` are those of the picture, whatever its access; `source_light`, `source_camera` and `tool` describe how the
    picture that an attack shows came about. A printed picture keeps its pose through the frames of a video.
    """
    home = fold(seed, 1, user, session)
    video = fold(seed, 2, user, phone, session, access)
    printed, replayed = (access == 2) | (access == 3), access >= 4
    return {
        "who": person(fold(seed, 0, user)),
        "clothes": draw(fold(home, 0), CLOTHES),
        "room": fold(home, 1, phone),
        "light": draw_light(fold(video, 1), session),
        "source_light": draw_light(fold(video, 2), session),
        "now": moment(fold(video, 0), frame, jnp.where(printed, 0, frame)),
        "camera": camera.draw_phone(fold(video, 3), phone),
        "source_camera": camera.draw_source(fold(video, 4)),
        "tool": instruments.draw_instrument(
            fold(video, 5), replayed, jnp.where(replayed, access - 3, access - 1).clip(1, 2)
        ),
        "source_noise": fold(video, 6, frame),
        "noise": fold(video, 7, frame),
    }


# Four stages, compiled apart: together they took XLA minutes where they take seconds each, and the camera serves twice.
@jax.jit
def _draw(numbers, seed):
    return jax.vmap(lambda *n: parameters(*n, seed=seed))(*numbers)


@functools.partial(jax.jit, static_argnames="size")
def _light(p, attack, size):
    """The head [n, size, size, 3] in linear light, and the room behind it."""

    def one(p, attack):
        room = face.backdrop(p["room"], size, 1.6 * p["light"]["ambient"] + 0.3 * p["light"]["key"])
        light = jax.tree.map(lambda a, b: jnp.where(attack, a, b), p["source_light"], p["light"])
        return face.render(p["who"], p["now"], p["clothes"], light, room, size), room

    return jax.vmap(one)(p, attack)


_photograph = jax.jit(jax.vmap(camera.photograph))
_present = jax.jit(jax.vmap(instruments.present))


@jax.jit
def _blend(live, shown, amount):
    return jnp.maximum(live + amount[:, None, None, None] * (shown - live), 0.0)


def _pictures(numbers, size, seed, cue):
    """One chunk of pictures, encoded, [n, size, size, 3] in [0, 1]."""
    p, attack = _draw(numbers, seed), numbers[3] > 1
    live, room = _light(p, attack, size)
    shot = _photograph(live, p["source_camera"], p["source_noise"])
    shown = _present(shot, p["tool"], p["light"], room)
    return _photograph(_blend(live, shown, jnp.where(attack, cue, 0.0)), p["camera"], p["noise"])


def render(user, phone, session, access, frame=0, *, size: int = 96, seed: int = 0, cue: float = 1.0) -> np.ndarray:
    """Pictures of presentations: uint8 [n, size, size, 3], RGB, face crops of about 1.3 x the face box.

    `user` (1 to 55), `phone` (1 to 6), `session` (1 to 3), `access` (1 live, 2-3 print, 4-5 replay) and `frame` (from
    0) are integers or integer arrays that broadcast to [n]. The same arguments give the same bytes, however they are
    batched. `cue` blends between the bare face (0: an attack looks live) and the full attack (1). Raises ValueError
    for a number out of range or a size below 32.
    """
    numbers = np.broadcast_arrays(*(np.atleast_1d(a) for a in (user, phone, session, access, frame)))
    for name, values, high in zip(
        ("user", "phone", "session", "access"), numbers, (USERS, PHONES, SESSIONS, ACCESSES), strict=False
    ):
        if values.size and (values.min() < 1 or values.max() > high):
            raise ValueError(f"simulate.render: {name} must be in 1..{high}, got {values.min()}..{values.max()}")
    if size < SMALLEST:
        raise ValueError(f"simulate.render: size must be at least {SMALLEST} pixels, got {size}")
    count = numbers[0].size
    padded = [np.resize(a, -(-count // CHUNK) * CHUNK).astype(np.int32) for a in numbers]
    out = [
        np.asarray(camera.to_bytes(_pictures([a[i : i + CHUNK] for a in padded], size, seed, cue)))
        for i in range(0, count, CHUNK)
    ]
    return np.concatenate(out)[:count] if out else np.zeros((0, size, size, 3), np.uint8)
