"""The content of RUN/eval/results.json as a typed record; docs/evaluation.md explains its figures."""

from typing import Any, NotRequired, TypedDict


class Threshold(TypedDict):
    """The decision threshold: `value`, None for targets without decisions, and the data that set it.

    operating_points: {name: threshold} at fixed error rates of the same data. temperature: of the calibrated score.
    apcer_bound: {species: the smallest upper end of an exact interval of APCER that so many attacks allow}.
    match: the threshold of the cosine of two embeddings, where the target recognises people.
    """

    value: float | None
    source: str
    operating_points: NotRequired[dict[str, float]]
    temperature: NotRequired[float]
    apcer_bound: NotRequired[dict[str, float]]
    match: NotRequired[dict[str, Any]]


class Results(TypedDict):
    """An evaluated run. Rates and areas are fractions.

    config: the resolved config. step: the evaluated checkpoint, chosen on dev; None for several folds. finished:
    whether the run was trained to its last step. steps: {trained, total}; absent for several folds. dev, test,
    literature: figures by the target, {} where there are none. sources: domains by role. params: numbers of
    parameters of student and teachers; `training_only` has the rest. teachers: the facts of each teacher.
    init: the facts of the weights or the run that training started from; absent for random numbers.
    folds: the figures of each fold, [] for a single run. gate: the teacher beside the control on dev
    (`report.runs.gate`), of a run that a teacher's classes are taught to. on: the other data set on which `test` was
    measured, where it was (`commands.elsewhere`). statement: what a released model is and is not
    (`released.statement`). adapted: the figures before and after an adaptation to a camera (`commands.adapt.measured`).
    """

    config: dict[str, Any]
    step: int | None
    finished: bool
    steps: NotRequired[dict[str, int]]
    protocol: str
    threshold: Threshold
    dev: dict[str, Any]
    test: dict[str, Any]
    literature: dict[str, Any]
    sources: dict[str, list[str]]
    params: dict[str, Any]
    teachers: dict[str, dict[str, Any]]
    init: NotRequired[dict[str, Any]]
    folds: list[dict[str, Any]]
    gate: NotRequired[dict[str, Any]]
    on: NotRequired[dict[str, Any]]
    statement: NotRequired[str]
    adapted: NotRequired[dict[str, Any]]
