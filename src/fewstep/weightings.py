"""Weightings λ(t, s) of a training loss, with snr = 1/t² (the data's scale is 1).

    Uniform 1 | InverseGap 1/(t − s) | SNR snr | SNRPlusOne snr + 1 | KarrasWeighting snr + 1/σ_d² | TruncatedSNR
    max(snr, 1)

KarrasWeighting is EDM's λ = (t² + σ_d²)/(t σ_d)² (Karras et al. 2022, table 1); InverseGap is iCT's (Song &
Dhariwal 2023,
section 3.1); the others come with Salimans & Ho 2022. All are taken at t, the larger time, as the published code
does.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Weighting(ABC):
    @abstractmethod
    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        """λ (n,) for times t > s (n,)."""


@dataclass(frozen=True)
class Uniform(Weighting):
    """1."""

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        return torch.ones_like(t)


@dataclass(frozen=True)
class InverseGap(Weighting):
    """1/(t − s)."""

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        return 1 / (t - s)


@dataclass(frozen=True)
class SNR(Weighting):
    """1/t²."""

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        return t**-2


@dataclass(frozen=True)
class SNRPlusOne(Weighting):
    """1/t² + 1."""

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        return t**-2 + 1


@dataclass(frozen=True)
class KarrasWeighting(Weighting):
    """1/t² + 1/σ_d²: the exact denoiser of data with standard deviation σ_d then has loss 1 at every t."""

    sigma_data: float = 0.5
    """Standard deviation of the data."""

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        return t**-2 + self.sigma_data**-2


@dataclass(frozen=True)
class TruncatedSNR(Weighting):
    """max(1/t², 1)."""

    def __call__(self, t: Tensor, s: Tensor) -> Tensor:
        return (t**-2).clamp(min=1)
