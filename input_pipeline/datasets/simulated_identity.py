"""Live simulated faces sorted by identity, for recognition; needs no raw data.

Each seed of the renderer (`input_pipeline.simulate`) gives 55 people, as many as OULU-NPU has; further seeds give
further people. As in `identity`, the label is -1, because recognition does not use it. [C] marks our own choices.
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
    """Lists `pictures` live face crops of each of the people `first` to `first + identities - 1`, sorted by person.

    Args:
      raw_dir: not used.
      identities: number of people.
      pictures: images per person, which differ in phone, session (light, clothes, room), pose and expression.
      size: side of an image in pixels.
      seed: selects another population, which shares nobody with the `simulated` set.
      first: number of the first person; ranges of one seed that do not overlap share nobody.

    The column `attributes` holds the attributes with which a face is rendered (`scene.attributes`). People are split
    80/10/10 into train, dev and test by the last digit of their number [C]. Images are rendered in chunks when loaded;
    their bytes depend only on person, picture, `size` and `seed`. Raises ValueError for an option out of range.
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
            numbers, group_seed = tuple(numbers_of(*names) for names in chunk), seed_of_group(seed, group)
            for position, (names, drawn) in enumerate(zip(chunk, _attributes(numbers, group_seed), strict=True)):
                load = functools.partial(simulated.rendered, numbers, position, 1, size, group_seed)
                yield _presentation(*names, load, drawn)


def seed_of_group(seed: int, group: int) -> int:
    """Returns the renderer's 32-bit seed for the people 55 `group` to 55 `group` + 54, almost surely unique."""
    return int(np.random.SeedSequence((seed, group)).generate_state(1)[0])


def numbers_of(person: int, picture: int) -> tuple[int, int, int, int, int]:
    """Returns (user, phone, session, access, frame) of a picture; the first 18 have all pairs of phone and session."""
    phone, session = picture % scene.PHONES, (picture + picture // scene.PHONES) % scene.SESSIONS
    frame = picture // (scene.PHONES * scene.SESSIONS)
    return person % scene.USERS + 1, phone + 1, session + 1, LIVE_ACCESS, frame


def _attributes(numbers: tuple[tuple[int, ...], ...], seed: int) -> list[str]:
    """Returns the value of the column `attributes` for each picture of a chunk."""
    padded = np.resize(numbers, (scene.REQUEST, len(numbers[0])))  # a fixed size compiles only once
    drawn = scene.attributes(*padded.T, seed=seed)
    pictures = zip(*(values[: len(numbers)].tolist() for values in drawn.values()), strict=True)
    return [schema.attributes(dict(zip(drawn, values, strict=True))) for values in pictures]


def _presentation(person: int, picture: int, load, attributes: str) -> Presentation:
    _, phone, session, _, _ = numbers_of(person, picture)
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
