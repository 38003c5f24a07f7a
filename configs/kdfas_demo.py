"""KDFAS for two CPU cores, on simulated faces; needs no data and no downloads.

    python main.py                                                    (this config is the default)
    python main.py --config=configs/kdfas_demo.py:protocol=4.2

Trains the teacher (configs/teachers/kdfas_demo.py) first, then a student of 0.76 M parameters with KDFAS.
Cost: about five minutes on two cores, one of them rendering. Expect a test AUC of about 0.91 on protocol 1.
"""

from configs import common
from configs.teachers import kdfas_demo as teacher


def get_config(argument: str = ""):
    """Arguments: protocol (1, 2, 3.1-3.6, 4.1-4.6)."""
    config = teacher.get_config(argument)
    config.name = "kdfas_demo"
    config.model.update({"width": 96, "heads": 3})
    common.distilled(config, teacher.get_config(argument))
    config.terms.covariance.form = "gram"  # docs/results.md: `cross` lowers the accuracy here, `gram` does not
    return config
