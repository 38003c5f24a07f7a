"""KDFAS under the domain adversarial attack: ViT-B/16 teacher -> ViT-S/16 student, leaving one domain of OCIM out.

    python main.py --config=configs/kdfas_daa.py:protocol=OCI-M,raw_dir=/path/{dataset}
    python main.py --config=configs/kdfas_daa.py:protocol=all,raw_dir=/path/{dataset}      (four targets and their mean)
    python main.py --config=configs/kdfas_daa.py:protocol=OCI-M,data=simulated       (a rehearsal, no data needed)
    python main.py --config=configs/ablation.py:base=kdfas_daa,seeds=5,protocol=OCI-M,raw_dir=/path/{dataset}

This is configs/kdfas_oulu.py on OCIM's protocol, with the attack of DTDA. One jitted step attacks the batch with E_d, a
ResNet-18 that classifies the source domains (configs/teachers/domains.py), applies student and spoof teacher to the
attacked images, and sums cross-entropy, KL divergence and the covariance term. Both teachers are trained first where
they are missing, on clean images of the sources. --config.daa.steps=0 switches the attack off.
The two methods are published separately; their combination and the numbers of the attack are our own choice [C].
Cost: 300 epochs; an image costs 96 GFLOP, 34 of them for the attack, 1.5 times as much as in kdfas_oulu.
Not run here, because the data sets are not public. The same system for two CPU cores is configs/kdfas_daa_demo.py.
"""

from configs import common, kdfas_oulu
from configs.teachers import domains

VARIANTS = common.KDFAS_DAA_VARIANTS


def get_config(argument: str = ""):
    """Arguments, as in teachers/domains.py: protocol (OCI-M, OMI-C, OCM-I, ICM-O, all), data, raw_dir."""
    classifier = domains.get_config(argument)
    sources = classifier.data
    config = kdfas_oulu.get_config(f"protocol={sources.protocol},data={sources.dataset},raw_dir={sources.raw_dir}")
    config.name = "kdfas_daa"
    config.data.options = sources.options
    return common.attacked(config, classifier)
