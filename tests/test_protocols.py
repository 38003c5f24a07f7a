"""Protocols against the published video counts of OULU-NPU, and subject ranges. Runs in about 1 s."""

import itertools

import pandas as pd
import pytest

from input_pipeline import protocols

SPECIES = {1: "live", 2: "print1", 3: "print2", 4: "replay1", 5: "replay2"}  # by access

COUNTS = {  # (live, attack) videos of train, dev, test: the table of OULU-NPU's README
    "1": ((240, 960), (180, 720), (120, 480)),
    "2": ((360, 720), (270, 540), (360, 720)),
    **{f"3.{k}": ((300, 1200), (225, 900), (60, 240)) for k in range(1, 7)},
    **{f"4.{k}": ((200, 400), (150, 300), (20, 40)) for k in range(1, 7)},
}


@pytest.fixture(scope="module")
def oulu() -> pd.DataFrame:
    names = itertools.product(range(1, 7), range(1, 4), range(1, 56), range(1, 6))  # phone, session, user, access
    rows = [
        {
            "dataset": "oulu",
            "split": "",
            "sensor": str(phone),
            "session": str(session),
            "subject": f"{user:02d}",
            "species": SPECIES[access],
            "label": int(access == 1),
        }
        for phone, session, user, access in names
    ]
    return pd.DataFrame(rows, index=range(7, 7 + len(rows)))  # an index that is not the row number


@pytest.mark.parametrize("protocol", COUNTS)
def test_oulu_video_counts(oulu, protocol):
    split = protocols.assign(oulu, protocol)
    found = tuple(
        tuple(int((oulu["label"][split == name] == label).sum()) for label in (1, 0))
        for name in ("train", "dev", "test")
    )
    assert found == COUNTS[protocol]
    assert set(split) == {"train", "dev", "test", ""}


@pytest.mark.parametrize("protocol", COUNTS)
def test_oulu_users_are_disjoint_and_test_is_unseen(oulu, protocol):
    split = protocols.assign(oulu, protocol)
    users = {name: set(oulu["subject"][split == name].astype(int)) for name in ("train", "dev", "test")}
    assert users == {"train": set(range(1, 21)), "dev": set(range(21, 36)), "test": set(range(36, 56))}
    seen, tested = oulu[split.isin(["train", "dev"])], oulu[split == "test"]
    if protocol[0] in "14":
        assert set(tested["session"]) == {"3"}
        assert set(seen["session"]) == {"1", "2"}
    if protocol[0] in "24":
        assert set(tested["species"]) == {"live", "print2", "replay2"}
        assert set(seen["species"]) == {"live", "print1", "replay1"}
    if protocol[0] in "34":
        assert set(tested["sensor"]) == {protocol[-1]}
        assert protocol[-1] not in set(seen["sensor"])
        assert len(set(seen["sensor"])) == 5


def test_folds():
    assert protocols.folds("1") == ("1",)
    assert protocols.folds("3") == ("3.1", "3.2", "3.3", "3.4", "3.5", "3.6")
    assert protocols.folds("4.2") == ("4.2",)
    assert protocols.folds("official") == ("official",)
    with pytest.raises(ValueError, match=r"unknown protocol '5'; known: 3, 4, 1, 2, 3\.1"):
        protocols.folds("5")


def table(subjects, splits=None, dataset="nuaa"):
    return pd.DataFrame({"dataset": dataset, "subject": subjects, "split": splits or [""] * len(subjects)})


def test_official_is_the_sets_own_split():
    splits = ["train", "test", "", "train"]
    assert protocols.assign(table(["1", "2", "3", "4"], splits), "official").tolist() == splits
    with pytest.raises(ValueError, match=r"'split' holds \['devel'\]"):
        protocols.assign(table(["1"], ["devel"]), "official")


def test_subject_ranges():
    ranges = {"train": "1-3, 9", "dev": "4", "test": "6-7"}
    split = protocols.assign(table(["0001", "0003", "0004", "0005", "0007", "0009", "0010"]), "subjects", ranges)
    assert split.tolist() == ["train", "train", "dev", "", "test", "train", ""]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"train": "1-5", "test": "5-8"}, "5 is in both train and test"),
        ({"train": "5-1"}, "'5-1' is not a list of ranges"),
        ({"train": "1-x"}, "'1-x' is not a list of ranges"),
        ({"train": "-3"}, "'-3' is not a list of ranges"),
        ({"train": "1-2-3"}, "'1-2-3' is not a list of ranges"),
        ({"valid": "1"}, r"unknown split \['valid'\]; known: train, dev, test"),
        (None, "needs ranges"),
    ],
)
def test_bad_subject_ranges(ranges, message):
    with pytest.raises(ValueError, match=message):
        protocols.assign(table(["1"]), "subjects", ranges)


def test_subjects_must_be_numbers_for_ranges():
    with pytest.raises(ValueError, match=r"need numbers as subjects; found \['anna'\]"):
        protocols.assign(table(["1", "anna"]), "subjects", {"train": "1"})


def test_unknown_and_unfitting_protocols():
    with pytest.raises(ValueError, match=r"unknown protocol '3'; known: 1, 2, 3\.1"):
        protocols.assign(table(["1"]), "3")
    with pytest.raises(ValueError, match=r"defined for oulu and simulated, not for \['nuaa'\]"):
        protocols.assign(table(["1"]), "1")
