"""A spoof teacher of kdfas_light: a ResNet-18 of width 16, 0.70 M parameters, on simulated faces.

python main.py --config=configs/teachers/light.py
"""

from configs import common

AUGMENT = {"crop": 0.7, "colour": 0.2, "exposure": 0.5, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3.1-3.6, 4.1-4.6), size (px), people (who train), steps."""
    args = common.parse(argument, protocol="1", size=96, people=80, steps=1200)
    config = common.base("teacher_light")
    config.model = {"name": "resnet", "variant": "18", "width": 16, "classes": 2, "dtype": "float32"}
    users = tuple(range(1, args.people + 36))  # 21 to 35 are dev, 36 to 55 test
    config.data.options = {"frames": 1, "size": args.size, "users": users}
    config.data.record_size = config.data.image_size = args.size
    config.data.protocol = args.protocol
    config.data.augment.update(AUGMENT)
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 60, "epochs": args.steps / args.people}  # a person has 60 training images
    config.train.eval_epochs = config.train.epochs / 4
    config.optim.update({"lr": 8e-3, "warmup_epochs": config.train.epochs / 10, "ema": 0.995})
    config.eval.batch_size = 60
    return config
