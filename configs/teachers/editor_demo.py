"""A StarGAN for two CPU cores, on simulated people; needs no data and no downloads.

python main.py --config=configs/teachers/editor_demo.py
python main.py --mode=edit --workdir=runs/editor_demo --output=edits.jpg
"""

from configs import common
from configs.teachers import editor

ATTRIBUTES = ("Black_Hair", "Eyeglasses", "Male", "Smiling", "Young")
STAGES = editor.STAGES


def get_config(argument: str = ""):
    """Arguments: identities (eight in ten train)."""
    args = common.parse(argument, identities=600)
    config = editor.stargan("editor_demo", ATTRIBUTES, size=64)
    config.model.update({"generator_width": 12, "generator_repeats": 2})
    config.model.update({"discriminator_width": 16, "discriminator_repeats": 5})
    config.data.dataset = "simulated_identity"
    config.data.options = {"identities": args.identities, "pictures": 4, "size": 64}
    # Our own choice for few steps: with the published weights the critic dominates the discriminator's attribute loss,
    # and faces are blurred. Every step updates the generator.
    for name, weight in {"critic": 0.2, "penalty": 2.0, "generator": 0.2, "reconstruction": 50.0}.items():
        config.terms[name].weight = weight
    config.train = {"batch_size": 8, "epochs": 9.0, "eval_epochs": 1.5}
    config.optim.update({"lr": 4.5e-2})  # 7e-4 at a batch of 8
    config.eval.batch_size = 60
    return config
