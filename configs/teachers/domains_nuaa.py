"""E_d on real faces: it classifies NUAA's three sessions, which are two weeks apart and differ in place and light.

    python main.py --config=configs/teachers/domains_nuaa.py:raw_dir=/path/to/NUAA
    python main.py --mode=confuse --workdir=runs/domains_nuaa-raw_dir=_path_to_NUAA

The model of domains_demo; any column of the metadata may define domains (config.data.domain_by). Subjects 1-5 train, 6
is dev, 7 and 8 are test. Cost: a minute on two cores, after the preparation.
"""

from configs import common
from configs.teachers import domains_demo


def get_config(argument: str = ""):
    """Arguments: raw_dir."""
    args = common.parse(argument, raw_dir="")
    config = domains_demo.get_config("classes=3")
    config.name = "domains_nuaa"
    config.data.dataset = "nuaa"
    config.data.raw_dir = args.raw_dir
    config.data.options = {}
    config.data.protocol = "subjects"
    config.data.subjects = {"train": "1-5", "dev": "6", "test": "7-8"}
    config.data.domain_by = "session"
    config.data.balance = "domain"
    config.data.record_size = 112
    return config
