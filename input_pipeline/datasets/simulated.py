"""Rendered faces and attacks in the shape of OULU-NPU: no raw data, no download (`input_pipeline.simulate`).

Videos are named `P_S_UU_A`: phones 1-6, sessions 1-3, users 01-55, accesses 1 live, 2-3 print, 4-5 replay; users 1-20
train, 21-35 dev, 36-55 test. Pictures are face crops already, of about 1.3 x the face box.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline.schema import LIVE, Sample
from input_pipeline.simulate import scene

SPECIES = {1: LIVE, 2: "print1", 3: "print2", 4: "replay1", 5: "replay2"}
USERS, PHONES, SESSIONS = (tuple(range(1, n + 1)) for n in (scene.USERS, scene.PHONES, scene.SESSIONS))


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Pictures rendered together, when the first of them is asked for."""

    numbers: tuple[tuple[int, int, int, int, int], ...]  # user, phone, session, access, frame
    size: int
    seed: int
    cue: float

    @functools.cached_property
    def images(self) -> np.ndarray:
        return scene.render(*np.array(self.numbers).T, size=self.size, seed=self.seed, cue=self.cue)

    def image(self, position: int) -> np.ndarray:
        return self.images[position]


def read(
    raw_dir: str = "",
    *,
    size: int = 96,
    frames: int = 1,
    seed: int = 0,
    cue: float = 1.0,
    users: Sequence[int] = USERS,
    phones: Sequence[int] = PHONES,
    sessions: Sequence[int] = SESSIONS,
) -> Iterator[Sample]:
    """The rendered set: five videos for each of `users`, `phones` and `sessions`, `frames` pictures each.

    Options: `size` is the side of a picture in pixels, `seed` picks another set of people and pictures, `cue` (0 to 1)
    is how much an attack looks like one (`scene.render`). `raw_dir` is not used. A picture is rendered, with its
    neighbours, when its `load()` is first called; its bytes depend on the options and its own name alone. Raises
    ValueError for an option out of range.
    """
    check(size, frames, cue, users, phones, sessions)
    everyone = itertools.product(users, phones, sessions, SPECIES, range(frames))
    while numbers := tuple(itertools.islice(everyone, scene.CHUNK)):
        batch = _Batch(numbers, size, seed, cue)
        for position, number in enumerate(numbers):
            yield _sample(number, functools.partial(batch.image, position))


def count(
    raw_dir: str = "",
    *,
    frames: int = 1,
    users: Sequence[int] = USERS,
    phones: Sequence[int] = PHONES,
    sessions: Sequence[int] = SESSIONS,
    **_options,
) -> int:
    """How many samples `read` yields under the same options."""
    return len(users) * len(phones) * len(sessions) * len(SPECIES) * frames


def check(size, frames, cue, users, phones, sessions) -> None:
    """ValueError, naming the option, for one that is out of range."""
    for name, given, known in (("users", users, USERS), ("phones", phones, PHONES), ("sessions", sessions, SESSIONS)):
        if not given or not set(given) <= set(known) or len(set(given)) < len(given):
            raise ValueError(f"simulated: {name} must be distinct numbers in 1..{known[-1]}, got {tuple(given)}")
    if frames < 1 or size < scene.SMALLEST or not 0.0 <= cue <= 1.0:
        raise ValueError(
            f"simulated: expected frames >= 1, size >= {scene.SMALLEST} and cue in 0..1, "
            f"got frames={frames}, size={size}, cue={cue}"
        )


def _sample(number: tuple[int, int, int, int, int], load) -> Sample:
    user, phone, session, access, frame = number
    video = f"{phone}_{session}_{user:02d}_{access}"
    return Sample(
        key=f"simulated/{video}/{frame}",
        dataset="simulated",
        subject=f"{user:02d}",
        video=video,
        species=SPECIES[access],
        load=load,
        frame=frame,
        split="train" if user <= 20 else "dev" if user <= 35 else "test",
        session=str(session),
        sensor=str(phone),
        medium="" if access == 1 else SPECIES[access][-1],
        cropped=True,
    )
