"""Live pictures of the same people in which one factor is another: what a renderer can do and no camera can.

All else stays as it is, to the draws of the camera's noise. [C]: the factors and their values are our own choice.
"""

from collections.abc import Iterator

import numpy as np

from input_pipeline.simulate.devices import cameras, optics, pictures
from input_pipeline.simulate.wild import stage

AS_IS = "as drawn"
# Factor -> value -> changes of person or moment (`stage.shoot`).
FACES = {
    "skin tone": {"light": {"tone": 0.4}, "medium": {"tone": 2.2}, "dark": {"tone": 4.2}},
    "age": {"20 years": {"age": 0.05}, "70 years": {"age": 0.95}},
    "sex": {"female": {"masculine": 0.0, "beard": 0.0}, "male": {"masculine": 1.0, "make_up": 0.0}},
    "glasses": {"none": {"glasses": 0.0}, "worn": {"glasses": 1.0}},
    "beard": {"none": {"beard": 0.0}, "full": {"beard": 0.95}},
    "hair": {"shaved": {"hair_style": 0.05}, "short": {"hair_style": 0.4}, "long": {"hair_style": 0.9}},
    "pose": {"frontal": {"yaw": 0.0, "pitch": 0.0}, "turned": {"yaw": 0.35}, "bowed": {"pitch": 0.25}},
    "distance": {"half a metre": {"distance": 5.0}, "one metre": {"distance": 10.0}},
    "smile": {"none": {"smile": -0.4}, "broad": {"smile": 1.0, "open_mouth": 0.3}},
}
CAMERAS = {family: 480 + number for number, family in enumerate(cameras.FAMILIES)}  # of test; numbers of `cameras`
FIRST = 72  # the first person of the first group of test


def people(number: int) -> np.ndarray:
    """Returns the numbers of `number` people of `simulated_wild`'s test split, a multiple of 8."""
    if number < 8 or number % 8:
        raise ValueError(f"counterfactual: {number} people; expected a multiple of 8")
    groups = FIRST + 80 * np.arange(number // 8)
    return (groups[:, None] + np.arange(8)).ravel()


def rendered(number: int, *, size: int, scale: float, seed: int = 0) -> Iterator[tuple[str, str, np.ndarray]]:
    """Yields (factor, value, pictures uint8 [number, size, size, 3]) of the same people, as drawn first.

    scale: side of the crop / longer side of the face box.
    """
    who = people(number)
    keys = [1000 * person for person in who]

    def shots(changes):
        return stage.shoot(who + 1, keys, seed=seed, size=224, split="test", changes=changes)

    def taken(scenes, camera):
        found = []
        for person, shot in zip(who, scenes, strict=True):
            rng = optics.generator(seed, 5, person)
            chosen = cameras.camera(480 + person % 120 if camera is None else camera)
            found.append(pictures.direct(shot, chosen, rng, size=size, margin=(scale, scale)).image)
        return np.stack(found)

    own = shots({})
    yield AS_IS, AS_IS, taken(own, None)
    for factor, values in FACES.items():
        for value, changes in values.items():
            yield factor, value, taken(shots(changes), None)
    for family, camera in CAMERAS.items():
        yield "camera", family, taken(own, camera)
