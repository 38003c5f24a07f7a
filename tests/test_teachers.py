"""A student's teachers: how large they are, which runs may be used, and what is recorded of them."""

import pytest

from configs import dtda_ocim
from kdfas_jax import teachers


@pytest.fixture
def dual():
    """DTDA at its own sizes: a student of 224 px, a StarGAN of 128 and an IResNet of 112."""
    return dtda_ocim.get_config("protocol=OCI-M")


def test_every_model_is_counted_at_its_own_image_size(dual):
    """The published discriminator refuses images of 224 px, and an IResNet's last layer would be four times as wide."""
    sizes = {name: teacher.config.data.image_size for name, teacher in dual.teachers.items()}
    assert sizes == {"domains": 224, "perceptual": 112, "generative": 128}
    dual.teachers.generative.config.model = dtda_ocim.PUBLISHED
    counted = teachers.parameters(dual)
    assert counted == {
        "student": 11_177_538,
        "teachers": {"domains": 11_178_051, "perceptual": 28_357_632, "generative": 44_762_048},
    }
