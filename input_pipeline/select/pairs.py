"""Who is trained and tested on in recognition, and pairs of face images, same person or not, for verification.

Pairs come from lists in the format of LFW, or are drawn.

LFW: Huang, Ramesh, Berg, Learned-Miller: Labeled Faces in the Wild, University of Massachusetts Amherst, TR 07-49,
2007. An image is named by its path without suffix: 'Aaron_Eckhart/Aaron_Eckhart_0001'.
"""

import collections
import math
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pandas as pd

LFW_FOLDS, LFW_PAIRS = 10, 3000  # pairs of the same person in all folds, and as many of two


class Pair(NamedTuple):
    """Two images, whether they show the same person, and the fold (from 0) that the pair belongs to."""

    first: str
    second: str
    same: bool
    fold: int


def read(path: str | Path) -> list[Pair]:
    """Returns the pairs of a list file in its order: for each fold the pairs of one person, then the others.

    The first line is `folds<TAB>pairs` (pairs.txt), or `pairs` for a single fold (pairsDevTrain.txt); then come, for
    each fold, `pairs` lines `name n1 n2` and `pairs` lines `name1 n1 name2 n2`, with tabs or spaces between.
    FileNotFoundError for an absent file; ValueError, naming file and line, for a line that does not fit.
    """
    lines = Path(path).read_text(encoding="utf-8-sig").rstrip().splitlines() or [""]
    header = lines[0].split()
    if len(header) not in (1, 2) or not all(number.isdecimal() and int(number) for number in header):
        raise ValueError(
            f"{path}, line 1: expected the numbers of folds and of pairs, such as 10 300, got '{lines[0]}'"
        )
    folds, per_fold = (int(number) for number in ["1", *header][-2:])
    if len(lines) - 1 != folds * 2 * per_fold:
        raise ValueError(
            f"{path}, line 1: {folds} folds of {per_fold} same and {per_fold} different pairs are "
            f"{folds * 2 * per_fold} lines, but {len(lines) - 1} follow; copy the list anew"
        )
    return [
        _pair(line, same=i // per_fold % 2 == 0, fold=i // (2 * per_fold), where=f"{path}, line {i + 2}")
        for i, line in enumerate(lines[1:])
    ]


def _pair(line: str, same: bool, fold: int, where: str) -> Pair:
    fields = line.strip().split("\t") if "\t" in line else line.split()
    if len(fields) == 3 and same:
        fields.insert(2, fields[0])
    numbers = fields[1::2]
    if len(fields) != 4 or (fields[0] == fields[2]) != same or not all(n.isdecimal() and int(n) for n in numbers):
        wanted = "name n1 n2, of one person" if same else "name1 n1 name2 n2, of two persons"
        raise ValueError(f"{where}: expected {wanted}, got '{line}'; correct it")
    first, second = (f"{name}/{name}_{int(n):04d}" for name, n in zip(fields[::2], numbers, strict=True))
    if first == second:
        raise ValueError(f"{where}: {first} is paired with itself; correct it")
    return Pair(first, second, same, fold)


def indices(pairs: Sequence[Pair], table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The pairs as row numbers of `table`, and how many are left out: an image of theirs is absent or has no face.

    table: rows of one identity set, with the columns of `schema.COLUMNS`; `video` is the image's path, of any suffix.
    Returns columns first, second (int, positions in the table), same (bool) and fold (int), in the order of `pairs`.
    ValueError where no pair is left, or two rows differ in the suffix alone.
    """
    images = _images(table)
    rows = {image: row for row, (image, found) in enumerate(zip(images, table["found"], strict=True)) if found}
    kept = [
        (rows[pair.first], rows[pair.second], pair.same, pair.fold)
        for pair in pairs
        if pair.first in rows and pair.second in rows
    ]
    if not kept:
        raise ValueError(
            f"none of the {len(pairs)} pairs has both images, with a face, in the data, which has images such as "
            f"{images[:1]}; the list belongs to another data set"
        )
    return pd.DataFrame(kept, columns=["first", "second", "same", "fold"]), len(pairs) - len(kept)


def draw(table: pd.DataFrame, folds: int, pairs_per_fold: int, seed: int) -> list[Pair]:
    """Pairs for an identity set that has no list: in each fold `pairs_per_fold` same and as many different ones.

    As in LFW, no person is in two folds, and no pair occurs twice. People are drawn uniformly, then their images [C]:
    else those with the most images would make up the same pairs. Only rows with a face (`found`) are paired. The
    result depends on the subjects, images and `seed` alone.
    ValueError, naming the fold, where it has too few images for so many pairs.
    """
    rng = np.random.default_rng(seed)
    pairs = []
    for fold, people in enumerate(_folds(table, folds, rng)):
        same, different = _capacity(people)
        if min(same, different) < pairs_per_fold:
            raise ValueError(
                f"{pairs_per_fold} same and as many different pairs are too many for fold {fold} of {folds}, whose "
                f"{len(people)} people make {same} and {different}; draw fewer pairs or folds"
            )
        repeated = [mine for mine in people if len(mine) > 1]
        pairs += [Pair(*two, True, fold) for two in _distinct(pairs_per_fold, _same, repeated, rng)]
        pairs += [Pair(*two, False, fold) for two in _distinct(pairs_per_fold, _different, people, rng)]
    return pairs


def draw_most(table: pd.DataFrame, seed: int = 0) -> list[Pair]:
    """As `draw`, with the numbers of LFW or what comes closest [C]: ten folds of 300 same and 300 different pairs.

    Fewer than 100 people make one fold: a tenth of them would be always the same few. Each fold has as many pairs as
    the poorest can give. ValueError where that is none: fewer than two people, or one picture of each.
    """
    folds = LFW_FOLDS if table["subject"][table["found"]].nunique() >= 10 * LFW_FOLDS else 1
    poorest = min(min(_capacity(people)) for people in _folds(table, folds, np.random.default_rng(seed)))
    return draw(table, folds, max(1, min(LFW_PAIRS // folds, poorest)), seed)


def _folds(table: pd.DataFrame, folds: int, rng: np.random.Generator) -> list[list[list[str]]]:
    """The images of each person of each fold, people in an order that `rng` draws."""
    images = collections.defaultdict(list)
    for image, subject, found in sorted(zip(_images(table), table["subject"], table["found"], strict=True)):
        if found:
            images[subject].append(image)
    return [[images[person] for person in fold] for fold in np.array_split(rng.permutation(sorted(images)), folds)]


def _capacity(people: Sequence[Sequence[str]]) -> tuple[int, int]:
    """How many pairs of one person, and of two, the images of some people make."""
    same = sum(math.comb(len(mine), 2) for mine in people)
    return same, math.comb(sum(map(len, people)), 2) - same


def _distinct(number: int, propose: Callable, people: Sequence[Sequence[str]], rng) -> list[tuple[str, str]]:
    drawn: dict[tuple[str, str], None] = {}
    while len(drawn) < number:
        drawn[propose(people, rng)] = None
    return list(drawn)


def _same(people: Sequence[Sequence[str]], rng: np.random.Generator) -> tuple[str, str]:
    mine = people[rng.integers(len(people))]
    first, second = sorted(rng.choice(len(mine), 2, replace=False))
    return mine[first], mine[second]


def _different(people: Sequence[Sequence[str]], rng: np.random.Generator) -> tuple[str, str]:
    first, second = (people[i] for i in sorted(rng.choice(len(people), 2, replace=False)))
    return first[rng.integers(len(first))], second[rng.integers(len(second))]


def _images(table: pd.DataFrame) -> list[str]:
    """The name of each row's image; ValueError where two rows have the same."""
    images = [str(PurePosixPath(video).with_suffix("")) for video in table["video"]]
    if repeated := [image for image, count in collections.Counter(images).items() if count > 1]:
        raise ValueError(
            f"{len(repeated)} images, such as {repeated[0]}, are in the data twice; pair one data set alone"
        )
    return images
