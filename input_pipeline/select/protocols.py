"""Evaluation protocols: who is trained, tuned and tested on, as predicates over the metadata columns.

OULU-NPU 1-4: Boulkenafet et al.: OULU-NPU: A Mobile Face Presentation Attack Database with Real-World Variations,
FG 2017. SiW 1-3: Liu, Jourabloo, Liu: Learning Deep Models for Face Anti-Spoofing, CVPR 2018. Leave-one-out over
OULU-NPU, CASIA-FASD, Idiap Replay-Attack and MSU-MFSD (OCIM): Shao et al.: Multi-adversarial Discriminative Deep
Domain Generalization for Face Presentation Attack Detection, CVPR 2019.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from input_pipeline.schema import LIVE
from input_pipeline.sources.media import evenly

SPLITS = ("train", "dev", "test")
OULU_DATASETS = ("oulu", "simulated")  # simulated faces follow the same phones, sessions, accesses and users [C]
OULU_USERS = {"train": "1-20,56-999", "dev": "21-35", "test": "36-55"}  # from 56 on they are simulated
SEEN_MEDIA = (LIVE, "print1", "replay1")  # accesses 1, 2, 4
UNSEEN_MEDIA = (LIVE, "print2", "replay2")  # accesses 1, 3, 5
SIW_FRAMES = 60  # of a training video in SiW's protocol 1
LETTERS = {"O": "oulu", "C": "casia", "I": "replay", "M": "msu"}  # the literature's; I is Idiap, Replay-Attack's home
BESIDE_CAMERA = 512  # most videos of dev of the training data beside data set `camera` [C]
CAMERA = "camera:"  # before the protocol of the training data beside data set `camera` (--mode=adapt)
REHEARSAL = "simulated-"  # a domain 'simulated-oulu' stands in for 'oulu'

FOLDS = {  # the protocols whose figures are averaged under a name
    "3": tuple(f"3.{phone}" for phone in range(1, 7)),
    "4": tuple(f"4.{phone}" for phone in range(1, 7)),
    "siw:2": tuple(f"siw:2.{medium}" for medium in range(1, 5)),
    "siw:3": ("siw:3.1", "siw:3.2"),
    "ocim": ("ocim:OCI-M", "ocim:OMI-C", "ocim:OCM-I", "ocim:ICM-O"),
}


def assign(
    table: pd.DataFrame,
    protocol: str,
    subjects: Mapping[str, str] | None = None,
    *,
    extra: Sequence[str] = (),
    dev_share: float = 0.0,
) -> pd.Series:
    """The role of each row under `protocol`: 'train', 'dev', 'test', or '' for a row that it leaves out.

    table: rows with the columns of `schema.COLUMNS`; the result has its index. Rows of label -1 get no role.
    protocol: a name of `FAMILIES`: '1', '2', '3.1' .. '4.6' (OULU-NPU); 'official', the sets' own splits; 'subjects';
        'siw:1'; 'celeba_spoof:intra_test'; 'cross:casia+msu-replay', from domains to the test split of a domain, or to
        the whole of it ('cross:casia-replay:all'); 'ocim:OCI-M';
        'limited:MI-C'. Where the set came with lists for it (column `lists`), they decide. 'camera:NAME': data set
        `camera` by its own splits, and of all other sets what protocol NAME trains on, and `BESIDE_CAMERA` videos of
        its dev.
    subjects: the disjoint ranges of protocol 'subjects': {'train': '1-5', 'dev': '6', 'test': '7-8,10'}.
    extra: further domains of a protocol across domains: what they have to train on joins train, and nothing else [C].
    dev_share: where the protocol has no dev, this share, in [0, 1), of the training subjects of each domain becomes
        dev, at least one and at most all but one, evenly spaced over the sorted subjects [C], without `extra`'s.
    ValueError for an unknown protocol, one that does not fit the data, bad ranges, or a domain that is not there.
    """
    if not 0.0 <= dev_share < 1.0:
        raise ValueError(f"config.data.dev_share={dev_share}: expected a share of the training subjects in [0, 1)")
    if protocol.startswith(CAMERA):
        camera, own = table["dataset"] == CAMERA.rstrip(":"), protocol.removeprefix(CAMERA)
        roles = assign(table[~camera], own, subjects, extra=extra, dev_share=dev_share)
        videos = table.loc[roles.index[roles == "dev"]].groupby(["dataset", "video"]).ngroup()
        kept = videos.index[videos.isin(evenly(videos.nunique(), BESIDE_CAMERA))]
        roles = roles.where((roles == "train") | roles.index.isin(kept), "")
        return roles.reindex(table.index).mask(camera, table["split"])
    family, arguments = _find(protocol)
    if extra and not family.across:
        raise ValueError(f"config.data.extra_sources={list(extra)}: protocol '{protocol}' is not one across domains")
    if protocol == "subjects":
        arguments = (subjects or {},)
    roles = family.roles(table, *arguments).where(table["label"] >= 0, "")
    if dev_share and not (roles == "dev").any():
        roles = roles.mask(_held_out(table, roles, dev_share), "dev")
    if extra:
        roles = roles.mask(_joining(table, roles, extra), "train")
    return roles.rename("role")


def folds(protocol: str) -> tuple[str, ...]:
    """Returns the protocols whose figures are averaged under this name, '3.1' to '3.6' for '3'; else the name."""
    if protocol not in FOLDS:
        _find(protocol.removeprefix(CAMERA))
    return FOLDS.get(protocol, (protocol,))


def sources(table: pd.DataFrame, roles: pd.Series, extra: Sequence[str] = ()) -> dict[str, list[str]]:
    """Which domains each role's rows come from, sorted, and which of them were `extra`: {'train': ['casia'], ...}."""
    return {role: sorted(table["domain"][roles == role].unique()) for role in SPLITS} | {"extra": list(extra)}


class Family(NamedTuple):
    """Protocols of one kind. The groups of `pattern` are what `roles` takes after the table."""

    pattern: str
    roles: Callable[..., pd.Series]
    names: str  # for error messages
    across: bool = False  # from domains to a domain: further ones may join


def _find(protocol: str) -> tuple[Family, tuple]:
    for family in FAMILIES:
        if match := re.fullmatch(family.pattern, protocol):
            return family, match.groups()
    known = ", ".join(family.names for family in FAMILIES)
    raise ValueError(f"unknown protocol '{protocol}'; known: {known}; and over folds: {', '.join(FOLDS)}")


def _official(table: pd.DataFrame) -> pd.Series:
    if unknown := sorted(set(table["split"]) - {*SPLITS, ""}):
        raise ValueError(f"column 'split' holds {unknown}; expected {', '.join(SPLITS)} or ''")
    return table["split"]


def _oulu(table: pd.DataFrame, name: str) -> pd.Series:
    _only(table, name, *OULU_DATASETS)
    listed = _listed(table, name)
    if (listed != "").any():
        return listed
    number, _, phone = name.partition(".")
    split = _by_subject(table, OULU_USERS)
    tested = split == "test"
    keep = split != ""
    if number in ("1", "4"):
        keep &= (table["session"] == "3") == tested
    if number in ("2", "4"):
        keep &= table["species"].isin(SEEN_MEDIA).mask(tested, table["species"].isin(UNSEEN_MEDIA))
    if phone:
        keep &= (table["sensor"] == phone) == tested
    return split.where(keep, "")


def _siw_frames(table: pd.DataFrame) -> pd.Series:
    """Protocol 1: from the first frames of a video to the whole of it."""
    _only(table, "siw:1", "siw")
    tested = table["split"] == "test"
    return _pick(table, (table["split"] == "train") & (table["frame"] < SIW_FRAMES), tested)


def _siw_medium(table: pd.DataFrame, medium: str) -> pd.Series:
    """Protocol 2, of replay attacks alone: from three displays to the fourth."""
    _only(table, f"siw:2.{medium}", "siw")
    live, replay = (table["species"] == species for species in (LIVE, "replay"))
    left_out = replay & (table["medium"] == medium)
    trained = (table["split"] == "train") & (live | replay & ~left_out)
    return _pick(table, trained, (table["split"] == "test") & (live | left_out))


def _siw_species(table: pd.DataFrame, number: str) -> pd.Series:
    """Protocol 3: from print attacks to replays (3.1), and back (3.2)."""
    _only(table, f"siw:3.{number}", "siw")
    seen, unseen = ("print", "replay") if number == "1" else ("replay", "print")
    trained = (table["split"] == "train") & table["species"].isin((LIVE, seen))
    return _pick(table, trained, (table["split"] == "test") & table["species"].isin((LIVE, unseen)))


def _celeba_spoof(table: pd.DataFrame, name: str) -> pd.Series:
    _only(table, f"celeba_spoof:{name}", "celeba_spoof")
    listed = _listed(table, name)
    if (listed != "").any():
        return listed
    if name == "intra_test":
        return _official(table)
    known = sorted({item.partition("=")[0] for text in table["lists"].unique() for item in text.split(";") if item})
    raise ValueError(
        f"protocol 'celeba_spoof:{name}' needs metas/{name.replace('.', '/')}/{{train,test}}_label.json in the raw "
        f"directory, from which the records were made without them; lists there: {', '.join(known) or 'none'}"
    )


def _cross(table: pd.DataFrame, origins: str, target: str, whole: str | None) -> pd.Series:
    """The classical cross test, on the target's test split, or on the whole of it."""
    return _across(table, origins.split("+"), target, whole=bool(whole))


def _leave_one_out(table: pd.DataFrame, origins: str, target: str) -> pd.Series:
    """Domain generalisation, on all videos of the target: so does published code (SSDG, Jia et al., CVPR 2020)."""
    return _across(table, [LETTERS[letter] for letter in origins], LETTERS[target], whole=True)


def _across(table: pd.DataFrame, origins: Sequence[str], target: str, whole: bool = False) -> pd.Series:
    """Trained and tuned on the domains `origins`, tested on the domain `target`, `whole` or its test split.

    An origin is tuned on its dev, else on its test: it is a source, so its test is free [C].
    """
    if len({*origins, target}) <= len(origins):
        raise ValueError(f"protocol from {'+'.join(origins)} to {target} names a domain twice; give distinct ones")
    domain = _domains(table, [*origins, target])
    roles = pd.Series("", index=table.index)
    for origin in origins:
        rows = domain == origin
        split = table["split"][rows]
        tuned = split == ("dev" if (split == "dev").any() else "test")
        roles[rows] = np.select([_trained(split), tuned], ["train", "dev"], "")
    split = table["split"][domain == target]
    tested = whole | (split == "test") | (split == "").all()
    roles[domain == target] = np.where(tested, "test", "")
    return roles


def _joining(table: pd.DataFrame, roles: pd.Series, extra: Sequence[str]) -> pd.Series:
    """The rows of the domains `extra`, which have no role yet, that join train."""
    domain = _domains(table, extra)
    if taken := sorted(set(domain[roles != ""]) & set(extra)):
        raise ValueError(f"config.data.extra_sources: the protocol has {taken[0]} already; leave it out there")
    joining = pd.Series(False, index=table.index)
    for name in extra:
        joining[domain == name] = _trained(table["split"][domain == name])
    return joining & (table["label"] >= 0)


def _trained(split: pd.Series) -> pd.Series:
    """Which rows of one source domain are trained on: its train, all of them where it has no splits [C]."""
    return (split == "train") | (split == "").all()


def _domains(table: pd.DataFrame, needed: Sequence[str]) -> pd.Series:
    """The domain of each row, rehearsed ones under the name of the real; ValueError where a needed one is missing."""
    names = {name: name.removeprefix(REHEARSAL) for name in table["domain"].unique()}
    if missing := [name for name in needed if name not in names.values()]:
        raise ValueError(
            f"no domain '{missing[0]}' in the data, which has {', '.join(sorted(names))}; config.data.dataset must "
            f"name all data sets of the protocol, joined by '+'"
        )
    return table["domain"].map(names)


def _held_out(table: pd.DataFrame, roles: pd.Series, share: float) -> pd.Series:
    """Returns which training rows belong to the subjects that become dev."""
    training = roles == "train"
    held_out = pd.Series(False, index=table.index)
    for domain, subject in table["subject"][training].groupby(table["domain"][training]):
        people = sorted(subject.unique())
        number = min(max(1, round(share * len(people))), len(people) - 1)
        chosen = [people[i] for i in evenly(len(people), number)]
        held_out |= training & (table["domain"] == domain) & table["subject"].isin(chosen)
    return held_out


def _listed(table: pd.DataFrame, name: str) -> pd.Series:
    """The split of each row by the set's own lists for protocol `name`, '' where they do not name it."""
    splits = {
        text: dict(item.split("=") for item in text.split(";") if item).get(name, "")
        for text in table["lists"].unique()
    }
    return table["lists"].map(splits)


def _pick(table: pd.DataFrame, trained: pd.Series, tested: pd.Series) -> pd.Series:
    return pd.Series(np.select([trained, tested], ["train", "test"], ""), index=table.index)


def _only(table: pd.DataFrame, protocol: str, *names: str) -> None:
    if others := sorted(set(table["dataset"].unique()) - set(names)):
        raise ValueError(f"protocol '{protocol}' is defined for {' and '.join(names)}, not for {', '.join(others)}")


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
    people = table["subject"].unique()
    if odd := sorted(person for person in people if not re.fullmatch(r"\d+", person)):
        raise ValueError(f"ranges of subjects need numbers as subjects; found {odd[:5]}")
    return table["subject"].map({person: split_of.get(int(person), "") for person in people})


def _numbers(text: str) -> list[int]:
    """'1-5,9' -> [1, 2, 3, 4, 5, 9]."""
    numbers = []
    for part in filter(None, text.replace(" ", "").split(",")):
        first, _, last = part.partition("-")
        if not (first.isdigit() and (last or first).isdigit()) or int(last or first) < int(first):
            raise ValueError(f"subjects: '{text}' is not a list of ranges such as '1-5,9'")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


FAMILIES = (
    Family(r"(1|2|[34]\.[1-6])", _oulu, "1, 2, 3.1 to 3.6, 4.1 to 4.6 (OULU-NPU)"),
    Family(r"official", _official, "official"),
    Family(r"subjects", _by_subject, "subjects"),
    Family(r"siw:1", _siw_frames, "siw:1"),
    Family(r"siw:2\.([1-4])", _siw_medium, "siw:2.1 to siw:2.4"),
    Family(r"siw:3\.([12])", _siw_species, "siw:3.1, siw:3.2"),
    Family(r"celeba_spoof:(.+)", _celeba_spoof, "celeba_spoof:intra_test"),
    Family(r"cross:(.+)-([^-:]+)(:all)?", _cross, "cross:casia+msu-replay, cross:casia-replay:all", across=True),
    Family(r"ocim:([OCIM]{3})-([OCIM])", _leave_one_out, "ocim:OCI-M", across=True),
    Family(r"limited:([OCIM]{2})-([OCIM])", _leave_one_out, "limited:MI-C", across=True),
)
