"""HTML of the reports: one self-contained page, legible on small and large screens and in print, light and dark."""

import base64
import html
import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image

# CSS variables of the page and their colours; c0 to c7 are for curves, and colour-blind readers can tell them apart.
LIGHT = {"ink": "#1c1d20", "paper": "#fcfcfa", "dim": "#5d6068", "rule": "#d9dadf", "wash": "#f1f1ee", "bar": "#f3c9b0"}
LIGHT |= {"c0": "#0072b2", "c1": "#d55e00", "c2": "#009e73", "c3": "#aa4499"}
LIGHT |= {"c4": "#b58900", "c5": "#56a0d3", "c6": "#882255", "c7": "#777777"}
DARK = {"ink": "#e8e8e6", "paper": "#17181b", "dim": "#a3a6ae", "rule": "#3a3c42", "wash": "#212327", "bar": "#6b3413"}
DARK |= {"c0": "#5ab4f0", "c1": "#ff8a3d", "c2": "#3fcf9f", "c3": "#e08ad0"}
DARK |= {"c4": "#e3bb3f", "c5": "#a3d3f5", "c6": "#e0729f", "c7": "#aaaaaa"}


class Html(str):
    """Text that is already HTML; any other text is escaped when it is inserted into a page."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """Escapes `text` for HTML, unless it is `Html` already."""
    return text if isinstance(text, Html) else Html(html.escape(text))


def share(value: float) -> Html:
    """A fraction shown in per cent; the tag's `value` has the exact number."""
    return Html(f'<data value="{value!r}">{100 * value:.2f} %</data>')


def area(value: float) -> Html:
    """A metric that is not a share, such as an area, with four decimals; the tag's `value` has the exact number."""
    return Html(f'<data value="{value!r}">{value:.4f}</data>')


def bar(value: float | None) -> Html:
    """`share` with a bar of proportional length behind it; a dash for None."""
    return Html(f'<span class="bar" style="--v:{100 * value:.1f}%">{share(value)}</span>' if value is not None else "–")


def named(name: str, words: str) -> Html:
    """A name with an explanation below it."""
    return Html(f"{escaped(name)}<small>{escaped(words)}</small>")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    """A table that scrolls horizontally where it is too wide; its cells are text or HTML."""

    def cells(tag: str, values: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{escaped(value)}</{tag}>" for value in values) + "</tr>"

    body = "".join(cells("td", values) for values in rows)
    return Html(f'<div class="scroll"><table>{cells("th", head)}{body}</table></div>')


def section(title: str, words: str, *parts: str) -> Html:
    """A section of the page with a title, an introduction and its parts; empty where there are no parts."""
    inside = "".join(filter(None, parts))
    return Html(f"<section><h2>{escaped(title)}</h2><p>{escaped(words)}</p>{inside}</section>" if inside else "")


def beside(*columns: str) -> Html:
    """Columns side by side where the page is wide enough, else below each other."""
    return Html(f'<div class="beside">{"".join(f"<div>{column}</div>" for column in columns if column)}</div>')


def figures(*plots: tuple[str, str]) -> Html:
    """Plots (caption, SVG) in a grid."""
    shown = "".join(f"<figure>{svg}<figcaption>{escaped(caption)}</figcaption></figure>" for caption, svg in plots)
    return Html(f'<div class="grid">{shown}</div>')


def picture(image: np.ndarray, heat: np.ndarray, caption: str) -> Html:
    """An image uint8 [h, w, 3] and, beside it, the grey image under its heat map [h, w] in [0, 1], red at 1."""
    grey = np.repeat(image.mean(-1, keepdims=True), 3, axis=-1)
    strength = 0.75 * heat[..., None]
    under = ((1 - strength) * grey + strength * np.array([230, 40, 0])).astype(np.uint8)
    pixels = Image.fromarray(np.concatenate([image, under], axis=1))
    buffer = io.BytesIO()
    pixels.resize((224, 112), Image.Resampling.LANCZOS).save(buffer, format="JPEG", quality=85)
    source = f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    words = escaped(caption)
    return Html(f'<figure><img alt="{words}" src="{source}"><figcaption>{words}</figcaption></figure>')


def document(title: str, body: str) -> str:
    """Returns a complete HTML page with this title and body."""
    head = (
        _HEAD.replace("LIGHT", _declared(LIGHT)).replace("DARK", _declared(DARK)).replace("TITLE", html.escape(title))
    )
    return f"{head}<main>\n{body}\n</main></body></html>\n"


def _declared(colours: Mapping[str, str]) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>TITLE</title><style>
:root { LIGHT }
@media screen and (prefers-color-scheme: dark) { :root { DARK } }
@media print { :root { --paper: #fff; --wash: #fff; } figure, tr { break-inside: avoid; }
  h2, h3, section > p { break-after: avoid; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.15rem; margin: 0; } h2 { font-size: 1.25rem; margin: 0 0 .25rem; }
p { margin: .25rem 0 .75rem; max-width: 46rem; } small { display: block; color: var(--dim); font-size: .8125rem;
  line-height: 1.35; white-space: normal; }
td:first-child small { min-width: 8.5rem; }
.lead { font-size: clamp(1.3rem, 4.6vw, 2.1rem); line-height: 1.25; font-weight: 600; max-width: 56rem;
  margin: 1rem 0 .5rem; text-wrap: balance; }
.dim, figcaption { color: var(--dim); } .warn { border-left: 4px solid var(--c1); padding-left: .75rem; }
section { border-top: 1px solid var(--rule); padding-top: 1.25rem; margin-top: 1.75rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.25rem;
  align-items: start; margin: .75rem 0; }
.beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 32rem), 1fr)); gap: 0 3rem; }
.beside > div { min-width: 0; } .grid > * { min-width: 0; }
.grid.faces { grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .75rem; }
h3 { font-size: 1rem; margin: 1rem 0 0; }
figure { margin: 0; background: var(--wash); border-radius: 8px; padding: .6rem; max-width: 32rem; }
figure img, figure svg { display: block; width: 100%; height: auto; border-radius: 4px; }
svg text { font-family: inherit !important; } figcaption { font-size: .8125rem; line-height: 1.4; margin-top: .4rem;
  overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule); }
th { color: var(--dim); font-weight: 500; font-size: .875rem; vertical-align: bottom; } data { white-space: nowrap; }
.bar { display: block; width: 6.5rem; padding: 0 .35rem; border-radius: 3px;
  background: linear-gradient(to right, var(--bar) var(--v), transparent 0); }
</style></head><body>"""
