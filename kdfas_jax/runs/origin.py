"""A run's card: what it was trained on, what its threshold rests on, its figures, and a caution."""

from collections.abc import Iterable, Mapping
from typing import Any

CAUTION = (
    "trained on simulated faces only; scores of real people are not meaningful, so make no decision about a person by "
    "them"
)
FIGURES = ("auc", "acer", "apcer_max", "bpcer")  # of a card, as fractions


def simulated(names: Iterable[str]) -> bool:
    """Returns whether all of the named data sets or domains are rendered; False where no name is given."""
    names = list(names)
    return bool(names) and all(name.startswith("simulated") for name in names)


def trained_on(config) -> dict[str, Any]:
    """Returns what bundle.json says of the training data of a run; `config` is its config.data.

    `datasets` lists the names of the sets, `simulated` says whether all of them are rendered, and `caution` is one
    sentence for the user, '' where real faces were among them.
    """
    names = config["dataset"].split("+")
    return {"datasets": names, "simulated": simulated(names), "caution": CAUTION if simulated(names) else ""}


def caution(results: Mapping[str, Any]) -> str:
    """Returns the caution of an evaluated run: the `statement` of a released model, else as of `trained_on`."""
    return results.get("statement") or trained_on(results["config"]["data"])["caution"]


def figures(results: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns {'dev', 'test': {name of `FIGURES`: value}} of the content of results.json; {} for a role without."""
    return {role: {name: results[role][name] for name in FIGURES if name in results[role]} for role in ("dev", "test")}


def card(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the card of an evaluated run from the content of its results.json: what a user of its scores must know.

    name, step, finished, protocol: of the run. model: its name. parameters: how many are deployed. image_size: px.
    trained_on: as of `trained_on`. threshold: of results.json. figures: as of `figures`.
    """
    config = results["config"]
    return {
        "name": config["name"],
        **{key: results.get(key) for key in ("step", "finished", "protocol")},
        "model": config["model"]["name"],
        "parameters": results["params"]["student"],
        "image_size": config["data"]["image_size"],
        "trained_on": trained_on(config["data"]) | {"caution": caution(results)},
        "threshold": results["threshold"],
        "figures": figures(results),
    }


def card_of_bundle(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `card` of an exported run from the content of bundle.json; older bundles lack some of it."""
    return {
        **bundle["run"],
        "model": bundle["model"]["name"],
        "parameters": bundle["model"].get("parameters"),
        "image_size": bundle["crop"]["image_size"],
        "trained_on": bundle.get("trained_on", {"datasets": [], "simulated": False, "caution": ""}),
        "threshold": bundle["threshold"],
        "figures": bundle.get("figures", {"dev": {}, "test": {}}),
    }
