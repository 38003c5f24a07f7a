"""SIGTERM between two pieces of work."""

import os
import signal
from types import SimpleNamespace

import pytest

from kdfas_jax.commands import train
from kdfas_jax.parallel import preemption


def test_a_signal_after_the_last_save_waits_until_the_checkpoints_are_closed(tiny, tmp_path, monkeypatch, capsys):
    """Else removed steps are left half-deleted, and Orbax's threads print tracebacks."""
    closed = []

    class Checkpoints(SimpleNamespace):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            os.kill(os.getpid(), signal.SIGTERM)
            closed.append(True)

    monkeypatch.setattr(train, "Checkpoints", lambda _: Checkpoints(latest=lambda: 120))
    before = signal.getsignal(signal.SIGTERM)
    try:
        preemption.install()
        with pytest.raises(SystemExit) as left:
            train.fit(tiny, str(tmp_path), {})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert closed == [True]
    assert left.value.code == 0
    assert capsys.readouterr().err.count("SIGTERM: training is finished and saved; the same command continues") == 1
