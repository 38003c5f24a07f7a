"""Live simulated faces sorted by identity, for recognition: no raw data, no download.

Every seed of the renderer (`input_pipeline.simulate`) gives 55 people here, as many as OULU-NPU has, and further seeds
give further people, as many as are asked for. As with `identity`, the label is -1: who trains on these asks who it is,
not whether it is live.
"""

import functools
import itertools
from collections.abc import Iterator

import numpy as np

from input_pipeline import schema
from input_pipeline.datasets import simulated
from input_pipeline.schema import UNKNOWN, Presentation
from input_pipeline.simulate import scene

VERSION = simulated.VERSION
LIVE_ACCESS = 1  # in OULU-NPU's numbering of accesses


def read(
    raw_dir: str = "", *, identities: int = 200, pictures: int = 12, size: int = 112, seed: int = 0, first: int = 0
) -> Iterator[Presentation]:
    """`pictures` live face crops of each of the people `first` to `first + identities - 1`, person after person.

    Options: `size` is the side of a picture in pixels; `seed` picks other people altogether, none of whom are those of
    the `simulated` set; `first` picks others of the same seed, so two ranges that do not meet share nobody. Pictures
    of a person differ in phone, session (light, clothes, room), pose and expression; `attributes` says what is drawn
    (`simulate.attributes`), from the numbers that the renderer draws with. Of ten people eight train, one is
    dev, one test, by the last digit of their number [C]. `raw_dir` is not used. Pictures are rendered with their
    neighbours when loaded; their bytes depend on person, picture, `size` and `seed` alone. ValueError for an option
    out of range.
    """
    if identities < 2 or pictures < 1 or size < scene.SMALLEST or seed < 0 or first < 0:
        raise ValueError(
            f"simulated_identity: expected identities >= 2, pictures >= 1, size >= {scene.SMALLEST}, seed >= 0 and "
            f"first >= 0, got identities={identities}, pictures={pictures}, size={size}, seed={seed}, first={first}"
        )
    people = range(first, first + identities)
    for group, members in itertools.groupby(people, lambda person: person // scene.USERS):
        wanted = itertools.product(members, range(pictures))
        while chunk := tuple(itertools.islice(wanted, scene.REQUEST)):
            numbers, group_seed = tuple(_numbers(*names) for names in chunk), _seed(seed, group)
            for position, (names, drawn) in enumerate(zip(chunk, _attributes(numbers, group_seed), strict=True)):
                load = functools.partial(simulated.rendered, numbers, position, 1, size, group_seed)
                yield _presentation(*names, load, drawn)


def _seed(seed: int, group: int) -> int:
    """The renderer's seed of the people 55 `group` to 55 `group` + 54: 32 bits that no other pair is likely to have."""
    return int(np.random.SeedSequence((seed, group)).generate_state(1)[0])


def _numbers(person: int, picture: int) -> tuple[int, int, int, int, int]:
    """(user, phone, session, access, frame) of a picture; the first 18 are all the pairs of phone and session."""
    phone, session = picture % scene.PHONES, (picture + picture // scene.PHONES) % scene.SESSIONS
    frame = picture // (scene.PHONES * scene.SESSIONS)
    return person % scene.USERS + 1, phone + 1, session + 1, LIVE_ACCESS, frame


def _attributes(numbers: tuple[tuple[int, ...], ...], seed: int) -> list[str]:
    """What is drawn in each of a chunk's pictures, as the column `attributes` holds it."""
    padded = np.resize(numbers, (scene.REQUEST, len(numbers[0])))  # one size: compiled once
    drawn = scene.attributes(*padded.T, seed=seed)
    pictures = zip(*(values[: len(numbers)].tolist() for values in drawn.values()), strict=True)
    return [schema.attributes(dict(zip(drawn, values, strict=True))) for values in pictures]


def _presentation(person: int, picture: int, load, attributes: str) -> Presentation:
    _, phone, session, _, _ = _numbers(person, picture)
    subject = f"{person:05d}"
    return Presentation(
        path=f"{subject}/{picture:03d}",
        dataset="simulated_identity",
        subject=subject,
        video=f"{subject}/{picture:03d}",
        species=UNKNOWN,
        load=load,
        split=schema.PERSON_SPLITS[person % len(schema.PERSON_SPLITS)],
        session=str(session),
        sensor=str(phone),
        attributes=attributes,
        cropped=True,
    )
