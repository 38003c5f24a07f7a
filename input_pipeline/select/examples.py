"""The examples of prepared data sets under a protocol, and the classes that their rows belong to."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd


class Data(NamedTuple):
    """Prepared data sets under a protocol.

    `table` has the rows of all sets, with the columns `role` (train, dev, test or '') and `file`, a place in `files`.
    `sources` names the domains of each role (`protocols.sources`). `attributes` are the names in
    `config.data.attributes`. `missing` lists the files without (all of) their records, as in `records.Prepared`, with
    the role that they would have; it is None where the records do not say.
    """

    table: pd.DataFrame
    files: Sequence[str]
    fingerprint: str  # of every example's metadata and image
    sources: dict[str, list[str]]
    attributes: tuple[str, ...] = ()
    missing: pd.DataFrame | None = None

    def rows(self, role: str, *, presentations: bool = False) -> np.ndarray:
        """Returns the rows of `table` that have a role and a face, int64 [n].

        `presentations` keeps the rows that are known to be bona fide or an attack.
        """
        known = self.has_face(role)
        return np.flatnonzero(known & (self.table["label"] >= 0).to_numpy() if presentations else known)

    def count(self, role: str) -> int:
        """Returns the number of examples of a role that have a face."""
        return int(self.has_face(role).sum())

    def non_responses(self, role: str, *, presentations: bool = False) -> int:
        """Returns the number of videos of a role in which no frame has a face, so that they get no score.

        `presentations` counts the videos that are known to be bona fide or an attack.
        """
        rows = _of_role(self.table, role, presentations)
        return int((~rows.groupby(["dataset", "video"])["found"].any()).sum())

    def missing_files(self, role: str, *, presentations: bool = False) -> dict[str, int]:
        """Returns how many files of a role are 'absent' and how many 'corrupt'; {} where the records do not say.

        A corrupt file cannot be read at all, or not to its end. `presentations` is as in `non_responses`.
        """
        if self.missing is None:
            return {}
        reasons = _of_role(self.missing, role, presentations)["reason"]
        return {reason: int((reasons == reason).sum()) for reason in ("absent", "corrupt")}

    def has_face(self, role: str) -> np.ndarray:
        """Returns which rows of the table have a role and a face, bool [n]."""
        return ((self.table["role"] == role) & self.table["found"]).to_numpy()


def domain_classes(data: Data) -> tuple[list[str], np.ndarray]:
    """Returns the training domains, sorted, and the domain of each row as an int32 place among them, -1 for others."""
    return _numbered(data.table["domain"], data)


def identity_classes(data: Data) -> tuple[list[str], np.ndarray]:
    """Returns the people in the training rows ('set/subject', sorted) and the place of each row's person among them.

    Places are int32 [n], -1 for a person without training rows. An attack has no identity, and -1 as well.
    """
    people = data.table["dataset"] + "/" + data.table["subject"]
    return _numbered(people.mask(data.table["label"] == 0), data)


def attributes(data: Data) -> np.ndarray:
    """Returns the values of `data.attributes` in each row: float32 [n, k], 0 or 1, NaN where they are not known."""
    column = data.table["attributes"]
    values = [column.str.extract(f"(?:^|;){name}=([01])", expand=False) for name in data.attributes]
    return np.stack(values, axis=1).astype(np.float32)


def one_hot(places: np.ndarray, number: int) -> np.ndarray:
    """Returns class places int [b] as float32 [b, number]; -1 becomes a row of zeros."""
    return np.equal.outer(places, np.arange(number)).astype(np.float32)


def _numbered(of: pd.Series, data: Data) -> tuple[list[str], np.ndarray]:
    names = sorted(of[data.has_face("train")].dropna().unique())
    return names, pd.Index(names).get_indexer(of).astype(np.int32)


def _of_role(table: pd.DataFrame, role: str, presentations: bool) -> pd.DataFrame:
    rows = table[table["role"] == role]
    return rows[rows["label"] >= 0] if presentations else rows
