"""The model that this package ships, in the folder `weights/` beside this module (`launch/release.sh` makes it).

The folder is that of a finished run, with its variables in model.safetensors in place of checkpoints, and an exported
bundle and a model card beside them. It therefore serves wherever a run does, and as the bundle of `Scorer`. It lies in
`runs`, the lowest folder, because `Scorer`, which imports no JAX, reads it as well as training does.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from kdfas_jax.runs import origin

NAME = "released"  # config.init=released
FOLDER = os.path.join(os.path.dirname(__file__), "weights")
BUNDLE, WEIGHTS, CARD = "bundle.json", "model.safetensors", "card.md"


def folder() -> str:
    """Returns the folder of the released model; FileNotFoundError where this installation has none."""
    path = os.path.join(FOLDER, BUNDLE)
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"this installation has no released model: {path} does not exist; expected the result of launch/release.sh:"
            " run it, or name a model of your own (--workdir=RUN, Scorer(BUNDLE))"
        )
    return FOLDER


def home(name: str) -> str:
    """Returns the folder of the run `name`: the released model's for 'released', else `name`."""
    return folder() if name == NAME else name


def beside(folder: str) -> str:
    """Returns where commands write about the run in `folder`: into it, for the released model runs/released-results."""
    return "runs/released-results" if folder == FOLDER else folder


def digest(home: str) -> str:
    """Returns the SHA-256 of the weights in the folder `home`, as its bundle.json states it."""
    with open(os.path.join(home, BUNDLE), encoding="utf-8") as file:
        return json.load(file)["files"][WEIGHTS]["sha256"]


def statement(results: Mapping[str, Any], people: int | None) -> str:
    """Returns one sentence on what a model is and is not, from the content of its results.json.

    people: how many people it was trained on; None where that is unknown. Shown wherever the model scores, in place of
    the caution of other runs that were trained on simulated faces only.
    """
    test, model, data = results["test"], results["config"]["model"]["name"], results["config"]["data"]["dataset"]
    number = f"{people:,} " if people else ""
    only = origin.simulated(data.split("+"))
    trained = f"{number}simulated people and no real face" if only else f"{number}people of {data}"
    worst = max(test["apcer"], key=test["apcer"].get)
    passing = f"{100 * test['apcer'][worst]:.0f} % of the worst species ({worst})"
    size = f"{results['params']['student'] / 1e6:.2f} M parameters"
    return (
        f"the released model ({model}, {size}) was trained on {trained}; it tells live faces from the attacks of its "
        f"test set ({', '.join(test['apcer'])}) with an AUC of {test['auc']:.3f}, lets {passing} pass, knows no "
        "make-up and no injected video, and is not certified: measure it on your own camera before it decides "
        "about anyone"
    )
