"""KDFAS for two CPU cores, on simulated faces; needs no data and no downloads.

    python main.py                                                    (this config is the default)
    python main.py --config=configs/kdfas_demo.py:protocol=4.2

Trains the teacher first, a ResNet-18 of 0.70 M parameters (configs/teachers/light.py), then a ViT of 0.76 M with KDFAS.
Cost: about seven minutes on two idle cores, nearly three of them for rendering, once.
"""

from configs import common
from configs.teachers import light, vit_demo


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3.1-3.6, 4.1-4.6)."""
    config = vit_demo.get_config(argument)
    config.name = "kdfas_demo"
    config.model.update(vit_demo.SMALL)
    common.distilled(config, light.get_config("steps=900"))
    # The last two blocks against the last two of the teacher's four stages, chosen on dev (docs/results.md, The demo).
    config.terms.covariance.update({"form": "cka", "weight": 10.0, "stages": ((5, 3), (6, 4))})
    return config
