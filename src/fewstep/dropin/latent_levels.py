"""Which levels a latent consistency model steps through (Luo et al. 2023, section 4.3, the skipping schedule).

Of a schedule's T levels the model was distilled on `origin`: k − 1, 2 k − 1, …, with k = ⌊T / origin⌋. A strength below
1 (image to image) leaves the ⌊strength · origin⌋ least noisy of them, and n steps begin at the i m // n-th noisiest of
those m, i = 0 … n − 1. Levels of one's own are taken as they are; of them, strength leaves the last ones.
"""

from dataclasses import replace
from typing import Any

from fewstep.codec import nearest
from fewstep.dropin.levels import numbers, whole
from fewstep.dropin.stepping import logger
from fewstep.formats.ddpm_scheduler import SPACINGS
from fewstep.schedules import Discrete, share


def noise_schedule(config: Any) -> Discrete:
    """The schedule of a scheduler's configuration; it has as many levels as `trained_betas`, where there are any."""
    name, betas = config.beta_schedule, config.trained_betas
    levels = config.num_train_timesteps if betas is None else len(betas)
    if levels < 2:
        raise ValueError(f"A noise schedule has at least 2 num_train_timesteps or trained_betas, not {levels}.")
    if betas is None and name not in SPACINGS:
        raise NotImplementedError(f"There is no beta_schedule '{name}'{nearest(name, SPACINGS)}.")
    own = () if betas is None else tuple(float(beta) for beta in betas)
    return Discrete(levels, config.beta_start, config.beta_end, SPACINGS.get(name, "linear"),
                    zero_snr=config.rescale_betas_zero_snr, betas=own)  # fmt: skip


def original(schedule: Discrete, levels: int, steps: Any) -> Discrete:
    """The schedule of a model that was distilled on `steps` of the levels; ValueError outside 1 … levels.

    Betas of one's own, which `schedule` counts, have to be as many as the levels.
    """
    if schedule.steps != levels:
        raise ValueError(
            f"There are {schedule.steps} trained_betas for num_train_timesteps={levels} levels: "
            f"make the scheduler with num_train_timesteps={schedule.steps}."
        )
    (steps,) = whole([steps], "original_inference_steps")
    if not 1 <= steps <= levels:
        raise ValueError(
            f"`original_inference_steps` lies between 1 and num_train_timesteps={levels}; it cannot be {steps}: pass "
            f"set_timesteps(..., original_inference_steps={min(50, levels)}), or as many as the model was distilled on."
        )
    return replace(schedule, origin=steps)


def spread(schedule: Discrete, steps: Any, strength: float) -> list[int]:
    """`steps` of the levels that the strength leaves, from the noisiest; all, with a warning, where fewer are left.

    Raises ValueError for steps outside 1 … origin, a strength outside (0, 1], and one that leaves no level.
    """
    (steps,) = whole([steps], "num_inference_steps")
    if not 1 <= steps <= schedule.origin:
        raise ValueError(
            f"`num_inference_steps` lies between 1 and original_inference_steps={schedule.origin}, the levels that "
            f"this model was distilled on; it cannot be {steps}."
        )
    left = share(schedule.origin, strength)
    if not left:
        raise ValueError(
            f"strength={strength:g} leaves none of the {schedule.origin} levels that this model was distilled on: take "
            f"at least {1 / schedule.origin:g}, or a larger original_inference_steps."
        )
    if left < steps:
        logger.warning(f"strength={strength:g} leaves {left} of {schedule.origin} levels: {left} steps are done, not "
                       f"{steps}, which need strength={steps / schedule.origin:g} or more.")  # fmt: skip
    origins, steps = schedule.origins()[:left].tolist(), min(steps, left)
    return [origins[left - 1 - i * left // steps] for i in range(steps)]


def custom(schedule: Discrete, timesteps: Any, strength: float) -> list[int]:
    """Strictly decreasing levels T − 1 … 0, the last ⌊strength · n⌋ of them.

    Raises ValueError for others, a strength outside (0, 1], and one that leaves none; warns of what the model was not
    distilled on.
    """
    asked = whole(numbers(timesteps, "timesteps", "[999, 759, 499, 259]"), "timesteps")
    if asked[-1] < 0 or asked[0] >= schedule.steps:
        raise ValueError(
            f"`timesteps` lie between 0 and {schedule.steps - 1}, and these reach from {asked[0]} to {asked[-1]}."
        )
    left = share(len(asked), strength)
    if not left:
        raise ValueError(
            f"strength={strength:g} leaves none of these {len(asked)} timesteps: take at least {1 / len(asked):.3g}, "
            "or give only the timesteps to be done, with strength=1."
        )
    if strength == 1 and asked[0] != schedule.steps - 1:
        logger.warning(f"The first of these timesteps is {asked[0]}: a run from pure noise starts at "
                       f"{schedule.steps - 1}.")  # fmt: skip
    asked = asked[-left:]
    if unknown := sorted(set(asked) - set(schedule.origins().tolist()), reverse=True):
        logger.warning(f"This model was not distilled at the timesteps {unknown}: expect less of it there.")
    if len(asked) > schedule.origin:
        logger.warning(f"These are {len(asked)} timesteps, and this model was distilled on {schedule.origin}.")
    return asked
