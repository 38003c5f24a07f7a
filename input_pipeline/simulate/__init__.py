"""The renderer of simulated faces, cameras, prints and displays; imports nothing else of the project.

`render` renders images of presentations in the structure of OULU-NPU; see `scene`.
"""

from input_pipeline.simulate.scene import render

__all__ = ["render"]
