"""Linear RGB reflectance of skin, lips, eyes and glasses, and the fine relief of skin.

Functions take arrays of coordinates on the mean head (see `head`), on which landmarks are constants for any shape and
expression of a face, and the size of a pixel for antialiasing. Colours and shapes are our own choice [C]; colour tables
are sRGB and converted once.
"""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.noise import bell, fold, ramp, value_noise


def table(*srgb):
    """Converts sRGB triples in 0..255 to linear RGB [n, 3] (a gamma of 2.2)."""
    return (np.array(srgb, np.float32) / np.float32(255)) ** np.float32(2.2)


SKIN = table((236, 200, 180), (224, 183, 156), (203, 158, 125), (166, 120, 90), (122, 84, 62), (84, 58, 46))
IRIS = table((40, 24, 14), (82, 54, 30), (84, 96, 62), (90, 120, 140))
EYE, CHEEK = (0.32, -0.20), (0.44, 0.06)  # landmarks of the mean head: |x|, y
LIP = np.array([0.82, 0.44, 0.46], np.float32)  # reflectance of lips relative to skin
ROUGE = np.array([0.80, 0.24, 0.28], np.float32)  # reflectance of lips with make-up relative to skin
BLOOD = np.array([0.25, 1.0, 0.8], np.float32)  # absorption of the redder patches of skin
MELANIN = np.array([0.5, 0.8, 1.0], np.float32)
SCLERA = np.array([0.26, 0.215, 0.19], np.float32)
DARK = np.array([0.012, 0.009, 0.008], np.float32)


def look_up(rows, index):
    """Interpolates a colour table [n, 3] at a fractional index."""
    return jnp.stack([jnp.interp(index, jnp.arange(len(rows)), channel) for channel in rows.T])


def over(colour, mask, below):
    """Blends `colour` ([3] or [h, w, 3]) with opacity `mask` [h, w] over `below` [h, w, 3]."""
    return below + mask[..., None] * (colour - below)


def stream(who, number: int):
    """Returns the seed of a person's texture `number`."""
    return fold(who["seed"], number)


def wrinkles(who, now, x, y):
    """Depth [h, w] of wrinkles from age and expression: forehead, glabella, eye corners, bags, smile folds."""
    side, eye, age = jnp.abs(x), EYE, who["age"]
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


def skin(who, now, x, y, z):
    """Returns skin [h, w, 3] and its relief [h, w] in about [-1, 1]: blotches, pores, freckles, moles, wrinkles."""
    side, eye, cheek = jnp.abs(x), EYE, CHEEK
    across = 0.9 * jnp.arctan2(x, jnp.maximum(z, -0.2) + 0.35)  # along the skin around the sides
    knots = jnp.array([3.0, 8.0, 9.0, 21.0, 40.0, 75.0])[:, None, None]  # per head unit
    coarse, middle, spots, patch, pore, fine = value_noise(stream(who, 1), knots * across, knots * y)
    blotch = coarse + 0.6 * middle
    fleck = jnp.maximum(patch + 0.4 * pore - 0.55, 0.0) * who["freckles"] ** 2 * bell(side / 0.45)
    fleck *= bell((y - 0.05) / 0.25)
    mole = ramp(spots - 0.97, 0.06)
    flush = bell((side - cheek[0] + 0.06) / 0.2) * bell((y - cheek[1] - 0.14) / 0.17)
    flush = (1.0 + 0.8 * who["make_up"]) * flush + 0.9 * bell(x / 0.13) * bell((y - 0.24) / 0.12)
    flush += 0.4 * bell(x / 0.2) * bell((y - 0.86) / 0.12)
    tired = bell((side - eye[0] + 0.05) / 0.14) * bell((y - eye[1] - 0.12) / 0.055) * (0.12 + 0.30 * who["age"])
    socket = bell((side - eye[0]) / 0.2) * bell((y - eye[1] + 0.06) / 0.08)
    lines = wrinkles(who, now, x, y)
    age_spots = jnp.maximum(middle * patch - 0.35, 0.0) * 1.5 * jnp.maximum(who["age"] - 0.5, 0.0)
    blood = who["mottle"] * (0.08 * blotch + 0.05 * patch) + 0.19 * flush * (1.0 - 0.12 * who["tone"]) + 0.08 * socket
    melanin = who["mottle"] * (0.05 * patch + 0.045 * pore + 0.03 * fine + 0.05 * blotch)
    melanin += 0.7 * fleck + 1.0 * mole + tired + 0.10 * socket + 0.28 * lines + age_spots
    base = look_up(SKIN, who["tone"]) * (1.0 + 0.07 * who["undertone"] * jnp.array([-0.3, 0.2, 1.0]))
    rough = pore + 0.8 * fine + 0.5 * patch - 2.2 * lines
    return base * jnp.exp(-blood[..., None] * BLOOD - melanin[..., None] * MELANIN), rough


def eyeball(who, u, v, pixel):
    """An eye [h, w, 3] at u, v (sines of the angles off the pupil; u grows to the right of the image, v down)."""
    radius = jnp.hypot(u, v)
    spokes = value_noise(stream(who, 7), 2.5 * jnp.arctan2(v, u + 1e-6) + 9.0, 9.0 * radius)
    ring = 1.0 - 0.60 * ramp(radius - 0.30, 0.09)
    iris = look_up(IRIS, jnp.minimum(who["iris"], 3.2 - who["tone"])) * ((1.0 + 0.35 * spokes) * ring)[..., None]
    iris *= (0.8 + 1.2 * jnp.clip(v, -0.2, 0.4))[..., None]  # the cornea focuses light in the lower part
    veins = 0.25 + 0.5 * value_noise(stream(who, 5), 14.0 * u, 60.0 * v)
    ball = (
        SCLERA * (1.0 - 0.25 * radius**2)[..., None] * jnp.exp(-(0.9 * radius**2 * jnp.abs(veins))[..., None] * BLOOD)
    )
    soft = pixel / 0.17
    ball = over(iris, ramp(0.35 - radius, soft + 0.05), ball)
    return over(DARK, ramp(0.135 - radius, soft + 0.04), ball)


def mouth(who, x, y, lips, teeth, below):
    """Draws lips, by their weight `lips`, and teeth over `below`."""
    creases = value_noise(stream(who, 8), 70.0 * x, 9.0 * y)
    pigment = LIP + (ROUGE - LIP) * ramp(who["make_up"] - 0.6, 0.5)
    red = below * (1.0 + who["lip_red"] * (pigment - 1.0)) * (0.95 + 0.08 * creases)[..., None]
    red *= (1.0 - 0.15 * ramp(0.56 - y, 0.03))[..., None]  # the upper lip is darker
    out = over(red, 0.92 * ramp(lips - 0.45, 0.5), below)
    grooves = 1.0 - 0.35 * bell((jnp.abs(jnp.mod(x, 0.078) - 0.039) - 0.039) / 0.006)
    return over(jnp.array([0.52, 0.46, 0.37]) * grooves[..., None], teeth, out)


def lids(who, x, y, lid, below):
    """Draws lids over `below`: redder, thinner skin, with make-up where it is worn."""
    side = jnp.abs(x)
    shadow = lid * (y < EYE[1]) * who["make_up"] ** 2
    shadow = shadow + 0.5 * who["make_up"] ** 2 * bell((y - EYE[1] + 0.09) / 0.04) * bell((side - EYE[0]) / 0.12)
    return below * (1.0 - 0.10 * lid - 0.30 * shadow)[..., None] * jnp.exp(-0.18 * lid[..., None] * BLOOD)


def glasses(who, x, y, pixel, below):
    """Draws the frame of glasses over `below`, if worn; also returns the mask [h, w] of the lenses.

    The frame shades the skin just below it. x and y are coordinates in the plane of the lenses, scaled so that the eyes
    are at EYE.
    """
    side, eye, worn = jnp.abs(x), EYE, who["glasses"] > 0.75
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
