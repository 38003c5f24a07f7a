"""A ViT of 2.8 M parameters on 120 simulated people: what more people, not more pictures of the same, are worth.

    python main.py --config=configs/simulated_people.py
    python main.py --config=configs/simulated_people.py:protocol=2

7,200 pictures of 96 px to train on, one of each video, protocol 1 (test: other people in another session); under
protocol 2 it is 6,480, and the test is of other people on other instruments.
Cost: on two busy cores 10 minutes to render 12,600 pictures, once, and 25 to train. AUC on test 0.942 in another
session, 0.979 with other instruments (docs/simulator.md).
"""

from configs.teachers import kdfas_demo

TRAINED = (*range(1, 21), *range(56, 156))


def get_config(argument: str = ""):
    """Arguments: those of the teacher of kdfas_demo."""
    config = kdfas_demo.get_config(argument)
    config.name = "simulated_people"
    config.data.options = {"frames": 1, "size": 96, "users": (*TRAINED, *range(26, 46))}  # ten are dev, ten test
    config.data.record_size = 96
    config.data.image_size = 96
    config.data.augment.colour = 0.1
    config.train.epochs = 20.0
    config.train.eval_epochs = 4.0
    config.optim.warmup_epochs = 2.0
    return config
