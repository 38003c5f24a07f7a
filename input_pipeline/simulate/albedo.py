"""What the head is painted with: linear RGB reflectance of skin, lips, eyes, brows, beard, hair and glasses.

Every function takes arrays of head coordinates (see `person`) of one shape and the footprint of a pixel there, with
which edges are anti-aliased. Colours and shapes are our own choice [C]; colour tables are sRGB and converted once.
"""

import jax.numpy as jnp

from input_pipeline.simulate.noise import bell, fold, ramp, value_noise
from input_pipeline.simulate.person import ROW


def _table(*srgb):
    return (jnp.array(srgb) / 255.0) ** 2.2


SKIN = _table((240, 205, 184), (226, 184, 154), (203, 155, 119), (166, 117, 84), (119, 79, 56), (80, 53, 40))
HAIR = _table((14, 12, 12), (36, 26, 20), (70, 46, 30), (112, 76, 44), (168, 132, 84), (150, 146, 142))
IRIS = _table((40, 24, 14), (82, 54, 30), (84, 96, 62), (90, 120, 140))
LIP = jnp.array([0.95, 0.48, 0.46])  # lips over skin
BLOOD = jnp.array([0.25, 1.0, 0.8])  # absorption of the redder patches of skin
MELANIN = jnp.array([0.5, 0.8, 1.0])


def look_up(table, index):
    """Row of a colour table [n, 3] at a fractional index."""
    return jnp.stack([jnp.interp(index, jnp.arange(len(table)), channel) for channel in table.T])


def over(colour, mask, below):
    """`colour` ([3] or [h, w, 3]) at opacity `mask` [h, w] over `below` [h, w, 3]."""
    return below + mask[..., None] * (colour - below)


def stream(who, number: int):
    """A seed of its own for each of a person's textures."""
    return fold(who["seed"], number)


def skin(who, relief, x, y):
    """Bare skin [h, w, 3] and its fine texture [h, w] in about [-1, 1]: blotches, pores, freckles, moles, wrinkles."""
    side = jnp.abs(x)
    knots = jnp.array([3.0, 8.0, 9.0, 21.0, 62.0])[:, None, None]  # a head unit
    coarse, middle, spots, patch, pore = value_noise(stream(who, 1), knots * x, knots * y)
    blotch = coarse + 0.6 * middle
    fleck = jnp.maximum(patch + 0.4 * pore - 0.55, 0.0) * who["freckles"] * bell(side / 0.45) * bell((y - 0.05) / 0.25)
    mole = ramp(spots - 0.97, 0.06)
    cheek = relief[ROW["cheekbone"]]
    flush = bell((side - cheek[0]) / 0.2) * bell((y - cheek[1] - 0.1) / 0.17) + 0.8 * bell(x / 0.12) * bell(
        (y - 0.25) / 0.12
    )
    eye = relief[ROW["eye"]]
    tired = bell((side - eye[0]) / 0.15) * bell((y - eye[1] - 0.13) / 0.06) * (0.15 + 0.35 * who["age"])
    lines = jnp.sin(38.0 * y + 3.0 * blotch) * bell((y + 0.62) / 0.10) * bell(x / 0.35)
    wrinkle = 0.12 * who["age"] * jnp.maximum(lines, 0.0) ** 2
    blood = who["mottle"] * (0.07 * blotch + 0.06 * patch) + 0.22 * flush * (1.0 - 0.12 * who["tone"])
    melanin = who["mottle"] * (0.05 * patch + 0.07 * pore + 0.05 * blotch) + 0.9 * fleck + 1.2 * mole + tired + wrinkle
    base = look_up(SKIN, who["tone"]) * (1.0 + 0.06 * who["undertone"] * jnp.array([-0.3, 0.2, 1.0]))
    return base * jnp.exp(-blood[..., None] * BLOOD - melanin[..., None] * MELANIN), pore + 0.7 * patch


def brows(who, relief, now, x, y, pixel, below):
    """Eyebrows over `below`: an arched, tapering band of hairs."""
    side, eye = jnp.abs(x), relief[ROW["eye"]]
    along = (side - eye[0]) / 0.20  # -1 inner end, 1 outer end
    middle = relief[ROW["brow_ridge"], 1] - who["brow_arch"] * (1.0 - (along - 0.3) ** 2) + 0.035
    half = (0.030 + 0.012 * who["masculine"]) * who["brow_weight"] * (1.0 - 0.35 * along)
    hairs = value_noise(stream(who, 6), 45.0 * x + 25.0 * y, 18.0 * y)
    edge = jnp.minimum(half * (1.0 + 0.3 * hairs) - jnp.abs(y - middle), 0.22 * (1.05 - jnp.abs(along)))
    mask = ramp(edge, pixel + 0.02) * (0.72 + 0.22 * hairs)
    return over(0.8 * look_up(HAIR, jnp.minimum(who["hair_tone"], 3.2)), mask, below)


def eyes(who, relief, now, x, y, pixel, below):
    """Eyes over `below`, and the mask [h, w] of what is wet: sclera, iris, pupil, lids, lashes, crease."""
    side, sign, eye = jnp.abs(x), jnp.sign(x), relief[ROW["eye"]]
    width = 0.145 * who["eye_size"]
    u = (side - eye[0]) / width
    v = (y - eye[1]) / width + who["eye_tilt"] * u
    arch = jnp.maximum(1.0 - u * u, 0.0)
    lid = -(who["eye_open"] * (1.0 - jnp.clip(now["blink"], 0.0, 1.0)) + 0.12 * now["brow_raise"].clip(0.0)) * arch**0.8
    lower = (0.26 + 0.10 * (u > 0) * u) * arch
    soft = pixel / width
    inside = ramp(jnp.minimum(v - lid, lower - v), soft) * (jnp.abs(u) < 1.0)
    radius = jnp.hypot(u - sign * now["gaze_x"] / width * 0.8, v + 0.06 - now["gaze_y"] / width)
    spokes = value_noise(stream(who, 7), 2.5 * jnp.arctan2(v, u + 1e-6) + 9.0, 3.0 * radius)
    ring = 1.0 - 0.6 * ramp(radius - 0.36, 0.12)
    iris = look_up(IRIS, jnp.minimum(who["iris"], 3.2 - who["tone"])) * ((1.0 + 0.35 * spokes) * ring)[..., None]
    ball = jnp.array([0.68, 0.63, 0.60]) * (1.0 - 0.35 * u * u)[..., None] * jnp.array([1.0, 0.97, 0.96])
    ball = over(iris, ramp(0.42 - radius, soft + 0.04), ball)
    ball = over(0.012, ramp(0.17 - radius, soft + 0.04), ball)
    ball = ball * (0.45 + 0.55 * ramp(v - lid - 0.16, 0.3))[..., None]  # the lid's shadow
    crease = bell((v - lid + 0.20) / 0.055) * (jnp.abs(u) < 1.1) * bell(u / 0.7)
    out = below * (1.0 - 0.45 * crease - 0.20 * bell((v - lower - 0.07) / 0.08) * bell(u / 0.8))[..., None]
    out = over(ball, inside, out)
    lashes = ramp((0.055 + 0.05 * (1.0 - who["masculine"])) - jnp.abs(v - lid + 0.02), soft + 0.04) * (
        jnp.abs(u) < 1.08
    )
    return over(0.02, 0.85 * lashes, out), inside


def mouth(who, relief, now, x, y, pixel, below):
    """Lips, and teeth behind parted lips, over `below`; also the mask [h, w] of the lips."""
    width = who["mouth_width"] * (1.0 + 0.16 * now["smile"])
    u = x / width
    arch = jnp.maximum(1.0 - u * u, 0.0)
    gap = 0.06 * jnp.maximum(now["open_mouth"], 0.0)
    line = relief[ROW["lips"], 1] - 0.055 * now["smile"] * u * u + 0.005 * jnp.cos(8.0 * u) * arch
    bow = 1.0 - 0.28 * bell(u / 0.13) + 0.18 * bell((jnp.abs(u) - 0.28) / 0.18)
    top = line - gap * arch - 0.075 * who["lip_fullness"] * bow * arch**0.75
    bottom = line + gap * arch + 0.105 * who["lip_fullness"] * arch**0.8
    ends = jnp.abs(u) < 1.0
    lips = ramp(jnp.minimum(y - top, bottom - y), pixel + 0.016) * ends
    creases = value_noise(stream(who, 8), 60.0 * x, 9.0 * y)
    red = below * (1.0 + who["lip_red"] * (LIP - 1.0)) * (0.93 + 0.10 * creases)[..., None]
    out = over(red, lips, below)
    inner = ramp(gap * arch - jnp.abs(y - line), pixel) * ends
    teeth = ramp(0.55 * gap * arch - (y - line + 0.4 * gap), pixel + 0.01)
    hollow = over(jnp.array([0.55, 0.50, 0.42]), 0.9 * teeth, jnp.full(below.shape, 0.02))
    seam = bell((y - line) / (0.010 + 0.4 * pixel)) * ends * (1.0 - inner)
    return over(0.12 * below, 0.75 * seam, over(hollow, inner, out)), lips


def nostrils(relief, x, y, pixel, below):
    """Dark nostrils over `below`."""
    wing = relief[ROW["nose_wing"]]
    reach = jnp.hypot((jnp.abs(x) - 0.55 * wing[0]) / 0.050, (y - wing[1] - 0.060) / 0.024)
    groove = bell((jnp.abs(x) - wing[0] - 0.055) / 0.016) * bell((y - wing[1]) / 0.05)
    return below * (1.0 - 0.88 * ramp(1.0 - reach, 0.5 + pixel / 0.024) - 0.35 * groove)[..., None]


def beard(who, relief, x, y, lips, below):
    """Shaved shadow, stubble, moustache or full beard over `below`; only on the masculine half."""
    side, style = jnp.abs(x), who["beard"]
    hairs = value_noise(stream(who, 9), 70.0 * x, 26.0 * y)
    ragged = 0.05 * value_noise(stream(who, 10), 14.0 * x, 14.0 * y)
    chin = ramp(y + ragged - 0.70 + 0.9 * jnp.maximum(side - 0.30, 0.0), 0.10) + ramp(
        side + 2.0 * ragged - 0.52, 0.25
    ) * ramp(y - 0.15, 0.3)
    upper = relief[ROW["upper_lip"], 1]
    moustache = ramp(0.055 - jnp.abs(y + ragged - upper + 0.045 - 0.25 * side * side), 0.05) * (side < 0.33)
    area = jnp.clip(chin + moustache, 0.0, 1.0) * ramp(y - 0.02, 0.3) * (1.0 - lips)
    depth = jnp.interp(style, jnp.array([0.0, 0.35, 0.60, 0.75, 1.0]), jnp.array([0.05, 0.18, 0.5, 0.85, 0.95]))
    depth = depth * ramp(who["masculine"] - 0.55, 0.1)
    return over(look_up(HAIR, who["hair_tone"]), area * depth * jnp.clip(0.75 + 0.5 * hairs, 0.0, 1.0), below)


def glasses(who, relief, x, y, pixel, below):
    """The frame of a pair of glasses over `below`, for those who wear one, and the mask [h, w] of the lenses."""
    side, eye, worn = jnp.abs(x), relief[ROW["eye"]], who["glasses"] > 0.75
    u, v = (side - eye[0] - 0.01) / 0.235, (y - eye[1] - 0.03) / 0.175
    reach = (u**4 + v**4 + 1e-6) ** 0.25
    rim = ramp(who["rim"] - jnp.abs(reach - 1.0) * 0.2, pixel)
    bridge = ramp(0.55 * who["rim"] - jnp.abs(y - eye[1] + 0.03), pixel) * (side < 0.09)
    arm = ramp(0.6 * who["rim"] - jnp.abs(y - eye[1] + 0.04), pixel) * (side > 0.54)
    frame = look_up(HAIR, 4.0 * (who["glasses"] - 0.75) * 5.0)
    return over(frame, worn * jnp.maximum(rim, jnp.maximum(bridge, arm)), below), worn * ramp(1.0 - reach, 0.1)


def face(who, relief, now, x, y, pixel):
    """The painted face: reflectance [h, w, 3], gloss [h, w] and fine relief [h, w] at head coordinates x, y [h, w]."""
    colour, texture = skin(who, relief, x, y)
    colour, lips = mouth(who, relief, now, x, y, pixel, colour)
    colour = nostrils(relief, x, y, pixel, colour)
    colour = beard(who, relief, x, y, lips, colour)
    colour, wet = eyes(who, relief, now, x, y, pixel, colour)
    colour = brows(who, relief, now, x, y, pixel, colour)
    colour, lens = glasses(who, relief, x, y, pixel, colour)
    oily = 0.6 + 0.8 * bell(x / 0.25) * bell((y + 0.1) / 0.5)
    gloss = who["shine"] * oily * (1.0 + 0.15 * texture) * (1.0 - wet) + 0.08 * lips + 0.10 * lens
    return colour, gloss, wet, texture
