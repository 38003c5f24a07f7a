"""Simulated faces, and attacks on them by many instruments and cameras; needs no raw data.

Scenes come from `input_pipeline.simulate.wild`, cameras and instruments from `input_pipeline.simulate.devices`. People,
places, cameras and instruments of train, dev and test are disjoint, so protocol 'official' measures
transfer to all of them at once. The images are already face crops. [C] marks our own choices.
"""

import functools
from collections.abc import Iterator, Sequence

import numpy as np

from input_pipeline import schema
from input_pipeline.schema import LIVE, Frame, Presentation
from input_pipeline.simulate.devices import cameras, framing, masks, optics, pictures
from input_pipeline.simulate.wild import stage

VERSION = "-w8"  # version of the renderer, in the name of the records' folder
GROUP = 8  # people who are rendered at once; the rooms of attacks are those of the other seven
SCENE = 224  # pixels along a side of a scene
SPLITS = ("train",) * 8 + ("dev", "test")  # of group n, by n % 10: 80/10/10 by people [C]
SPECIES = {"print": 0.42, "replay": 0.42, "cut": 0.16}  # shares of the attacks [C]
MASKED = 0.4  # share of the groups of dev and test with masks [C]
SPECIES_MASKED = {"print": 0.33, "replay": 0.33, "cut": 0.14, "mask": 0.2}
SMALLEST = 32


def read(
    raw_dir: str = "",
    *,
    size: int = 128,
    people: int = 160,
    first: int = 0,
    shots: int = 2,
    live: int = 3,
    attacks: int = 5,
    seed: int = 0,
    margin: Sequence[float] = (1.2, 1.5),
    masked: float = MASKED,
) -> Iterator[Presentation]:
    """Lists the pictures of the people `first` to `first + people - 1`, single images each.

    Args:
      raw_dir: not used.
      size: side of an image in pixels.
      people, first: how many people, and the number of the first, multiples of 8; of 80 people 64 train.
      shots: scenes per person, which differ in environment, clothes, pose and expression.
      live: live pictures per scene, by different cameras.
      attacks: attacks per scene: photographs of it in another scene's room, or its person's features as a mask.
      seed: selects another population.
      margin: range of the crop's side, in boxes of the face, before the error of the detector's box; within 1 to 2.7.
      masked: share of the groups of eight people who train with masks, one in five of their attacks, in [0, 1]. Each
        masked person is rendered once more. Dev and test do not depend on it.

    The column `session` holds the place, `sensor` the camera, `medium` the instrument, and `attributes` those of the
    person (`stage.attributes`). Eight people are rendered at once when loaded, and cached; the bytes depend only on
    person, scene, picture, `size`, `margin` and `seed`. Raises ValueError for an option out of range.
    """
    low, high = _margin(tuple(margin))
    _check(size, people, first, shots=shots, live=live, attacks=attacks, seed=seed, masked=masked)
    for group in range(first // GROUP, (first + people) // GROUP):
        for number in range(shots):
            members = range(group * GROUP, (group + 1) * GROUP)
            traits = stage.attributes([p + 1 for p in members], [_key(p, number) for p in members], seed=seed)
            for person, known in zip(members, traits, strict=True):
                for picture in range(live + attacks):
                    what = _drawn(person, number, picture, picture < live, seed, masked)
                    load = functools.partial(rendered, what, size=size, seed=seed, margin=(low, high))
                    yield _presentation(what, load, seed, known)


def rendered(what: tuple, *, size: int, seed: int, margin: tuple[float, float]) -> Iterator[Frame]:
    """Yields the only frame of a picture (`_drawn`), with its truth map."""
    person, number, picture, species, camera, instrument, source, room = what
    scenes = render_scenes(person // GROUP, number, seed, masked=species == "mask")
    rng = optics.generator(seed, 2, person, number, picture)
    shot, options = scenes[person % GROUP], {"size": size, "margin": margin}
    if species in (LIVE, "mask"):
        done = pictures.direct(shot, cameras.camera(camera), rng, **options)
    else:
        tool, by = pictures.instrument(species, instrument), cameras.camera(source)
        options |= {"source": by, "cut": species == "cut"}
        done = pictures.shown(shot, scenes[room], tool, cameras.camera(camera), rng, **options)
    yield Frame(0, done.image, truth=done.truth)


def split_of(person: int) -> str:
    """Returns the split of a person."""
    return SPLITS[person // GROUP % len(SPLITS)]


@functools.lru_cache(maxsize=4)
def render_scenes(group: int, number: int, seed: int, masked: bool):
    """Renders scene `number` of the eight people of a group: a list of `stage.Shot`. The last four are cached.

    masked: whether each person wears the mask with his features.
    """
    people = np.arange(group * GROUP, (group + 1) * GROUP)
    keys = [_key(person, number, masked) for person in people]
    worn = [masks.mask(_mask_of(person, number, seed)).values for person in people] if masked else None
    return stage.shoot(people + 1, keys, size=SCENE, seed=seed, split=split_of(people[0]), masks=worn)


def _key(person: int, number: int, masked: bool = False) -> int:
    return 1000 * int(person) + 500 * masked + number


def _mask_of(person: int, number: int, seed: int) -> int:
    """Draws the mask with the features of a person."""
    return int(optics.generator(seed, 3, person, number).choice(masks.PER_SPLIT[split_of(person)]))


def _shares(person: int, seed: int, masked: float) -> dict[str, float]:
    """Returns the shares of the species among the attacks of a person's group."""
    limit = masked if split_of(person) == "train" else MASKED
    return SPECIES_MASKED if optics.generator(seed, 4, person // GROUP).random() < limit else SPECIES


def _drawn(person: int, number: int, picture: int, is_live: bool, seed: int, masked: float) -> tuple:
    """Draws what is in a picture: person, scene, picture, species, camera, instrument, source camera, room."""
    rng, split = optics.generator(seed, 1, person, number, picture), split_of(person)
    shares = _shares(person, seed, masked)
    species = LIVE if is_live else str(rng.choice(list(shares), p=list(shares.values())))
    camera, source = (int(a) for a in rng.choice(cameras.PER_SPLIT[split], 2))
    room = (person + int(rng.integers(1, GROUP))) % GROUP
    tool = -1
    if species == "mask":
        tool = _mask_of(person, number, seed)
    elif not is_live:
        tool = int(rng.choice(pictures.NUMBERS[species][split]))
    return person, number, picture, species, camera, tool, source, room


def _check(size, people, first, *, shots, live, attacks, seed, masked) -> None:
    if not 0 <= masked <= 1:
        raise ValueError(f"simulated_wild: masked={masked}; expected a share of the groups, 0 to 1")
    if people < 1 or people % GROUP or first < 0 or first % GROUP:
        raise ValueError(f"simulated_wild: people and first must be multiples of {GROUP}, got {people} and {first}")
    if size < SMALLEST or not 1 <= shots <= 500 or live < 0 or attacks < 0 or live + attacks < 1 or seed < 0:
        raise ValueError(
            f"simulated_wild: expected size >= {SMALLEST}, shots 1 to 500, seed, live and attacks >= 0, not both 0; "
            f"got size={size}, shots={shots}, live={live}, attacks={attacks}, seed={seed}"
        )


def _margin(margin) -> tuple[float, float]:
    if len(margin) != 2 or not 1.0 <= margin[0] <= margin[1] <= framing.FULL:
        raise ValueError(f"simulated_wild: margin={margin}; expected (low, high) within 1 to {framing.FULL}")
    return margin


def _presentation(what: tuple, load, seed: int, traits: dict[str, int]) -> Presentation:
    person, number, picture, species, camera, instrument, _, room = what
    tool = "" if species == LIVE else pictures.instrument(species, instrument).name
    whose = person if species in (LIVE, "mask") else person // GROUP * GROUP + room
    where = stage.place(_key(whose, number, species == "mask"), seed, split_of(person)).name
    return Presentation(
        path=f"{person}_{number}_{picture}",
        dataset="simulated_wild",
        subject=str(person),
        video=f"{person}_{number}_{picture}",
        species=species,
        load=load,
        split=split_of(person),
        session=where,
        sensor=cameras.camera(camera).name,
        medium=tool,
        attributes=schema.attributes(traits),
        cropped=True,
        truth=True,
    )
