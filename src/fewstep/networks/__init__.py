"""Networks: F in D(x_t, t) = c_skip x_t + c_out F(c_in x_t, c_noise)."""

from fewstep.networks.architecture import Architecture
from fewstep.networks.compact import Compact, CompactShape
from fewstep.networks.unet import UNet, UNetShape

__all__ = ["Architecture", "Compact", "CompactShape", "UNet", "UNetShape"]
