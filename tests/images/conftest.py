import numpy as np
import pytest
from images_helpers import encoded


@pytest.fixture
def pixels() -> np.ndarray:
    """uint8 (12, 8, 8, 3)."""
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), np.uint8)


@pytest.fixture
def files(pixels: np.ndarray) -> dict[str, bytes]:
    """Three classes of four pictures, in the order of `pixels`."""
    return {f"{'abc'[i // 4]}/{i:02}.png": encoded(p) for i, p in enumerate(pixels)}
