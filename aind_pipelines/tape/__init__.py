"""Cold storage on tape: drive, tar writer, manifest, catalogue, import.

The room holds no code until a tape can be written, read back and verified.
"""
