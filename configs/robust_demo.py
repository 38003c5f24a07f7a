"""Adversarial training of the demo's student: each batch is attacked by PGD before the student learns from it.

    python main.py --config=configs/robust_demo.py --config.eval.whitebox=192
    python main.py --config=configs/robust_demo.py --config.daa.steps=0         (the same student without the attack)

The student of kdfas_demo on labels alone, on images that three steps of the projected gradient method (Madry et al.,
ICLR 2018) have moved by up to 2/255 against the student's own decision; two thirds of eps a step [C]. Needs no data and
no downloads. A step costs three times that of the student without the attack.
"""

from configs.teachers import vit_demo


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3.1-3.6, 4.1-4.6)."""
    config = vit_demo.get_config(argument)
    config.name = "robust_demo"
    config.model.update(vit_demo.SMALL)
    config.daa.update({"classifier": "student", "target": "confuse", "steps": 3, "decay": 1.0})
    config.daa.update({"eps": 2 / 255, "step_size": 4 / 3 / 255})
    return config
