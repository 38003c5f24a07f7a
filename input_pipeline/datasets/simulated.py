"""Faces and attacks drawn by `input_pipeline.simulate` in the shape of OULU-NPU: no raw data, no download.

Instruments and cameras are sampled physically, and four further domains rehearse protocols across data sets.
Videos are named `P_S_UU_A` and users 1-20 train, 21-35 dev, 36-55 test as of OULU-NPU; as many more as are asked for
train, too. Pictures are face crops already.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline.datasets.oulu import SPECIES
from input_pipeline.schema import LIVE, Frame, Presentation
from input_pipeline.simulate import domains as families
from input_pipeline.simulate import scene

VERSION = "-r7"  # of the renderer: records of another one are not taken for these
USERS, PHONES, SESSIONS = (tuple(range(1, n + 1)) for n in (scene.USERS, scene.PHONES, scene.SESSIONS))
PEOPLE = tuple(range(1, scene.PEOPLE + 1))


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
    domains: Sequence[str] = ("simulated",),
) -> Iterator[Presentation]:
    """The simulated set: five videos for each of `users`, `phones` and `sessions`, `frames` pictures each.

    Options: `size` is the side of a picture in pixels, `seed` picks another set of people and pictures, `cue` (0 to 1)
    is how much an attack looks like one (`scene.render`), `users` go up to 999: those from 56 on train. `raw_dir` is
    not used. `load()` renders a video's pictures together with those of its neighbours, which are kept for a while;
    their bytes depend on the options and their own name alone. `domains` (of `simulate.domains.DOMAINS`) rehearse
    protocols across data sets: each has `users` of its own, who are named by the domain's number too ('2007'; videos
    'simulated-casia/1_1_07_1'), and families of cameras, lights and instruments of its own. ValueError for an option
    out of range.
    """
    check(size, frames, cue, users, phones, sessions)
    if not domains or len(set(domains)) < len(domains):
        raise ValueError(f"simulated: domains must be distinct names, got {tuple(domains)}")
    for domain in [families.number(name) for name in domains]:
        everyone = itertools.product(users, phones, sessions, SPECIES)
        while videos := tuple(itertools.islice(everyone, max(1, scene.REQUEST // frames))):
            pictures = tuple((*video, frame) for video in videos for frame in range(frames))
            for position, video in enumerate(videos):
                load = functools.partial(rendered, pictures, position * frames, frames, size, seed, cue, domain)
                yield _presentation(video, frames, load, domain)


def check(size, frames, cue, users, phones, sessions) -> None:
    """ValueError, naming the option, for one that is out of range."""
    for name, given, known in (("users", users, PEOPLE), ("phones", phones, PHONES), ("sessions", sessions, SESSIONS)):
        if not given or not set(given) <= set(known) or len(set(given)) < len(given):
            raise ValueError(f"simulated: {name} must be distinct numbers in 1..{known[-1]}, got {tuple(given)}")
    if frames < 1 or size < scene.SMALLEST or not 0.0 <= cue <= 1.0:
        raise ValueError(
            f"simulated: expected frames >= 1, size >= {scene.SMALLEST} and cue in 0..1, "
            f"got frames={frames}, size={size}, cue={cue}"
        )


def rendered(
    pictures, first: int, count: int, size: int, seed: int, cue: float = 1.0, domain: int = 0
) -> Iterator[Frame]:
    """`count` frames from position `first` on of `pictures`, a tuple of (user, phone, session, access, frame).

    All of `pictures`, best `scene.REQUEST` of them, are rendered at once and kept for those who ask next.
    """
    for number in range(count):
        yield Frame(number, _chunk(pictures, size, seed, cue, domain)[first + number])


@functools.lru_cache(maxsize=2)
def _chunk(pictures, size: int, seed: int, cue: float, domain: int) -> np.ndarray:
    return scene.render(*np.array(pictures).T, size=size, seed=seed, cue=cue, domain=domain)


def _presentation(number: tuple[int, int, int, int], frames: int, load, domain: int) -> Presentation:
    user, phone, session, access = number
    name, video = families.DOMAINS[domain], f"{phone}_{session}_{user:02d}_{access}"
    video = f"{name}/{video}" if domain else video
    return Presentation(
        path=video,
        dataset="simulated",
        domain=name,
        subject=f"{1000 * domain + user:02d}",
        video=video,
        species="cut" if (name, access) == families.CUT else SPECIES[access],
        load=load,
        frames=frames,
        split="train" if user <= 20 or user > scene.USERS else "dev" if user <= 35 else "test",
        session=str(session),
        sensor=str(phone),
        medium="" if SPECIES[access] == LIVE else SPECIES[access][-1],
        cropped=True,
    )
