"""TensorFlow and TensorFlow Datasets, imported when they are first needed, as that takes seconds.

TensorFlow imports Keras, which takes as long as all of the rest, only to register optimisers that nothing here uses,
and does without it where it is missing. So Keras is missing meanwhile; whatever asks for it later gets it.
"""

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

from input_pipeline.sources import screen


def tensorflow() -> ModuleType:
    """Returns the module tensorflow. Its banners are not shown."""
    with contextlib.nullcontext() if "tensorflow" in sys.modules else _quickly():
        import tensorflow
    return tensorflow


def tensorflow_datasets() -> ModuleType:
    """Returns the module tensorflow_datasets."""
    tensorflow()
    import tensorflow_datasets

    return tensorflow_datasets


@contextlib.contextmanager
def _quickly() -> Iterator[None]:
    with screen.without_banners():
        hidden = not {"keras", "tensorflow"} & sys.modules.keys()  # else another thread was first
        if hidden:
            sys.modules["keras"] = None  # an import of it fails
        try:
            yield
        finally:
            if hidden:
                del sys.modules["keras"]
