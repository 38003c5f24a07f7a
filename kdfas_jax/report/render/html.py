"""Renders a page with the Jinja2 templates: one file, without scripts, that fetches nothing."""

import base64
import io
from collections.abc import Sequence

import jinja2
import numpy as np
from PIL import Image

from kdfas_jax.report.render.content import Hero, Section

# CSS variables of the page and their colours. `err` means an error and nothing else; c0 to c6 are for curves, which
# colour-blind readers can tell apart, and none of them is orange or red.
LIGHT = {"ink": "#1c1d20", "paper": "#fcfcfa", "dim": "#5d6068", "rule": "#d9dadf", "wash": "#f1f1ee"}
LIGHT |= {"err": "#d55e00", "bar": "#f6cfb6", "amber": "#fff0b3", "brass": "#b38f00"}
LIGHT |= {"c0": "#0072b2", "c1": "#009e73", "c2": "#aa4499", "c3": "#332288"}
LIGHT |= {"c4": "#56a0d3", "c5": "#777777", "c6": "#117733"}
DARK = {"ink": "#e8e8e6", "paper": "#17181b", "dim": "#a3a6ae", "rule": "#3a3c42", "wash": "#212327"}
DARK |= {"err": "#ff8a3d", "bar": "#6b3413", "amber": "#3d3410", "brass": "#d9b800"}
DARK |= {"c0": "#5ab4f0", "c1": "#3fcf9f", "c2": "#e08ad0", "c3": "#a79cf0"}
DARK |= {"c4": "#a3d3f5", "c5": "#aaaaaa", "c6": "#6fcf7f"}
HEAT = np.array([0, 90, 255])  # colour of a heat map: blue, as orange and red mean errors

TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("kdfas_jax.report.render"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def document(
    title: str, sections: Sequence[Section | None], *, hero: Hero | None = None, cautions: Sequence[str] = ()
) -> str:
    """Returns the page of the `sections`, less those that are None or without parts, with navigation to each.

    hero: stands between the title and the sections. cautions: sentences of the amber banner above all else.
    """
    shown = [section for section in sections if section and section.parts]
    return TEMPLATES.get_template("page.html").render(
        title=title, sections=shown, hero=hero, cautions=cautions, light=LIGHT, dark=DARK
    )


def picture(image: np.ndarray, heat: np.ndarray | None = None, side: int = 112) -> str:
    """Returns the data address of a JPEG of an image uint8 [h, w, 3], made a square of `side` pixels.

    heat: [h, w] in [0, 1]; the grey image under its heat map, blue at 1, is then below the image.
    """
    if heat is not None:
        grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
        strength = 0.75 * heat[..., None]
        image = np.concatenate([image, ((1 - strength) * grey + strength * HEAT).astype(np.uint8)])
    buffer = io.BytesIO()
    size = (side, side * (1 if heat is None else 2))
    Image.fromarray(image).resize(size, Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
