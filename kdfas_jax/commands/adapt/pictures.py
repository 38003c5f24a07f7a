"""The raw data of data set `camera`: face crops of a user's pictures, divided into splits, and simulated attacks.

Files are named by a digest of their pixels, so that the same pictures give the same files, and those of two cameras
have different names, by which `provenance` tells them apart. [C] marks our own choices.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from input_pipeline.prepare import crops, faces
from input_pipeline.schema import LIVE
from input_pipeline.simulate.capture import attack
from input_pipeline.sources import inputs, screen

LEAST = 10  # faces below which a threshold says nothing [C]
PEOPLE = 4  # from which splits are made by people [C]
HELD_OUT = 0.25  # share of the people, or of the pictures, that are dev; as many are test [C]
ATTACKS = 8  # simulated from each live picture, half of them prints [C]
RECAPTURES = 3  # of each live training picture, by cameras like those of the attacks, without an instrument [C]
SPLITS = ("train", "dev", "test")
SPOOF = "spoof"  # the folder of real attacks


class Picture(NamedTuple):
    """A face: its `crop`, uint8 [s, s, 3], its `species`, and the `person`, or picture, that stays in one split."""

    crop: np.ndarray
    species: str
    person: str

    @property
    def digest(self) -> str:
        """Ten hex digits that stand for the pixels."""
        return hashlib.sha256(self.crop.tobytes()).hexdigest()[:10]


class Found(NamedTuple):
    """The faces in a user's pictures: `live` ones and real `attacks`, and how many pictures had no usable face."""

    live: list[Picture]
    attacks: list[Picture]
    without: int


def find(folder: str, recipe: crops.Recipe, frames: int) -> Found:
    """Returns the largest face of each picture below `folder`, cropped by `recipe`, in the order of the names.

    FOLDER/spoof/SPECIES/ holds real attacks, if there are any, and FOLDER/live/ or the rest of the folder live
    pictures. Of a video `frames` frames are taken; `folder` may be a video. The folder of a picture below FOLDER names
    the person.

    ValueError, with what was found, for fewer than `LEAST` live faces; FileNotFoundError where there is no `folder`.
    """
    inputs.check([folder])
    spoof, live = os.path.join(folder, SPOOF), os.path.join(folder, "live")
    live = live if os.path.isdir(live) else folder
    given = [of for of in inputs.find([live], frames) if not of.name.startswith(spoof + os.sep)]
    real = inputs.find([spoof], frames) if os.path.isdir(spoof) else []
    faces_live, missed = _faces(given, live, LIVE, recipe)
    attacks, more = _faces(real, spoof, "", recipe)
    if len(faces_live) < LEAST:
        also = f", and {len(attacks)} attacks" if attacks else ""
        raise ValueError(
            f"--input={folder}: found {len(faces_live)} live faces in {len(faces_live) + missed} pictures or frames"
            f"{also}; expected {LEAST} or more, better 30: add pictures of people in front of this camera"
        )
    return Found(faces_live, attacks, missed + more)


def write(found: Found, root: str, *, train: bool, seed: int) -> dict[str, dict[str, int]]:
    """Writes `found` and the attacks that are simulated from its live faces below `root` (`datasets.camera`).

    train: whether there is a training; else the train split has one live face, as a run must have one, and all others
    are dev and test. Returns {split: {species: pictures}}. ValueError where `root` holds other pictures.
    """
    live, split_of = _divided(found.live, {}, train=train)
    splits = {split: [] for split in SPLITS}
    for species in sorted({of.species for of in found.attacks}):
        own, _ = _divided([of for of in found.attacks if of.species == species], split_of, train=train)
        for split, part in own.items():
            splits[split] += part
    for split, part in live.items():
        splits[split] += [*part, *_simulated(part, seed)]
        if split == "train" and train:
            splits[split] += _recaptured(part, seed)
    distinct = {split: {_name(of): of for of in pictures} for split, pictures in splits.items()}
    _write({os.path.join(split, name): of.crop for split, own in distinct.items() for name, of in own.items()}, root)
    return {split: _counted(own.values()) for split, own in distinct.items()}


def _faces(given: Sequence[inputs.Input], root: str, species: str, recipe: crops.Recipe) -> tuple[list[Picture], int]:
    """Returns the faces of `given`, and how many pictures had none; without `species` their first folder names it."""
    found, missed = [], 0
    for name, image in _images(given):
        if image is None:
            missed += 1
            continue
        (face,) = faces.detect([image])
        if face is None:
            screen.note(f"{name}: no face found")
            missed += 1
            continue
        crop = faces.cut(image, face, scale=recipe.scale, size=recipe.record_size, aligned=recipe.align)
        folders = os.path.relpath(name, root).split(os.sep)[:-1]
        kind = species or (folders.pop(0) if folders else "attack")
        found.append(Picture(crop, kind, re.sub(r"[^\w.-]+", "_", "-".join(folders))))
    return found, missed


def _images(given: Sequence[inputs.Input]) -> Iterator[tuple[str, np.ndarray | None]]:
    for source in screen.bar(given, unit="input"):
        for frame, error in inputs.frames_of(source):
            if error:
                screen.note(f"{source.name}: {error}")
            yield source.name, frame and frame.image


def _divided(
    pictures: Sequence[Picture], known: Mapping[str, str], *, train: bool
) -> tuple[dict[str, list[Picture]], dict[str, str]]:
    """Returns {split: pictures} and {person: split}; `known` has the splits of people who are divided already.

    They are divided by people where there are four or more, else by pictures, in the order of the names. Neighbours
    stay together, as neighbouring frames of a video are nearly equal.
    """
    by_person = len({of.person for of in pictures}) >= PEOPLE or any(of.person in known for of in pictures)
    named = [of if by_person and of.person else of._replace(person=of.digest) for of in pictures]
    people = [of for of in dict.fromkeys(of.person for of in named) if of not in known]
    held = max(1, round(HELD_OUT * len(people))) if train else len(people) // 2
    first = max(len(people) - 2 * held, 1)
    split = dict(known) | {of: SPLITS[(n >= first) + (n >= first + held)] for n, of in enumerate(people)}
    return {name: [of for of in named if split[of.person] == name] for name in SPLITS}, split


def _simulated(live: Sequence[Picture], seed: int) -> list[Picture]:
    images, keys, sources = _repeated(live, ATTACKS, seed)
    kinds = np.tile(np.arange(ATTACKS) % len(attack.SPECIES), len(live))
    made = attack.simulate_attack(images, keys, kinds)
    species = [f"simulated_{attack.SPECIES[kind]}" for kind in kinds]
    return [Picture(crop, name, of.person) for crop, name, of in zip(made, species, sources, strict=True)]


def _recaptured(live: Sequence[Picture], seed: int) -> list[Picture]:
    images, keys, sources = _repeated(live, RECAPTURES, seed + 1)
    return [of._replace(crop=crop) for crop, of in zip(attack.recapture(images, keys), sources, strict=True)]


def _repeated(live: Sequence[Picture], copies: int, seed: int) -> tuple[np.ndarray, np.ndarray, list[Picture]]:
    sources = [of for of in live for _ in range(copies)]
    keys = [np.random.default_rng([seed, int(of.digest, 16)]).integers(1 << 32, size=copies) for of in live]
    return np.stack([of.crop for of in sources]), np.concatenate(keys), sources


def _name(of: Picture) -> str:
    folder = LIVE if of.species == LIVE else os.path.join(SPOOF, of.species)
    return os.path.join(folder, of.person, f"{of.digest}.png")


def _counted(pictures: Iterable[Picture]) -> dict[str, int]:
    names = [of.species for of in pictures]
    return {name: names.count(name) for name in sorted(set(names))}


def _write(files: dict[str, np.ndarray], root: str) -> None:
    if os.path.isdir(root):
        there = {os.path.relpath(os.path.join(of, name), root) for of, _, names in os.walk(root) for name in names}
        if there != set(files):
            raise ValueError(f"{root} holds other pictures than --input gives now: give another --output, or remove it")
        return
    temporary = f"{root}.tmp{os.getpid()}"
    try:
        for name, crop in files.items():
            path = os.path.join(temporary, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if not cv2.imwrite(path, crop[..., ::-1]):
                raise OSError(f"{path} cannot be written; give another --output")
        os.replace(temporary, root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
