"""What only a GPU can show: the same pictures as on a CPU, and training in every precision."""

import math

import pytest
import torch
from training_helpers import OBJECTIVES, small

import fewstep
from fewstep.training.fit import fit

pytestmark = pytest.mark.gpu


def test_a_gpu_draws_what_a_cpu_draws():
    here, there = (fewstep.load("mnist", device=device).sample(8, steps=2, seed=3) for device in ("cpu", "cuda"))
    torch.testing.assert_close(here, there, atol=2e-2, rtol=0)  # convolutions may run in TF32


def test_edits_on_a_gpu_keep_what_is_known():
    model = fewstep.load("mnist", device="cuda")
    mask = torch.zeros(28, 28)
    mask[14:] = 1
    given = model.sample(4, seed=0)
    assert torch.equal(model.edit(given, fewstep.Inpaint(mask), seed=1)[:, :, :14], given[:, :, :14])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("objective", [name for name, o in OBJECTIVES.items() if not o.needs_teacher])
def test_training_goes_on_in_every_precision(objective, precision, tmp_path):
    steps = list(fit(small(objective, precision=precision, micro_batch=4), tmp_path / "run"))
    assert steps[-1].k == 12
    assert all(math.isfinite(step.loss) for step in steps)


def test_losses_on_a_gpu_are_those_on_a_cpu(tmp_path):
    here, there = (
        [step.loss for step in fit(small("ict"), tmp_path / device, device=device)] for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(torch.tensor(here), torch.tensor(there), rtol=2e-2, atol=2e-3)
