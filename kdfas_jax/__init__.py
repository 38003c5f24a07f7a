"""Face anti-spoofing in JAX: models, losses, training, evaluation and reports; the folders import downwards only.

From the top: performance, commands, training, targets, report and objective, models, and metrics, parallel and runs.
`from kdfas_jax import Scorer` is the library (`commands.predict.scorer`); it imports neither JAX nor TensorFlow.
"""

__all__ = ["Scorer"]


def __getattr__(name: str):
    """Imports `Scorer` on first use, so that the package itself imports nothing."""
    if name != "Scorer":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from kdfas_jax.commands.predict.scorer import Scorer

    return Scorer
