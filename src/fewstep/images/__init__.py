"""Pictures in and out: folders, zips, .npz, parquet and Hub data sets behind `open_images`, and grids to look at."""

from .batches import Batches
from .data import Data
from .decoding import Damaged
from .grid import grid, read_picture, save_grid, save_picture, to_uint8
from .opening import Images, open_images
from .order import Order

__all__ = ["Batches", "Damaged", "Data", "Images", "Order", "grid", "open_images", "read_picture", "save_grid",
           "save_picture", "to_uint8"]  # fmt: skip
