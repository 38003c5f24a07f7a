"""The foundation teacher of foundation_ocim: a published vision tower with low-rank adapters.

    python main.py --config=configs/teachers/foundation.py:weights=model.safetensors,raw_dir=/path/{dataset}
    python main.py --config=configs/teachers/foundation.py:tower=clip-B/16,weights=ViT-B-16.pt,raw_dir=/path/{dataset}

docs/foundation.md says which file to get for which tower. Only adapters, norms and head are trained, at a learning rate
of their own; without `weights` the tower begins at random, which is a rehearsal and nothing else.
Everything but the tower is our own choice [C]: rank 8 on queries, keys, values and the output of the attention, 20
epochs, 1e-3 per 512 examples. Expect: unknown; FoundPAD and TPO report 78 to 93 % AUC from a CLIP-B with LoRA on
attacks that are synthetic alone. Not run here: neither data sets nor weights can be had.
"""

from configs import common
from configs.teachers import kdfas_oulu

ARGUMENTS = {"protocol": "ocim:OCI-M", "data": "oulu+casia+replay+msu", "raw_dir": ""}


def get_config(argument: str = ""):
    """Arguments: tower (a variant of `vit.create`), weights (a published file), protocol, data, raw_dir."""
    args = common.parse(argument, tower="dinov2-reg-B/14", weights="", **ARGUMENTS)
    config = kdfas_oulu.get_config(f"protocol={args.protocol},data={args.data},raw_dir={args.raw_dir}")
    config.name = "teacher_foundation"
    # The variant has the tower's own activation and normalisation.
    config.model = {"name": "vit", "variant": args.tower, "classes": 2, "dtype": "bfloat16"}
    config.model.update({"unroll": True, "remat": "none"})
    config.model.lora = {"rank": 8, "alpha": 16.0, "targets": ("qkv", "out")}
    config.init = args.weights
    config.data.balance = "domain+label" if args.protocol.startswith("ocim") else ""
    config.train = {"batch_size": 128, "epochs": 20.0, "eval_epochs": 1.0}
    config.optim.update({"lr": 1e-3, "warmup_epochs": 1.0})
    return config
