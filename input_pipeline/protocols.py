"""Evaluation protocols: who is trained, tuned and tested on, as predicates over the metadata columns.

OULU-NPU 1-4: Boulkenafet et al.: OULU-NPU: A Mobile Face Presentation Attack Database with Real-World Variations,
FG 2017. The leave-one-phone-out protocols 3 and 4 have six folds: '3.2' leaves phone 2 out.
"""

from collections.abc import Mapping

import pandas as pd

SPLITS = ("train", "dev", "test")
PHONES = range(1, 7)
OULU_DATASETS = ("oulu", "simulated")  # the rendered faces follow the same phones, sessions, accesses and users [C]
OULU_USERS = {"train": "1-20", "dev": "21-35", "test": "36-55"}
SEEN_MEDIA = ("live", "print1", "replay1")  # accesses 1, 2, 4
UNSEEN_MEDIA = ("live", "print2", "replay2")  # accesses 1, 3, 5

OULU = ("1", "2", *(f"{n}.{k}" for n in (3, 4) for k in PHONES))
PROTOCOLS = (*OULU, "official", "subjects")


def assign(table: pd.DataFrame, protocol: str, subjects: Mapping[str, str] | None = None) -> pd.Series:
    """The split of each row under `protocol`: 'train', 'dev', 'test', or '' for a row that it leaves out.

    table: rows with the columns of `schema.COLUMNS`; the result has its index.
    protocol: one of PROTOCOLS: an OULU protocol ('1', '2', '3.1'..'4.6'); 'official', the data set's own split; or
        'subjects', where `subjects` gives disjoint ranges: {'train': '1-5', 'dev': '6', 'test': '7-8,10'}.
    ValueError for an unknown protocol, one that does not fit the data set, or ranges that overlap.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; known: {', '.join(PROTOCOLS)}")
    if protocol == "official":
        return _official(table)
    if protocol == "subjects":
        return _by_subject(table, subjects or {})
    return _oulu(table, protocol)


def folds(protocol: str) -> tuple[str, ...]:
    """The protocols whose figures are averaged under this name: '3' -> '3.1' .. '3.6'; any other names itself."""
    if protocol in ("3", "4"):
        return tuple(f"{protocol}.{phone}" for phone in PHONES)
    if protocol not in PROTOCOLS:
        raise ValueError(f"unknown protocol '{protocol}'; known: 3, 4, {', '.join(PROTOCOLS)}")
    return (protocol,)


def _official(table: pd.DataFrame) -> pd.Series:
    if unknown := sorted(set(table["split"]) - {*SPLITS, ""}):
        raise ValueError(f"column 'split' holds {unknown}; expected {', '.join(SPLITS)} or ''")
    return table["split"].copy()


def _oulu(table: pd.DataFrame, protocol: str) -> pd.Series:
    if others := sorted(set(table["dataset"]) - set(OULU_DATASETS)):
        raise ValueError(f"protocol '{protocol}' is defined for {' and '.join(OULU_DATASETS)}, not for {others}")
    name, _, phone = protocol.partition(".")
    split = _by_subject(table, OULU_USERS)
    tested = split == "test"
    keep = split != ""
    if name in ("1", "4"):
        keep &= (table["session"] == "3") == tested
    if name in ("2", "4"):
        keep &= table["species"].isin(SEEN_MEDIA).mask(tested, table["species"].isin(UNSEEN_MEDIA))
    if phone:
        keep &= (table["sensor"] == phone) == tested
    return split.where(keep, "")


def _by_subject(table: pd.DataFrame, ranges: Mapping[str, str]) -> pd.Series:
    if unknown := sorted(set(ranges) - set(SPLITS)):
        raise ValueError(f"subjects: unknown split {unknown}; known: {', '.join(SPLITS)}")
    if not ranges:
        raise ValueError("protocol 'subjects' needs ranges, such as {'train': '1-5', 'dev': '6', 'test': '7-8'}")
    split_of: dict[int, str] = {}
    for split, text in ranges.items():
        for subject in _numbers(text):
            if split_of.setdefault(subject, split) != split:
                raise ValueError(f"subjects: {subject} is in both {split_of[subject]} and {split}")
    if odd := sorted(set(table["subject"][~table["subject"].str.fullmatch(r"\d+")])):
        raise ValueError(f"ranges of subjects need numbers as subjects; found {odd[:5]}")
    return table["subject"].astype(int).map(split_of).fillna("").astype(str).rename("split")


def _numbers(text: str) -> list[int]:
    """'1-5,9' -> [1, 2, 3, 4, 5, 9]."""
    numbers = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()) or int(last or first) < int(first):
            raise ValueError(f"subjects: '{text}' is not a list of ranges such as '1-5,9'")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
