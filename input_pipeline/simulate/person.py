"""Who is in the picture, and what the face does in one frame: every parameter of a head, drawn from a key.

Head coordinates: x to the right of the picture, y down, z towards the viewer, the origin between the eyes and the tip
of the nose; the chin is at y = 1 for the mean person. All shapes and ranges are our own choice [C].
"""

import jax.numpy as jnp

from input_pipeline.simulate.noise import draw, fold, white

# Relief on the ellipsoids of the head, and so the landmarks too: x, y, width, height, amount of Gaussian bumps.
# A row stands for its mirror image as well (|x| is used).
RELIEF = {
    "brow_ridge": (0.30, -0.40, 0.20, 0.08, 0.050),
    "socket": (0.29, -0.22, 0.16, 0.10, -0.110),
    "eye": (0.31, -0.20, 0.11, 0.08, 0.065),
    "bridge": (0.00, -0.10, 0.085, 0.26, 0.150),
    "nose_tip": (0.00, 0.22, 0.095, 0.12, 0.220),
    "nose_wing": (0.12, 0.27, 0.055, 0.06, 0.095),
    "nose_base": (0.00, 0.37, 0.15, 0.04, -0.030),
    "philtrum": (0.00, 0.43, 0.03, 0.05, -0.018),
    "cheekbone": (0.46, 0.06, 0.17, 0.14, 0.055),
    "cheek": (0.36, 0.30, 0.15, 0.14, 0.030),
    "fold": (0.27, 0.38, 0.045, 0.14, -0.022),
    "upper_lip": (0.00, 0.50, 0.19, 0.035, 0.050),
    "lips": (0.00, 0.55, 0.14, 0.020, -0.030),
    "lower_lip": (0.00, 0.61, 0.17, 0.045, 0.055),
    "chin_groove": (0.00, 0.71, 0.15, 0.05, -0.045),
    "chin": (0.00, 0.86, 0.17, 0.11, 0.085),
    "temple": (0.70, -0.42, 0.12, 0.20, -0.040),
    "hollow": (0.52, 0.42, 0.14, 0.18, -0.030),
}
ROW = {name: i for i, name in enumerate(RELIEF)}
SPREAD = jnp.array([0.015, 0.015, 0.10, 0.10, 0.22])  # between persons: of x and y absolute, of the others relative

PERSON = {
    "tone": (0.0, 4.6),  # index into albedo.SKIN
    "undertone": (-1.0, 1.0),
    "age": (0.0, 1.0),
    "masculine": (0.0, 1.0),
    "width": (0.93, 1.07),
    "jaw": (0.86, 1.12),
    "crown": (0.94, 1.06),
    "hair_tone": (0.0, 4.6),  # index into albedo.HAIR
    "hair_style": (0.0, 1.0),  # below 0.10 bald or shaved, up to 0.55 short, then half-long and long
    "hair_volume": (0.04, 0.13),
    "hairline": (-0.90, -0.70),
    "parting": (-0.5, 0.5),
    "fringe": (0.0, 1.0),  # above 0.7 the hair falls over the forehead
    "beard": (0.0, 1.0),
    "glasses": (0.0, 1.0),  # above 0.75 worn
    "rim": (0.02, 0.045),
    "freckles": (0.0, 1.0),
    "mottle": (0.5, 1.3),
    "shine": (0.03, 0.16),
    "brow_weight": (0.7, 1.3),
    "brow_arch": (0.02, 0.07),
    "lip_fullness": (0.75, 1.3),
    "lip_red": (0.5, 1.1),
    "mouth_width": (0.23, 0.29),
    "eye_size": (0.90, 1.15),
    "eye_tilt": (-0.06, 0.14),
    "eye_open": (0.32, 0.50),
    "iris": (-2.0, 3.0),  # index into albedo.IRIS, below 0 as 0; darker with darker skin
}

# One frame's pose (radians; yaw to the right of the picture, pitch down, roll clockwise), framing and expression.
POSE = {"yaw": (-0.30, 0.30), "pitch": (-0.16, 0.16), "roll": (-0.12, 0.12)}
FRAMING = {"zoom": (0.94, 1.08), "shift_x": (-0.05, 0.05), "shift_y": (-0.05, 0.05)}
EXPRESSION = {
    "open_mouth": (-0.8, 0.8),  # parted above 0
    "smile": (-0.3, 1.0),
    "brow_raise": (-0.5, 1.0),
    "blink": (-2.0, 0.4),  # lids lowered above 0
    "gaze_x": (-0.05, 0.05),
    "gaze_y": (-0.025, 0.025),
}
CLOTHES = {"lightness": (0.03, 0.55), "red": (-0.4, 0.5), "blue": (-0.4, 0.5), "collar": (1.02, 1.2)}


def person(key) -> dict:
    """One identity: the values of PERSON, the relief [rows of RELIEF, 5] and a uint32 seed of its skin and hair."""
    mean = jnp.array(list(RELIEF.values()))
    jitter = SPREAD * white(fold(key, 0), mean.shape)
    own = jnp.concatenate([mean[:, :2] + jitter[:, :2], mean[:, 2:] * (1.0 + jitter[:, 2:])], axis=1)
    own = own.at[:, 0].multiply(mean[:, 0] > 0)  # what lies on the midline stays there
    return {**draw(fold(key, 1), PERSON), "relief": own, "seed": fold(key, 2)}


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
    down = {
        "lower_lip": gap,
        "chin_groove": gap,
        "chin": gap,
        "lips": 0.5 * gap,
        "brow_ridge": -0.03 * now["brow_raise"],
    }
    rows = jnp.array([ROW[name] for name in down])
    relief = relief.at[rows, 1].add(jnp.stack(list(down.values())))
    smile = jnp.maximum(now["smile"], 0.0)
    return relief.at[jnp.array([ROW["cheek"], ROW["fold"]]), 4].add(jnp.array([0.035, -0.02]) * smile)
