"""`load`: a model from wherever it is."""

from fewstep.formats.load import bundled, load

__all__ = ["bundled", "load"]
