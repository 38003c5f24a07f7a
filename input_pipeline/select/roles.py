"""The role of each example (train, dev, test or none) and its domain, as a config's protocol and target ask."""

import numpy as np
import pandas as pd

from input_pipeline import schema
from input_pipeline.select import protocols

BOTH = "label+identity"  # the target of one model for two tasks


def domains(table: pd.DataFrame, column: str) -> pd.Series:
    """Returns the domain of each row: the value of `column`, a column of names; ValueError lists these for another."""
    known = [name for name, kind in schema.COLUMNS.items() if kind is str]
    if column not in known:
        raise ValueError(f"config.data.domain_by={column!r} is no column of names; known: {', '.join(known)}")
    return table["domain"] if column == "domain" else table["dataset"] + "/" + table[column]


def assigned(table: pd.DataFrame, config) -> pd.Series:
    """The role of each row under the protocol of `config` (config.data), as its target and `train_species` need."""
    roles = _roles_of_all_species(table, config)
    if config.train_species:
        roles = roles.mask((roles == "train") & ~table["species"].isin(config.train_species), "")
    return roles


def _roles_of_all_species(table: pd.DataFrame, config) -> pd.Series:
    """The roles before `train_species` takes training examples away."""

    def by_protocol(rows: pd.DataFrame) -> pd.Series:
        extra, subjects = tuple(config.extra_sources), dict(config.subjects)
        return protocols.assign(rows, config.protocol, subjects, extra=extra, dev_share=config.dev_share)

    collected = table["label"] < 0  # for recognition
    if config.target in ("identity", BOTH) and not collected.all():
        roles = by_protocol(table[~collected]).reindex(table.index).where(~collected, for_recognition(table)["split"])
        return roles if config.target == BOTH else roles.mask(table["label"] == 0, "")
    return by_protocol(for_recognition(table) if config.target in ("identity", "attributes") else table)


def for_recognition(table: pd.DataFrame) -> pd.DataFrame:
    """Returns `table` as protocols select from it for the targets of people and of attributes.

    A row with unknown liveness counts like any other, and a data set without splits is split by person [C].
    """
    number = table.groupby("dataset")["subject"].transform(lambda people: pd.factorize(people, sort=True)[0])
    by_person = np.array(schema.PERSON_SPLITS)[number % len(schema.PERSON_SPLITS)]
    unsplit = (table["split"] == "").groupby(table["dataset"]).transform("all")
    return table.assign(label=0, split=table["split"].mask(unsplit, by_person))
