"""Closed forms to test against, derived apart from the library and in float64.

Data N(μ, s²) a coordinate, noise added as x_t = x_0 + t z, so x_t ~ N(μ, s² + t²):

    D(x, t)  = (s² x + t² μ) / (s² + t²)              E[x_0 | x_t]
    f*(x, t) = μ + (x − μ) √((s² + ε²) / (s² + t²))    the ODE dx/dt = (x − D)/t keeps (x − μ)/√(s² + t²)

Mixtures Σ π_k N(μ_k, s_k²): the ODE in one dimension keeps the quantile, so f*(x, t) = F_ε⁻¹(F_t(x)).
Every function takes (x, t) as a denoiser does: t a number, a scalar or (n,), x (n, ...); the coordinates are
independent.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

EPS, T = 0.002, 80.0


def spread(t: float | Tensor, x: Tensor) -> Tensor:
    """t in float64, shaped to go with x."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return t.reshape(t.shape + (1,) * (x.ndim - t.ndim)) if t.ndim else t


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std²) in every coordinate."""

    mean: float = 0.0
    std: float = 0.5

    def denoise(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        t = spread(t, x)
        return (self.std**2 * x + t**2 * self.mean) / (self.std**2 + t**2)

    def jump(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """The exact consistency function."""
        return self.mean + (x - self.mean) * self.gain(spread(t, x))

    def gain(self, t: Any, s: float = EPS) -> Any:
        """How the ODE from t to s scales x − μ."""
        return ((self.std**2 + s**2) / (self.std**2 + t**2)) ** 0.5

    def euler(self, t: Any, s: Any) -> Any:
        """The gain of one Euler step t → s: 1 + (s − t) t/(std² + t²)."""
        return (self.std**2 + t * s) / (self.std**2 + t**2)

    def heun(self, t: Any, s: Any) -> Any:
        """The gain of one Heun step t → s: the mean of the slopes at both ends."""
        first = t / (self.std**2 + t**2)
        second = s / (self.std**2 + s**2) * (1 + (s - t) * first)
        return 1 + (s - t) * (first + second) / 2

    def variance_after(self, times: list[float]) -> float:
        """Variance of multistep sampling with the exact consistency function, from N(0, times[0]²) noise."""
        v = times[0] ** 2 * self.gain(times[0]) ** 2
        for t in times[1:]:
            v = self.gain(t) ** 2 * (v + t**2 - EPS**2)
        return v


@dataclass(frozen=True)
class Mixture:
    """Σ π_k N(μ_k, s_k²) in every coordinate."""

    weights: tuple[float, ...] = (0.3, 0.7)
    means: tuple[float, ...] = (-0.6, 0.4)
    stds: tuple[float, ...] = (0.1, 0.2)

    def _table(self) -> list[Tensor]:
        return [torch.tensor(p, dtype=torch.float64) for p in (self.weights, self.means, self.stds)]

    def _parts(self, x: Tensor, t: float | Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        weights, means, stds = self._table()
        total = stds**2 + spread(t, x).unsqueeze(-1) ** 2
        return weights, means, stds, total

    @property
    def std(self) -> float:
        """The standard deviation of the data."""
        mean = sum(w * m for w, m in zip(self.weights, self.means, strict=True))
        parts = zip(self.weights, self.means, self.stds, strict=True)
        return (sum(w * (m**2 + s**2) for w, m, s in parts) - mean**2) ** 0.5

    def draw(self, shape: tuple[int, ...], generator: torch.Generator | None = None) -> Tensor:
        """Data, float64."""
        weights, means, stds = self._table()
        count = int(torch.tensor(shape).prod())
        k = torch.multinomial(weights, count, replacement=True, generator=generator)
        z = torch.randn(count, dtype=torch.float64, generator=generator)
        return (means[k] + stds[k] * z).reshape(shape)

    def denoise(self, x: Tensor, t: float | Tensor, **cond: Any) -> Tensor:
        """E[x_0 | x_t]: the parts' means, weighted by how likely each part is."""
        weights, means, stds, total = self._parts(x, t)
        x = x.double().unsqueeze(-1)
        log_likely = weights.log() - total.log() / 2 - (x - means) ** 2 / (2 * total)
        each = (stds**2 * x + (total - stds**2) * means) / total
        return (log_likely.softmax(-1) * each).sum(-1)

    def cdf(self, x: Tensor, t: float | Tensor) -> Tensor:
        """F_t(x)."""
        weights, means, _, total = self._parts(x, t)
        return (weights * torch.special.ndtr((x.double().unsqueeze(-1) - means) / total.sqrt())).sum(-1)

    def tail(self, x: Tensor, t: float | Tensor) -> Tensor:
        """1 − F_t(x), exact also where F_t is close to 1."""
        weights, means, _, total = self._parts(x, t)
        return (weights * torch.special.ndtr((means - x.double().unsqueeze(-1)) / total.sqrt())).sum(-1)

    def jump(self, x: Tensor, t: float | Tensor, *, to: float = EPS, **cond: Any) -> Tensor:
        """The exact consistency function (or the ODE's way to another time): F_to⁻¹(F_t(x)) by bisection."""
        upper = self.cdf(x, t) > 0.5
        wanted = torch.where(upper, self.tail(x, t), self.cdf(x, t))
        reach = 10 * (max(self.stds) ** 2 + to**2) ** 0.5 + max(abs(m) for m in self.means)
        low, high = torch.full_like(wanted, -reach), torch.full_like(wanted, reach)
        for _ in range(80):
            middle = (low + high) / 2
            beyond = torch.where(upper, self.tail(middle, to) < wanted, self.cdf(middle, to) > wanted)
            low, high = torch.where(beyond, low, middle), torch.where(beyond, middle, high)
        return (low + high) / 2


def squares(n: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """(a, b, weight), each (n²,): Gauss–Hermite points.

    Their weighted sum is the exact mean, over two independent unit normals, of any polynomial of
    degree below 2 n.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(n)
    points, weights = torch.from_numpy(points), torch.from_numpy(weights / weights.sum())
    a, b = torch.meshgrid(points, points, indexing="ij")
    return a.flatten(), b.flatten(), torch.outer(weights, weights).flatten()
