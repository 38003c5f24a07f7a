"""Target 'label': presentation attack detection. Models give P(live), and videos are judged at a threshold of dev."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from input_pipeline.schema import attribute_values
from input_pipeline.select.examples import Data, domain_classes, one_hot
from kdfas_jax.metrics import calibration, exact
from kdfas_jax.metrics import detection as metrics
from kdfas_jax.metrics import groups as parts
from kdfas_jax.report import page
from kdfas_jax.targets.target import Target

CLASSES = ["attack", "live"]
VIDEO = ["dataset", "video", "subject", "species", "label"]
GROUPS = ["domain", "sensor", "session", "medium", "light", "environment", "support"]  # figures are broken down by


def live_probability(logits: jax.Array, out: Mapping[str, Any]) -> jax.Array:
    """Returns P(live) [b], fp32, of a model's logits [b, 2]."""
    return jax.nn.softmax(logits.astype(jnp.float32))[:, 1]


def live_labels(data: Data) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from rows int [b] to float32 [b, 2]: attack, live; zeros for unknown liveness."""
    own = data.table["label"].to_numpy()
    return lambda rows: one_hot(own[rows], len(CLASSES))


def check_liveness(data: Data, config) -> None:
    """Raises ValueError unless there are live faces and attacks to train on, or `config.attack` makes the attacks."""
    found = set(data.table["label"][data.has_face("train")])
    for name, label, made in (("live face", 1, 0.0), ("attack", 0, config.attack.probability)):
        if label not in found and not made:
            raise ValueError(
                f"config.data.train_species={tuple(config.train_species)} and "
                f"config.data.protocol={config.protocol!r} leave no {name} to train on; expected both live faces and "
                "attacks, for which config.data.attack.probability may stand in"
            )


def score_videos(frames: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Returns a row a video, `VIDEO`, score and frames: the mean P(live) of its `frames` and their number."""
    rows = data.table.loc[frames.index, VIDEO].assign(score=frames[0])
    return rows.groupby(VIDEO, as_index=False).agg(score=("score", "mean"), frames=("score", "size"))


def threshold_role(data: Data) -> str:
    """Returns the role that sets the threshold: dev, or train where the protocol has no presentations in dev."""
    return "dev" if len(data.rows("dev", presentations=True)) else "train"


def detection_selection(videos: pd.DataFrame) -> dict[str, float]:
    """Returns eer, auc and 'selection', AUC - EER [C], of the `videos` of dev."""
    _, eer = metrics.eer_threshold(videos)
    auc = metrics.figures(videos, 0.5)["auc"]
    return {"eer": eer, "auc": auc, "selection": auc - eer}


def detection_results(videos: dict[str, pd.DataFrame], data: Data, point: str = "eer") -> dict[str, Any]:
    """Returns the figures of detection in results.json; `videos` is {role: rows of `score_videos`}.

    The threshold is that of the operating point `point` on dev, by default of the EER, applied unchanged to test; a
    protocol without dev takes it from train. The other operating points and the temperature are set likewise.
    """
    source = threshold_role(data)
    for role, rows in videos.items():
        metrics.check(rows, f"{role} of {', '.join(data.sources[role])}")
    points = metrics.operating_points(videos[source])
    attacks = videos[source].query("label == 0")["species"].value_counts().sort_index()
    threshold = {
        "value": metrics.threshold_at(points, point),
        "source": f"{metrics.OPERATING_POINTS[point]} of {source} of {', '.join(data.sources[source])}",
        "operating_points": points,
        "temperature": calibration.fit(videos[source]),
        "apcer_bound": {name: exact.interval(0, int(number))[1] for name, number in attacks.items()},
    }
    return {
        "threshold": threshold,
        "dev": _figures(videos["dev"], data, "dev", threshold) if "dev" in videos else {},
        **figures_on_test(videos["test"], data, threshold),
    }


def figures_on_test(test: pd.DataFrame, data: Data, threshold: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `test` and `literature` of results.json for the rows `test` of `score_videos`.

    threshold: `threshold` of results.json, which other data than `test` have set.
    """
    value, points = threshold["value"], threshold["operating_points"]
    figures = _figures(test, data, "test", threshold)
    breakdown = parts.breakdown(test, groups(test, data), value)
    return {
        "test": figures
        | {
            "operating_points": metrics.at_points(test, points),
            "breakdown": breakdown,
            "groups": parts.compared(breakdown, figures),
            "ci95": metrics.confidence(test, value),
            "exact": metrics.exact_rates(test, value),
        },
        "literature": metrics.literature(test, value),
    }


def _figures(videos: pd.DataFrame, data: Data, role: str, threshold: Mapping[str, Any]) -> dict[str, Any]:
    return (
        metrics.figures(videos, threshold["value"])
        | {"calibration": calibration.figures(videos, threshold["temperature"])}
        | {
            "non_response": data.non_responses(role, presentations=True),
            "missing": data.missing_files(role, presentations=True),
        }
    )


def groups(videos: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Returns the columns by which figures are broken down for each of `videos`, in the same rows; '' is unknown.

    They are `GROUPS` of the data's table, and a column for each attribute that its column `attributes` names.
    """
    table = data.table.drop_duplicates(["dataset", "video"]).set_index(["dataset", "video"])
    own = table.loc[pd.MultiIndex.from_frame(videos[["dataset", "video"]])].set_index(videos.index)
    attributes = pd.DataFrame([attribute_values(text) for text in own["attributes"]], index=videos.index)
    attributes = attributes.fillna("").rename(columns={name: f"{name} (attribute)" for name in GROUPS})
    return pd.concat([own[GROUPS], attributes], axis=1)


def scored_roles(data: Data) -> tuple[str, str]:
    """Returns the role that sets the threshold, and test."""
    return threshold_role(data), "test"


LABEL = Target(
    name="label",
    classes=lambda data: CLASSES,
    labels=live_labels,
    columns=lambda data: {"domain": domain_classes(data)[1]},  # for terms and attacks that read it
    check=check_liveness,
    read=live_probability,
    scored=score_videos,
    selection=detection_selection,
    results=detection_results,
    scored_roles=scored_roles,
    page=page.detection,
    detects=True,
    attackable=True,
)
