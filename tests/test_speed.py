from configs import common
from kdfas_jax.performance import speed


def test_rates_are_of_images_and_need_no_data():
    config = common.base("speed")
    config.model = {"name": "resnet", "width": 8, "blocks": (1, 1, 1, 1), "dtype": "float32"}
    config.data.image_size = 32
    rates = speed.forward(config, 4, rounds=2, seconds=0.0)
    assert len(rates) == 2
    assert all(rate > 0 for rate in rates)
    shown = list(speed.lines(config, ()))
    assert "32 px" in shown[0]
    assert len(shown) == 2
