"""The generative teacher: StarGAN on CelebA at 128 px, as published (Choi et al., CVPR 2018).

    python main.py --config=configs/teachers/editor.py:raw_dir=/path/to/CelebA
    python main.py --mode=edit --workdir=runs/editor

Stated by the paper [S]: the centre of 178 px of the aligned images, resized to 128, random mirroring; three hair
colours, Male and Young; batch 16, 200,000 steps, Adam with betas 0.5 and 0.999 at 1e-4; the generator is updated in
every fifth step. Our own choice [C]: the learning rate falls as a cosine, not linearly over the second half; the
gradients of both networks are of the same step; the official split, 162,770 training images, where StarGAN's code holds
out 2,000 images. The published discriminator is a teacher without training: model `stargan_discriminator` with the
published weights.
Cost: 200,000 steps of 2.1 TFLOP by the compiler's count, an estimated 3 hours of one H100-class GPU at 40 TFLOP/s. Not
run here, because the data set may not be redistributed.
"""

import ml_collections

from configs import common

# (student stage, discriminator stage) of a term of kind align, at a quarter to a 32nd of the image's side [C].
STAGES = ((1, 2), (2, 3), (3, 4), (4, 5))


def get_config(argument: str = ""):
    """Arguments: raw_dir."""
    args = common.parse(argument, raw_dir="")
    config = stargan("editor", attributes=("Black_Hair", "Blond_Hair", "Brown_Hair", "Male", "Young"), size=128)
    config.data.dataset = "celeba"
    config.data.raw_dir = args.raw_dir
    config.train = {"batch_size": 16, "epochs": 19.66, "eval_epochs": 1.0}  # 200,000 steps of 162,770 training images
    config.optim.update({"lr": 3.2e-3, "min_lr": 0.0, "every": {"generator": 5}})  # 1e-4 at a batch of 16
    return config


def stargan(name: str, attributes: tuple[str, ...], size: int) -> ml_collections.ConfigDict:
    """Returns the part that both editors share: StarGAN of `attributes` at `size` px, its terms, mirroring only [S]."""
    config = common.base(name)
    config.model = {"name": "stargan", "classes": len(attributes), "image_size": size, "dtype": "float32"}
    config.terms = {
        "critic": {"kind": "critic", "weight": 1.0},
        "penalty": {"kind": "penalty", "weight": 10.0},
        "attributes": {"kind": "attributes", "weight": 1.0},
        "generator": {"kind": "generator", "weight": 1.0},
        "edited_attributes": {"kind": "edited_attributes", "weight": 1.0},
        "reconstruction": {"kind": "reconstruction", "weight": 20.0},  # 10 for images in [-1, 1]
    }
    config.data.target = "attributes"
    config.data.attributes = attributes
    config.data.protocol = "official"
    config.data.record_size = size
    config.data.image_size = size
    config.data.augment.update({"crop": 1.0, "flip": True, "erasing": 0.0, "mixup": 0.0, "cutmix": 0.0})
    config.data.augment.randaugment.ops = 0
    config.optim.update({"b1": 0.5, "b2": 0.999, "weight_decay": 0.0, "warmup_epochs": 0.0})
    return config
