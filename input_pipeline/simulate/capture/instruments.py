"""Presentation attack instruments: a photograph on paper or on a display, lit by a room.

The instrument is a plane. The second camera's sensor samples it through a projective map, the bend and the lens
distortion; the photograph, the instrument's fine structure (`structure`), shading, sheen and borders are functions of
the plane's coordinates, evaluated at the sensor's samples. The model concentrates on effects that are visible at the
resolution of a face crop: limited resolution, tone and gamut compression, flat light, bend, sheen, banding, borders.
The numbers are our own choice [C].
"""

import jax
import jax.numpy as jnp

from input_pipeline.simulate.capture.camera import LUMA, REFERENCE, along_axes, decode, enlarge, gaussian, through_lens
from input_pipeline.simulate.capture.structure import bands, halftone, separate, subpixels
from input_pipeline.simulate.noise import bell, draw, fold, ramp, value_noise
from input_pipeline.simulate.people.albedo import SKIN, look_up, over

SAMPLES = 2  # samples of the plane per sensor pixel, along a side
# Ranges that both kinds share; then name -> ranges of instruments 1 and 2, for printers and for displays.
COMMON = {
    "angle": (-0.10, 0.10),  # rotation of paper or display in the image, radians
    "zoom": (0.94, 1.02),
    "shift_x": (-0.03, 0.03),
    "shift_y": (-0.03, 0.03),
    "perspective_x": (-0.06, 0.06),
    "perspective_y": (-0.06, 0.06),
    "distortion": (-0.03, 0.03),  # distortion of the camera's lens
    "tilt_x": (-0.25, 0.25),  # fall-off of the room's light across the instrument
    "tilt_y": (-0.25, 0.25),
    "bend": (-0.4, 0.4),
    "bend_at": (-1.0, 1.0),
    "bend_turn": (-0.6, 0.6),  # angle of the bend's axis to the vertical, as paper is held at its sides
    "shine_x": (-1.3, 1.3),
    "shine_y": (-1.3, 1.3),
    "shine_size": (0.3, 0.9),
    "streak": (-1.0, 1.0),  # sheen: a streak on the bend above 0.5, a spot above 0, none below
    "edge": (0.50, 1.20),  # end of the photograph at one side, where the edge of the crop is 1
    "corner": (0.65, 2.2),  # the same at the next side
    "side": (0.0, 4.0),
    "margin": (0.0, 0.25),  # white paper or bezel around the photograph
    "hand": (-0.6, 1.0),  # holding hands: one is visible above 0, both above 0.4
    "hand_at": (-0.8, 0.6),
    "hand_reach": (0.45, 1.0),  # distance of the first fingertip from the middle
    "hand_tone": (0.0, 5.0),
    "fingers": (1.0, 5.0),  # number of visible fingers, rounded down
    "finger_size": (0.07, 0.12),  # half the width of a finger
    "finger_slant": (-0.5, 0.5),
    "pitch": (0.7, 1.4),  # factor on the instrument's pitch, for the distance to the camera
    "roll": (0.0, 6.3),  # phase of the refresh band
}
PRINTERS = {
    "black": ((0.002, 0.012), (0.006, 0.035)),  # reflection of the surface under any ink
    "white": ((0.80, 0.90), (0.72, 0.84)),  # reflectance of bare paper
    "gamut": ((0.90, 1.20), (0.65, 1.00)),
    "tone": ((0.90, 1.10), (0.95, 1.25)),  # exponent: dot gain after the driver's correction
    "cast_r": ((0.95, 1.03), (0.96, 1.08)),
    "cast_b": ((0.96, 1.08), (0.88, 1.04)),
    "soft": ((1.0, 2.4), (1.4, 3.2)),  # resolution: pixels of a 224 px crop
    "halo": ((0.0, 0.9), (0.0, 0.7)),  # sharpening by the driver
    "texture": ((0.01, 0.03), (0.025, 0.07)),
    "screen": ((0.05, 0.25), (0.4, 1.0)),  # continuous tone of photographic paper; clustered dots on plain paper
    "lines": ((1.8, 3.0), (1.0, 2.0)),  # dots per pixel of a 224 px crop
    "bands": ((0.0, 0.02), (0.02, 0.10)),
    "band_lines": ((20.0, 60.0), (8.0, 40.0)),
    "sheen": ((0.05, 0.50), (0.0, 0.35)),
    "mirror": ((0.0, 0.02), (0.0, 0.004)),
}
DISPLAYS = {
    "black": ((0.004, 0.020), (0.015, 0.050)),
    "white": ((0.9, 1.1), (0.7, 0.9)),  # full drive of the display, relative to a white wall
    "gamut": ((0.95, 1.15), (0.75, 0.95)),
    "tone": ((0.92, 1.08), (0.80, 1.05)),
    "cast_r": ((0.93, 1.02), (0.94, 1.03)),
    "cast_b": ((0.99, 1.10), (0.97, 1.08)),
    "soft": ((0.9, 2.0), (1.2, 2.8)),
    "halo": ((0.0, 0.5), (0.0, 0.9)),
    "texture": ((0.0, 0.003), (0.003, 0.010)),  # anti-glare coating
    "screen": ((0.5, 0.9), (0.6, 1.0)),
    "lines": ((1.4, 2.6), (0.7, 1.3)),
    "bands": ((0.02, 0.08), (0.05, 0.18)),  # refresh
    "band_lines": ((0.5, 2.0), (0.7, 3.0)),
    "sheen": ((0.05, 0.45), (0.04, 0.35)),
    "mirror": ((0.02, 0.08), (0.02, 0.07)),
}


def draw_instrument(key, replay, number) -> dict:
    """Draws an instrument: a display if `replay`, else a print; `number` is 1 or 2; both may be traced."""
    columns = [{k: v[i] for k, v in table.items()} for table in (PRINTERS, DISPLAYS) for i in (0, 1)]
    unit = draw(key, COMMON | dict.fromkeys(PRINTERS, (0.0, 1.0)))
    ranges = {name: jnp.array([column[name] for column in columns])[2 * replay + number - 1] for name in PRINTERS}
    own = {name: low + (high - low) * unit[name] for name, (low, high) in ranges.items()}
    return unit | own | {"replay": jnp.float32(replay), "seed": fold(key, 1)}


def plane(view: dict, count: int):
    """Maps a sensor of `count` x `count` pixels to the plane: u, v [count, count], where the photograph is [-1, 1].

    `view` has the names of `COMMON` up to `distortion`; a positive perspective brings one side nearer.
    """
    line = (jnp.arange(count) + 0.5) * (2.0 / count) - 1.0
    x, y = jnp.meshgrid(line, line)
    bent = 1.0 + view["distortion"] * (x * x + y * y)
    scale = view["zoom"] * bent / (1.0 + view["perspective_x"] * x + view["perspective_y"] * y)
    c, s = jnp.cos(view["angle"]), jnp.sin(view["angle"])
    return scale * (c * x - s * y) + view["shift_x"], scale * (s * x + c * y) + view["shift_y"]


def fold_over(tool, u, v):
    """Maps u, v to coordinates on bent paper; also returns the signed square [n, n] of the bend's height.

    The paper is a cylinder about a nearly vertical axis: the photograph narrows where the paper turns away.
    """
    c, s = jnp.cos(tool["bend_turn"]), jnp.sin(tool["bend_turn"])
    across = c * u + s * v - tool["bend_at"]
    slope = (1.0 - tool["replay"]) * tool["bend"] * across
    longer = 0.7 * across * slope * slope  # the arc minus its chord
    return u + c * longer, v + s * longer, slope * jnp.abs(across)


def sample(image, u, v):
    """Samples `image` [s, s, c] at coordinates in [-1, 1], with linear interpolation and edge padding: [..., c]."""
    size = image.shape[0]
    x, y = (jnp.clip((a + 1.0) * 0.5 * size - 0.5, 0.0, size - 1.001) for a in (u, v))
    column, row = x.astype(jnp.int32), y.astype(jnp.int32)
    fx, fy = (x - column)[..., None], (y - row)[..., None]
    flat, place = image.reshape(size * size, -1), row * size + column

    def pair(start):
        return flat[start] * (1.0 - fx) + flat[start + 1] * fx

    return pair(place) * (1.0 - fy) + pair(place + size) * fy


def present(code, tool: dict, light: dict, room, count: int | None = None, lens=0.5):
    """Returns the light [count, count, 3] of an instrument that shows `code` [s, s, 3] (encoded, in [0, 1]).

    Args:
      code: the photograph.
      tool: the instrument, from `draw_instrument`.
      light: the light of the room, from `light.draw_light`.
      room: the surroundings [s, s, 3], linear and out of focus, which are visible beyond the border and reflected.
      count: pixels along a side of the second camera's sensor, by default s.
      lens: blur of its lens in these pixels. Only the fine structure is blurred, as nothing else has such detail.
    """
    size = code.shape[0]
    count = count or size
    unit = size / REFERENCE
    narrow, wide = gaussian(tool["soft"] * unit, size), gaussian((tool["soft"] + 1.2) * unit, size)
    sharp = narrow + tool["halo"] * (narrow - wide)
    code = along_axes(sharp, sharp, code)
    u, v, height = fold_over(tool, *plane(tool, count))
    linear = jnp.clip(decode(sample(code, u, v)), 0.0, 1.0) ** tool["tone"]
    luma = (linear @ LUMA)[..., None]
    linear = jnp.clip(luma + tool["gamut"] * (linear - luma), 0.0, 1.0)
    shown = emit(linear, tool, jnp.minimum(lens, 1.0))
    grain = value_noise(tool["seed"], 60.0 * u, 60.0 * v) + 0.7 * value_noise(fold(tool["seed"], 1), 22.0 * u, 22.0 * v)
    banding = bands(tool, v + tool["roll"])
    shown = shown * ((1.0 + tool["texture"] * grain) * banding)[..., None]
    cast = jnp.stack([tool["cast_r"], jnp.ones_like(tool["replay"]), tool["cast_b"]])
    area = tool["black"] + (tool["white"] - tool["black"]) * shown * cast
    # Paper reflects the light of the room, which falls off across it and over its bend; a display emits light.
    fall = jnp.maximum(1.0 + tool["tilt_x"] * u + tool["tilt_y"] * v + height, 0.3)
    incident = light["key"] * jnp.maximum(light["direction"][2], 0.2) + light["ambient"]
    own_light = 0.9 * (1.0 + 0.12 * (tool["tilt_x"] * u + tool["tilt_y"] * v))
    lit = jnp.where(tool["replay"] > 0, own_light[..., None], fall[..., None] * incident)
    light_out = area * lit + gloss(tool, u, v)[..., None] * light["key"]
    around = enlarge(room, count)
    return border(light_out + tool["mirror"] * around[:, ::-1], tool, incident, u, v, around)


def emit(linear, tool, lens):
    """Renders `linear` [n, n, 3] by dots of ink or sub-pixels, sampled by a sensor of n x n pixels through its lens.

    The result is relative to bare paper or full drive. Under `jax.lax.map` only one branch of the condition runs for an
    image, under `jax.vmap` both.
    """
    count = linear.shape[0]
    finer = SAMPLES * count
    u, v, _ = fold_over(tool, *plane(tool, finer))
    frequency, step = tool["lines"] * tool["pitch"] * REFERENCE / 2.0, 2.0 / finer

    def repeat(x):  # jnp.repeat would gather, which is many times slower
        return jnp.broadcast_to(x[:, None, :, None], (count, SAMPLES, count, SAMPLES, x.shape[-1])).reshape(
            finer, finer, x.shape[-1]
        )

    def displayed():
        return through_lens(repeat(linear) * subpixels(u, v, tool, frequency, step), lens)

    def printed():
        return through_lens(halftone(repeat(separate(linear)), u, v, tool, frequency, step), lens)

    return jax.lax.cond(tool["replay"] > 0, displayed, printed)


def gloss(tool, u, v):
    """Specular reflection towards the camera: a spot, or a streak along the bend of paper."""
    c, s = jnp.cos(tool["bend_turn"]), jnp.sin(tool["bend_turn"])
    along, across = c * v - s * u, c * u + s * v - tool["shine_x"]
    long = tool["streak"] > 0.5
    length, width = (jnp.where(long, a, 1.0) * tool["shine_size"] for a in (4.0, 0.15))
    return (tool["streak"] > 0) * tool["sheen"] * bell(across / width) * bell((along - tool["shine_y"]) / length)


def border(picture, tool, incident, u, v, room):
    """Adds the margin or bezel, the room beyond it, and hands to the light [n, n, 3] of the photograph.

    Two adjacent sides of the photograph may lie within the crop, at `edge` and `corner`.
    """
    turn = jnp.floor(tool["side"]) * 0.5 * jnp.pi
    c, s = jnp.cos(turn), jnp.sin(turn)
    across, along = c * u + s * v, c * v - s * u
    past, soft = jnp.maximum(across - tool["edge"], along - tool["corner"]), 4.0 / u.shape[0]
    frame = jnp.where(tool["replay"] > 0, 0.02, 0.8) * incident
    held = over(frame, ramp(past, soft), picture)
    return hands(over(room, ramp(past - tool["margin"], soft), held), tool, incident, across, along)


def hands(picture, tool, incident, across, along):
    """Draws the fingers of one or both hands over the light [n, n, 3] of the instrument that they hold.

    `across` and `along` [n, n] are the plane's coordinates, rotated so that a hand enters from positive `across`.
    """
    width, soft = tool["finger_size"], 24.0 / across.shape[0]
    far = (tool["hand"] > 0.4) & (across < 0)  # the other hand, lower or higher
    inwards = jnp.where(far, -across, across)
    place = along - tool["hand_at"] * jnp.where(far, -0.5, 1.0) + tool["finger_slant"] * (inwards - 1.0)
    number = jnp.clip(jnp.round(place / (2.1 * width)), 0.0, jnp.floor(tool["fingers"]) - 1.0)
    beside = place / width - 2.1 * number
    beyond = jnp.maximum((tool["hand_reach"] - inwards) / width + 0.7 * number, 0.0)
    round_ = jnp.hypot(beside, beyond)  # 1 at the outline of the nearest finger, straight with a round tip
    skin = look_up(SKIN, tool["hand_tone"]) * (1.0 - 0.6 * round_ * round_)[..., None].clip(0.2) * incident
    shade = 1.0 - 0.4 * (tool["hand"] > 0) * bell((round_ - 1.0) / 0.4)
    return over(skin, (tool["hand"] > 0) * ramp(1.0 - round_, soft), picture * shade[..., None])


def cut_out(paper, behind, holes):
    """Composes a printed mask with holes: light [n, n, 3] of `paper` (`present`), in the holes of the face `behind`.

    `holes` [n, n] in [0, 1] is 1 where the paper is cut, with soft edges. The paper shades the face, down to a half
    towards the rim of a hole.
    """
    inside = jnp.clip(holes, 0.0, 1.0)[..., None]
    return paper * (1.0 - inside) + behind * inside * (0.5 + 0.4 * inside * inside)
