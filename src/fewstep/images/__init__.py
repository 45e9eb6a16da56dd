"""Pictures in and out: folders, zips, arrays and tables behind `open_images`, and grids to look at."""

from .batches import Batches
from .check import Report, check, contact_sheet
from .data import Data
from .decoding import Damaged
from .grid import grid, read_picture, save_grid, save_picture, to_uint8
from .opening import Images, open_images
from .order import Order

__all__ = [
    "Batches",
    "Damaged",
    "Data",
    "Images",
    "Order",
    "Report",
    "check",
    "contact_sheet",
    "grid",
    "open_images",
    "read_picture",
    "save_grid",
    "save_picture",
    "to_uint8",
]
