"""The other side of `--baseline=pytorch`: `pytorch_worker` in a separate process, told what to build and when."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from kdfas_jax import models
from kdfas_jax.models import vit
from kdfas_jax.performance import speed

ROOT = Path(__file__).resolve().parents[2]
FIELDS = ("patch", "width", "depth", "heads", "mlp_ratio", "classes", "mean", "std", "dtype")
# What the baseline has no other form of: {term: {option: its one value}}, and so for a ViT's fields.
TERMS = {
    "cross_entropy": {},
    "kl": {},
    "covariance": {"form": "cross", "centre": False, "scale": "none", "lift": 0, "momentum": 0.0},
}
OTHERS = (*FIELDS, "attention", "unroll", "remat", "parent", "name")
PLAIN = {field.name: field.default for field in dataclasses.fields(vit.ViT) if field.name not in OTHERS}


def spec(config, *, compiled: bool) -> dict[str, Any]:
    """`config`'s step in plain values, as `pytorch_worker` reads it; `compiled` by torch.compile.

    ValueError where it is not KDFAS: ViT from ViT by CE, KL and the covariance's `cross`.
    """
    terms = {term.kind: term.to_dict() for term in config.terms.values() if term.weight}
    teachers = {term["teacher"] for term in terms.values() if term.get("teacher")}
    same = all(terms.get(kind, {}).get(key) == value for kind, only in TERMS.items() for key, value in only.items())
    if terms.keys() != TERMS.keys() or len(teachers) != 1 or not same or config.daa.classifier:
        raise ValueError(
            f"--baseline: PyTorch's side knows KDFAS alone, one term each of {TERMS} and one teacher, no daa; "
            f"{config.name} has {list(terms.values())}; take configs/kdfas_oulu.py, or override the terms"
        )
    teacher = config.teachers[teachers.pop()].config
    if teacher.data.image_size != config.data.image_size or config.optim.clip_norm or config.optim.every:
        raise ValueError("--baseline: PyTorch's side has one image size for both models and plain AdamW")
    return {
        "device": "cpu" if jax.default_backend() == "cpu" else "cuda",
        "threads": speed.cores(),
        "compile": compiled,
        "image_size": config.data.image_size,
        "batch_size": config.train.batch_size,
        "student": _vit(config.model, "config.model"),
        "teacher": _vit(teacher.model, "the teacher's config.model"),
        "terms": {"ce": terms["cross_entropy"], "kl": terms["kl"], "covariance": terms["covariance"]},
        "optim": {name: config.optim[name] for name in ("lr", "b1", "b2", "weight_decay")},
    }


def _vit(config, where: str) -> dict[str, Any]:
    model = models.create(config)
    wrong = {key: getattr(model, key, None) for key, value in PLAIN.items() if getattr(model, key, None) != value}
    if not isinstance(model, vit.ViT) or wrong:
        raise ValueError(f"--baseline: {where} is {config.to_dict()}; expected a ViT with {PLAIN}, as timm's is")
    return {name: getattr(model, name) for name in FIELDS}


class Baseline:
    """A context manager around the process of the baseline: `rate(seconds)` has it work while we wait."""

    def __init__(self, spec: dict[str, Any]):
        """Starts it; RuntimeError, with its last line, where it does not come up (PyTorch or timm is missing)."""
        command = [sys.executable, "-m", "kdfas_jax.performance.pytorch_worker"]
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 (a pipe would fill: nobody empties it)
        self._process = subprocess.Popen(
            command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
        )
        self.facts = self._ask(json.dumps(spec))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate()  # its input ends, and so does it
        self._said.close()

    def rate(self, seconds: float) -> dict[str, float]:
        """Returns {rate: images per second of its step over `seconds`, cpu_seconds: per image, peak_bytes}."""
        return self._ask(str(seconds))

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())
        except (BrokenPipeError, json.JSONDecodeError) as error:
            self._process.communicate()
            self._said.seek(0)
            last = (self._said.read().strip().splitlines() or ["it said nothing"])[-1]
            self._said.close()
            raise RuntimeError(
                f"--baseline: PyTorch's side has ended: {last}; it needs: pip install -r requirements-pytorch.txt"
            ) from error
