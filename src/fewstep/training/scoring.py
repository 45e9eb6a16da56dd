"""What a recipe says of the score that a run takes of its own model now and then, where previews are made."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scoring:
    """A number for the pictures of the averaged weights, against pictures of the data. It changes nothing else."""

    n: int = 256
    """Pictures drawn, and of the data; 0 takes no score."""
    by: str = "energy"
    """Which score: energy, fd, kid, …"""
    features: str = "simple"
    """Whose features: simple, mnist, digits, inception, or a file."""
    steps: int | None = None
    """Network calls a picture (for diffusion models: steps); None: one, and as many as previews take."""

    def __post_init__(self):
        from fewstep.evaluation.scores import chosen

        if self.n < 0 or self.n == 1 or (self.steps is not None and self.steps < 1):
            raise ValueError("score.n is 0 or at least 2, and score.steps at least 1.")
        chosen([self.by])
