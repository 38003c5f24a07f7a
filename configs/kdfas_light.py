"""KDFAS where there is something to teach: a ViT of 0.13 M parameters, and an ensemble of residual networks.

    python main.py --config=configs/kdfas_light.py
    python main.py --config=configs/ablation.py:base=kdfas_light,seeds=5
    python main.py --config=configs/kdfas_light.py:data=nuaa,raw_dir=/path/to/NUAA,steps=400,teacher_steps=400

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
    "kl_cka_lift": {"terms": {"covariance": {"form": "cka", "lift": 96}}},
    "kl_regression": {"terms": {"covariance": {"form": "regression"}}},
    "kl_running": {"terms": {"covariance": {"form": "regression", "momentum": 0.9}}},
    "kl_cross": {"terms": {"covariance": {"form": "cross"}}},
    "kl_gram": {"terms": {"covariance": {"form": "gram"}}},
    "kl_labelled": {"terms": {"covariance": common.OFF}, "data": {"unlabelled": {"dataset": ""}}},
}


def get_config(argument: str = ""):
    """Arguments: data, raw_dir, protocol, size, people (configs/teachers/light.py), and

    steps, teacher_steps: of the student and of each teacher. teachers: how many teach. free: how many unlabelled people
    are rendered. views: how many views of an image are stored. resnet: the width of a ResNet-18 that is the student, 0
    for the ViT; a width of 6 has 0.10 M parameters.
    """
    known = {"data": "simulated", "raw_dir": "", "protocol": "1", "size": 96, "people": 80}
    args = common.parse(argument, **known, teachers=3, free=160, views=4, resnet=0, steps=1200, teacher_steps=1200)
    given = ",".join(f"{name}={args[name]}" for name in known)

    def of_teacher():
        return teacher.get_config(f"{given},steps={args.teacher_steps}")

    config = teacher.get_config(f"{given},steps={args.steps}")
    config.name = "kdfas_light"
    if args.resnet:
        config.model.width = args.resnet
    else:
        config.model = {"name": "vit", "patch": 16, "width": 48, "depth": 4, "heads": 3, "stem": (8, 16, 32)}
        config.model.update({"classes": 2, "dtype": "float32", "unroll": True})
    common.distilled(config, of_teacher())
    common.ensemble(config, args.teachers, of_teacher)
    first = args.people + 36
    config.data.unlabelled.update({"dataset": "simulated", "share": 0.75})
    config.data.unlabelled.options = {"frames": 1, "size": args.size, "users": tuple(range(first, first + args.free))}
    config.data.views = args.views
    config.terms.ce.where = "label"
    config.terms.covariance.form = "cka"
    for name in config.teachers:
        config.teachers[name].cache = ("logits", "class_tokens") if name == "spoof" else ("logits",)
    return config
