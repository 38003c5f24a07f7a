"""Presentation attack instruments: a picture printed on paper or shown on a display, lit by a room.

What survives at the resolution of a face crop matters most: tone and gamut compression, flat shading, bend, sheen,
glare, texture, a border now and then. The fine structure (halftone screens, sub-pixels) enters as its first harmonics,
folded by the sampling of the second camera: moire is computed as the alias that it is, not drawn. Figures are our own
choice [C].
"""

import jax.numpy as jnp

from input_pipeline.simulate.camera import LUMA, decode
from input_pipeline.simulate.noise import bell, draw, fold, ramp, value_noise

# What both kinds share, then the two printers and the two displays (name -> ranges of instrument 1 and of instrument
# 2).
COMMON = {
    "angle": (-0.15, 0.15),  # of paper or display in the picture, radians
    "tilt_x": (-0.25, 0.25),  # fall-off of the room's light across it
    "tilt_y": (-0.25, 0.25),
    "bend": (-0.22, 0.22),
    "bend_at": (-1.0, 1.0),
    "bend_turn": (0.0, 3.1),
    "shine_x": (-1.3, 1.3),
    "shine_y": (-1.3, 1.3),
    "shine_size": (0.3, 0.9),
    "border": (-0.5, 0.15),  # how far the border reaches into the picture, shown above 0
    "side": (0.0, 4.0),
    "pitch": (0.85, 1.15),  # factor on the instrument's pitch: the distance to the camera
    "warp": (-0.02, 0.02),
}
PRINTERS = {
    "black": ((0.008, 0.030), (0.025, 0.060)),  # reflectance of the densest ink
    "white": ((0.78, 0.88), (0.68, 0.78)),  # of bare paper
    "gamut": ((0.88, 1.02), (0.72, 0.90)),
    "tone": ((0.95, 1.12), (0.88, 1.04)),  # exponent, dot gain
    "cast_r": ((0.97, 1.03), (1.00, 1.07)),
    "cast_b": ((0.96, 1.04), (0.90, 0.98)),
    "texture": ((0.010, 0.025), (0.025, 0.050)),
    "screen": ((0.05, 0.12), (0.10, 0.22)),  # amplitude of the halftone's first harmonic
    "lines": ((0.9, 1.2), (0.55, 0.8)),  # screen lines a pixel of a 224 px crop
    "sheen": ((0.05, 0.30), (0.00, 0.10)),
}
DISPLAYS = {
    "black": ((0.002, 0.012), (0.008, 0.028)),
    "white": ((0.9, 1.1), (0.7, 0.9)),  # of the display, full drive, against a white wall
    "gamut": ((0.95, 1.10), (0.80, 0.95)),
    "tone": ((0.95, 1.08), (0.85, 1.00)),
    "cast_r": ((0.94, 1.00), (0.98, 1.04)),
    "cast_b": ((1.02, 1.12), (0.96, 1.06)),
    "texture": ((0.0, 0.004), (0.004, 0.012)),  # anti-glare coating
    "screen": ((0.10, 0.25), (0.20, 0.40)),
    "lines": ((1.5, 2.2), (0.95, 1.4)),
    "sheen": ((0.03, 0.20), (0.02, 0.12)),
}
SCREEN_ANGLES = jnp.array([0.26, 1.31, 0.79])  # of cyan, magenta and black: 15, 75 and 45 degrees


def draw_instrument(key, replay, number) -> dict:
    """One use of an instrument: `replay` (bool) says display or print, `number` is 1 or 2; both may be traced."""
    columns = [{k: v[i] for k, v in table.items()} for table in (PRINTERS, DISPLAYS) for i in (0, 1)]
    unit = draw(key, COMMON | dict.fromkeys(PRINTERS, (0.0, 1.0)))
    ranges = {name: jnp.array([column[name] for column in columns])[2 * replay + number - 1] for name in PRINTERS}
    own = {name: low + (high - low) * unit[name] for name, (low, high) in ranges.items()}
    return unit | own | {"replay": jnp.float32(replay), "seed": fold(key, 1)}


def folded_wave(frequency, angle, phase_x, u, v, size):
    """The alias [size, size] of cos along `angle` at `frequency` cycles a pixel, once sampled at whole pixels.

    Lens and pixel damp it by a Gaussian of 0.35 pixel before the sampling; u and v are pixel coordinates as the lens
    shows them (warped), so that the alias bends where the picture does.
    """
    fx, fy = frequency * jnp.cos(angle), frequency * jnp.sin(angle)
    damped = jnp.exp(-2.0 * (jnp.pi * 0.35) ** 2 * (fx * fx + fy * fy))
    at = jnp.arange(size, dtype=jnp.float32)
    whole = jnp.round(fx) * at + jnp.round(fy) * at[:, None]
    return damped * jnp.cos(2.0 * jnp.pi * (fx * u + fy * v - whole + phase_x))


def fine_structure(tool, size):
    """Halftone screens or sub-pixels as the second camera samples them: factors around 1, [size, size, 3]."""
    at = jnp.arange(size, dtype=jnp.float32)
    u, v = jnp.meshgrid(at, at)
    radius = ((u - 0.5 * size) ** 2 + (v - 0.5 * size) ** 2) / size**2
    u, v = u * (1.0 + tool["warp"] * radius), v * (1.0 + tool["warp"] * radius)
    frequency = tool["lines"] * tool["pitch"] * 224.0 / size
    replay = tool["replay"]
    waves = []
    for c in range(3):
        angle = tool["angle"] + (1.0 - replay) * SCREEN_ANGLES[c]
        across = folded_wave(frequency, angle, replay * c / 3.0, u, v, size)
        down = folded_wave(frequency, angle + 0.5 * jnp.pi, 0.0, u, v, size)
        waves.append(across + (1.0 - 0.6 * replay) * down)
    return 1.0 + tool["screen"] * jnp.stack(waves, axis=-1)


def present(code, tool: dict, light: dict, room):
    """The light [s, s, 3] that leaves an instrument showing the picture `code` [s, s, 3] (encoded, in [0, 1]).

    `tool` comes from `draw_instrument`, `light` is the room's (`scene.draw_light`) and `room` the view beside and
    before the instrument [s, s, 3], linear, out of focus: seen past a border, and reflected.
    """
    size = code.shape[0]
    line = jnp.linspace(-1.0, 1.0, size)
    u, v = jnp.meshgrid(line, line)
    replay = tool["replay"]
    linear = decode(code) ** tool["tone"]
    luma = (linear @ LUMA)[..., None]
    linear = jnp.clip(luma + tool["gamut"] * (linear - luma), 0.0, 1.0)
    cast = jnp.stack([tool["cast_r"], jnp.ones_like(replay), tool["cast_b"]])
    area = tool["black"] + (tool["white"] - tool["black"]) * linear * cast
    grain = value_noise(tool["seed"], 60.0 * u, 60.0 * v) + 0.7 * value_noise(fold(tool["seed"], 1), 22.0 * u, 22.0 * v)
    area = area * (1.0 + tool["texture"] * grain)[..., None] * fine_structure(tool, size)
    # Paper takes the light of the room, falling off across it and over its bend; a display brings its own.
    across = u * jnp.cos(tool["bend_turn"]) + v * jnp.sin(tool["bend_turn"]) - tool["bend_at"]
    fall = 1.0 + tool["tilt_x"] * u + tool["tilt_y"] * v + tool["bend"] * across * jnp.abs(across)
    incident = light["key"] * jnp.maximum(light["direction"][2], 0.2) + light["ambient"]
    own_light = 0.9 * (1.0 + 0.12 * (tool["tilt_x"] * u + tool["tilt_y"] * v))
    lit = jnp.where(replay > 0, own_light[..., None], jnp.maximum(fall, 0.3)[..., None] * incident)
    spot = bell((u - tool["shine_x"]) / tool["shine_size"]) * bell((v - tool["shine_y"]) / tool["shine_size"])
    mirrored = 0.04 * replay * room[:, ::-1]
    light_out = area * lit + tool["sheen"] * spot[..., None] * light["key"] + mirrored
    return border(light_out, tool, incident, u, v, room)


def border(picture, tool, incident, u, v, room):
    """White margin or dark bezel, and the room past it, where the picture's edge is within the crop."""
    turn = jnp.floor(tool["side"]) * 0.5 * jnp.pi + tool["angle"]
    past = u * jnp.cos(turn) + v * jnp.sin(turn) - 1.0 + tool["border"] * (tool["border"] > 0) * 1.6 - 0.06
    frame = jnp.where(tool["replay"] > 0, 0.02, 0.8) * incident
    edge = ramp(past, 4.0 / u.shape[0])[..., None]
    outside = ramp(past - 0.10, 4.0 / u.shape[0])[..., None]
    return (picture * (1.0 - edge) + frame * edge) * (1.0 - outside) + room * outside
