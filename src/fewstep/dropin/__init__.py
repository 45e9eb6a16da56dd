"""Classes that take the place of diffusers' own: same names, same calls, same files.

Change the import, `from fewstep import CMStochasticIterativeScheduler`, and leave the rest of a program as it is. What
differs on purpose is said in each class's docstring.
"""

try:
    import diffusers  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError("fewstep's drop-in classes need diffusers: pip install 'fewstep[latent]'.") from missing
