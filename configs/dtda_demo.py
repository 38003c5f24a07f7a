"""DTDA for two CPU cores, on the simulator's four domains; needs no data and no downloads.

    python main.py --config=configs/dtda_demo.py
    python main.py --config=configs/ablation.py:base=dtda_demo,seeds=5

A ResNet of 0.7 M parameters. E_d, a recogniser and an attribute editor are trained first where they are missing
(configs/teachers/domains_demo.py, recognition_demo.py, editor_demo.py). docs/results.md has the effect of each part.
Cost: two minutes on two cores, and once some twenty for the teachers and the rendering.
"""

from configs import common
from configs.teachers import domains_demo, editor_demo, recognition_demo

EPOCHS = {"epochs": 6.0, "eval_epochs": 2.0}
COST = 6.25  # the ratio of DTDA's FLOPs per step to plain training's (`--mode=plan`)
LONG = {"train": {name: COST * epochs for name, epochs in EPOCHS.items()}, "optim": {"warmup_epochs": COST}}
VARIANTS = {"erm_long": {**common.DTDA_VARIANTS["erm"], **LONG}, **common.DTDA_VARIANTS}


def get_config(argument: str = ""):
    """Arguments: protocol (OCI-M, OMI-C, OCM-I, ICM-O)."""
    args = common.parse(argument, protocol="OCI-M")
    classifier, config = (domains_demo.get_config(f"protocol=ocim:{args.protocol},classes=3") for _ in range(2))
    config.name = "dtda_demo"
    config.model.classes = 2
    config.terms.ce.smoothing = 0.1
    config.data.target = "label"
    config.data.balance = "domain+label"
    config.data.augment.colour = 0.2
    config.train = {"batch_size": 64, **EPOCHS}
    perceptual, generative = recognition_demo.get_config(), editor_demo.get_config()
    return common.dual_teachers(config, classifier, perceptual, generative, editor_demo.STAGES)
