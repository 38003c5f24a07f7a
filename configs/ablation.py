"""Ablation: variants of one config over seeds, with a table of means and deviations on test.

    python main.py --config=configs/ablation.py:base=kdfas_demo,seeds=5
    python main.py --config=configs/ablation.py:base=dtda_demo,seeds=5
    python main.py --config=configs/ablation.py:base=kdfas_daa_demo,seeds=5
    python main.py --config=configs/ablation.py:base=kdfas_nuaa,seeds=5,variants=none+kdfas,raw_dir=/path/to/NUAA

    python main.py --config=configs/ablation.py:base=kdfas_light,seeds=5,budgets=1+3+10

Every variant is compared with the control, by default the first one, seed by seed at the same budget. A budget is a
factor on the length of training and of its warm-up; the teachers' length stays. Other arguments are passed to the base
config; --config.base.KEY=VALUE overrides it. Finished runs are not repeated; table.md, table.csv, table.tex, paired.csv
and runs.csv are written after every run, and with several budgets budgets.svg, the gain over the control by budget.
"""

import importlib

import ml_collections

from configs import common

OFF, ALONE = common.OFF, common.LABELS["ce"]  # ALONE: cross-entropy at full weight, without KL
CROSS, GRAM = {"form": "cross"}, {"form": "gram"}
# Face boxes of 1.0 to 1.7 times the face instead of crops, and light up to a stop more or less.
BOXES = {"data": {"augment": {"box": {"scale": 0.3, "shift": 0.1}, "crop": 1.0, "exposure": 1.0}}}
# Name -> changes of the base config, for base configs that define no VARIANTS.
KDFAS = {
    "none": {"terms": common.LABELS},
    "kl": {"terms": {"covariance": OFF}},
    "cross": {"terms": {"ce": ALONE, "kl": OFF, "covariance": CROSS}},
    "gram": {"terms": {"ce": ALONE, "kl": OFF, "covariance": GRAM}},
    "kl_cross": {"terms": {"covariance": CROSS}},
    "kl_gram": {"terms": {"covariance": GRAM}},
    "kdfas": {},  # the unchanged base config
    "none_box": {"terms": common.LABELS, **BOXES},
    "kdfas_box": BOXES,
}
DEFAULT = ("none", "kl", "kdfas")


def get_config(argument: str = ""):
    """Arguments: base (a config of configs/), seeds (their number), variants (names joined by +), budgets, control."""
    parts = [part for part in argument.split(",") if part]
    own = [part for part in parts if part.partition("=")[0] in ("base", "seeds", "variants", "budgets", "control")]
    args = common.parse(",".join(own), base="kdfas_demo", seeds=5, variants="", budgets="1", control="")
    base = importlib.import_module(f"configs.{args.base}")
    variants = getattr(base, "VARIANTS", KDFAS)
    names = args.variants.split("+") if args.variants else list(DEFAULT if variants is KDFAS else variants)
    if unknown := [name for name in names if name not in variants]:
        raise ValueError(f"config argument variants: {unknown[0]!r} is unknown; known: {', '.join(variants)}")
    config = ml_collections.ConfigDict()
    config.name = f"ablation of {args.base}"
    config.base = base.get_config(",".join(part for part in parts if part not in own))
    config.seeds = tuple(range(args.seeds))
    if args.control and args.control not in names:
        raise ValueError(f"config argument control: {args.control!r} is no variant of the study: {', '.join(names)}")
    budgets = _budgets(args.budgets)
    config.variants, config.controls, config.budgets = (ml_collections.ConfigDict() for _ in range(3))
    rows = []
    for budget in budgets:
        for name in names:
            row, control = (_row(of, budget, budgets) for of in (name, args.control or names[0]))
            config.variants[row] = ml_collections.ConfigDict(variants[name])
            config.controls[row], config.budgets[row] = control, budget
            rows.append(row)
            if budget != 1:
                _lengthen(config.variants[row], config.base, budget)
    config.names = tuple(rows)  # in this order
    return config


def _budgets(text: str) -> tuple[float, ...]:
    try:
        budgets = tuple(float(part) for part in text.split("+"))
    except ValueError:
        budgets = ()
    if not budgets or min(budgets) <= 0:
        raise ValueError(f"config argument budgets={text!r}: expected factors above 0, such as 1+3+10")
    return budgets


def _row(name: str, budget: float, budgets: tuple[float, ...]) -> str:
    return name if budgets == (1.0,) else f"{name}-x{budget:g}"


def _lengthen(variant: ml_collections.ConfigDict, base: ml_collections.ConfigDict, budget: float) -> None:
    """Multiplies the length of training, between evaluations and of the warm-up."""
    for part, key in (("train", "epochs"), ("train", "eval_epochs"), ("optim", "warmup_epochs")):
        own = variant.get(part, {}).get(key, base[part][key])
        variant[part] = {**variant.get(part, {}), key: budget * own}
