"""What the input pipeline asks of a prediction target; its callers hand it an object with this interface."""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data


class Target(Protocol):
    """A prediction target, seen from the input pipeline.

    name: the value of `config.data.target`.
    mixable: whether mixup and cutmix may mix its rows.
    attackable: whether a bona fide row may become a simulated attack (`stream.attacked`).
    """

    name: str
    mixable: bool
    attackable: bool

    def roles(self, table: pd.DataFrame, by_protocol: Callable[[pd.DataFrame], pd.Series]) -> pd.Series:
        """Returns the role of each row of `table`; `by_protocol(rows)` gives the roles under the protocol."""

    def check(self, data: Data, config) -> None:
        """Raises ValueError where `data`, opened by `config` (config.data), cannot train this target."""

    def labels(self, data: Data) -> Callable[[np.ndarray], np.ndarray]:
        """Returns a function from rows int [b] to labels float32 [b, k]; batches carry no label where k = 0."""

    def columns(self, data: Data) -> dict[str, np.ndarray]:
        """Returns the further columns of batches, {name: int32 [n]}, a value for each row of `data.table`."""
