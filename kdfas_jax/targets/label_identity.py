"""Target 'label+identity': one model for presentation attack detection and face recognition."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from input_pipeline.select import roles
from input_pipeline.select.examples import Data, domain_classes, identity_classes
from kdfas_jax.metrics import authentication
from kdfas_jax.report import page, system
from kdfas_jax.report.parts import Shown
from kdfas_jax.targets import identity, label
from kdfas_jax.targets.target import Target

COUNTED = {"label": int, "frames": int, "same": bool, "fold": int}  # columns that rows of other kinds turn into floats


def score_both(kept: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Returns rows of three kinds, told apart by the column `kind`, for images with P(live) and embedding [n, 1 + d].

    'presentation': a video and its score, as in `label.score_videos`. 'pair': two images, as in `identity.score_pairs`,
    of the sets collected for recognition, or of the bona fide videos where there are none [C]. 'mated', 'nonmated',
    'attack': attempts to be let in (`authentication.attempts`), whose embedding is the mean direction of their video's
    frames.
    """
    liveness = data.table["label"][kept.index]
    collected, shown = kept[liveness < 0], kept[liveness >= 0]
    videos = label.score_videos(shown, data)
    paired = collected if len(collected) else shown[liveness[shown.index] == 1]
    paired = paired[~data.table.loc[paired.index, ["dataset", "video"]].duplicated()]
    return pd.concat(
        [
            videos.assign(kind="presentation"),
            identity.score_pairs(paired.iloc[:, 1:], data.table).assign(kind="pair"),
            attempts(shown, videos, data),
        ],
        ignore_index=True,
    )


def attempts(shown: pd.DataFrame, videos: pd.DataFrame, data: Data) -> pd.DataFrame:
    """Returns the attempts to be let in (`authentication.attempts`) of `videos`.

    The embedding of a video is the mean direction of its frames. shown: P(live) and embedding [n, 1 + d] of the frames,
    of which `videos` are the `label.score_videos`.
    """
    directions = shown.iloc[:, 1:].div(np.linalg.norm(shown.iloc[:, 1:], axis=1), axis=0)
    keys = [data.table.loc[shown.index, name] for name in label.VIDEO]
    of_video = directions.groupby(keys).sum()  # in the order of videos
    unit = of_video.to_numpy() / np.linalg.norm(of_video, axis=1, keepdims=True)
    return authentication.attempts(videos, unit)


def _kind(rows: pd.DataFrame, *kinds: str) -> pd.DataFrame:
    """Returns the rows of `score_both` of some kinds, with the columns and types that each kind has alone."""
    own = rows[rows["kind"].isin(kinds)].dropna(axis=1, how="all")
    return own.astype({name: of for name, of in COUNTED.items() if name in own})


def selection_of_both(rows: pd.DataFrame) -> dict[str, float]:
    """Returns figures of both tasks, and as 'selection' the mean of their selection figures [C]."""
    live, match = label.detection_selection(_kind(rows, "presentation")), identity.pair_selection(_kind(rows, "pair"))
    return {
        **{name: live[name] for name in ("eer", "auc")},
        **{f"match_{name}": match[name] for name in ("eer", "auc")},
        "selection": (live["selection"] + match["selection"]) / 2,
    }


def results_of_both(scored: dict[str, pd.DataFrame], data: Data, point: str = "eer") -> dict[str, Any]:
    """Returns the results of detection; dev and test add `verification`, of pairs, and `system`, of attempts.

    The threshold of the match is set for a false match rate of 1 % on the role that sets the threshold of the score:
    on attempts (`authentication`) or, where too few people appear there for any, on pairs [C].
    """
    source = label.threshold_role(data)
    presented = {role: _kind(rows, "presentation") for role, rows in scored.items()}
    results = label.detection_results(presented, data, point)
    tried = {role: _kind(rows, "mated", "nonmated", "attack") for role, rows in scored.items()}
    paired = _kind(scored[source], "pair")
    at_door = len(tried[source]) > 0
    others = tried[source].query("kind == 'nonmated'")["match"] if at_door else paired["score"][~paired["same"]]
    points, at = authentication.match_thresholds(others.to_numpy()), authentication.DEFAULT_FMR
    results["threshold"]["match"] = {
        "value": points[at],
        "source": f"FMR {at} of {'attempts' if at_door else 'pairs'} of {source} of {', '.join(data.sources[source])}",
        "operating_points": points,
    }
    for role in ("dev", "test"):
        if results[role]:
            pairs_of = _kind(scored[role], "pair")
            results[role]["verification"] = identity.pair_figures(pairs_of) | {"counts": {"scores": len(pairs_of)}}
        if results[role] and len(tried[role]):
            live = results["threshold"]["value"]
            results[role]["system"] = authentication.figures(tried[role], points[at], live)
    return results


def both_roles(table: pd.DataFrame, by_protocol: Callable[[pd.DataFrame], pd.Series]) -> pd.Series:
    """Returns the roles of presentations by the protocol, and of images of unknown liveness by person."""
    if (table["label"] < 0).all():
        return by_protocol(table)
    return roles.with_recognition(table, by_protocol)


def live_and_embedding(logits: jax.Array, out: Mapping[str, jax.Array]) -> jax.Array:
    """Returns P(live) and then the embedding of each image, [b, 1 + d]."""
    return jnp.concatenate([label.live_probability(logits, out)[:, None], identity.embedding(logits, out)], axis=-1)


def page_of_both(results: Mapping[str, Any], shown: Shown) -> str:
    """Returns the page of detection, with the sections of the whole system and of recognition in it."""
    test, match = results["test"], results["threshold"].get("match")
    if "system" not in test:
        return page.detection(results, shown)
    whole = system.system(test["system"], match), system.verification(test["verification"])
    return page.detection(results, shown, *whole)


LABEL_IDENTITY = Target(
    name="label+identity",
    classes=lambda data: identity_classes(data)[0],
    labels=label.live_labels,  # zeros for images of unknown liveness
    columns=lambda data: {"domain": domain_classes(data)[1], "identity": identity_classes(data)[1]},
    roles=both_roles,
    check=label.check_liveness,
    read=live_and_embedding,
    scored=score_both,
    selection=selection_of_both,
    results=results_of_both,
    scored_roles=label.scored_roles,
    page=page_of_both,
    detects=True,
    recognises=True,
    mixable=False,
    attackable=True,
)
