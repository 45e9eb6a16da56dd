"""Networks: F in D(x_t, t) = c_skip x_t + c_out F(c_in x_t, c_noise)."""

from fewstep.networks.architecture import Architecture
from fewstep.networks.compact import Compact, CompactShape

__all__ = ["Architecture", "Compact", "CompactShape"]
