"""Preparation of records: detection, crops, storage; may import `datasets` and the folders below."""
