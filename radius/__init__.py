"""RADIUS: bytes to dataclasses and back; knows nothing of vouchers or quotas."""
