"""The small real data set that comes with the package; its licence is in the text file beside it."""

from pathlib import Path

BUNDLED = {"digits": Path(__file__).with_name("digits.npz")}
"""Name -> `.npz` (images uint8 (n, H, W), labels int64 (n,)). `digits`: 1,797 digits of 8×8 pixels."""


def digits_path() -> Path:
    """The digits of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin, Kaynak; CC BY 4.0)."""
    return BUNDLED["digits"]
