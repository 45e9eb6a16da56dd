"""`load`: a model from wherever it is; `read`: the same, not yet built; `locate`: its file; `path`: a bundled one."""

from fewstep.formats.load import Stored, architecture, bundled, load, locate, path, read

__all__ = ["Stored", "architecture", "bundled", "load", "locate", "path", "read"]
