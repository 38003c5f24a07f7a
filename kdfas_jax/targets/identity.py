"""Target 'identity': face recognition. Models give embeddings, judged by pairs of images."""

from collections.abc import Callable, Mapping

import jax
import numpy as np
import pandas as pd

from input_pipeline.select import pairs, roles
from input_pipeline.select.examples import identity_classes
from kdfas_jax.metrics.verification import cosine, verification
from kdfas_jax.report import page, system
from kdfas_jax.targets.target import Target, plain_results


def embedding(logits: jax.Array, out: Mapping[str, jax.Array]) -> jax.Array:
    """Returns the embedding [b, d] among a model's outputs; ValueError where it has none."""
    if "embedding" not in out:
        raise ValueError(f"target 'identity' needs a model with an embedding, such as iresnet; this has {sorted(out)}")
    return out["embedding"]


def score_pairs(vectors: pd.DataFrame, table: pd.DataFrame, listed: list[pairs.Pair] | None = None) -> pd.DataFrame:
    """Returns the cosines of pairs of images, a row a pair: first, second (the images' names), same, fold, score.

    vectors: one row an image, indexed by its row of `table`. The pairs are those `listed`, else drawn of these images.
    """
    rows = table.loc[vectors.index]
    found, _ = pairs.indices(pairs.draw_most(rows) if listed is None else listed, rows)
    first, second = found["first"].to_numpy(), found["second"].to_numpy()
    values, names = vectors.to_numpy(), rows["video"].to_numpy()
    return found.assign(first=names[first], second=names[second], score=cosine(values[first], values[second]))


def pair_figures(scored: pd.DataFrame) -> dict:
    """Returns the verification figures of the rows of `score_pairs`, over folds where they have several."""
    folds = scored["fold"] if scored["fold"].nunique() > 1 else None
    return verification(scored["score"], scored["same"], folds)


def pair_selection(scored: pd.DataFrame) -> dict[str, float]:
    """Returns auc, eer, accuracy and 'selection', the AUC, of the pairs of dev."""
    figures = pair_figures(scored)
    return {name: figures[name] for name in ("auc", "eer", "accuracy")} | {"selection": figures["auc"]}


def recognition_roles(table: pd.DataFrame, by_protocol: Callable[[pd.DataFrame], pd.Series]) -> pd.Series:
    """Returns the roles of images for recognition (`Target.roles`); attacks have no identity and take no part."""
    if (table["label"] < 0).all():
        return by_protocol(roles.for_recognition(table))
    return roles.with_recognition(table, by_protocol).mask(table["label"] == 0, "")


IDENTITY = Target(
    name="identity",
    classes=lambda data: identity_classes(data)[0],
    labels=lambda data: lambda rows: np.zeros((len(rows), 0), np.float32),  # numbers: [b, all people] is too large
    columns=lambda data: {"identity": identity_classes(data)[1]},
    roles=recognition_roles,
    read=embedding,
    scored=lambda kept, data: score_pairs(kept, data.table),
    selection=pair_selection,
    results=plain_results(pair_figures),
    page=lambda results, shown: page.headline(results, shown, system.verification(results["test"])),
    recognises=True,
    mixable=False,
)
