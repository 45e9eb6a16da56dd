"""What `fewstep sample` takes from a configuration of mmagic's: the defaults of its options, and the model."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fewstep.cli.sample import Sample
    from fewstep.formats.mmagic import MMagic
    from fewstep.model import Model


def configuration(options: "Sample") -> "MMagic | None":
    """The configuration that is asked for: a file, or an entry of the zoo (unless a file has its name)."""
    from fewstep.codec import nearest
    from fewstep.formats.mmagic import read_mmagic
    from fewstep.formats.mmagic_zoo import ZOO

    if options.mmagic_config is not None:
        return read_mmagic(options.mmagic_config)
    if not options.source.startswith("consistency_models_") or Path(options.source).exists():
        return None
    if options.source not in ZOO:
        raise ValueError(f"mmagic's zoo has no entry '{options.source}'{nearest(options.source, ZOO)}")
    return ZOO[options.source]


def defaults(config: "MMagic", given: "Sample") -> dict[str, Any]:
    """The options that a configuration decides. A sampler, steps or times on the command line replace its own."""
    churn = {} if given.sampler else vars(config.churn)
    return {
        "n": config.n,
        "batch": config.batch,
        "seed": config.seed,
        "clip": config.clip,
        "sampler": config.sampler,
        "times": () if given.sampler or given.steps or given.times else config.times,
        "steps": None if config.times or given.times else config.steps,
        **churn,
    }


def load(config: "MMagic", options: "Sample", device: str) -> tuple[str, "Model"]:
    """Where the weights are, and the model. --weights go before SOURCE, that before the configuration's own."""
    source = options.weights or (options.source if options.mmagic_config else "") or config.weights
    if not source:
        raise ValueError(f"{options.mmagic_config} has no model_path: name the weights with --weights.")
    return source, config.load(source, device=device)


def remarks(config: "MMagic", options: "Sample", model: "Model") -> list[str]:
    """What the user should know about the configuration."""
    ignored = ["This model has no classes: --labels is ignored."] if options.labels and not model.num_classes else []
    return [*config.remarks(), *ignored]
