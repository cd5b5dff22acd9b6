"""The bundle on disk: its contract, reading and writing, digests, signatures, which ones a device accepts."""
