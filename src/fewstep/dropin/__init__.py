"""Classes that take the place of diffusers' own: same names, same calls, same files.

Change the import, `from fewstep import CMStochasticIterativeScheduler`, and leave the rest of a program as it is. What
differs on purpose is said in each class's docstring. Schedulers are stepped through as theirs are:

    >>> scheduler = fewstep.CMStochasticIterativeScheduler()
    >>> scheduler.set_timesteps(sigmas=[80.0, 0.82])
    >>> x = scheduler.init_noise_sigma * torch.randn(1, 3, 64, 64)
    >>> unet = lambda x, t: torch.zeros_like(x)
    >>> for t in scheduler.timesteps:
    ...     x = scheduler.step(unet(scheduler.scale_model_input(x, t), t), t, x).prev_sample
    >>> scheduler = fewstep.LCMScheduler()
    >>> scheduler.set_timesteps(4)
    >>> scheduler.timesteps
    tensor([999, 759, 499, 259])
"""

try:
    import diffusers  # noqa: F401
except ModuleNotFoundError as missing:
    raise ImportError("fewstep's drop-in classes need diffusers: pip install 'fewstep[latent]'.") from missing
