"""A renderer of faces, cameras, prints and displays: the data set that comes with the code.

`render` draws pictures of presentations in the layout of OULU-NPU; see `scene`.
"""

from input_pipeline.rendering.scene import render

__all__ = ["render"]
