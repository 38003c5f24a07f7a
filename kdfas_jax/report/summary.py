"""A run's figures as text: the headline, the table on screen, and where threshold and checkpoint come from.

All of it reads results.json as it is, of whatever target and version.
"""

import pandas as pd

HEADLINE = ("auc", "eer", "apcer_max", "bpcer", "acer", "hter", "bpcer10", "tpr_at_fpr1")
FIGURES = (*HEADLINE, "accuracy")  # and the figure of recognition and domain classification
TWO_TASKS = (
    "match_accuracy",
    "match_auc",
    "match_tar@far=0.01",
    "frr",
    "riapar_max",
)  # of a model of two tasks, beside
SYSTEM = ("frr", "far", "iapar_max", "riapar_max")  # of a model of two tasks, whole


def row(results: dict) -> dict[str, str]:
    """Returns the headline figures of results.json's content, in per cent (areas as fractions).

    Over folds they are mean ± deviation. Where test has no right answer (a classifier never saw its domains), they are
    the figures of dev, with the prefix "dev ".
    """
    test, deviation = (headline(part) for part in (results["test"], results["test"].get("deviation", {})))
    if not test:
        dev = row({"test": results["dev"]}) if headline(results.get("dev", {})) else {}
        return {f"dev {name}": cell for name, cell in dev.items()}

    def cell(name: str) -> str:
        values = [figures[name] for figures in (test, deviation) if name in figures]
        return " ± ".join(f"{value:.4f}" if is_area(name) else f"{100 * value:.2f}" for value in values)

    return {name: cell(name) for name in test}


def headline(figures: dict) -> dict[str, float]:
    """Returns the figures of a split that tables show; verification beside detection has match_auc, ..."""
    rates = {f"tar@far={far}": share for far, share in figures.get("tar_at_far", {}).items()}
    match = headline(figures["verification"]) if "verification" in figures else {}
    system = {name: figures["system"][name] for name in SYSTEM if "system" in figures}
    match = {f"match_{name}": value for name, value in match.items()}
    return {name: figures[name] for name in FIGURES if name in figures} | rates | match | system


def is_area(name: str) -> bool:
    """Returns whether the figure `name` is an area under a curve, shown as a fraction."""
    return name.endswith("auc")


def markdown(rows: dict[str, dict[str, str]], corner: str = "") -> str:
    """Returns {row name: {column: text}} as an aligned Markdown table."""
    columns = list(next(iter(rows.values())))
    lines = [[corner, *columns], *([name, *cells.values()] for name, cells in rows.items())]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns) + 1)]

    def joined(line: list[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([joined(lines[0]), rule, *map(joined, lines[1:])])


def presentations(scores: pd.DataFrame) -> pd.DataFrame:
    """Returns the videos among the rows of scores.csv, which hold pairs and attempts, too, for a model of two tasks."""
    return scores[scores["kind"] == "presentation"] if "kind" in scores else scores


def detects(results: dict) -> bool:
    """Returns whether the figures are of presentation attack detection, and not of another target."""
    return "apcer" in results["test"]


def selection_note(results: dict) -> str:
    """Returns where threshold and checkpoint of a run come from, and what speaks against its figures."""
    return " ".join([_chosen(results), *_reservations(results)])


def _reservations(results: dict) -> list[str]:
    """Returns a sentence for each reason why the figures do not stand for a whole and independent run."""
    found = []
    if not results.get("finished", True):
        steps = results.get("steps")
        where = "in one of its folds" if steps is None else f"at step {steps['trained']} of {steps['total']}"
        found.append(f"Training has stopped {where}: this run is not finished.")
    found += gate_note(results.get("gate", {}))
    if (seen := results.get("on", {}).get("seen", "none")) != "none":
        found.append(f"The run may have seen the data that it is tested on: {seen}.")
    allowed = {
        f"Teacher {name}": (f"config.teachers.{name}.allow_overlap", facts)
        for name, facts in results.get("teachers", {}).items()
    }
    if begun := results.get("init"):
        allowed[f"The run {begun['run']}, from which training started,"] = ("config.init_allow_overlap", begun)
    return found + [
        f"{who} may have seen what this run is judged on, which {key} allowed: {facts['overlap']}."
        for who, (key, facts) in allowed.items()
        if "allowed: " in facts["overlap"]
    ]


def gate_note(gate: dict) -> list[str]:
    """Returns a sentence where the teacher is no better on dev than its student without it (`runs.gate`), else none."""
    if gate.get("better", True) in (True, None):
        return []
    teacher, control = (
        f"{of['auc']:.4f}" + (" (95 %: {:.4f} to {:.4f})".format(*of["ci95"]) if of["ci95"] else "")
        for of in (gate["teacher"], gate["control"])
    )
    return [f"The teacher is no better than the student on labels alone: AUC on dev {teacher} and {control}."]


def _chosen(results: dict) -> str:
    """Returns where threshold and checkpoint come from, in a sentence or two."""
    threshold, step, folds = results["threshold"], results["step"], results["folds"]
    chosen = "chosen on dev" if results["dev"] else "the last"
    if not detects(results):
        return f"Mean ± deviation over {len(folds)} folds." if folds else f"Checkpoint of step {step}, {chosen}."
    if folds:
        return f"Mean and population standard deviation over {len(folds)} folds. Threshold: {threshold['source']}."
    return (
        f"Threshold {threshold['value']:.6g} ({threshold['source']}), applied unchanged to test. "
        f"Checkpoint of step {step}, {chosen}."
    )
