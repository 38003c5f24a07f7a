"""The bare compiled step of a config: no data, no TensorFlow. Random weights and images, which lie on the device."""

import contextlib
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdfas_jax.parallel import sharding
from kdfas_jax.performance import plan, speed
from kdfas_jax.performance.pytorch_baseline import Baseline
from kdfas_jax.training import step

MATMUL = {"cpu": 2048, "": 8192}  # side of the square product that the machine's own rate is taken from, by platform


class Step:
    """A config's step, compiled, with a state to train. `run` makes one and returns its metrics, not waited for."""

    def __init__(self, config):
        """Compiles; what that took and the FLOPs are in `facts`, see `measure`."""
        mesh = sharding.make_mesh(config.mesh)
        started = time.perf_counter()
        lowered, made, _ = plan.of_config(config, mesh)
        self._step = lowered.compile()
        seconds = time.perf_counter() - started
        (state, variables, batch, _), _ = lowered.in_avals

        def create():
            student = _zeros(state).replace(**step.init_variables(made.model, made.image_size, made.seed))
            teachers = {name: step.init_variables(*of, 0) for name, of in made.teachers.items()}
            teachers = jax.tree.map(lambda leaf, wanted: leaf.astype(wanted.dtype), teachers, variables)
            image = jax.random.randint(jax.random.key(0), batch["image"].shape, 0, 256, jnp.uint8)
            label = jnp.full(batch["label"].shape, 1 / made.model.classes)
            return student, teachers, {**_zeros(batch), "image": image, "label": label}, jnp.uint32(made.seed)

        arguments = jax.jit(create, out_shardings=self._step.input_shardings[0])()
        self._state, self._rest = arguments[0], arguments[1:]
        self.batch_size = config.train.batch_size
        self.facts = {
            "compile_seconds": seconds,
            "flops": plan.step_flops(made, mesh, self._step) * mesh.size,
            "analytic_flops": self.batch_size * made.flops(),
        }

    def run(self) -> dict[str, jax.Array]:
        """Runs one training step and returns its metrics."""
        self._state, metrics = self._step(self._state, *self._rest)
        return metrics


def measure(config, made: Step, baseline: dict[str, Any] | None, *, rounds: int, seconds: float) -> dict[str, Any]:
    """The speed of `made`, of the machine's matrix product and of the `baseline` (its spec), in turns of `seconds`.

    -> {compile_seconds (tracing and compiling, nothing from a cache), flops (of a step, as the compiler counts them),
    analytic_flops (as `plan` does), images_per_second, cpu_seconds (of one image), flops_per_second, matmul (FLOP/s of
    a product in the student's dtype on all devices), matmul_share, peak_memory {bytes, of}, and with a `baseline` its
    versions and {images_per_second, cpu_seconds, peak_bytes, ratio (ours / its images a second), cpu_ratio (its CPU
    time / ours)}}. Figures of the rounds are {median, low, high}; ratios are taken within a round.
    """
    multiply, flops = _matmul(config.model.get("dtype", "float32"))
    jax.block_until_ready((made.run(), multiply()))
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(Baseline(baseline)) if baseline else None
        turns = [
            {
                "step": speed.rate(made.run, made.batch_size, seconds),
                "matmul": speed.rate(multiply, 1, seconds / 4)[0] * flops * jax.device_count(),
                "baseline": other.rate(seconds) if other else None,
            }
            for _ in range(rounds)
        ]
    per_image = made.facts["analytic_flops"] / made.batch_size
    found = {
        **made.facts,
        "images_per_second": speed.spread(turn["step"][0] for turn in turns),
        "cpu_seconds": speed.spread(turn["step"][1] for turn in turns),
        "flops_per_second": speed.spread(turn["step"][0] * per_image for turn in turns),
        "matmul": speed.spread(turn["matmul"] for turn in turns),
        "matmul_share": speed.spread(turn["step"][0] * per_image / turn["matmul"] for turn in turns),
        "peak_memory": peak_memory(jax.local_devices()[0]),
    }
    if other:
        found["baseline"] = {
            **other.facts,
            "images_per_second": speed.spread(turn["baseline"]["rate"] for turn in turns),
            "cpu_seconds": speed.spread(turn["baseline"]["cpu_seconds"] for turn in turns),
            "peak_bytes": turns[-1]["baseline"]["peak_bytes"],
            "ratio": speed.spread(turn["step"][0] / turn["baseline"]["rate"] for turn in turns),
            "cpu_ratio": speed.spread(turn["baseline"]["cpu_seconds"] / turn["step"][1] for turn in turns),
        }
    return found


def peak_memory(device) -> dict[str, Any]:
    """{bytes, of: 'device', or 'process' where the backend does not tell}: the most that was ever held at once.

    The machine's own product is in both, and compilation in that of the process.
    """
    stats = device.memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return {"bytes": stats["peak_bytes_in_use"], "of": "device"}
    return {"bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, "of": "process"}


def _matmul(dtype: str) -> tuple[Callable[[], jax.Array], float]:
    """Returns a function that starts one square product in `dtype` on one device, and its FLOPs."""
    n = MATMUL.get(jax.default_backend(), MATMUL[""])
    square, multiply = jax.random.normal(jax.random.key(0), (n, n), dtype), jax.jit(jnp.matmul)
    return lambda: multiply(square, square), 2.0 * n**3


def _zeros(shapes):
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def lines(result: dict[str, Any]) -> list[str]:
    """Returns `measure`'s result as lines of text."""
    rate, share, memory = result["images_per_second"], result["matmul_share"], result["peak_memory"]
    shown = [
        f"step              {rate['median']:9.2f} images/s  ({rate['low']:.2f} to {rate['high']:.2f}), "
        f"{result['cpu_seconds']['median']:.3f} CPU seconds an image",
        f"  first step      {result['compile_seconds']:9.1f} s to compile",
        f"  FLOPs           {result['flops']:9.4g} a step, {result['flops'] / result['analytic_flops']:.4f} x the "
        f"analytic {result['analytic_flops']:.4g}",
        f"  FLOP/s          {result['flops_per_second']['median']:9.4g}  {share['median']:.3f} "
        f"({share['low']:.3f} to {share['high']:.3f}) of a matrix product's {result['matmul']['median']:.4g}",
        f"  peak memory     {memory['bytes'] / 2**20:9.0f} MiB of the {memory['of']}",
    ]
    if other := result.get("baseline"):
        ratio, busy = other["ratio"], other["cpu_ratio"]
        shown += [
            f"PyTorch           {other['images_per_second']['median']:9.2f} images/s  torch {other['torch']}, timm "
            f"{other['timm']}, {other['threads']} threads, {other['cpu_seconds']['median']:.3f} CPU seconds an image, "
            f"{other['peak_bytes'] / 2**20:.0f} MiB",
            f"  ours / PyTorch  {ratio['median']:9.3f} in images/s ({ratio['low']:.3f} to {ratio['high']:.3f}), "
            f"{busy['median']:.3f} in images a CPU second ({busy['low']:.3f} to {busy['high']:.3f})",
        ]
    return shown
