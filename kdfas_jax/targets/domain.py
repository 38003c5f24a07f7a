"""Target 'domain': which training domain an image is from, for the classifiers that adversarial attacks fool."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pandas as pd

from input_pipeline.select.examples import Data, domain_classes, one_hot
from kdfas_jax.targets.target import Target, plain_results


def classify(classes: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Returns a row an image, with its domain and the predicted one, for images of the training domains.

    `classes` holds the place of the predicted domain; images of other domains have no right answer.
    """
    names, own = domain_classes(data)
    classes = classes[own[classes.index] >= 0]
    predicted = np.array(names, object)[classes[0].astype(int)]
    return data.table.loc[classes.index, ["dataset", "video", "frame", "domain"]].assign(predicted=predicted)


def accuracy(images: pd.DataFrame) -> dict[str, Any]:
    """Returns the share of right domains, in all and by domain; {} where there is no image."""
    right = images["predicted"] == images["domain"]
    by_domain = {name: float(share) for name, share in right.groupby(images["domain"]).mean().items()}
    return {"accuracy": float(right.mean()), "by_domain": by_domain} if len(images) else {}


def domain_labels(data: Data) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from rows int [b] to float32 [b, k], one-hot domains; zeros for other domains."""
    names, own = domain_classes(data)
    return lambda rows: one_hot(own[rows], len(names))  # by batch: all rows times all classes may be too large


def accuracy_selection(images: pd.DataFrame) -> dict[str, float]:
    """Returns the accuracy on dev, which is 'selection' as well."""
    right = accuracy(images)["accuracy"]
    return {"accuracy": right, "selection": right}


DOMAIN = Target(
    name="domain",
    classes=lambda data: domain_classes(data)[0],
    labels=domain_labels,
    read=lambda logits, out: jnp.argmax(logits, axis=-1),
    scored=classify,
    selection=accuracy_selection,
    results=plain_results(accuracy),
)
