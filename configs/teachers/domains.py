"""E_d, the domain classifier that configs/dtda_ocim.py and kdfas_daa.py attack: a ResNet-18 at 224 px.

    python main.py --config=configs/teachers/domains.py:protocol=OCI-M,raw_dir=/path/{dataset}
    python main.py --mode=confuse --workdir=RUN

It classifies the three source domains of clean images [S: stated by the paper]; the recipe is our own choice [C]. The
target domain has no right class, so there is no test result.
Cost: an estimated half hour of one H100-class GPU. Not run here.
"""

from configs import common
from configs.teachers import domains_demo
from input_pipeline import datasets


def get_config(argument: str = ""):
    """Arguments: protocol (OCI-M, OMI-C, OCM-I, ICM-O, all), data (simulated, or sets joined by +), raw_dir."""
    args = common.parse(argument, protocol="OCI-M", data="oulu+casia+replay+msu", raw_dir="")
    for name in args.data.split("+"):
        datasets.get(name)
    config = common.base("domains")
    config.model = {"name": "resnet", "variant": "18", "classes": 3, "dtype": "bfloat16"}
    config.terms.ce.smoothing = 0.0
    config.data.dataset = args.data
    config.data.raw_dir = args.raw_dir
    config.data.target = "domain"
    config.data.protocol = "ocim" if args.protocol == "all" else f"ocim:{args.protocol}"
    if args.data == "simulated":
        config.data.options = {"domains": domains_demo.DOMAINS, "size": 224}
    config.data.balance = "domain"
    config.data.augment.update({"colour": 0.2, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 96, "epochs": 20.0, "eval_epochs": 1.0}
    config.optim.update({"lr": 1e-3, "warmup_epochs": 1.0})
    return config
