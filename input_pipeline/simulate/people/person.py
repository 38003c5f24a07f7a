"""Parameters of a person, and of pose, framing and expression in one frame, drawn from a key.

Head coordinates: x to the right of the image, y down, z towards the viewer, the origin between the eyes and the tip of
the nose; the chin of the mean person is at y = 1, so a unit is about 96 mm. Shapes come from a mesh (`head`); how far
people differ, and all other ranges, are our own choice [C].
"""

import jax.numpy as jnp

from input_pipeline.simulate.noise import draw, fold, ramp, white
from input_pipeline.simulate.people import head

VARIETY = 0.8  # factor on the spread of identities in `build_head`

PERSON = {
    "tone": (0.0, 4.6),  # index into albedo.SKIN
    "undertone": (-1.0, 1.0),
    "origin": (0.0, 1.0),  # above 0.65 the features of East Asia, below it features correlated with the tone
    "age": (0.0, 1.0),  # about 18 to 75 years
    "masculine": (0.0, 1.0),
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
    "lip_red": (0.7, 1.15),
    "iris": (-2.0, 3.0),  # index into albedo.IRIS, below 0 as 0; darker with darker skin
}

# One frame's pose (radians; yaw to the right of the picture, pitch down, roll clockwise), framing and expression.
POSE = {"yaw": (-0.32, 0.32), "pitch": (-0.16, 0.16), "roll": (-0.12, 0.12)}
FRAMING = {
    "zoom": (0.88, 1.08),
    "shift_x": (-0.06, 0.06),
    "shift_y": (-0.06, 0.06),
    "distance": (5.0, 10.0),  # of the camera, in head units: half a metre to one
}
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
    "collar": (1.10, 1.30),
    "open": (0.0, 1.0),  # above 0.6 an open shirt collar rather than a round one
    "stripes": (0.0, 1.0),  # above 0.7 striped
    "folds": (0.3, 1.0),
}


def person(key) -> dict:
    """Draws an identity: the values of PERSON, the shape `build` [head.BUILD] and a uint32 seed of skin and hair.

    Some parameters are correlated: darker skin has darker hair, women are seldom bald, men have no make-up and women no
    beard (`make_up` and `beard` are 0), hair turns grey with age, and features follow the tone of the skin loosely.
    """
    who = draw(fold(key, 1), PERSON)
    who["masculine"] = ramp(who["masculine"] - 0.5, 0.35)  # few values in between
    man = who["masculine"] > 0.5
    who["hair_tone"] = jnp.minimum(who["hair_tone"], jnp.maximum(4.2 - 1.3 * who["tone"], 0.7))
    who["grey"] = ramp(who["age"] - 0.60 - 0.5 * who["grey"], 0.25)
    who["hair_style"] = jnp.where(man, 0.62 * who["hair_style"], 0.25 + 0.75 * who["hair_style"])
    who["beard"] = who["beard"] * man
    who["make_up"] = who["make_up"] * ~man
    asian = (who["origin"] > 0.65) & (who["tone"] < 3.2)
    macro = {
        "masculine": 1.35 * (who["masculine"] - 0.5),
        "age": 0.60 * who["age"] ** 1.5 - 0.05,
        "african": jnp.where(asian, -0.2, 0.8 * ramp(who["tone"] - 2.9, 1.8) - 0.2),
        "asian": jnp.where(asian, 0.6, -0.3),
        "fat": 0.35 * white(fold(key, 3), ()) + 0.1,
    }
    own = VARIETY * jnp.clip(white(fold(key, 0), (head.COMPONENTS,)), -2.2, 2.2)
    build = jnp.concatenate([jnp.stack([macro[name] for name in head.MACRO]), own])
    return who | {"build": build, "seed": fold(key, 2)}


def moment(key, frame, shown) -> dict:
    """Draws pose, framing and expression of one frame: a draw per video (`key`) plus a third as much per frame.

    The framing changes with `frame`, as a phone is never still; pose and expression change with `shown`, the frame of
    the person's movement, which is constant for a print.
    """
    ranges = POSE | FRAMING | EXPRESSION
    video = draw(fold(key, 0), ranges)
    moving = draw(fold(key, 1, shown), POSE | EXPRESSION) | draw(fold(key, 2, frame), FRAMING)
    return {name: video[name] + (moving[name] - 0.5 * (low + high)) / 3.0 for name, (low, high) in ranges.items()}


def expression(now: dict):
    """Converts a moment's expression to amounts [len(head.EXPRESSION)] of the mesh's expressions."""
    smile, brows = jnp.maximum(now["smile"], 0.0), now["brow_raise"]
    parted = jnp.maximum(now["open_mouth"], 0.0)
    amount = {
        "jaw": 0.17 * parted,
        "part": 0.10 * parted + 0.12 * smile * smile,
        "smile": 0.06 + 0.50 * smile - 0.06 * jnp.maximum(-now["smile"], 0.0),
        "brow_raise": 0.5 * jnp.maximum(brows, 0.0),
        "frown": 0.35 * jnp.maximum(-brows, 0.0),
        "blink": 0.9 * jnp.clip(now["blink"], 0.0, 1.0) - 0.06,
        "squint": 0.25 * smile,
    }
    return jnp.stack([amount[name] for name in head.EXPRESSION])
