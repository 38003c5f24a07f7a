"""KDFAS where there is something to teach: a ViT of 0.13 M parameters, and an ensemble of residual networks.

    python main.py --config=configs/kdfas_light.py
    python main.py --config=configs/ablation.py:base=kdfas_light,seeds=5

Three ResNet-18 of width 16 (configs/teachers/light.py) teach the mean of their logits, on the labelled images of 80
simulated people and on unlabelled images of further people, three in four of a batch. Their outputs are stored once
for each of `views` views. The control, variant `none`, sees labelled images alone, new views in every epoch, for as
many steps of as many images. docs/results.md has the figures.
"""

from configs import common
from configs.teachers import light as teacher

# Name -> changes of the config (configs/ablation.py).
VARIANTS = {
    "none": {"terms": common.LABELS, "data": {"views": 0}},
    "kl": {"terms": {"covariance": common.OFF}},
    "kl_cka": {"terms": {"covariance": {"form": "cka"}}},
    "kl_regression": {"terms": {"covariance": {"form": "regression"}}},
    "kl_cross": {"terms": {"covariance": {"form": "cross"}}},
    "kl_gram": {"terms": {"covariance": {"form": "gram"}}},
    "kl_labelled": {"terms": {"covariance": common.OFF}, "data": {"unlabelled": {"dataset": ""}}},
}


def get_config(argument: str = ""):
    """Arguments: those of the teacher but steps; teachers (their number), free (unlabelled people), views, steps."""
    args = common.parse(argument, protocol="1", size=96, people=80, teachers=3, free=160, views=4, steps=1200)
    given = f"protocol={args.protocol},size={args.size},people={args.people}"
    config = teacher.get_config(f"{given},steps={args.steps}")
    config.name = "kdfas_light"
    config.model = {"name": "vit", "patch": 16, "width": 48, "depth": 4, "heads": 3, "classes": 2, "stem": (8, 16, 32)}
    config.model.update({"dtype": "float32", "unroll": True})
    common.distilled(config, teacher.get_config(given))
    common.ensemble(config, args.teachers, lambda: teacher.get_config(given))
    first = args.people + 36
    config.data.unlabelled.update({"dataset": "simulated", "share": 0.75})
    config.data.unlabelled.options = {"frames": 1, "size": args.size, "users": tuple(range(first, first + args.free))}
    config.data.views = args.views
    config.terms.ce.where = "label"
    config.terms.covariance.form = "cka"
    for name in config.teachers:
        config.teachers[name].cache = ("logits", "class_tokens") if name == "spoof" else ("logits",)
    return config
