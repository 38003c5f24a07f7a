"""What a run was trained on, and the caution that follows from it; imports nothing but the standard library."""

from collections.abc import Iterable
from typing import Any

CAUTION = (
    "trained on simulated faces only; scores of real people are not meaningful, so make no decision about a person by "
    "them"
)


def simulated(names: Iterable[str]) -> bool:
    """Returns whether all of the named data sets or domains are rendered; False where no name is given."""
    names = list(names)
    return bool(names) and all(name.startswith("simulated") for name in names)


def trained_on(config) -> dict[str, Any]:
    """Returns what bundle.json says of the training data of a run; `config` is its config.data.

    `datasets` lists the names of the sets, `simulated` says whether all of them are rendered, and `caution` is one
    sentence for the user, '' where real faces were among them.
    """
    names = config.dataset.split("+")
    return {"datasets": names, "simulated": simulated(names), "caution": CAUTION if simulated(names) else ""}
