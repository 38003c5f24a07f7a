"""E_d, the domain classifier of the domain adversarial attack, for two CPU cores.

    python main.py --config=configs/teachers/domains_demo.py
    python main.py --config=configs/teachers/domains_demo.py:protocol=ocim:OCI-M,classes=3
    python main.py --mode=confuse --workdir=runs/domains_demo

A ResNet of 0.7 M parameters that classifies the simulated domains, trained on clean images (DTDA in docs/methods.md).
By default it has all four classes; dev and test are other people of the same domains. Under a cross-domain protocol it
has the source domains as classes, and the target domain, which has no right class, gives no test result.
Cost: four minutes on two busy cores, half of it rendering 5,040 images, once. docs/results.md has the accuracy on clean
images and under attack.
"""

from configs import common

DOMAINS = ("simulated-oulu", "simulated-casia", "simulated-replay", "simulated-msu")
USERS = (*range(1, 17), *range(21, 27), *range(36, 42))  # sixteen train, six dev, six test
PHONES = (1, 3, 5)  # fewer cameras leave room for more people, so that identity does not predict the domain


def get_config(argument: str = ""):
    """Arguments: protocol, classes (number of training domains)."""
    args = common.parse(argument, protocol="official", classes=4)
    config = common.base("domains_demo")
    config.model = {"name": "resnet", "variant": "18", "width": 16, "classes": args.classes, "dtype": "float32"}
    config.terms.ce.smoothing = 0.0
    config.data.target = "domain"
    config.data.protocol = args.protocol
    config.data.options = {"domains": DOMAINS, "users": USERS, "phones": PHONES, "size": 64}
    config.data.record_size = 64
    config.data.image_size = 64
    config.data.augment.update({"erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
    config.data.augment.randaugment.ops = 0
    config.train = {"batch_size": 64, "epochs": 20.0, "eval_epochs": 5.0}
    config.optim.update({"lr": 8e-3, "warmup_epochs": 1.0})  # 1e-3 at a batch of 64
    config.eval.batch_size = 64
    return config
