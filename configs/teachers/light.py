"""A spoof teacher of kdfas_light: a ResNet-18 of width 16, 0.70 M parameters, on simulated faces or on NUAA.

python main.py --config=configs/teachers/light.py
python main.py --config=configs/teachers/light.py:data=nuaa,raw_dir=/path/to/NUAA,steps=400
"""

from configs import common

AUGMENT = {"crop": 0.7, "colour": 0.2, "exposure": 0.5, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0}


EPOCH_NUAA = 30  # steps, where every third frame is at hand, as in docs/results.md


def get_config(argument: str = ""):
    """Arguments: data (simulated, nuaa), raw_dir (NUAA), protocol (1, 2, 3.1-3.6, 4.1-4.6), size (px), steps, people.

    people: who train, where they are simulated. Of NUAA, subjects 1-6 train, 7 is dev, 8 is test.
    """
    args = common.parse(argument, data="simulated", raw_dir="", protocol="1", size=96, people=80, steps=1200)
    if args.data not in ("simulated", "nuaa"):
        raise ValueError(f"config argument data={args.data!r}: expected simulated or nuaa")
    config = common.base("teacher_light")
    config.model = {"name": "resnet", "variant": "18", "width": 16, "classes": 2, "dtype": "float32"}
    config.data.record_size = config.data.image_size = args.size
    epoch = args.people  # steps; a person has 60 training images
    if args.data == "nuaa":
        config.data.update({"dataset": "nuaa", "raw_dir": args.raw_dir, "protocol": "subjects"})
        config.data.subjects = {"train": "1-6", "dev": "7", "test": "8"}
        epoch = EPOCH_NUAA
    else:
        users = tuple(range(1, args.people + 36))  # 21 to 35 are dev, 36 to 55 test
        config.data.options = {"frames": 1, "size": args.size, "users": users}
        config.data.protocol = args.protocol
    config.data.augment.update(AUGMENT)
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 60, "epochs": args.steps / epoch}
    config.train.eval_epochs = config.train.epochs / 4
    config.optim.update({"lr": 8e-3, "warmup_epochs": config.train.epochs / 10, "ema": 0.995})
    config.eval.batch_size = 60
    return config
