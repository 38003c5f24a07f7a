"""Batches from records: decoding, augmentation, simulated attacks; may import `select` and the folders below."""
