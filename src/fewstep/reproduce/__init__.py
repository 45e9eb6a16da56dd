"""The paper in miniature: its claims on pictures so small that a laptop checks them in an evening.

    reproduce(Setting(data="mnist-train.zip"), "study", ["heun-vs-euler"])

Teachers, students and models from nothing are trained by `fewstep.training.fit` from ordinary recipes; every claim
becomes a table and a plot with intervals over seeds, beside the same curve in closed form where there is one. See
`studies.py`.
"""

from fewstep.reproduce.reproducing import chosen, reproduce
from fewstep.reproduce.setting import Setting
from fewstep.reproduce.studies import STUDIES

__all__ = ["STUDIES", "Setting", "chosen", "reproduce"]
