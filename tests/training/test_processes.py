"""Several processes train as one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from latent_training_helpers import latent, pictures, stock
from training_helpers import losses, small, train, weights

from fewstep.training.latent import Words
from fewstep.training.processes import Processes

SCRIPT = r"""
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from training_helpers import small
from test_processes import RECIPES
from fewstep.training.fit import fit
from fewstep.training.track import watch
from fewstep.training.processes import Processes

kind = Processes()._accelerator.distributed_type.value
for name in sys.argv[3:]:
    run = fit(RECIPES[name](sys.argv[2]), Path(sys.argv[1]) / name)
    with open(Path(sys.argv[1]) / f"said-{run.processes.rank}", "a") as said:
        said.write(f"{name} {kind} {run.processes.rank} of {run.processes.world} has {len(run.stepper.rows)}\n")
    for step in watch(run, quiet=True):
        if name == "stopped" and step.k == 3 and run.processes.rank == 1:
            run.stop = True  # a signal that only one of them sees
"""

RECIPES = {
    "ct": lambda teacher: small("ct", steps=8),
    "odd": lambda teacher: small("cd", steps=5, batch=7, micro_batch=2, teacher=teacher, label_drop=0.3),
    "stopped": lambda teacher: small("ct", steps=8),
    "words": lambda teacher: latent("teacher", f"{os.environ['LATENTS']}/pictures3.npz", latent={
        "autoencoder": f"{os.environ['LATENTS']}/sd", "words": Words(600, 8, 16, 1, 2),
    }),
}  # fmt: skip


def launch(command, tmp_path, teacher, *names):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    here = Path(__file__).parent
    path = os.pathsep.join([str(here.parents[1] / "src"), str(here.parent), str(here)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    arguments = [sys.executable, "-m", *command, str(script), str(tmp_path), str(teacher), *names]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return sorted(line for said in tmp_path.glob("said-*") for line in said.read_text().splitlines())


def free_port():
    with socket.socket() as s:
        s.bind(("", 0))
        return str(s.getsockname()[1])


def recorded(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_give_the_losses_of_one(tmp_path, teacher, monkeypatch):
    monkeypatch.setenv("LATENTS", str(tmp_path / "latents"))
    stock(tmp_path / "latents" / "sd")
    pictures(tmp_path / "latents")
    torchrun = ["torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    said = launch(torchrun, tmp_path, teacher, "ct", "odd", "stopped", "words")
    assert said == [
        "ct MULTI_CPU 0 of 2 has 5",
        "ct MULTI_CPU 1 of 2 has 5",
        "odd MULTI_CPU 0 of 2 has 3",
        "odd MULTI_CPU 1 of 2 has 4",
        "stopped MULTI_CPU 0 of 2 has 5",
        "stopped MULTI_CPU 1 of 2 has 5",
        "words MULTI_CPU 0 of 2 has 2",
        "words MULTI_CPU 1 of 2 has 2",
    ]
    for name in ("ct", "odd"):
        alone = losses(RECIPES[name](str(teacher)), tmp_path / "alone" / name)
        assert recorded(tmp_path / name) == pytest.approx(alone, rel=1e-4)
        torch.testing.assert_close(weights(tmp_path / name), weights(tmp_path / "alone" / name), rtol=1e-4, atol=1e-5)
    alone = losses(RECIPES["words"](""), tmp_path / "alone" / "words")
    assert recorded(tmp_path / "words") == pytest.approx(alone, rel=1e-4)
    assert len(recorded(tmp_path / "stopped")) == 4  # both stopped after the same step, and said so to each other
    train(RECIPES["stopped"](""), tmp_path / "stopped")  # and one process goes on where two were
    torch.testing.assert_close(weights(tmp_path / "stopped"), weights(tmp_path / "ct"), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_accelerate_launch(tmp_path, teacher):
    """Without GPUs `--multi_gpu` gives processes on the CPU; with `--cpu` accelerate starts one process only."""
    launcher = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launcher += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", free_port()]
    said = launch(launcher, tmp_path, teacher, "ct")
    assert said == ["ct MULTI_CPU 0 of 2 has 5", "ct MULTI_CPU 1 of 2 has 5"]
    alone = losses(RECIPES["ct"](""), tmp_path / "alone")
    assert recorded(tmp_path / "ct") == pytest.approx(alone, rel=1e-4)


def test_one_process():
    processes = Processes("cpu")
    assert (processes.rank, processes.world, processes.main, processes.device.type) == (0, 1, True, "cpu")
    x = torch.tensor([1.0, 2.0])
    assert torch.equal(processes.sum(x), x)
    assert (processes.anywhere(True), processes.anywhere(False)) == (True, False)
    processes.sum_in_place([x])
    processes.wait()


def test_devices_that_are_not_there():
    with pytest.raises(ValueError, match="There is no device 'toaster'"):
        Processes("toaster")
    if not torch.accelerator.is_available():
        with pytest.raises(ValueError, match=r"There is no device 'cuda' \(PyTorch sees no accelerator\)"):
            Processes("cuda")
        assert Processes("auto").device.type == "cpu"
