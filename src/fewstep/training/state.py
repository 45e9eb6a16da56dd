"""What a training run carries from step to step, and how it becomes named tensors and back."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from fewstep.training.optimizers import Optimizer


class State:
    """The student's network, its optimizer, averages, and where there are any the target's and teacher's networks.

    Frozen weights (those under a LoRA) are shared with the target, and neither averaged nor kept. `teacher` is kept
    only where training changes it (progressive distillation).
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        ema: Sequence[float],
        *,
        target: bool = False,
        teacher: nn.Module | None = None,
    ):
        self.network = network
        self.recipe = optimizer
        self.learned = [name for name, p in network.named_parameters() if p.requires_grad]
        self.optimizer = optimizer.build(self._values(network))
        self.ema = {float(rate): self._copied() for rate in ema}
        frozen = {id(p): p for p in network.parameters() if not p.requires_grad}
        self.target = copy.deepcopy(network, frozen).requires_grad_(False) if target else None
        self.teacher = teacher
        self.step = 0
        self.updates = 0
        self.stage = 0
        self.skipped = 0

    def follow(self, target_rate: float | None) -> None:
        """After an optimizer step: moves the target and the averages towards the student.

        An average begins with a lower rate, (1 + k)/(10 + k), so that it forgets the random start.
        """
        now = self._values(self.network)
        if self.target is not None and target_rate is not None:
            _lerp(self._values(self.target), now, target_rate)
        for rate, values in self.ema.items():
            _lerp(list(values.values()), now, min(rate, (1 + self.updates) / (10 + self.updates)))
        self.updates += 1

    def promote(self, stage: int) -> None:
        """The student becomes the teacher; optimizer and averages begin anew (progressive distillation)."""
        assert self.teacher is not None
        self.teacher.load_state_dict(self.network.state_dict())
        self.optimizer = self.recipe.build(self._values(self.network))
        self.ema = {rate: self._copied() for rate in self.ema}
        self.stage, self.updates = stage, 0

    def averaged(self, rate: float | None = None) -> dict[str, Tensor]:
        """The network's state dict with the averaged values of the given rate, the first one by default."""
        values = self.ema[next(iter(self.ema)) if rate is None else rate]
        return {**self.network.state_dict(), **values}

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        named = _prefixed("student", self._kept(self.network))
        for rate, values in self.ema.items():
            named |= _prefixed(f"ema/{rate!r}", values)
        for role, network in (("target", self.target), ("teacher", self.teacher)):
            if network is not None:
                named |= _prefixed(role, self._kept(network))
        for i, parts in self.optimizer.state_dict()["state"].items():
            named |= _prefixed(f"optimizer/{i}", {name: torch.as_tensor(part) for name, part in parts.items()})
        return named

    def load(self, named: dict[str, Tensor]) -> None:
        """The inverse of `tensors`, in place."""
        self._restore(self.network, _under("student", named))
        for rate, values in self.ema.items():
            for name, value in values.items():
                value.copy_(named[f"ema/{rate!r}/{name}"])
        for role, network in (("target", self.target), ("teacher", self.teacher)):
            if network is not None:
                self._restore(network, _under(role, named))
        kept = self.optimizer.state_dict()
        count = len(kept["param_groups"][0]["params"])
        per_parameter = {i: _under(f"optimizer/{i}", named) for i in range(count)}
        kept["state"] = {i: parts for i, parts in per_parameter.items() if parts}
        self.optimizer.load_state_dict(kept)
        for p, parts in self.optimizer.state.items():  # files know no memory layout, and layouts can differ in rounding
            parts |= {
                name: torch.empty_like(p).copy_(v) if v.shape == p.shape else v.clone() for name, v in parts.items()
            }

    def _values(self, network: nn.Module) -> list[Tensor]:
        """What learns, in the network or in another of its shape."""
        there = dict(network.named_parameters())
        return [there[name] for name in self.learned]

    def _copied(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in zip(self.learned, self._values(self.network), strict=True)}

    def _kept(self, network: nn.Module) -> dict[str, Tensor]:
        """The state dict without what is frozen."""
        frozen = {name for name, _ in network.named_parameters()} - set(self.learned)
        return {name: t for name, t in network.state_dict().items() if name not in frozen}

    def _restore(self, network: nn.Module, kept: dict[str, Tensor]) -> None:
        own = self._kept(network)
        frozen = {name: t for name, t in network.state_dict().items() if name not in own}
        network.load_state_dict({**frozen, **kept})


@torch.no_grad()
def _lerp(old: Sequence[Tensor], new: Iterable[Tensor], rate: float) -> None:
    """old ← rate · old + (1 − rate) · new."""
    torch._foreach_lerp_(list(old), list(new), 1 - rate)  # pyright: ignore[reportPrivateImportUsage]


def _prefixed(prefix: str, parts) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": part for name, part in parts.items()}


def _under(prefix: str, named) -> dict[str, Tensor]:
    return {name[len(prefix) + 1 :]: part for name, part in named.items() if name.startswith(prefix + "/")}
