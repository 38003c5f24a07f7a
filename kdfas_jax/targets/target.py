"""What a prediction target (`config.data.target`) consists of, with the defaults that most targets share."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data
from kdfas_jax.report import page
from kdfas_jax.report.parts import Shown


def _dev_and_test(data: Data) -> tuple[str, ...]:
    return ("dev", "test") if data.count("dev") else ("test",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Target:
    """What a model predicts: its labels, what is kept of its outputs, and the figures that judge it.

    A new target is one file and a line in `targets.TARGETS`. Figures are fractions, areas under curves included. The
    input pipeline uses the part that `input_pipeline.select.target` declares.

    name: the value of `config.data.target`.
    classes: data -> the names of the classes that `config.model.classes` counts, in the order of the logits.
    labels: data -> a function from rows of `data.table`, int [b], to labels float32 [b, k]; batches carry no label
        where k = 0.
    columns: data -> further columns of training batches, {name: int32 [n]}, a value for each row of `data.table`.
    read: (first output, named outputs) of the model -> what is kept of an example, [b] or [b, d]. Where `detects`,
        P(live) comes first; where `recognises`, the embedding comes last.
    scored: (kept, one row an example, indexed by its row of `data.table`; data) -> the rows of scores.csv.
    selection: the scored rows of dev -> figures, of which 'selection' ranks checkpoints, higher is better.
    results: ({role: scored rows}, data, operating point) -> the figures in results.json: threshold, dev, test,
      literature.
    roles: (table, function from rows to their roles under the protocol) -> the role of each row of `table`.
    check: (data, config.data) -> nothing; ValueError where the data cannot train the target.
    scored_roles: data -> the roles that `results` needs; the first one sets the threshold, if there is one.
    page: (content of results.json, `Shown`) -> the HTML page of a run, or of a protocol's folds.
    detects: whether it tells bona fide from attack, so that runs have a threshold and can predict and export.
    recognises: whether its models have an embedding by which faces are compared.
    mixable: whether mixup and cutmix may mix its rows.
    attackable: whether a bona fide row may become a simulated attack.
    """

    name: str
    classes: Callable[[Data], list[str]]
    labels: Callable[[Data], Callable[[np.ndarray], np.ndarray]]
    read: Callable[[jax.Array, Mapping[str, Any]], jax.Array]
    scored: Callable[[pd.DataFrame, Data], pd.DataFrame]
    selection: Callable[[pd.DataFrame], dict[str, float]]
    results: Callable[[dict[str, pd.DataFrame], Data, str], dict[str, Any]]
    columns: Callable[[Data], dict[str, np.ndarray]] = lambda data: {}
    roles: Callable[[pd.DataFrame, Callable], pd.Series] = lambda table, by_protocol: by_protocol(table)
    check: Callable[[Data, Any], None] = lambda data, config: None
    scored_roles: Callable[[Data], tuple[str, ...]] = _dev_and_test
    page: Callable[[Mapping[str, Any], Shown], str] = lambda results, shown: page.headline(results, shown)
    detects: bool = False
    recognises: bool = False
    mixable: bool = True
    attackable: bool = False

    def check_classes(self, data: Data, number: int, key: str = "config.model.classes") -> None:
        """Raises ValueError, naming both numbers, unless `number`, which `key` sets, is that of `classes`."""
        expected = len(self.classes(data))
        if number != expected:
            raise ValueError(
                f"{key}={number}, but target {self.name!r} has {expected} classes in the training data; "
                f"set it to {expected}"
            )


def plain_results(figures: Callable[[pd.DataFrame], dict]) -> Callable[..., dict[str, Any]]:
    """Returns a `Target.results` without a threshold: `figures` of the scored rows of each role."""

    def results(scored: dict[str, pd.DataFrame], data: Data, point: str = "eer") -> dict[str, Any]:
        judged = {
            role: figures(rows)
            | {"counts": {"scores": len(rows)}}
            | {"non_response": data.non_responses(role), "missing": data.missing_files(role)}
            for role, rows in scored.items()
        }
        threshold = {"value": None, "source": "none"}
        return {"threshold": threshold, "dev": judged.get("dev", {}), "test": judged["test"], "literature": {}}

    return results
