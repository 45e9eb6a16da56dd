"""Objectives: what a training step minimises. Every one is a frozen dataclass and a function of one `Draw`."""

from fewstep.objectives.autoencoding import Autoencoding
from fewstep.objectives.consistency import Consistency, ConsistencyDistillation, ConsistencyTraining
from fewstep.objectives.continuous import Continuous, ContinuousDistillation, ContinuousTraining
from fewstep.objectives.diffusion import Diffusion
from fewstep.objectives.levels import LevelDiffusion
from fewstep.objectives.objective import Draw, Objective
from fewstep.objectives.progressive import ProgressiveDistillation

__all__ = [
    "Autoencoding",
    "Consistency",
    "ConsistencyDistillation",
    "ConsistencyTraining",
    "Continuous",
    "ContinuousDistillation",
    "ContinuousTraining",
    "Diffusion",
    "Draw",
    "LevelDiffusion",
    "Objective",
    "ProgressiveDistillation",
]
