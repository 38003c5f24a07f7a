"""The role of each example (train, dev, test or none) and its domain, under a protocol and for a target."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from input_pipeline import schema
from input_pipeline.select import protocols
from input_pipeline.select.target import Target


def domains(table: pd.DataFrame, column: str) -> pd.Series:
    """Returns the domain of each row: the value of `column`, a column of names; ValueError lists these for another."""
    known = [name for name, kind in schema.COLUMNS.items() if kind is str]
    if column not in known:
        raise ValueError(f"config.data.domain_by={column!r} is no column of names; known: {', '.join(known)}")
    return table["domain"] if column == "domain" else table["dataset"] + "/" + table[column]


def assigned(table: pd.DataFrame, config, target: Target) -> pd.Series:
    """Returns the role of each row for `target` under the protocol of `config` (config.data).

    `config.train_species` takes the training examples of other species away.
    """

    def by_protocol(rows: pd.DataFrame) -> pd.Series:
        extra, subjects = tuple(config.extra_sources), dict(config.subjects)
        return protocols.assign(rows, config.protocol, subjects, extra=extra, dev_share=config.dev_share)

    roles = target.roles(table, by_protocol)
    if config.train_species:
        roles = roles.mask((roles == "train") & ~table["species"].isin(config.train_species), "")
    return roles


def with_recognition(table: pd.DataFrame, by_protocol: Callable[[pd.DataFrame], pd.Series]) -> pd.Series:
    """Returns roles by the protocol, but by `for_recognition` for rows whose liveness is unknown."""
    collected = table["label"] < 0
    roles = by_protocol(table[~collected]).reindex(table.index)
    return roles.where(~collected, for_recognition(table)["split"])


def for_recognition(table: pd.DataFrame) -> pd.DataFrame:
    """Returns `table` as protocols select from it for the targets of people and of attributes.

    A row with unknown liveness counts like any other, and a data set without splits is split by person [C].
    """
    number = table.groupby("dataset")["subject"].transform(lambda people: pd.factorize(people, sort=True)[0])
    by_person = np.array(schema.PERSON_SPLITS)[number % len(schema.PERSON_SPLITS)]
    unsplit = (table["split"] == "").groupby(table["dataset"]).transform("all")
    return table.assign(label=0, split=table["split"].mask(unsplit, by_person))
