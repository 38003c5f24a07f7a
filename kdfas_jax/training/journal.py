"""Logs of a training run: progress lines, TensorBoard events, metrics.csv, and the stop at a non-finite loss.

The metrics of a step are read one step later, so that the loop never waits for the device.
"""

import io
import json
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import pandas as pd

from kdfas_jax.runs import files
from kdfas_jax.training.experiment import Experiment

logger = logging.getLogger(__name__)

PROGRESS_SECONDS = 10
HEADER = "step,metric,value"
LOG_STEPS = 10  # metrics are averaged over this many steps


class NonFiniteLossError(ValueError):
    """The loss or the gradient of a step is NaN or infinite; a file in the workdir lists the examples of the batch."""


class Journal:
    """Logs of one run, as a context manager around the training loop.

    metrics.csv (`step,metric,value`) of a resumed run is identical to that of an uninterrupted run.
    """

    def __init__(self, folder: str, experiment: Experiment, *, start: int, kept: Mapping[str, Any]):
        """Opens the run's logs; rows of steps after `start`, which are about to be done again, are dropped.

        kept: the result of `keep` at the checkpoint of step `start`; {} at step 0.
        Raises ValueError where metrics.csv lacks rows that it had at that checkpoint.
        """
        self._folder, self._start, self._steps = folder, start, experiment.steps
        self._batch_size, self._schedule = experiment.batch_size, experiment.schedule
        self._main = jax.process_index() == 0
        self._pending: tuple | None = None
        self._recent: list[dict[str, float]] = list(kept.get("unwritten", []))
        self._rows: list[str] = []  # rows not yet in metrics.csv
        self._written = 0  # number of rows in metrics.csv
        self._began = self._reported = time.monotonic()
        self._csv = os.path.join(folder, "metrics.csv")
        if self._main:
            self._drop_after(start, kept.get("rows"))
        from clu import metric_writers  # two seconds, of TensorFlow and Keras, which only a training needs

        self._writer = metric_writers.create_default_writer(folder, just_logging=not self._main)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._flush()
        self._writer.close()

    def step(self, number: int, metrics, index: np.ndarray) -> None:
        """Records the metrics (device scalars) of step `number`, computed on this host's examples `index`."""
        self.settle()
        self._pending = (number, metrics, index)

    def settle(self) -> None:
        """Reads the metrics of the pending step; raises NonFiniteLossError where one is not finite."""
        if self._pending is None:
            return
        number, metrics, index = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        if not np.isfinite(list(values.values())).all():
            self._stop(number, values, index)
        self._recent.append(values)
        if (number + 1) % LOG_STEPS == 0 or number + 1 == self._steps:
            means = {name: float(np.mean([row[name] for row in self._recent])) for name in values}
            self._recent.clear()
            self._write(number + 1, means | {"learning_rate": float(self._schedule(number))})
            self._report(number + 1, means)

    def keep(self) -> dict[str, Any]:
        """Flushes metrics.csv and returns the journal's state for a checkpoint.

        {'unwritten': metrics of settled steps that are not yet written, 'rows': the number of rows in metrics.csv}.
        """
        self._flush()
        return {"unwritten": list(self._recent), "rows": self._written}

    def dev(self, number: int, figures: dict[str, float]) -> None:
        """Records the dev metrics of the checkpoint at step `number`."""
        self._write(number, {f"dev_{name}": value for name, value in figures.items()})
        shown = ", ".join(f"{name} {value:.4f}" for name, value in figures.items() if name != "selection")
        logger.info("step %d: dev %s", number, shown)

    def _report(self, number: int, means: dict[str, float]) -> None:
        now = time.monotonic()
        if now - self._reported < PROGRESS_SECONDS and number < self._steps:
            return
        self._reported = now
        rate = (number - self._start) / (now - self._began)
        logger.info(
            "step %d/%d  loss %.4f  %.1f images/s  %.0f s left",
            number,
            self._steps,
            means["loss"],
            rate * self._batch_size,
            (self._steps - number) / rate,
        )

    def _write(self, number: int, values: dict[str, float]) -> None:
        if not self._main:
            return
        self._writer.write_scalars(number, values)
        self._rows += [f"{number},{name},{value:.8g}\n" for name, value in values.items()]
        if not files.is_remote(self._csv):  # object storage would rewrite the whole file for every few rows
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            files.append(self._csv, "".join(self._rows))
            self._written += len(self._rows)
            self._rows.clear()

    def _drop_after(self, start: int, expected: int | None) -> None:
        rows = []
        if files.exists(self._csv):
            complete = [row for row in files.read_text(self._csv).split("\n")[1:-1] if row.count(",") == 2]
            rows = [row for row in complete if int(row.split(",", 1)[0]) <= start]
            if expected is not None and len(rows) != expected:
                raise ValueError(
                    f"{self._csv} is damaged: it has {len(rows)} rows up to step {start}, where the checkpoint noted "
                    f"{expected}; remove it to continue without its rows, or restore it from a complete copy"
                )
        elif start:
            logger.warning("%s is missing: the new file has no rows up to step %d", self._csv, start)
        files.write_atomically(self._csv, "\n".join([HEADER, *rows]) + "\n")
        self._written = len(rows)

    def _stop(self, number: int, values: dict[str, float], index: np.ndarray) -> None:
        path = os.path.join(self._folder, f"nonfinite-step{number}-host{jax.process_index()}.json")
        note = {"step": number, "metrics": {k: repr(v) for k, v in values.items()}, "examples": index.tolist()}
        files.write_atomically(path, json.dumps(note, indent=2))
        bad = ", ".join(f"{name}={value}" for name, value in values.items() if not np.isfinite(value))
        raise NonFiniteLossError(
            f"step {number}: {bad}. Training has stopped and nothing of this step is saved; {path} lists the batch's "
            "examples (rows of the data set's metadata.csv). Try a lower --config.optim.lr or "
            "--config.optim.clip_norm=1; the same command resumes from the last checkpoint"
        )


def read(folder: str) -> pd.DataFrame | None:
    """Reads FOLDER/metrics.csv {step, metric, value}; None where there is no file, ValueError where it is truncated."""
    path = os.path.join(folder, "metrics.csv")
    if not files.exists(path):
        return None
    text = files.read_text(path)
    if not text.startswith(f"{HEADER}\n") or not text.endswith("\n"):
        raise ValueError(
            f"{path} is empty or truncated: expected the line {HEADER} and complete rows; finish the run with the "
            "command that started it, or remove the file to leave the curves out"
        )
    return pd.read_csv(io.StringIO(text))
