"""The tables of the documents that `launch/results.sh` measures: the commands of each, and the document it stands in.

A table is what its last command prints in Markdown. RUNS in a command is the folder of the runs of today's code, so
that no figure comes from a run of older code; RAW_NAME is the folder of the real data set NAME. Commands resume where
they were interrupted and repeat no finished run.
"""

from typing import NamedTuple


class Table(NamedTuple):
    """A table between the lines `<!-- table NAME -->` and `<!-- end of table NAME -->` of `document`.

    commands: lines of shell, run in the project's root one after another. seeds: as the document states them.
    hours: an estimate for two idle cores; the shortest table is measured first.
    raw: the data sets of real faces, whose folders the caller has to name. RAW_NAME in a command is that of NAME.
    needs: what no machine of ours has, '' for nothing; a table that needs something is listed as not measured.
    """

    name: str
    document: str
    commands: tuple[str, ...]
    seeds: str
    hours: float
    raw: tuple[str, ...] = ()
    needs: str = ""


def _study(base: str, arguments: str, *overrides: str, name: str = "") -> str:
    flags = " ".join(f"--config.base.{override}" for override in overrides)
    study = f"--config=configs/ablation.py:base={base},{arguments} --workdir=RUNS/study_{name or base}"
    return f"python main.py {study} {flags}".strip()


def _plain(name: str, base: str, arguments: str, *, seeds: str, hours: float, raw: str = "") -> Table:
    """Returns the table of a study that trains its own teachers, of the real faces `raw` if it is given."""
    arguments = f"raw_dir=RAW_{raw},{arguments}" if raw else arguments
    return Table(name, "docs/results.md", (_study(base, arguments),), seeds, hours, (raw,) if raw else ())


def _leakage(dataset: str) -> Table:
    """Returns the table of what plain numbers tell of the label in `dataset`."""
    command = f"python -m kdfas_jax.commands.documented.leakage --dataset={dataset}"
    return Table(f"leakage_{dataset}", "docs/simulator.md", (command,), seeds="0", hours=0.05)


NUAA = "data=nuaa,raw_dir=RAW_NUAA,steps=400"  # arguments of kdfas_light and of its teachers


def _light(name: str, arguments: str, *, seeds: str, hours: float, real: bool = False) -> Table:
    """Returns the table of a study of kdfas_light, whose three teachers all studies of the same pictures share.

    real: whether they are NUAA's.
    """
    of, folder = (f":{NUAA}", "RUNS/nuaa_light") if real else ("", "RUNS/light")
    teachers = [
        f"python main.py --config=configs/teachers/light.py{of} --config.seed={seed} --workdir={folder}-{seed}"
        for seed in range(3)
    ]
    names = ("spoof", "spoof2", "spoof3")
    taught = [f"teachers.{teacher}.checkpoint={folder}-{seed}" for seed, teacher in enumerate(names)]
    study = _study("kdfas_light", arguments, *taught, "eval.stability=0", name=name)
    return Table(name, "docs/results.md", (*teachers, study), seeds, hours, ("NUAA",) if real else ())


# The commands that train the face teachers of `_dtda`, and the overrides that name them.
FACES = tuple(
    f"python main.py --config=configs/teachers/{name}_demo.py --workdir=RUNS/{name}_demo"
    for name in ("recognition", "editor")
)
FACED = (
    "teachers.perceptual.checkpoint=RUNS/recognition_demo",
    "teachers.generative.checkpoint=RUNS/editor_demo",
    "eval.stability=0",
)


def _dtda(protocol: str) -> Table:
    """Returns the table of the study of dtda_demo that holds the last domain of `protocol` out."""
    name = f"dtda_{protocol}"
    study = _study("dtda_demo", f"protocol={protocol},seeds=5", *FACED, name=name)
    return Table(name, "docs/results.md", (*FACES, study), seeds="0 to 4", hours=2.5)


def _blind(name: str, *studies: tuple[str, str], seeds: str, hours: float) -> Table:
    """Returns the table of runs of zero_real on simulated and on real faces.

    studies: (the end of its folder's name, arguments of configs/ablation.py).
    """
    folders = ",".join(f"RUNS/study_{of}" for of, _ in studies)
    trained = [_study("zero_real", arguments, "eval.stability=0", name=of) for of, arguments in studies]
    raw = ("NUAA", "msu001")
    given = " ".join(f"--{of.lower()}=RAW_{of}" for of in raw)
    applied = f"python -m kdfas_jax.commands.documented.transfer --studies={folders} {given} --folder=RUNS/transfer"
    return Table(name, "docs/simulator.md", (*trained, applied), seeds, hours, raw)


def _readme() -> Table:
    """Returns the table of the runs that launch/demo.sh makes: teacher, control and student, with their sizes."""
    study = _study("kdfas_demo", "seeds=1,variants=none+kdfas", name="readme")
    folder = "RUNS/study_readme"
    runs = f"$(echo {folder}/teachers/*),{folder}/none-seed0,{folder}/kdfas-seed0"
    return Table("readme", "README.md", (study, f'python main.py --mode=eval --runs="{runs}"'), seeds="0", hours=0.15)


CATALOGUE = (
    _readme(),
    _plain("demo", "kdfas_demo", "seeds=5,variants=none+kl+kdfas", seeds="0 to 4", hours=1.0),
    _plain("boxes", "kdfas_demo", "seeds=5,variants=none+kdfas+none_box+kdfas_box", seeds="0 to 4", hours=1.5),
    _light(
        "light",
        "seeds=5,variants=none+kl+kl_cka+kl_regression+kl_cross+kl_gram",
        seeds="0 to 4 of the students",
        hours=2.5,
    ),
    _light(
        "light_budgets",
        "seeds=3,budgets=1+3,variants=none+kl_cka",
        seeds="0 to 2 of the students",
        hours=1.4,
    ),
    _light(
        "light_small",
        "resnet=6,seeds=5,variants=none+kl_cka",
        seeds="0 to 4 of the students",
        hours=0.8,
    ),
    Table(
        "domains",
        "docs/results.md",
        (
            "python main.py --config=configs/teachers/domains_demo.py:protocol=ocim:OCI-M,classes=3 "
            "--workdir=RUNS/domains",
            "python main.py --mode=confuse --workdir=RUNS/domains",
        ),
        seeds="0",
        hours=0.2,
    ),
    *(_dtda(protocol) for protocol in ("OCI-M", "OMI-C", "OCM-I", "ICM-O")),
    _plain("mtkd", "mtkd_demo", "seeds=5,variants=alone+kl+mtakd", seeds="0 to 4", hours=1.5),
    _plain("nuaa", "kdfas_nuaa", "seeds=5,variants=none+kdfas+kdfas_box", seeds="0 to 4", hours=0.8, raw="NUAA"),
    _light(
        "light_nuaa",
        f"{NUAA},teacher_steps=400,seeds=5,variants=none+kl+kl_cka",
        seeds="0 to 4 of the students",
        hours=0.8,
        real=True,
    ),
    Table(
        "adapt",
        "docs/adapt.md",
        ("python -m kdfas_jax.commands.documented.sessions --raw_dir=RAW_NUAA --folder=RUNS/sessions",),
        seeds="0 to 4 of the draws",
        hours=0.8,
        raw=("NUAA",),
    ),
    _blind("zero_real", ("zero_real", "seeds=3,variants=recipe"), seeds="0 to 2", hours=1.3),
    _blind(
        "zero_real_parts",
        ("zero_real_parts", "seeds=1,steps=1500"),
        ("people400", "seeds=1,steps=1500,people=400,variants=recipe"),
        seeds="0",
        hours=1.8,
    ),
    _leakage("simulated"),
    _leakage("simulated_wild"),
    Table(
        "oulu",
        "docs/results.md",
        ("python main.py --config=configs/kdfas_oulu.py:protocol=4,raw_dir=/path/to/OULU-NPU --workdir=RUNS/oulu",),
        seeds="0",
        hours=600.0,
        needs="OULU-NPU, which is not public, and an accelerator",
    ),
)
