"""A ViT of 2.8 M parameters on 120 simulated people, which shows the gain from more people instead of more images.

    python main.py --config=configs/simulated_people.py
    python main.py --config=configs/simulated_people.py:protocol=2

Training on 7,200 images of 96 px, one of each video, under protocol 1 (test: other people in another session); under
protocol 2 there are 6,480, and test has other people and other instruments.
Cost: on two busy cores 10 minutes to render 12,600 images, once, and 25 to train. The test AUC is 0.942 in another
session and 0.979 with other instruments (docs/simulator.md).
"""

from configs.teachers import vit_demo

TRAINED = (*range(1, 21), *range(56, 156))


def get_config(argument: str = ""):
    """Arguments: as in teachers/vit_demo.py."""
    config = vit_demo.get_config(argument)
    config.name = "simulated_people"
    config.data.options = {"frames": 1, "size": 96, "users": (*TRAINED, *range(26, 46))}  # ten dev, ten test
    config.data.record_size = 96
    config.data.image_size = 96
    config.data.augment.colour = 0.1
    config.train.epochs = 20.0
    config.train.eval_epochs = 4.0
    config.optim.warmup_epochs = 2.0
    return config
