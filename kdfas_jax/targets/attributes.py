"""Target 'attributes': which attributes, such as 'Male' or 'Young', a face shows (`config.data.attributes`)."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from input_pipeline.select import roles
from input_pipeline.select.examples import Data, attributes
from kdfas_jax.targets.target import Target, plain_results


def check_attributes(data: Data, config) -> None:
    """Raises ValueError where the data lack one of `data.attributes`, or a training example has no value of one."""
    pieces = set(";".join(data.table["attributes"].unique()).split(";")) - {""}
    known = sorted({piece.partition("=")[0] for piece in pieces})
    if not data.attributes or not set(data.attributes) <= set(known):
        raise ValueError(
            f"config.data.attributes={data.attributes}: expected names of attributes that the data know: "
            f"{', '.join(known) or 'none'}"
        )
    train = data.has_face("train")
    without = train & np.isnan(attributes(data)).any(axis=1)
    if without.any():
        sets = ", ".join(data.table["dataset"][without].unique())
        raise ValueError(
            f"config.data.attributes={data.attributes}: {without.sum()} of {train.sum()} training examples have no "
            f"value of one of them (from {sets}); take that set out of config.data.dataset, or that name out of these"
        )


def score_attributes(logits: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Returns a row for each image and each attribute that the data know of it, from logits of images [n, k].

    Columns: dataset, video, frame, attribute, label (0 or 1), score (the probability of 1).
    """
    images = data.table.loc[logits.index, ["dataset", "video", "frame"]]
    labels, scores = attributes(data)[logits.index], jax.nn.sigmoid(logits.to_numpy())
    rows = [
        images.assign(attribute=name, label=labels[:, i], score=np.asarray(scores[:, i]))
        for i, name in enumerate(data.attributes)
    ]
    return pd.concat(rows).dropna(subset="label").astype({"label": int})


def attribute_figures(rows: pd.DataFrame) -> dict[str, Any]:
    """Returns means over attributes and the figures of each: {accuracy, auc, by_attribute: {name: the two}} [C].

    Accuracy is at the probability 0.5. An attribute with one value in all images has no AUC, and is left out of the
    mean; {} where there is no row.
    """
    by_attribute = {}
    for name, own in rows.groupby("attribute", sort=False):
        by_attribute[name] = {"accuracy": float(((own["score"] >= 0.5) == own["label"]).mean())}
        if own["label"].nunique() == 2:
            by_attribute[name]["auc"] = float(roc_auc_score(own["label"], own["score"]))
    means = pd.DataFrame(by_attribute.values()).mean().to_dict()
    return {**means, "by_attribute": by_attribute} if by_attribute else {}


def attribute_labels(data: Data) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from rows int [b] to float32 [b, k]: 0, 1 or NaN where a value is not known."""
    values = attributes(data)
    return lambda rows: values[rows]


def attribute_selection(rows: pd.DataFrame) -> dict[str, float]:
    """Returns auc, accuracy and 'selection', the AUC; ValueError where dev has an AUC of no attribute."""
    figures = attribute_figures(rows)
    if "auc" not in figures:
        raise ValueError(
            "target 'attributes': no attribute that dev shows with and without; choose others to select by"
        )
    return {"auc": figures["auc"], "accuracy": figures["accuracy"], "selection": figures["auc"]}


ATTRIBUTES = Target(
    name="attributes",
    classes=lambda data: list(data.attributes),
    labels=attribute_labels,
    roles=lambda table, by_protocol: by_protocol(roles.for_recognition(table)),  # faces of any liveness take part
    check=check_attributes,
    read=lambda logits, out: logits,
    scored=score_attributes,
    selection=attribute_selection,
    results=plain_results(attribute_figures),
)
