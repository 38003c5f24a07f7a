"""KDFAS under the domain adversarial attack, for two CPU cores, on the simulator's four domains.

    python main.py --config=configs/kdfas_daa_demo.py
    python main.py --config=configs/ablation.py:base=kdfas_daa_demo,seeds=5

The networks of kdfas_demo on the data of dtda_demo; needs no data and no downloads. E_d and the spoof teacher are
trained first where they are missing (configs/teachers/domains_demo.py, light.py).
Cost: 5,040 images are rendered once (shared with domains_demo); then E_d, teacher and three students of one seed took
45 minutes on two cores with much other load.
"""

from configs import common, kdfas_demo
from configs.teachers import domains_demo

VARIANTS = common.KDFAS_DAA_VARIANTS


def get_config(argument: str = ""):
    """Arguments: protocol (OCI-M, OMI-C, OCM-I, ICM-O)."""
    args = common.parse(argument, protocol="OCI-M")
    classifier = domains_demo.get_config(f"protocol=ocim:{args.protocol},classes=3")
    config = kdfas_demo.get_config()
    config.name = "kdfas_daa_demo"
    config.data.protocol = classifier.data.protocol
    config.data.options = config.teachers.spoof.config.data.options = classifier.data.options
    return common.attacked(config, classifier)
