"""The pages for those who come from elsewhere: no flag or key of theirs is missing, and what they name here exists."""

import re
from pathlib import Path

import pytest

from fewstep import PUBLIC
from fewstep.cli import VERBS
from fewstep.cli.convert import Convert
from fewstep.cli.parsing import flag, flags, leaves
from fewstep.cli.sample import Sample
from fewstep.cli.times import Times
from fewstep.cli.train import SHORT, Train
from fewstep.formats.mmagic_keys import DEFAULTS, UNUSED
from fewstep.formats.mmagic_zoo import ZOO
from fewstep.formats.releases import RELEASES
from fewstep.recipes import RECIPES
from fewstep.training.recipe import PARTS

DOCS = Path(__file__).parents[1] / "docs"
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="a built package has no docs beside it")

# Flags of openai/consistency_models: the argument parsers of its scripts.
NETWORK = """sigma_min sigma_max image_size num_channels num_res_blocks num_heads num_heads_upsample num_head_channels
attention_resolutions channel_mult dropout class_cond use_checkpoint use_scale_shift_norm resblock_updown use_fp16
use_new_attention_order learn_sigma weight_schedule"""
SAMPLE = """training_mode generator clip_denoised num_samples batch_size sampler s_churn s_tmin s_tmax s_noise steps
model_path seed"""
EDM = """data_dir schedule_sampler lr weight_decay lr_anneal_steps global_batch_size batch_size microbatch ema_rate
log_interval save_interval resume_checkpoint use_fp16 fp16_scale_growth"""
CM = """teacher_model_path teacher_dropout training_mode target_ema_mode scale_mode total_training_steps start_ema
start_scales end_scales distill_steps_per_iter loss_norm"""
# Of diffusers' training scripts.
LCM = """pretrained_teacher_model pretrained_vae_model_name_or_path teacher_revision revision output_dir cache_dir seed
report_to checkpointing_steps checkpoints_total_limit resume_from_checkpoint train_shards_path_or_url dataset_name
dataset_config_name train_data_dir image_column caption_column resolution interpolation_type use_fix_crop_and_size
center_crop random_flip encode_batch_size dataloader_num_workers train_batch_size num_train_epochs max_train_steps
max_train_samples learning_rate scale_lr lr_scheduler lr_warmup_steps gradient_accumulation_steps use_8bit_adam
adam_beta1 adam_beta2 adam_weight_decay adam_epsilon max_grad_norm proportion_empty_prompts w_min w_max
num_ddim_timesteps loss_type huber_c unet_time_cond_proj_dim lora_rank lora_alpha lora_dropout lora_target_modules
vae_encode_batch_size timestep_scaling_factor ema_decay mixed_precision allow_tf32 cast_teacher_unet
enable_xformers_memory_efficient_attention gradient_checkpointing local_rank validation_steps push_to_hub hub_token
hub_model_id logging_dir tracker_project_name"""
ICT = """model_config_name_or_path pretrained_model_name_or_path revision variant train_data_dir dataset_name
dataset_config_name dataset_image_column_name dataset_class_label_column_name resolution interpolation_type center_crop
random_flip class_conditional num_classes class_embed_type dataloader_num_workers output_dir overwrite_output_dir
cache_dir seed train_batch_size num_train_epochs max_train_steps max_train_samples learning_rate scale_lr lr_scheduler
lr_warmup_steps optimizer_type use_8bit_adam adam_beta1 adam_beta2 adam_weight_decay adam_epsilon max_grad_norm
prediction_type ddpm_num_steps ddpm_num_inference_steps ddpm_beta_schedule sigma_min sigma_max rho huber_c
discretization_s_0 discretization_s_1 constant_discretization_steps p_mean p_std noise_precond_type input_precond_type
skip_steps cast_teacher use_ema ema_min_decay ema_max_decay use_ema_warmup ema_inv_gamma ema_power mixed_precision
allow_tf32 gradient_checkpointing gradient_accumulation_steps enable_xformers_memory_efficient_attention local_rank
validation_steps eval_batch_size save_images_epochs checkpointing_steps checkpoints_total_limit resume_from_checkpoint
save_model_epochs report_to logging_dir push_to_hub hub_token hub_model_id hub_private_repo tracker_project_name"""
THEIRS = {
    "image_sample.py": f"{SAMPLE} ts {NETWORK}",
    "edm_train.py": f"{EDM} {NETWORK}",
    "cm_train.py": CM,  # beside those of edm_train.py
    "ternary_search.py": f"{SAMPLE} begin end ref_batch",  # beside those of the network
    "train_lcm_distill_*": LCM,  # diffusers' five scripts
    "train_cm_ct_unconditional.py": ICT,
}
DEMO = """img video label trimap mask text result-out-dir model-name model-setting config-name model-config model-ckpt
device extra-parameters seed print-…"""

OURS = {
    "sample": set(flags(Sample)),
    "convert": set(flags(Convert)),
    "times": set(flags(Times)),
    "train": {flag(*path) for make in RECIPES.values() for path, _ in leaves(make())} | set(flags(Train)) | set(SHORT),
}
VERB = {"image_sample.py": "sample", "edm_train.py": "train", "cm_train.py": "train", "ternary_search.py": "times",
        "train_lcm_distill_*": "train", "train_cm_ct_unconditional.py": "train",
        "The demo": "sample", "The keys of a configuration": "sample"}  # fmt: skip


def sections(page: str) -> dict[str, str]:
    """The parts of a page by their titles, up to a colon."""
    parts = re.split(r"^## (.*)$", (DOCS / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {title.split(":")[0]: text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def rows(text: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line.strip("|").split(" | ") for line in text.splitlines() if line.startswith("| `")]
    assert len({len(line) for line in lines}) <= 1, lines
    return [[cell.strip(" |") for cell in line] for line in lines]


def spans(text: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


FROM = ("from-openai.md", "from-mmagic.md", "from-diffusers.md")
PAGES = {(page, title): text for page in FROM for title, text in sections(page).items()}
TABLES = {title: text for (_, title), text in PAGES.items() if title in VERB}


def test_every_table_is_read():
    assert set(TABLES) == set(VERB)


@pytest.mark.parametrize("script", THEIRS)
def test_no_flag_of_theirs_is_missing(script):
    told = [name.removeprefix("--") for row in rows(TABLES[script]) for name in spans(row[0]) if name.startswith("--")]
    assert sorted(told) == sorted(set(THEIRS[script].split()))


def test_no_flag_of_mmagics_demo_and_no_key_is_missing():
    demo = TABLES["The demo"]
    told = {name.removeprefix("--") for row in rows(demo) for name in spans(row[0])}
    below = {name.removeprefix("--") for name in spans(demo.split("| `-n` |")[1]) if name.startswith("--")}
    assert told | below == set(DEMO.split())
    keys = [key for row in rows(TABLES["The keys of a configuration"]) for key in spans(row[0])]
    assert sorted(keys) == sorted([*DEFAULTS, *UNUSED, "unet", "denoiser"])


def test_mmagics_defaults():
    for keys, default, *_ in rows(TABLES["The keys of a configuration"]):
        known = [DEFAULTS[name] for name in spans(keys) if name in DEFAULTS and default not in ("none", "None")]
        for value in known:
            assert default.strip("'") in (str(value), str(value).removesuffix(".0")), keys


@pytest.mark.parametrize("title", TABLES)
def test_what_fewstep_is_said_to_have_it_has(title):
    """The third column of a script's table, the second of the demo's: flags, recipes and parts by their names."""
    for row in rows(TABLES[title]):
        column = 1 if title == "The demo" else 2
        for span in spans(row[column]):
            verb, asked = command(span, VERB[title])
            assert asked or title.startswith("The keys"), (row, span)
            assert set(asked) <= OURS[verb], (row, span)


@pytest.mark.parametrize("place", PAGES)
def test_commands_recipes_and_parts_in_the_text_exist(place):
    text = PAGES[place]
    for span in spans(text.replace("`" * 3, "")):
        if part := re.match(r"([A-Z]\w+)\(", span):
            assert part[1] in {cls.__name__ for cls in PARTS}, span
        if name := re.fullmatch(r"(imagenet64|lsun256|cifar10|mnist)-[a-z0-9-]+", span):
            assert name[0] in RECIPES, span
        if name := re.fullmatch(r"fewstep (\w+)( .*)?", span):
            assert name[1] in VERBS, span


def command(span: str, default: str) -> tuple[str, list[str]]:
    """`fewstep VERB --flag …` or only `--flag …`: the verb and the flags."""
    verb = re.match(r"fewstep (\w+)", span)
    return (verb[1] if verb else default), re.findall(r"(?<!\S)--?[a-z][a-z0-9.-]*", span)


def test_names_that_the_pages_use():
    whole = "".join((DOCS / page).read_text(encoding="utf-8") for page in FROM)
    for name in set(re.findall(r"consistency_models_8x[\w-]+", whole)):
        assert name in ZOO
    for name in set(re.findall(r"\b(?:cd|ct|edm)_(?:imagenet64|bedroom256|cat256)\w*", whole)):
        assert name in RELEASES


def test_classes_that_are_to_be_replaced_exist_on_both_sides():
    import diffusers

    table = rows(PAGES["from-diffusers.md", "What to replace by what"])
    theirs = [name for row in table for name in spans(row[0]) if name.isidentifier()]
    ours = [name for row in table for name in spans(row[1])]
    assert [name for name in theirs if not hasattr(diffusers, name) and name != "LCMSchedulerOutput"] == []
    assert {name.removeprefix("fewstep.") for name in ours if "." in name} <= set(PUBLIC)
