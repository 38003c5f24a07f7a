"""What a run was trained and selected on, and whether a teacher has seen what its student is judged on.

RUN/provenance.json notes which videos and people a run trains on and chooses its checkpoint on, as hashes, which
teachers it has and which run it started from. By that note every later student knows whether the run may be its
teacher or its start.
"""

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data
from input_pipeline.stream import pipeline
from kdfas_jax import targets
from kdfas_jax.runs import files, identity, released, workdir
from kdfas_jax.training import initial, teachers

ROLES = ("train", "dev")
UNITS = ("video", "subject")
Examples = dict[str, dict[str, np.ndarray]]  # role -> unit -> hashes, sorted uint64 [n]

NONE = "none"
PUBLISHED = "unknown: published weights"
UNKNOWN = "nobody knows what it was trained on: it has no provenance.json and the data of its config cannot be opened"


def examples(data: Data) -> Examples:
    """Hashes of the videos ('dataset/video') and people ('dataset/subject') that a run on `data` trains and selects on.

    They have 64 bits each: CelebA-Spoof has 600,000 videos. Rows without a face, and people without a name, are no part
    of them.
    """
    rows = {role: data.table[data.has_face(role)] for role in ROLES}
    rows["train"] = pd.concat([rows["train"], data.table[data.has_face("unlabelled")]])
    return {role: {unit: _distinct(_hashes(of, unit)) for unit in UNITS} for role, of in rows.items()}


def record(
    folder: str,
    own: Sequence[Examples],
    taught: Mapping[str, Mapping[str, Any]],
    start: Mapping[str, Any] | None = None,
) -> None:
    """Writes FOLDER/provenance.json: what a run has seen, and the facts of its teachers (`check`) and of its start.

    It has seen its `own` examples and the examples of its teachers and of the run that it started from, which it may
    pass on; published weights add none. Where nobody knows a teacher's, nobody knows the run's. start: the result of
    `start`. A run with a checkpoint keeps its note, as the run that it started from may not exist any more.
    """
    if jax.process_index() > 0 or (workdir.has_checkpoint(folder) and _read(folder)):
        return
    passed_on = [*taught.values(), *([start] if start else [])]
    every = [*own, *(seen_by(released.home(facts["run"])) for facts in passed_on if facts["overlap"] != PUBLISHED)]
    note = {"examples": coded(*every), "teachers": dict(taught), "init": dict(start or {})}
    files.write_atomically(os.path.join(folder, "provenance.json"), json.dumps(note))


def coded(*every: Examples | None) -> dict[str, dict[str, str]] | None:
    """Returns the union of some examples as provenance.json holds them; None where one of them is unknown."""
    if None in every:
        return None
    none = np.zeros(0, np.uint64)
    return {
        role: {unit: _encoded(np.concatenate([none, *(of[role][unit] for of in every)])) for unit in UNITS}
        for role in ROLES
    }


def taught_by(folder: str) -> dict[str, dict[str, Any]]:
    """The facts of the teachers that the run in `folder` was trained with (`check`); {} where it notes none."""
    note = _read(folder)
    return note["teachers"] if note else {}


def started_from(folder: str) -> dict[str, Any]:
    """The facts of the weights or the run that the run in `folder` started from (`start`); {} where it notes none."""
    return (_read(folder) or {}).get("init", {})


def start(config, folder: str) -> dict[str, Any]:
    """The facts of `config.init`, as `check` gives those of a teacher; {} for a run that starts from random numbers.

    A run in `folder` that has a checkpoint keeps the facts that it noted. ValueError where the run that `config.init`
    names has seen what this one is judged on, unless `config.init_allow_overlap` is set, or is not finished;
    FileNotFoundError where it names a file that does not exist.
    """
    if not config.init:
        return {}
    if workdir.has_checkpoint(folder) and _read(folder):
        return started_from(folder)
    if initial.published(config.init):
        if not files.is_file(config.init):  # before the data are prepared, which may take hours
            raise FileNotFoundError(f"config.init={config.init} does not exist; download it, or correct the path")
        return _published(config.init)
    key, allowed = "config.init", config.get("init_allow_overlap", False)
    given = _Given(key, key, released.home(config.init), "be the start", "config.init_allow_overlap", allowed)
    return _facts(given, config.data.protocol, _opened(config.data).table) | {"run": config.init}


def seen_by(home: str) -> Examples | None:
    """The examples that the run in `home` was trained and selected on; None where nobody knows them.

    A run without provenance.json is known by the data of its config, if they are at hand and have not changed.
    """
    if note := _read(home):
        return note["examples"] and {
            role: {unit: _decoded(note["examples"][role][unit]) for unit in UNITS} for role in ROLES
        }
    run = workdir.read(home)
    try:
        data = _opened(ml_collections.ConfigDict(run["config"]).data)
    except (OSError, ValueError):
        return None
    return examples(data) if data.fingerprint == run["data_fingerprint"] else None


def _opened(config) -> Data:
    """Returns the examples of `config` (config.data)."""
    return pipeline.open_data(config, targets.get(config.target))


def check(config, homes: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The facts of the teachers at `homes` {name: run or file} of a student, who have not seen what it is judged on.

    Facts are: run (its folder or file), step, protocol, sources, parameters and training_only_parameters, config (the
    digest of its config), None of published weights; and overlap: 'none', 'unknown: published weights', or what is
    allowed by `config.teachers.NAME.allow_overlap`. ValueError where the data of the two meet (`meetings`) and that is
    not set, and as of `teachers.check_finished`.
    """
    if not homes:
        return {}
    table = _opened(config.data).table

    def facts(name: str, home: str) -> dict[str, Any]:
        if files.is_file(home):
            return _published(home)
        key, allowed = f"config.teachers.{name}", config.teachers[name].get("allow_overlap", False)
        given = _Given(key, f"{key}.checkpoint", home, "teach", f"{key}.allow_overlap", allowed)
        return _facts(given, config.data.protocol, table)

    return {name: facts(name, home) for name, home in homes.items()}


def meetings(seen: Examples, table: pd.DataFrame) -> list[str]:
    """Says where a teacher that has `seen` some examples meets what a student's `table` (`examples.Data`) keeps apart.

    A video that the teacher was trained on may be nothing but training data of the student: neither dev nor test nor
    withheld by the protocol. A video that chose the teacher's checkpoint may not be tested. A person whom the teacher
    was trained on may be in dev or test only where the student's own training data show that person, too. Data sets
    that the student does not have are of no account.
    """
    role, label = table["role"], table["label"]
    video, subject = (_hashes(table, unit) for unit in UNITS)
    train = (role == "train").to_numpy()
    kept_apart = ((role != "") | (label >= 0)).to_numpy()  # rows that have no label are not withheld, but of no use
    trained = np.isin(video, seen["train"]["video"]) & ~np.isin(video, video[train]) & kept_apart
    selected = np.isin(video, seen["dev"]["video"]) & (role == "test").to_numpy()
    people = np.isin(subject, seen["train"]["subject"]) & ~np.isin(subject, subject[train]) & (subject != 0)
    people &= role.isin(("dev", "test")).to_numpy()
    found = []
    for rows, unit, words in (
        (trained, video, "it was trained on {} videos that are no training data here"),
        (selected, video, "its checkpoint was chosen on {} videos that are tested here"),
        (people, subject, "it was trained on {} people who are dev or test here"),
    ):
        if rows.any():
            first = table[rows].iloc[0]
            where = (
                f"{first['role'] or 'withheld'}: subject {first['subject'] or 'unknown'} of domain {first['domain']}"
            )
            found.append(f"{words.format(len(np.unique(unit[rows])))} (such as {where})")
    return found


class _Given(NamedTuple):
    """A run that a config names.

    key: what the run is for, 'config.teachers.spoof'. path_key: the key that names its folder. home: the folder.
    use: what it does, 'teach'. allow: the key that allows an overlap. allowed: the value of that key.
    """

    key: str
    path_key: str
    home: str
    use: str
    allow: str
    allowed: bool


def _published(path: str) -> dict[str, Any]:
    unknown = ("step", "protocol", "sources", "parameters", "training_only_parameters", "config")
    return {"run": path, **dict.fromkeys(unknown), "overlap": PUBLISHED}


def _facts(given: _Given, protocol: str, table: pd.DataFrame) -> dict[str, Any]:
    home = given.home
    teachers.check_finished(given.path_key, home)
    results = workdir.evaluated(home)
    if results["folds"]:
        raise ValueError(
            f"{given.key}: {home} has the folds {', '.join(fold['protocol'] for fold in results['folds'])}, "
            f"none of which is the student's {protocol!r}; give one fold's folder"
        )
    seen = seen_by(home)
    overlap = "; ".join([UNKNOWN] if seen is None else meetings(seen, table))
    if overlap and not given.allowed:
        raise ValueError(
            f"{given.key}: {home} must not {given.use} under protocol {protocol!r}: {overlap}; give a run of the "
            f"student's own protocol, or accept it with --{given.allow}=True, which results.json then names"
        )
    return {
        "run": home,
        **{key: results[key] for key in ("step", "protocol", "sources")},
        "parameters": results["params"]["student"],
        "training_only_parameters": results["params"]["training_only"]["student"],
        "config": identity.digest(ml_collections.ConfigDict(results["config"])),
        "overlap": f"allowed: {overlap}" if overlap else NONE,
    }


def _read(folder: str) -> dict[str, Any] | None:
    path = os.path.join(folder, "provenance.json")
    return json.loads(files.read_text(path)) if files.exists(path) else None


def _hashes(rows: pd.DataFrame, unit: str) -> np.ndarray:
    """The hash of each row's video or subject, uint64 [n]; 0 where it has none."""
    codes, names = pd.factorize((rows["dataset"] + "/" + rows[unit]).where(rows[unit] != "", ""))
    of_name = [
        int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")
        if name
        else 0
        for name in names
    ]
    return np.array(of_name, np.uint64)[codes]


def _distinct(hashes: np.ndarray) -> np.ndarray:
    return np.unique(hashes[hashes != 0])


def _encoded(hashes: np.ndarray) -> str:
    return base64.b64encode(_distinct(hashes).astype("<u8").tobytes()).decode()


def _decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<u8")
