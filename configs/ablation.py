"""Ablation: variants of one config over seeds, with a table of means and deviations on test.

    python main.py --config=configs/ablation.py:base=kdfas_demo,seeds=5
    python main.py --config=configs/ablation.py:base=dtda_demo,seeds=5
    python main.py --config=configs/ablation.py:base=kdfas_daa_demo,seeds=5
    python main.py --config=configs/ablation.py:base=kdfas_nuaa,seeds=5,variants=none+kdfas,raw_dir=/path/to/NUAA

Other arguments are passed to the base config; --config.base.KEY=VALUE overrides it. Finished runs are not repeated;
table.md, table.csv, table.tex and runs.csv are written after every run.
"""

import importlib

import ml_collections

from configs import common

OFF, ALONE = common.OFF, common.LABELS["ce"]  # ALONE: cross-entropy at full weight, without KL
CROSS, GRAM = {"form": "cross"}, {"form": "gram"}
# Name -> changes of the base config, for base configs that define no VARIANTS.
KDFAS = {
    "none": {"terms": common.LABELS},
    "kl": {"terms": {"covariance": OFF}},
    "cross": {"terms": {"ce": ALONE, "kl": OFF, "covariance": CROSS}},
    "gram": {"terms": {"ce": ALONE, "kl": OFF, "covariance": GRAM}},
    "kl_cross": {"terms": {"covariance": CROSS}},
    "kl_gram": {"terms": {"covariance": GRAM}},
    "kdfas": {},  # the unchanged base config
}
DEFAULT = ("none", "kl", "cross", "gram", "kl_cross", "kl_gram")


def get_config(argument: str = ""):
    """Arguments: base (a config of configs/), seeds (their number), variants (names joined by +)."""
    parts = [part for part in argument.split(",") if part]
    own = [part for part in parts if part.partition("=")[0] in ("base", "seeds", "variants")]
    args = common.parse(",".join(own), base="kdfas_demo", seeds=5, variants="")
    base = importlib.import_module(f"configs.{args.base}")
    variants = getattr(base, "VARIANTS", KDFAS)
    names = args.variants.split("+") if args.variants else list(DEFAULT if variants is KDFAS else variants)
    if unknown := [name for name in names if name not in variants]:
        raise ValueError(f"config argument variants: {unknown[0]!r} is unknown; known: {', '.join(variants)}")
    config = ml_collections.ConfigDict()
    config.name = f"ablation of {args.base}"
    config.base = base.get_config(",".join(part for part in parts if part not in own))
    config.seeds = tuple(range(args.seeds))
    config.names = tuple(names)  # in this order
    config.variants = {name: variants[name] for name in names}
    return config
