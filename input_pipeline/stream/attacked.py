"""Training rows of which some live crops become simulated attacks (`simulate.capture.attack`)."""

from collections.abc import Callable

import numpy as np

from input_pipeline.stream import ops

SEEDED = 3  # what a generator is seeded for, beside the run's seed; the pipeline has 0 to 2
ATTACK, LIVE = np.eye(2, dtype=np.float32)

Rows = dict[str, np.ndarray]  # part of a batch: image uint8 [n, s, s, 3], label float32 [n, 2], index, ...


def simulator(config, seed: int) -> Callable[[Rows, int, int], Rows]:
    """Returns a function of (rows, step, first) that makes the attacks of `config` (config.data) in the rows.

    - `attack.probability`: of a live crop to be printed or displayed, and photographed again; its label becomes attack,
      and its identity, if it has one, unknown. Rows that mixup or cutmix have mixed are not live crops.
    - `attack.recapture`: of every other crop, live or attack, to be taken through the same cameras without an
      instrument, label as it was: else the camera that follows a simulated instrument would tell the label.

    What becomes of a row depends on the seed, the step and its place in the batch of all hosts alone, so that an
    example drawn twice does not become the same attack twice. `first` is the place of the first row. The renderer runs
    on the host's CPU device in the thread that calls; it is compiled here, once for all threads.
    """
    probability, recapture = config.attack.probability, config.attack.recapture
    if not (probability or recapture):
        return lambda rows, step, first: rows
    import jax  # and its compiler: seconds, for those who ask for attacks

    from input_pipeline.simulate.capture import attack

    host = jax.local_devices(backend="cpu")[0]  # the accelerator is training's

    def simulate(rows: Rows, step: int, first: int) -> Rows:
        places = range(first, first + len(rows["index"]))
        draws = [ops.generator(seed, SEEDED, step, place).integers(1 << 32, size=3) for place in places]
        keys, *chances = np.array(draws).T
        attacked = (rows["label"] == LIVE).all(1) & (chances[0] < probability * (1 << 32))
        recaptured = ~attacked & (chances[1] < recapture * (1 << 32))
        images, labels = rows["image"].copy(), rows["label"].copy()
        with jax.default_device(host):
            images[attacked] = attack.simulate_attack(images[attacked], keys[attacked])
            images[recaptured] = attack.recapture(images[recaptured], keys[recaptured])
        labels[attacked] = ATTACK
        if "identity" in rows:
            rows = rows | {"identity": np.where(attacked, np.int32(-1), rows["identity"])}
        return rows | {"image": images, "label": labels}

    with jax.default_device(host):
        crop, key = np.zeros((1, config.image_size, config.image_size, 3), np.uint8), np.zeros(1, np.int64)
        if probability:
            attack.simulate_attack(crop, key)
        if recapture:
            attack.recapture(crop, key)
    return simulate
