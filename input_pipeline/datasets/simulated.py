"""Faces and attacks rendered by `input_pipeline.simulate` in the structure of OULU-NPU; needs no raw data.

Attack instruments and cameras are sampled from physical models. Four further domains rehearse cross-domain protocols.
Videos are named `P_S_UU_A`, and users 1-20 train, 21-35 dev and 36-55 test, as in OULU-NPU; further users train. The
images are already face crops.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline.datasets.oulu import SPECIES
from input_pipeline.schema import LIVE, Frame, Presentation
from input_pipeline.simulate import domains as families
from input_pipeline.simulate import scene

VERSION = "-r7"  # version of the renderer, in the name of the records' folder
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
    """Lists the simulated set: five videos for each of `users`, `phones` and `sessions`, with `frames` frames each.

    Args:
      raw_dir: not used.
      size: side of an image in pixels.
      frames: frames per video.
      seed: selects another set of people and images.
      cue: strength of the attacks' artefacts in [0, 1] (`scene.render`).
      users: numbers in 1..999; users from 56 on train.
      phones, sessions: numbers of cameras and of recording sessions.
      domains: names of `simulate.domains.DOMAINS`, for cross-domain protocols. Each domain has different users, whose
        names include the number of the domain ('2007'; videos 'simulated-casia/1_1_07_1'), and different families of
        cameras, lights and instruments.

    `load()` renders the images of several neighbouring videos at once and caches them; their bytes depend only on the
    options and on the name of the video. Raises ValueError for an option out of range.
    """
    check(size, frames, cue, users, phones, sessions)
    if not domains or len(set(domains)) < len(domains):
        raise ValueError(f"simulated: domains={tuple(domains)}; expected distinct names")
    for domain in [families.number(name) for name in domains]:
        everyone = itertools.product(users, phones, sessions, SPECIES)
        while videos := tuple(itertools.islice(everyone, max(1, scene.REQUEST // frames))):
            pictures = tuple((*video, frame) for video in videos for frame in range(frames))
            for position, video in enumerate(videos):
                first, options = position * frames, {"cue": cue, "domain": domain}
                load = functools.partial(rendered, pictures, first, frames, size, seed, **options)
                yield _presentation(video, frames, load, domain)


def check(size, frames, cue, users, phones, sessions) -> None:
    """Raises ValueError, with the name, for an option out of range."""
    for name, given, known in (("users", users, PEOPLE), ("phones", phones, PHONES), ("sessions", sessions, SESSIONS)):
        if not given or not set(given) <= set(known) or len(set(given)) < len(given):
            raise ValueError(f"simulated: {name} must be distinct numbers in 1..{known[-1]}, got {tuple(given)}")
    if frames < 1 or size < scene.SMALLEST or not 0.0 <= cue <= 1.0:
        raise ValueError(
            f"simulated: expected frames >= 1, size >= {scene.SMALLEST} and cue in 0..1, "
            f"got frames={frames}, size={size}, cue={cue}"
        )


def rendered(
    pictures, first: int, count: int, size: int, seed: int, *, cue: float = 1.0, domain: int = 0
) -> Iterator[Frame]:
    """Yields `count` frames, from position `first`, of `pictures`, a tuple of (user, phone, session, access, frame).

    All of `pictures`, ideally `scene.REQUEST` of them, are rendered at once and cached for later calls.
    """
    for number in range(count):
        yield Frame(number, render_chunk(pictures, size, seed, cue, domain)[first + number])


@functools.lru_cache(maxsize=2)
def render_chunk(pictures, size: int, seed: int, cue: float, domain: int) -> np.ndarray:
    """Renders `pictures`, as of `rendered`, at once: uint8 [n, size, size, 3]. The last two results are cached."""
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
