"""What importing TensorFlow loads: no Keras, unless somebody asks for it. 10 s."""

import subprocess
import sys

import pytest

LOADED = """
import sys
{before}
from input_pipeline.sources import imports
tf = imports.tensorflow()
print(tf.constant(2).numpy(), "keras" in sys.modules, imports.tensorflow() is sys.modules["tensorflow"])
print(imports.tensorflow_datasets().__name__)
print(tf.keras.layers.Dense.__name__, "keras" in sys.modules)
"""


@pytest.mark.parametrize(("before", "loaded"), [("", False), ("import keras", True)])
def test_keras_is_loaded_when_it_is_asked_for(before, loaded):
    done = subprocess.run(
        [sys.executable, "-c", LOADED.format(before=before)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [f"2 {loaded} True", "tensorflow_datasets", "Dense True"]
