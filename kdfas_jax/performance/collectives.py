"""What the text of a compiled module says of the bytes that move between devices."""

import math
import re
from collections import Counter

BYTES = {"f64": 8, "f32": 4, "s32": 4, "u32": 4, "bf16": 2, "f16": 2, "s8": 1, "u8": 1, "pred": 1}
KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

COLLECTIVE = re.compile(rf"= (.+?) ({'|'.join(KINDS)})(-start)?\(")
CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|called_computations|branch_computations)=\{?([^,}\s]+(?:, %[^,}\s]+)*)"
)


def received(hlo: str) -> dict[str, int]:
    """Bytes that one device receives from each kind of collective in one run of the module, by result shape.

    One inside a loop counts as often as the loop runs, which is the bound in its condition; one that the compiler has
    cut into parts, to run beside other work, has one channel and counts once.
    """
    computations = _computations(hlo)
    runs = _runs(computations)
    total: Counter[str] = Counter()
    seen = set()
    for name, lines in computations.items():
        for line in lines:
            if not (found := COLLECTIVE.search(line)):
                continue
            shapes, kind, start = found.groups()
            if channel := re.search(r"channel_id=\d+", line):
                if channel[0] in seen:
                    continue
                seen.add(channel[0])
            total[kind] += runs[name] * _size(shapes, both=bool(start) and kind != "all-reduce")
    return dict(total)


def _computations(hlo: str) -> dict[str, list[str]]:
    """{name: the lines of its instructions}; the one that is run is named ENTRY."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in hlo.splitlines():
        if opened := re.match(r"(ENTRY|%\S+) .*\{$", line):
            lines = found.setdefault(opened[1], [])
        else:
            lines.append(line)
    return found


def _runs(computations: dict[str, list[str]]) -> dict[str, int]:
    """How often each computation runs."""
    runs = dict.fromkeys(computations, 0)
    waiting = [("ENTRY", 1)]
    while waiting:
        name, times = waiting.pop()
        if times <= runs.get(name, times):
            continue
        runs[name] = times
        for line in computations[name]:
            bound = _bound(computations, line) if " while(" in line else 1
            for called in CALLED.findall(line):
                waiting += [(part, times * bound) for part in called.split(", ")]
    return runs


def _bound(computations: dict[str, list[str]], line: str) -> int:
    """How often the body of the `while` of `line` runs: the largest number that its condition names, 1 if none."""
    condition = re.search(r"condition=(%[^,\s]+)", line)
    text = "\n".join(computations.get(condition[1], [])) if condition else ""
    return max(map(int, re.findall(r"s32\[\]\S* constant\((\d+)\)", text)), default=1)


def _size(shapes: str, *, both: bool) -> int:
    """Bytes of the arrays in a result's type; of `both` operands and results, the results alone."""
    arrays = [(kind, dims) for kind, dims in re.findall(r"(\w+)\[([\d,]*)\]", shapes) if dims or not both]
    arrays = arrays[len(arrays) // 2 :] if both else arrays
    return sum(BYTES.get(kind, 4) * math.prod(int(size) for size in dims.split(",") if size) for kind, dims in arrays)
