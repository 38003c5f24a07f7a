"""The sections on how a run was made: its data, its teachers, its start, its config and the versions."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdfas_jax.report import summary
from kdfas_jax.report.parts import Shown
from kdfas_jax.report.render import names
from kdfas_jax.report.render.content import Figure, Section, Table
from kdfas_jax.runs.identity import digest

FACTS = ("run", "protocol", "step", "config", "parameters", "overlap")


def taught(teachers: Mapping[str, Mapping[str, Any]], init: Mapping[str, Any] | None = None) -> Section | None:
    """Returns the section on a run's teachers and its start, from their facts in results.json; None without any."""
    rows = {**teachers, **({"start of training": init} if init else {})}
    if not rows:
        return None
    cells = [(name, *(_fact(facts.get(key)) for key in FACTS)) for name, facts in rows.items()]
    return Section(
        "The teachers" if teachers else "The start of training",
        "Runs or published weights that this model learned from. Overlap: what they have seen of what this model is "
        "judged on.",
        [Table(("name", *FACTS), cells)],
    )


def adapted(found: Mapping[str, Any] | None) -> Section | None:
    """Returns the section on what an adaptation to a camera changed (`adapted` of results.json); None without one."""
    if not found:
        return None
    rows = [
        (
            name,
            f"{row['threshold']:.4f}",
            Figure(_share(row["bpcer"]), _counted(row["bpcer"])),
            _worst(row["apcer"]),
            Figure(row["auc"], area=True),
            Figure(row["bpcer100"]),
        )
        for name, row in found["rows"].items()
    ]
    head = ("", "threshold", "BPCER", "APCER, worst species", "AUC", "BPCER at APCER 1 %")
    words = (
        f"The run {found['from']} on pictures of this camera that were not trained on: as it was, at a new threshold, "
        "and after training. Simulated attacks are made from the live pictures. Intervals are Clopper and Pearson's, "
        "95 %, and count pictures as independent."
    )
    if kept := found.get("rehearsal"):
        words += (
            f" AUC on {kept['pictures']} dev pictures of the old data: {kept['auc_before']:.4f} before, "
            f"{kept['auc_after']:.4f} after."
        )
    return Section("Before and after", words, [Table(head, rows)])


def _worst(rates: Mapping[str, Mapping[str, Any]]) -> Figure:
    name = max(rates, key=lambda name: _share(rates[name]))
    return Figure(_share(rates[name]), f"{names.species(name)}, {_counted(rates[name])}")


def _share(rate: Mapping[str, Any]) -> float:
    return rate["errors"] / rate["of"]


def _counted(rate: Mapping[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{rate['errors']} of {rate['of']}; {100 * low:.1f} to {100 * high:.1f}"


def _fact(value: Any) -> str:
    return "not known" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def provenance(results: Mapping[str, Any], shown: Shown) -> Section:
    """Returns the section that says from what the page was made."""
    config, made = results["config"], shown.made or {}
    rows = {
        "Evaluated": made.get("date"),
        "Commit of the training": made.get("commit"),
        "Command of the training": " ".join(made.get("command", [])),
        "Config": f"{config['name']}, digest {digest(ConfigDict(config))}" if "seed" in config else config["name"],
        "Seed": config.get("seed"),
        "Data set": names.domains(config["data"].get("dataset", "").split("+")),
        "Digest of the data": made.get("data_fingerprint"),
        "Protocol": results["protocol"],
        "Judged on other data": _elsewhere(results.get("on")),
        "Training": _steps(results),
        "Versions": ", ".join(
            f"{name} {version}"
            for name, version in {"Python": made.get("python"), **made.get("packages", {})}.items()
            if version
        ),
        "Devices": ", ".join(made.get("devices", [])),
    }
    cells = [(name, str(value)) for name, value in rows.items() if value not in (None, "")]
    parts = [Table(("", ""), cells)]
    if on_dev := summary.row({"test": results["dev"]}):
        head = ("%, AUC as a fraction", *on_dev)
        on_test = summary.row({"test": results["test"]})
        both = [("dev", *on_dev.values()), ("test", *(on_test.get(name, "–") for name in on_dev))]
        parts.append(Table(head, both, "Dev and test, names as in results.json"))
    if shown.splits:
        parts.append(_splits(shown.splits, config["data"].get("dataset", "").split("+")))
    return Section("Provenance", "", parts)


def _elsewhere(on: Mapping[str, Any] | None) -> str:
    if not on:
        return ""
    return f"{on['split']} of {names.domain(on['dataset'])} {on['raw_dir']}; seen by the run: {on['seen']}"


def _steps(results: Mapping[str, Any]) -> str:
    if "steps" not in results:
        return ""
    steps = results["steps"]
    return f"{steps['trained']} of {steps['total']} steps; checkpoint of step {results['step']}"


def _splits(splits: Mapping[str, Mapping[str, Any]], datasets: list[str]) -> Table:
    """Returns the table of what each split consists of, in presentations."""

    def listed(counts: Mapping[str, int], named) -> str:
        return "; ".join(f"{named(name)}: {number:,}" for name, number in counts.items()) or "–"

    rows = [
        (
            role,
            f"{of['presentations']:,}",
            "not known" if of["people"] is None else f"{of['people']:,}",
            listed(of["species"], names.species),
            listed(of["medium"], lambda name: names.value("medium", name, datasets)),
            listed(of["sensor"], lambda name: names.value("sensor", name, datasets)),
        )
        for role, of in splits.items()
    ]
    head = ("split", "presentations", "people", "species", "attack instruments", "phones or cameras")
    return Table(head, rows, "What each split consists of")
