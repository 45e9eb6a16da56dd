"""The processes that train together: one, or several that each hold a whole copy of the networks.

The only file that knows accelerate, which finds out how the processes were started: alone, by `torchrun`
(`python -m torch.distributed.run`) or by `accelerate launch`.
"""

from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from torch import Tensor

KINDS = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)


class Processes:
    """This process and the others: `rank` of `world`, on `device`. `main` is the one that writes files."""

    def __init__(self, device: str | None = None):
        """`device` is None or `auto` (the accelerator where there is one), `cpu`, or an accelerator such as `cuda:1`.

        Raises ValueError for a device that is not there, and for launchers that cut the network into pieces.
        """
        if not torch.distributed.is_initialized():  # a second run in this process may choose another device
            AcceleratorState._reset_state(reset_partial_state=True)
        self._accelerator = Accelerator(mixed_precision="no", cpu=_on_cpu(device))
        if self._accelerator.distributed_type not in KINDS:
            kind = self._accelerator.distributed_type.value
            raise ValueError(
                f"fewstep trains on one or several devices with whole copies, not with {kind}: launch it with torchrun."
            )
        self.device = self._accelerator.device
        self.rank, self.world = self._accelerator.process_index, self._accelerator.num_processes
        self.main = self.rank == 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes."""
        return x if self.world == 1 else self._accelerator.reduce(x, "sum")  # type: ignore[return-value]

    def sum_in_place(self, tensors: Sequence[Tensor]) -> None:
        """Replaces each tensor by its sum over all processes; one message for all of them."""
        if self.world > 1 and tensors:
            total = self.sum(torch.cat([t.flatten() for t in tensors]))
            for t, part in zip(tensors, total.split([t.numel() for t in tensors]), strict=True):
                t.copy_(part.view(t.shape))

    def anywhere(self, here: bool) -> bool:
        """Whether it is so in any process."""
        return here if self.world == 1 else bool(self.sum(torch.tensor(float(here), device=self.device)))

    def wait(self) -> None:
        """Until all processes are here."""
        self._accelerator.wait_for_everyone()


def _on_cpu(device: str | None) -> bool:
    there = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if device in (None, "auto"):
        return there is None
    kind, _, index = str(device).partition(":")
    if kind == "cpu":
        return True
    if there is None or kind != there.type or int(index or 0) >= torch.accelerator.device_count():
        found = f"{torch.accelerator.device_count()} {there.type} device(s)" if there else "no accelerator"
        raise ValueError(f"There is no device '{device}' (PyTorch sees {found}): use --device auto or cpu.")
    if index:
        torch.accelerator.set_device_index(int(index))
    return False
