"""What a run was trained on, and the caution that follows from it; imports nothing."""

from typing import Any

CAUTION = (
    "trained on simulated faces only; scores of real people are not meaningful, so make no decision about a person by "
    "them"
)


def trained_on(config) -> dict[str, Any]:
    """Returns what bundle.json says of the training data of a run; `config` is its config.data.

    `datasets` lists the names of the sets, `simulated` says whether all of them are rendered, and `caution` is one
    sentence for the user, '' where real faces were among them.
    """
    names = config.dataset.split("+")
    simulated = all(name.startswith("simulated") for name in names)
    return {"datasets": names, "simulated": simulated, "caution": CAUTION if simulated else ""}
