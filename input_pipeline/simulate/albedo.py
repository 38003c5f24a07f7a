"""What the face is painted with: linear RGB reflectance of skin, lips, eyes and glasses, and the skin's fine relief.

Every function takes arrays of head coordinates (see `person`) of one shape and the footprint of a pixel there, with
which edges are anti-aliased. Colours and shapes are our own choice [C]; colour tables are sRGB and converted once.
"""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.noise import bell, fold, ramp, value_noise
from input_pipeline.simulate.person import ROW


def table(*srgb):
    """Linear RGB [n, 3] of sRGB triples in 0..255 (a gamma of 2.2)."""
    return (np.array(srgb, np.float32) / np.float32(255)) ** np.float32(2.2)


SKIN = table((236, 200, 180), (224, 183, 156), (203, 158, 125), (166, 120, 90), (122, 84, 62), (84, 58, 46))
IRIS = table((40, 24, 14), (82, 54, 30), (84, 96, 62), (90, 120, 140))
LIP = np.array([0.82, 0.44, 0.46], np.float32)  # lips over skin
ROUGE = np.array([0.80, 0.24, 0.28], np.float32)  # made-up lips over skin
BLOOD = np.array([0.25, 1.0, 0.8], np.float32)  # absorption of the redder patches of skin
MELANIN = np.array([0.5, 0.8, 1.0], np.float32)
SCLERA = np.array([0.26, 0.215, 0.19], np.float32)
DARK = np.array([0.012, 0.009, 0.008], np.float32)


def look_up(rows, index):
    """Row of a colour table [n, 3] at a fractional index."""
    return jnp.stack([jnp.interp(index, jnp.arange(len(rows)), channel) for channel in rows.T])


def over(colour, mask, below):
    """`colour` ([3] or [h, w, 3]) at opacity `mask` [h, w] over `below` [h, w, 3]."""
    return below + mask[..., None] * (colour - below)


def stream(who, number: int):
    """A seed of its own for each of a person's textures."""
    return fold(who["seed"], number)


def wrinkles(who, relief, now, x, y):
    """Depth [h, w] of the lines that years and expressions draw: forehead, glabella, eye corners, bags, smile folds."""
    side, eye, age = jnp.abs(x), relief[ROW["eye"]], who["age"]
    wander = value_noise(stream(who, 4), 5.0 * x, 5.0 * y)
    forehead = jnp.sin(34.0 * y + 2.5 * wander + 1.2 * bell(x / 0.3)) ** 8 * bell((y + 0.64) / 0.11) * bell(x / 0.34)
    corner_x, corner_y = side - eye[0] - 0.15, y - eye[1]
    crow = jnp.sin(9.0 * jnp.arctan2(corner_y, corner_x + 0.06) + wander) ** 6 * bell((corner_x - 0.06) / 0.05)
    crow *= bell(corner_y / 0.10)
    bags = bell((y - eye[1] - 0.125 - 0.02 * wander + 0.9 * (side - eye[0]) ** 2) / 0.014) * bell((side - eye[0]) / 0.1)
    run = (y - 0.26) / 0.36  # the smile fold, from the wing of the nose to beside the mouth
    crease = bell((side - 0.17 - 0.15 * run) / 0.018)
    crease *= ramp(run - 0.05, 0.3) * ramp(1.05 - run, 0.5)
    smile = jnp.maximum(now["smile"], 0.0)
    raised = jnp.maximum(now["brow_raise"], 0.0)
    return (
        (0.9 * age * age + 0.35 * raised) * forehead
        + (0.9 * age + 0.4 * smile) * age * crow
        + (0.2 + 0.9 * age) * bags
        + (0.15 + 0.7 * age + 0.5 * smile) * crease
    )


def skin(who, relief, now, x, y):
    """Bare skin [h, w, 3] and its fine relief [h, w] in about [-1, 1]: blotches, pores, freckles, moles, wrinkles."""
    side = jnp.abs(x)
    knots = jnp.array([3.0, 8.0, 9.0, 21.0, 40.0, 75.0])[:, None, None]  # a head unit
    coarse, middle, spots, patch, pore, fine = value_noise(stream(who, 1), knots * x, knots * y)
    blotch = coarse + 0.6 * middle
    fleck = jnp.maximum(patch + 0.4 * pore - 0.55, 0.0) * who["freckles"] ** 2 * bell(side / 0.45)
    fleck *= bell((y - 0.05) / 0.25)
    mole = ramp(spots - 0.97, 0.06)
    cheek, eye = relief[ROW["cheekbone"]], relief[ROW["eye"]]
    flush = bell((side - cheek[0] + 0.06) / 0.2) * bell((y - cheek[1] - 0.14) / 0.17)
    flush = (1.0 + 0.8 * who["make_up"]) * flush + 0.9 * bell(x / 0.13) * bell((y - 0.24) / 0.12)
    flush += 0.4 * bell(x / 0.2) * bell((y - 0.86) / 0.12)
    tired = bell((side - eye[0] + 0.05) / 0.14) * bell((y - eye[1] - 0.12) / 0.055) * (0.12 + 0.30 * who["age"])
    socket = bell((side - eye[0]) / 0.2) * bell((y - eye[1] + 0.06) / 0.08)
    lines = wrinkles(who, relief, now, x, y)
    age_spots = jnp.maximum(middle * patch - 0.35, 0.0) * 1.5 * jnp.maximum(who["age"] - 0.5, 0.0)
    blood = who["mottle"] * (0.08 * blotch + 0.05 * patch) + 0.19 * flush * (1.0 - 0.12 * who["tone"]) + 0.08 * socket
    melanin = who["mottle"] * (0.05 * patch + 0.045 * pore + 0.03 * fine + 0.05 * blotch)
    melanin += 0.7 * fleck + 1.0 * mole + tired + 0.10 * socket + 0.28 * lines + age_spots
    base = look_up(SKIN, who["tone"]) * (1.0 + 0.07 * who["undertone"] * jnp.array([-0.3, 0.2, 1.0]))
    rough = pore + 0.8 * fine + 0.5 * patch - 2.2 * lines
    return base * jnp.exp(-blood[..., None] * BLOOD - melanin[..., None] * MELANIN), rough


def eyes(who, relief, now, x, y, pixel, below):
    """Eyes over `below`, and the mask [h, w] of what is wet: sclera, iris, pupil, lids, lashes, crease, tear duct."""
    side, sign, eye = jnp.abs(x), jnp.sign(x), relief[ROW["eye"]]
    width = 0.155 * who["eye_size"]
    u = (side - eye[0]) / width
    v = (y - eye[1]) / width + who["eye_tilt"] * u
    arch = jnp.maximum(1.0 - (u + 0.12 * (1.0 - u * u)) ** 2, 0.0)  # highest a little towards the nose
    opening = who["eye_open"] * (1.0 - jnp.clip(now["blink"], 0.0, 1.0) - 0.25 * jnp.maximum(now["smile"], 0.0))
    lid = -(opening + 0.10 * now["brow_raise"].clip(0.0)) * arch**0.75
    lower = (0.23 - 0.05 * jnp.maximum(now["smile"], 0.0) + 0.09 * (u > 0) * u) * arch
    soft = pixel / width
    inside = ramp(jnp.minimum(v - lid, lower - v), soft + 0.03) * (jnp.abs(u) < 1.0)
    turned = u + 0.05 - sign * now["gaze_x"] / width  # irises lie a little towards the nose
    radius = jnp.hypot(turned, v + 0.05 - now["gaze_y"] / width)
    spokes = value_noise(stream(who, 7), 2.5 * jnp.arctan2(v, turned + 1e-6) + 9.0, 3.0 * radius)
    ring = 1.0 - 0.65 * ramp(radius - 0.34, 0.10)
    iris = look_up(IRIS, jnp.minimum(who["iris"], 3.2 - who["tone"])) * ((1.0 + 0.35 * spokes) * ring)[..., None]
    iris *= (0.75 + 0.8 * jnp.maximum(v, 0.0))[..., None]  # light that crosses the cornea gathers below
    red = (0.5 * jnp.abs(u) ** 3)[..., None] * BLOOD
    ball = SCLERA * (1.0 - 0.30 * u * u)[..., None] * jnp.exp(-red)
    ball = over(jnp.array([0.45, 0.20, 0.17]), ramp(-u - 0.84, 0.12), ball)  # tear duct
    ball = over(iris, ramp(0.40 - radius, soft + 0.06), ball)
    ball = over(DARK, ramp(0.16 - radius, soft + 0.05), ball)
    ball = ball * (0.30 + 0.70 * ramp(v - lid - 0.14, 0.34))[..., None]  # the lid's shadow
    makeup = who["make_up"] ** 2
    crease = bell((v - lid + 0.17 + 0.05 * u) / 0.05) * bell(u / 0.75) * (jnp.abs(u) < 1.2)
    shadow = bell((v - lid + 0.12) / 0.12) * bell(u / 0.8) * makeup
    rim = bell((v - lower - 0.02) / 0.05) * (jnp.abs(u) < 1.0)
    furrow = bell((v - lower - 0.10) / 0.08) * bell(u / 0.8)
    out = below * (1.0 - 0.50 * crease - 0.3 * shadow - 0.16 * furrow)[..., None]
    out = over(below * jnp.array([0.85, 0.62, 0.60]), 0.6 * rim, out)
    out = over(ball, inside, out)
    length = 0.05 + 0.03 * (1.0 - who["masculine"]) + 0.05 * makeup
    thick = length * (0.65 + 0.5 * jnp.maximum(u, 0.0))
    lashes = ramp(thick - jnp.abs(v - lid + 0.02), soft + 0.06) * ramp(1.08 - jnp.abs(u), 0.12)
    lower_lashes = (0.25 + 0.4 * makeup) * bell((v - lower - 0.01) / 0.035) * ramp(u + 0.5, 0.6) * (jnp.abs(u) < 1.0)
    return over(DARK, jnp.maximum(0.80 * lashes, lower_lashes), out), inside


def mouth(who, relief, now, x, y, pixel, below):
    """Lips, and teeth behind parted lips, over `below`; also the mask [h, w] of the lips."""
    smile = jnp.maximum(now["smile"], 0.0)
    width = who["mouth_width"] * (1.0 + 0.20 * smile)
    u = x / width
    arch = jnp.maximum(1.0 - u * u, 0.0)
    gap = 0.06 * jnp.maximum(now["open_mouth"], 0.0) * (1.0 + smile)
    waver = value_noise(stream(who, 8), 6.0 * x, jnp.zeros_like(y))
    line = relief[ROW["lips"], 1] - (0.06 * now["smile"] + 0.01) * u * u
    line += (0.005 * jnp.cos(8.0 * u) + 0.003 * waver) * arch
    bow = 1.0 - 0.26 * bell(u / 0.13) + 0.16 * bell((jnp.abs(u) - 0.28) / 0.18)
    full = who["lip_fullness"] * (1.0 - 0.25 * smile) * (1.0 - 0.25 * who["age"])
    top = line - gap * arch - 0.088 * full * bow * arch**0.75
    bottom = line + gap * arch + 0.120 * full * arch**0.8
    ends = ramp(1.0 - jnp.abs(u), 0.10)
    lips = ramp(jnp.minimum(y - top, bottom - y) - 0.004, pixel + 0.030) * ends  # a soft border
    creases = value_noise(stream(who, 8), 70.0 * x, 9.0 * y)
    pigment = LIP + (ROUGE - LIP) * ramp(who["make_up"] - 0.6, 0.5)
    red = below * (1.0 + who["lip_red"] * (pigment - 1.0)) * (0.95 + 0.08 * creases)[..., None]
    red *= (1.0 - 0.18 * ramp(line - y, 0.03))[..., None]  # the upper lip is darker
    out = over(red, 0.92 * lips, below)
    inner = ramp(gap * arch - jnp.abs(y - line), pixel + 0.006) * ends
    teeth = ramp(0.45 * gap * arch - (y - line + 0.3 * gap), pixel + 0.012) * ramp(0.75 - jnp.abs(u), 0.3)
    grooves = 1.0 - 0.35 * bell((jnp.abs(jnp.mod(x, 0.062) - 0.031) - 0.031) / 0.005)
    hollow = over(jnp.array([0.36, 0.31, 0.24]), 0.9 * teeth * grooves, jnp.full(below.shape, 0.02) * LIP)
    seam = bell((y - line) / (0.009 + 0.5 * pixel)) * ends * (1.0 - inner)
    out = over(0.16 * below, 0.75 * seam, over(hollow, inner, out))
    dimple = bell((jnp.abs(u) - 1.03) / 0.07) * bell((y - line + 0.055 * now["smile"]) / 0.03)
    return out * (1.0 - 0.35 * dimple)[..., None], lips * (1.0 - inner)


def nostrils(relief, x, y, pixel, below):
    """Dark nostrils and the grooves round the wings of the nose over `below`."""
    wing = relief[ROW["nose_wing"]]
    reach = jnp.hypot((jnp.abs(x) - 0.52 * wing[0]) / 0.050, (y - wing[1] - 0.062 + 0.25 * (jnp.abs(x) - 0.06)) / 0.022)
    groove = bell((jnp.hypot(jnp.abs(x) - wing[0] + 0.005, y - wing[1]) - 0.068) / 0.016)
    groove *= ramp(jnp.abs(x) - wing[0] + 0.01, 0.06) * ramp(y - wing[1] + 0.05, 0.08)
    under = bell(x / 0.11) * bell((y - wing[1] - 0.075) / 0.02)
    dark = 0.80 * ramp(1.0 - reach, 0.8 + pixel / 0.024)
    return below * ((1.0 - dark) * (1.0 - 0.32 * groove) * (1.0 - 0.18 * under))[..., None]


def glasses(who, relief, x, y, pixel, below):
    """The frame of a pair of glasses over `below`, for those who wear one, and the mask [h, w] of the lenses.

    The frame shades the skin just below it.
    """
    side, eye, worn = jnp.abs(x), relief[ROW["eye"]], who["glasses"] > 0.75
    power = who["lens"]

    def reach(drop):
        u, v = (side - eye[0] - 0.01) / 0.235, (y - eye[1] - 0.04 - drop) / (0.145 + 0.15 / power)
        return (jnp.abs(u) ** power + jnp.abs(v) ** power + 1e-6) ** (1.0 / power)

    def wire(drop):
        rim = ramp(who["rim"] - jnp.abs(reach(drop) - 1.0) * 0.2, pixel + 0.008)
        bridge = ramp(0.6 * who["rim"] - jnp.abs(y - eye[1] + 0.03 - drop + 0.8 * side * side), pixel + 0.008)
        arm = ramp(0.8 * who["rim"] - jnp.abs(y - eye[1] + 0.04 - drop), pixel + 0.008) * (side > 0.54)
        return jnp.maximum(rim, jnp.maximum(bridge * (side < 0.09), arm))

    tone = look_up(table((18, 17, 18), (50, 34, 26), (120, 118, 116), (170, 148, 96)), 12.0 * (who["glasses"] - 0.75))
    shaded = below * (1.0 - 0.30 * worn * wire(0.035))[..., None]
    return over(tone, worn * wire(0.0), shaded), worn * ramp(1.0 - reach(0.0), 0.08)
