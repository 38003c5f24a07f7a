"""Rendering of presentations: a face in front of a camera, or its photograph on an instrument in front of a second one.

The set has the structure of OULU-NPU: six phones, three sessions, five accesses (1 live, 2 and 3 prints by two
printers, 4 and 5 replays on two displays). The key of each draw derives from what it describes: the user for the
identity, user and session for clothes, user, session and phone for the room, the video, the frame. Live faces and
attacks draw from the same ranges. The photograph that an attack shows was taken in another room and in good light.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate import domains
from input_pipeline.simulate.capture import camera, instruments
from input_pipeline.simulate.capture.light import draw_light
from input_pipeline.simulate.capture.room import backdrop
from input_pipeline.simulate.noise import draw, fold
from input_pipeline.simulate.people import face
from input_pipeline.simulate.people.attributes import attributes as attributes_of
from input_pipeline.simulate.people.person import CLOTHES, moment, person

PHONES, SESSIONS, ACCESSES, USERS = 6, 3, 5, 55
PEOPLE = 999  # users beyond the 55 of OULU-NPU are further people
CHUNK = 8  # images per compiled call; results do not depend on the division into chunks
REQUEST = 64  # recommended number of images per request, for which most chunks are full
SMALLEST = 32  # smallest side of an image in pixels
GOOD_LIGHT = 7  # kind of `light.LIGHT` for the photographs that attacks show
# Errors of automatic exposure and white balance: factors on a camera's parameters, the same for live faces and attacks.
# Ranges twice as wide make the set harder (docs/simulator.md).
ERRORS = {
    "red": (0.93, 1.08),
    "blue": (0.88, 1.14),
    "brightness": (0.75, 1.35),
    "saturation": (0.92, 1.08),
    "contrast": (0.8, 1.24),
    "balance": (0.6, 1.0),
}


def parameters(user, phone, session, access, frame, *, seed, domain=0) -> dict:
    """Draws all parameters of one image, as nested dicts of scalars and small arrays; all arguments are integers.

    `who` depends on the user, `clothes` also on the session, `room` (a key) also on the phone (`_room`). `light`, `now`
    (pose, framing, expression) and `camera` belong to the image, for any access. `source_light`, `source_room`,
    `source_camera` and `tool` belong to the photograph that an attack shows and to its instrument. A print keeps its
    pose through the frames of a video. `attacker` is the person behind the holes of a cut-out, with the eyes at the
    holes. `domain` (0 to 4) is a position in `domains.DOMAINS`, and `seed` the seed of that domain (`seed_of_domain`).
    """
    home = fold(seed, 1, user, session)
    video = fold(seed, 2, user, phone, session, access)
    printed, replayed = (access == 2) | (access == 3), access >= 4
    who, now = person(fold(seed, 0, user)), moment(fold(video, 0), frame, jnp.where(printed, 0, frame))
    kind = jnp.asarray(domains.LIGHTS)[domain, session - 1]
    tool = instruments.draw_instrument(fold(video, 5), replayed, jnp.where(replayed, access - 3, access - 1).clip(1, 2))
    errors, phone_camera = draw(fold(video, 8), ERRORS), camera.draw_phone(fold(video, 3), phone)
    source_camera = camera.draw_source(fold(video, 4))
    source_camera |= {"balance": source_camera["balance"] * errors["balance"]}
    phone_camera |= {name: phone_camera[name] * factor for name, factor in errors.items()}
    return {
        "who": who,
        "attacker": person(fold(seed, 3, user)) | {"build": who["build"]},
        "clothes": draw(fold(home, 0), CLOTHES),
        "room": _room(seed, domain, session, fold(home, 1, phone)),
        "light": draw_light(fold(video, 1), kind),
        "source_light": draw_light(fold(video, 2), GOOD_LIGHT),
        "source_room": _room(seed, domain, session % SESSIONS + 1, fold(video, 9)),
        "now": now | {"zoom": now["zoom"] + jnp.asarray(domains.ZOOM)[domain]},
        "camera": domains.adapted(phone_camera, domains.CAMERA, domain),
        "source_camera": source_camera,
        "tool": domains.adapted(tool, domains.TOOL, domain),
        "source_noise": fold(video, 6, frame),
        "noise": fold(video, 7, frame),
    }


def _room(seed, domain, session, own):
    """Returns the key of a room: domains after the first have one room per session, as real sets; else `own`."""
    return jnp.where(domain > 0, fold(seed, 4, session), own)


def seed_of_domain(seed: int, domain: int):
    """Returns the seed, uint32, of a domain's people and images; domain 0 keeps `seed`."""
    return fold(seed, 99, domain) if domain else jnp.uint32(seed)


# The stages are compiled separately, each in seconds; together XLA took minutes.
@jax.jit
def draw_parameters(numbers, seed, domain):
    """Draws the `parameters` of n images at once: each leaf has a leading axis n.

    numbers: user, phone, session, access and frame, int32 [n] each. seed: of the domain (`seed_of_domain`).
    """
    return jax.vmap(lambda *n: parameters(*n, seed=seed, domain=domain))(*numbers)


_attributes = jax.jit(jax.vmap(attributes_of))


@functools.partial(jax.jit, static_argnames="size")
def render_rooms(keys, light, size):
    """Renders rooms [n, size, size, 3] in linear light, from their keys [n] and the `light` of n images."""
    return jax.vmap(lambda key, light: backdrop(key, size, light))(keys, light["behind"])


@functools.partial(jax.jit, static_argnames="size")
def render_heads(who, p, light, room, size):
    """Renders heads in front of rooms [n, size, size, 3]: [n, size, size, 3] in linear light.

    who: the people. p: the parameters of the images, of which pose and clothes are read. light: that of the heads.
    """
    return jax.vmap(functools.partial(face.render, size=size))(who, p["now"], p["clothes"], light, room)


@functools.partial(jax.jit, static_argnames="size")
def _holes(p, size):
    return jax.vmap(functools.partial(face.eye_holes, size=size))(p["who"], p["now"])


_first_photograph = jax.jit(jax.vmap(camera.photograph))


@jax.jit
def _present(shot, p, room):
    """Light of attacks on the sensor of the second camera, [n, OVERSAMPLE size, OVERSAMPLE size, 3]."""
    count = camera.OVERSAMPLE * shot.shape[1]

    def one(shot, p, room):
        lens = p["camera"]["blur"] * count / camera.REFERENCE
        return instruments.present(shot, p["tool"], p["light"], room, count, lens)

    return jax.lax.map(lambda picture: one(*picture), (shot, p, room))  # a map runs only the branch of each instrument


@jax.jit
def _before_sensor(live, tool):
    """Light of a live face on the sensor, through the same lens and from the same distance as an instrument."""
    count = camera.OVERSAMPLE * live.shape[1]
    return jax.vmap(lambda image, view: instruments.sample(image, *instruments.plane(view, count)))(live, tool)


_cut_out = jax.jit(jax.vmap(instruments.cut_out))


@functools.partial(jax.jit, static_argnames="size")
def _photograph(live, shown, amount, p, size):
    light = jnp.maximum(live + amount[:, None, None, None] * (shown - live), 0.0)
    shots = jax.vmap(functools.partial(camera.photograph, size=size))(light, p["camera"], p["noise"])
    return camera.to_bytes(shots)


def _first(attack, source, second):
    """Selects the parameters of each presentation's first photograph: `source` for attacks, else `second`."""
    return jax.tree.map(lambda a, b: jnp.where(attack.reshape(-1, *[1] * (a.ndim - 1)), a, b), source, second)


def _pictures(numbers, size, seed, domain, cue):
    """Renders one chunk of images, uint8 [n, size, size, 3]."""
    p, attack = draw_parameters(numbers, seed_of_domain(seed, domain), domain), numbers[3] > 1
    first = {name: _first(attack, p[f"source_{name}"], p[name]) for name in ("light", "room")}
    head = render_heads(p["who"], p, first["light"], render_rooms(first["room"], first["light"], size), size)
    live = _before_sensor(head, p["tool"])
    shown = live
    if attack.any():
        room = render_rooms(p["room"], p["light"], size)
        shown = _present(_first_photograph(head, p["source_camera"], p["source_noise"]), p, room)
        if cue < 1.0:  # the blend shows the bare face in front of this camera
            live = _before_sensor(render_heads(p["who"], p, p["light"], room, size), p["tool"])
        cut = (numbers[3] == domains.CUT[1]) & (domains.DOMAINS[domain] == domains.CUT[0])
        if cut.any():
            behind = _before_sensor(render_heads(p["attacker"], p, p["light"], room, size), p["tool"])
            holes = _before_sensor(_holes(p, size), p["tool"])[..., 0] * cut[:, None, None]
            shown = _cut_out(shown, behind, holes)
    return _photograph(live, shown, jnp.where(attack, cue, 0.0), p, size)


def render(
    user, phone, session, access, frame=0, *, size: int = 96, seed: int = 0, cue: float = 1.0, domain: int = 0
) -> np.ndarray:
    """Renders images of presentations: uint8 [n, size, size, 3], RGB, face crops of about 1.3 x the face box.

    `user` (1 to 999), `phone` (1 to 6), `session` (1 to 3), `access` (1 live, 2-3 print, 4-5 replay) and `frame` (from
    0) are integers or integer arrays that broadcast to [n]. Equal arguments give equal bytes in any batch. `cue` blends
    between the bare face (0: an attack looks live) and the full attack (1). `domain` (0 to 4) is a position in
    `domains.DOMAINS`. Raises ValueError for a number out of range or a size below 32.
    """
    numbers = _checked(user, phone, session, access, frame)
    if size < SMALLEST:
        raise ValueError(f"simulate.render: size must be at least {SMALLEST} pixels, got {size}")
    out = np.zeros((numbers[0].size, size, size, 3), np.uint8)
    for kind in (False, True):  # chunks without attacks skip the instrument
        rows = np.flatnonzero((numbers[3] > 1) == kind)
        for start in range(0, len(rows), CHUNK):
            chunk = rows[start : start + CHUNK]
            padded = [np.resize(a[chunk], CHUNK).astype(np.int32) for a in numbers]
            out[chunk] = _pictures(padded, size, seed, domain, cue)[: len(chunk)]
    return out


def attributes(user, phone=1, session=1, access=1, frame=0, *, seed: int = 0, domain: int = 0) -> dict[str, np.ndarray]:
    """Returns the attributes of the faces that `render` renders: {CelebA's name: int32 [n], 0 or 1}.

    Names: see `attributes.attributes`. Expressions belong to the image, all others to the user. Raises as `render`.
    """
    numbers = [a.astype(np.int32) for a in _checked(user, phone, session, access, frame)]
    p = draw_parameters(numbers, seed_of_domain(seed, domain), domain)
    return {name: np.asarray(value) for name, value in _attributes(p["who"], p["now"]).items()}


def _checked(*numbers) -> list[np.ndarray]:
    """Broadcasts user, phone, session, access and frame; ValueError names the one out of range."""
    numbers = np.broadcast_arrays(*(np.atleast_1d(a) for a in numbers))
    limits = {"user": PEOPLE, "phone": PHONES, "session": SESSIONS, "access": ACCESSES}
    for (name, high), values in zip(limits.items(), numbers, strict=False):
        if values.size and (values.min() < 1 or values.max() > high):
            raise ValueError(f"simulate.render: {name} must be in 1..{high}, got {values.min()}..{values.max()}")
    return numbers
