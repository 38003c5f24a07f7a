"""Who is in the picture, and what the face does in one frame: every parameter of a head, drawn from a key.

Head coordinates: x to the right of the picture, y down, z towards the viewer, the origin between the eyes and the tip
of the nose; the chin is at y = 1 for the mean person, so that a unit is about 96 mm. All shapes and ranges are our own
choice [C], after the proportions of adults (pupils 63 mm apart, mouth 50 mm, nose 35 mm, chin 115 mm below the eyes).
"""

import jax.numpy as jnp
import numpy as np

from input_pipeline.simulate.noise import draw, fold, ramp, uniform, white

# Relief on the ellipsoids of the head, and so the landmarks too: x, y, width, height, amount of Gaussian bumps.
# A row stands for its mirror image as well (|x| is used).
RELIEF = {
    "forehead": (0.22, -0.66, 0.22, 0.14, 0.030),
    "brow_ridge": (0.30, -0.40, 0.20, 0.07, 0.055),
    "glabella": (0.00, -0.40, 0.09, 0.10, 0.020),
    "socket": (0.27, -0.22, 0.17, 0.10, -0.125),
    "corner": (0.13, -0.20, 0.05, 0.08, -0.045),
    "eye": (0.32, -0.20, 0.11, 0.075, 0.070),
    "bag": (0.30, -0.06, 0.13, 0.030, 0.010),
    "bridge": (0.00, -0.10, 0.075, 0.26, 0.150),
    "nose_tip": (0.00, 0.22, 0.090, 0.11, 0.210),
    "nose_wing": (0.12, 0.27, 0.052, 0.06, 0.105),
    "nose_base": (0.00, 0.37, 0.15, 0.04, -0.035),
    "philtrum": (0.00, 0.43, 0.03, 0.05, -0.018),
    "cheekbone": (0.46, 0.04, 0.17, 0.14, 0.055),
    "cheek": (0.36, 0.30, 0.15, 0.14, 0.030),
    "fold": (0.27, 0.38, 0.045, 0.14, -0.022),
    "corner_of_mouth": (0.30, 0.57, 0.05, 0.06, -0.020),
    "upper_lip": (0.00, 0.50, 0.19, 0.035, 0.055),
    "lips": (0.00, 0.55, 0.14, 0.020, -0.035),
    "lower_lip": (0.00, 0.61, 0.16, 0.045, 0.060),
    "chin_groove": (0.00, 0.71, 0.15, 0.05, -0.050),
    "chin": (0.00, 0.86, 0.17, 0.11, 0.085),
    "jowl": (0.44, 0.66, 0.12, 0.12, 0.000),
    "temple": (0.70, -0.42, 0.12, 0.20, -0.040),
    "hollow": (0.52, 0.42, 0.14, 0.18, -0.030),
}
ROW = {name: i for i, name in enumerate(RELIEF)}
SPREAD = np.array(
    [0.018, 0.018, 0.13, 0.12, 0.26], np.float32
)  # between persons: of x and y absolute, of the others relative
# What years and sex add to the amounts, at age 1 and masculine 1 (0 at 0).
AGED = {"bag": 0.030, "fold": -0.030, "cheek": -0.020, "jowl": 0.035, "hollow": -0.015, "corner_of_mouth": -0.015}
MASCULINE = {"brow_ridge": 0.030, "glabella": 0.015, "bridge": 0.015, "chin": 0.020, "cheek": -0.015, "jowl": 0.015}

PERSON = {
    "tone": (0.0, 4.6),  # index into albedo.SKIN
    "undertone": (-1.0, 1.0),
    "age": (0.0, 1.0),  # about 18 to 75 years
    "masculine": (0.0, 1.0),
    "width": (0.92, 1.08),
    "jaw": (0.84, 1.12),
    "crown": (0.94, 1.06),
    "hair_tone": (0.0, 3.9),  # index into hair.HAIR
    "grey": (0.0, 1.0),  # how early the hair turns grey
    "hair_style": (0.0, 1.0),  # below 0.10 bald or shaved, up to 0.55 short, then half-long and long
    "hair_volume": (0.04, 0.13),
    "wave": (0.0, 1.0),
    "hairline": (-0.90, -0.68),
    "parting": (-0.5, 0.5),
    "fringe": (0.0, 1.0),  # above 0.7 the hair falls over the forehead
    "beard": (0.0, 1.0),
    "glasses": (0.0, 1.0),  # above 0.75 worn
    "rim": (0.012, 0.040),
    "lens": (2.0, 5.0),  # from round to rectangular
    "make_up": (0.0, 1.0),
    "freckles": (0.0, 1.0),
    "mottle": (0.5, 1.3),
    "shine": (0.25, 1.0),
    "brow_weight": (0.7, 1.3),
    "brow_arch": (0.02, 0.07),
    "lip_fullness": (0.70, 1.3),
    "lip_red": (0.7, 1.15),
    "mouth_width": (0.235, 0.295),
    "eye_size": (0.92, 1.12),
    "eye_tilt": (-0.06, 0.10),
    "eye_open": (0.36, 0.54),
    "iris": (-2.0, 3.0),  # index into albedo.IRIS, below 0 as 0; darker with darker skin
}

# One frame's pose (radians; yaw to the right of the picture, pitch down, roll clockwise), framing and expression.
POSE = {"yaw": (-0.32, 0.32), "pitch": (-0.16, 0.16), "roll": (-0.12, 0.12)}
FRAMING = {"zoom": (0.88, 1.08), "shift_x": (-0.06, 0.06), "shift_y": (-0.06, 0.06)}
EXPRESSION = {
    "open_mouth": (-0.8, 0.8),  # parted above 0
    "smile": (-0.4, 1.0),
    "brow_raise": (-0.5, 1.0),
    "blink": (-2.0, 0.4),  # lids lowered above 0
    "gaze_x": (-0.04, 0.04),
    "gaze_y": (-0.02, 0.02),
}
CLOTHES = {
    "lightness": (0.03, 0.60),
    "red": (-0.4, 0.5),
    "blue": (-0.4, 0.5),
    "collar": (1.02, 1.2),
    "open": (0.0, 1.0),  # above 0.6 an open shirt collar rather than a round one
    "stripes": (0.0, 1.0),  # above 0.7 striped
    "folds": (0.3, 1.0),
}


def person(key) -> dict:
    """One identity: the values of PERSON, the relief [rows of RELIEF, 5], the warp that makes the halves of the face
    unequal [2, 4] and a uint32 seed of its skin and hair.

    Hair and age go together as they do in people: darker skin has darker hair, women seldom go bald, and beards and
    make-up are left to one half (`beard` and `make_up` are 0 on the other).
    """
    mean = jnp.array(list(RELIEF.values()))
    jitter = SPREAD * white(fold(key, 0), mean.shape)
    own = jnp.concatenate([mean[:, :2] + jitter[:, :2], mean[:, 2:] * (1.0 + jitter[:, 2:])], axis=1)
    own = own.at[:, 0].multiply(mean[:, 0] > 0)  # what lies on the midline stays there
    who = draw(fold(key, 1), PERSON)
    who["masculine"] = ramp(who["masculine"] - 0.5, 0.35)  # few are in between
    man = who["masculine"] > 0.5
    for table, amount in ((AGED, who["age"]), (MASCULINE, who["masculine"])):
        rows = jnp.array([ROW[name] for name in table])
        own = own.at[rows, 4].add(amount * jnp.array(list(table.values())))
    who["hair_tone"] = jnp.minimum(who["hair_tone"], jnp.maximum(4.2 - 1.3 * who["tone"], 0.7))
    who["grey"] = ramp(who["age"] - 0.60 - 0.5 * who["grey"], 0.25)
    who["hair_style"] = jnp.where(man, 0.62 * who["hair_style"], 0.25 + 0.75 * who["hair_style"])
    who["beard"] = who["beard"] * man
    who["make_up"] = who["make_up"] * ~man
    warp = uniform(fold(key, 3), (2, 4), jnp.array([-0.03, -0.016, -0.016, 0.0]), jnp.array([0.03, 0.016, 0.016, 6.28]))
    return who | {"relief": own, "warp": warp, "seed": fold(key, 2)}


def moment(key, frame, shown) -> dict:
    """Pose, framing and expression of one frame: its video's own (`key`), and a third as much again that changes by
    frame.

    The framing follows `frame`, for a phone is never still; pose and expression follow `shown`, the frame of the
    person's own movement, which a printed picture does not have.
    """
    ranges = POSE | FRAMING | EXPRESSION
    video = draw(fold(key, 0), ranges)
    moving = draw(fold(key, 1, shown), POSE | EXPRESSION) | draw(fold(key, 2, frame), FRAMING)
    return {name: video[name] + (moving[name] - 0.5 * (low + high)) / 3.0 for name, (low, high) in ranges.items()}


def landmarks(who: dict, now: dict):
    """The relief of a person [rows, 5] under the expression of a moment."""
    relief = who["relief"]
    gap = 0.12 * jnp.maximum(now["open_mouth"], 0.0)
    smile = jnp.maximum(now["smile"], 0.0)
    down = {
        "lower_lip": gap,
        "chin_groove": gap,
        "chin": gap,
        "lips": 0.5 * gap,
        "brow_ridge": -0.03 * now["brow_raise"],
        "corner_of_mouth": -0.05 * smile,
        "cheek": -0.05 * smile,
    }
    rows = jnp.array([ROW[name] for name in down])
    relief = relief.at[rows, 1].add(jnp.stack(list(down.values())))
    lifted = {"cheek": 0.045, "fold": -0.025, "corner_of_mouth": -0.02, "bag": 0.012}
    rows = jnp.array([ROW[name] for name in lifted])
    return relief.at[rows, 4].add(smile * jnp.array(list(lifted.values())))
