"""How good generated pictures are: scores of samples against a reference, in the features of a frozen network.

fewstep.evaluation.evaluate("mnist", "digits-folder", n=2000)
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fewstep.evaluation.evaluating import Yardstick, evaluate
    from fewstep.evaluation.features import open_features
    from fewstep.evaluation.report import Report, compare
    from fewstep.evaluation.scores import SCORES

__all__ = ["SCORES", "Report", "Yardstick", "compare", "evaluate", "open_features"]

_HOMES = {
    "SCORES": "scores", "Report": "report", "Yardstick": "evaluating", "compare": "report", "evaluate": "evaluating",
    "open_features": "features",
}  # fmt: skip


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'fewstep.evaluation' has no attribute '{name}'")
    return getattr(import_module(f"fewstep.evaluation.{_HOMES[name]}"), name)
