"""Pictures in and out: folders, zips, arrays, tables and tars behind `open_images`, and grids to look at."""

from .batches import Batches, Rows
from .captions import distinct
from .check import Report, Said, check, contact_sheet
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
    "Rows",
    "Said",
    "check",
    "contact_sheet",
    "distinct",
    "grid",
    "open_images",
    "read_picture",
    "save_grid",
    "save_picture",
    "to_uint8",
]
