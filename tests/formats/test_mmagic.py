"""mmagic's configurations: what they ask for, what is not used, and the zoo."""

import pytest
import torch

import fewstep
from fewstep.formats.mmagic import MIRROR, from_dict, read_mmagic
from fewstep.formats.mmagic_keys import DEFAULTS, GENERATORS, SAMPLERS, UNUSED
from fewstep.formats.mmagic_zoo import ZOO
from fewstep.formats.openai_shape import flags
from fewstep.formats.releases import RELEASES
from fewstep.model import SAMPLERS as OURS
from fewstep.networks import UNetShape
from fewstep.parameterizations import EDM, Boundary
from fewstep.sampling import Churn
from fewstep.schedules import Karras

# Every key of their configurations: the arguments of ConsistencyModel, of its U-Net and of its denoiser.
MODEL = """type unet denoiser attention_resolutions batch_size channel_mult class_cond generator image_size learn_sigma
model_path num_classes num_samples sampler seed sigma_max sigma_min training_mode ts clip_denoised s_churn s_noise
s_tmax s_tmin steps data_preprocessor""".split()  # noqa: SIM905
UNET = """type in_channels model_channels num_res_blocks dropout channel_mult use_checkpoint use_fp16 num_head_channels
num_heads num_heads_upsample resblock_updown use_new_attention_order use_scale_shift_norm image_size out_channels
num_classes attention_resolutions""".split()  # noqa: SIM905
DENOISER = "type sigma_data sigma_max sigma_min weight_schedule rho distillation loss_norm".split()  # noqa: SIM905

FILE = """
_base_ = ['../_base_/default_runtime.py']

denoiser_config = dict(
    type='KarrasDenoiser', sigma_data=0.5, sigma_max=80.0, sigma_min=0.002, weight_schedule='uniform')

unet_config = dict(
    type='ConsistencyUNetModel', in_channels=3, model_channels=32, num_res_blocks=1, dropout=0.0, channel_mult='',
    use_checkpoint=False, use_fp16=False, num_head_channels=16, num_heads=4, num_heads_upsample=-1,
    resblock_updown=True, use_new_attention_order=False, use_scale_shift_norm=True)

model = dict(
    type='ConsistencyModel', unet=unet_config, denoiser=denoiser_config, attention_resolutions='8', channel_mult='1,2',
    batch_size=4, class_cond=True, generator='determ', image_size=16, learn_sigma=False,
    model_path='weights.pt', num_classes=5, sampler='multistep', seed=42, training_mode='consistency_distillation',
    ts='0,22,39', data_preprocessor=dict(type='DataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3))
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """FILE and its weights, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shape = UNetShape(3, 16, 5, None, 32, 1, (1, 2), (8,), num_head_channels=16)
    torch.manual_seed(0)
    torch.save({name: w + 0.05 * torch.randn_like(w) for name, w in shape.build().state_dict().items()}, "weights.pt")
    (tmp_path / "c.py").write_text(FILE)
    return tmp_path / "c.py"


def test_a_configuration_in_our_terms(file):
    config = read_mmagic(file)
    assert (config.weights, config.sampler, config.n, config.batch, config.seed) == (
        "weights.pt",
        "consistency",
        4,
        4,
        42,
    )
    assert config.times == pytest.approx((80.0, 1.3824), abs=1e-4)
    assert (config.schedule, config.consistent, config.clip) == (Karras(), True, True)
    assert config.flags == {
        "image_size": 16,
        "attention_resolutions": "8",
        "channel_mult": "1,2",
        "class_cond": True,
        "num_channels": 32,
        "num_res_blocks": 1,
        "num_heads": 4,
        "num_head_channels": 16,
        "resblock_updown": True,
        "use_scale_shift_norm": True,
    }
    unused, noise = config.remarks()
    assert "type, unet.type, denoiser.type (fewstep has one class of each kind)" in unused
    assert "_base_ (only model is read)" in unused
    assert "unet_config" not in unused
    assert (
        "'determ' is one stream for all pictures in mmagic; here a picture depends on (seed, its number, its label)"
        in noise
    )


def test_its_model_draws_what_its_weights_draw(file):
    model = read_mmagic(file).load(device="cpu")
    plain = fewstep.load("weights.pt", device="cpu", config={"image_size": 16, "num_head_channels": 16})
    assert model.design.parameterization == Boundary(noise_scale=250.0)
    assert model.num_classes == 5
    assert torch.equal(model.sample(2, times=[80.0, 1.5], labels=0), plain.sample(2, times=[80.0, 1.5], labels=0))


def test_another_preconditioning(file):
    text = FILE.replace("consistency_distillation", "edm").replace("sigma_data=0.5", "sigma_data=0.25, rho=5.0")
    file.write_text(text.replace("class_cond", "sigma_max=40.0, class_cond").replace("'multistep'", "'heun'"))
    config = read_mmagic(file)
    model = config.load(device="cpu")
    assert model.design.parameterization == EDM(sigma_data=0.25, noise_scale=250.0)
    assert model.schedule == model.denoiser.schedule == Karras(0.002, 40.0, 5.0)
    assert (config.sampler, config.times, config.steps) == ("heun", (), 40)


def test_every_key_of_theirs_is_known():
    theirs = {*MODEL, *(f"unet.{key}" for key in UNET), *(f"denoiser.{key}" for key in DENOISER)} - {"unet", "denoiser"}
    assert theirs == {*DEFAULTS, *UNUSED}
    assert not {*DEFAULTS} & {*UNUSED}
    assert set(SAMPLERS.values()) == set(OURS) - {"dpm++"}
    assert set(GENERATORS) == {"dummy", "determ", "determ-indiv"}


def test_the_flags_are_those_that_load_takes():
    for config in ZOO.values():
        flags(config.flags)
    flags(from_dict({"unet": {key.removeprefix("unet."): DEFAULTS[key] for key in DEFAULTS if "unet." in key}}).flags)


@pytest.mark.parametrize(
    ("ts", "steps", "indices"),
    [("0,22,39", 40, [0, 22]), ("0, 67, 150", 151, [0, 67]), ((0, 5, 9), 10, [0, 5]), ([3, 9], 10, [3])],
)
def test_ts_are_places_on_the_grid(ts, steps, indices):
    config = from_dict({"sampler": "multistep", "ts": ts, "steps": steps})
    assert config.times == tuple(Karras().grid(steps)[indices].tolist())
    assert config.unused == {}


def test_a_list_that_does_not_end_at_t_min():
    config = from_dict({"sampler": "multistep", "ts": "0,22,30"})
    assert config.times == from_dict({"sampler": "multistep", "ts": "0,22,39"}).times
    assert config.unused == {"the end of ts": "mmagic leaves noise in the pictures, fewstep does not"}


@pytest.mark.parametrize("sampler", ["heun", "dpm", "ancestral", "progdist", "euler", "midpoint"])
def test_walks(sampler):
    config = from_dict({"sampler": sampler, "steps": 12, "s_churn": 5.0, "s_tmax": 50})
    assert (config.sampler, config.times, config.steps) == (sampler, (), 12)
    takes = sampler in ("heun", "dpm")
    assert config.churn == (Churn(5.0, 0.0, 50.0, 1.0) if takes else Churn())
    wanted = {} if takes else dict.fromkeys(("s_churn", "s_tmax"), f"the sampler {sampler} takes none")
    assert config.unused == wanted


def test_onestep_needs_no_steps():
    config = from_dict({"sampler": "onestep", "steps": 12, "ts": "0,5,11", "sigma_max": 40.0})
    assert config.times == (40.0,)
    assert config.unused == dict.fromkeys(("ts", "steps"), "the sampler onestep takes none")


def test_how_many_and_other_values():
    assert from_dict({"batch_size": 4, "num_samples": 10}).n == 10
    assert from_dict({"batch_size": 4, "num_samples": 0}).n == 4
    assert from_dict({"model_path": None}).weights is None
    assert from_dict({"model_path": MIRROR + "ct_cat256.pt"}).weights == "ct_cat256"
    assert from_dict({"model_path": "https://example.org/ct_cat256.pt"}).weights == "https://example.org/ct_cat256.pt"
    assert from_dict({"sigma_min": 0.01}).schedule == Karras(t_min=0.01)
    unknown = from_dict({"tss": "0,1", "unet": {"drop": 0.1}}).unused
    assert unknown == dict.fromkeys(("tss", "unet.drop"), "unknown")


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"sampler": "multistp"}, "there is no sampler 'multistp'; did you mean 'multistep'?"),
        ({"generator": "determinate"}, "there is no generator 'determinate'; did you mean 'determ'?"),
        ({"sampler": "multistep"}, "ts ascends within 0 to 39 .steps - 1., such as '0,19,39', not ''"),
        ({"sampler": "multistep", "ts": "0,22,40"}, "ts ascends within 0 to 39"),
        ({"sampler": "multistep", "ts": "0,22,22,39"}, "ts ascends"),
        ({"sampler": "multistep", "ts": "0,x,39"}, "ts ascends"),
        ({"steps": "40"}, "steps is a whole number, not '40'"),
        ({"seed": True}, "seed is a whole number, not True"),
        ({"sigma_max": "80"}, "sigma_max is a number, not '80'"),
        ({"class_cond": "yes"}, "class_cond is True or False"),
        ({"unet": 3}, "unet is a dict"),
        ({"sigma_max": 0.001}, "Karras needs 0 < t_min < t_max"),
        ({"denoiser": {"sigma_min": 0.1}}, "sigma_min is written twice"),
        ({"unet": {"num_heads": 4, "num_heads_upsample": 2}}, "num_heads_upsample differs"),
    ],
)
def test_what_cannot_be_meant(model, words):
    with pytest.raises(ValueError, match="^This configuration: .*" + words.replace("?", r"\?")):
        from_dict(model)


def test_what_is_no_configuration(tmp_path):
    (tmp_path / "c.py").write_text("models = dict(steps=3)")
    with pytest.raises(ValueError, match=r"is no mmagic configuration: it has no model = dict"):
        read_mmagic(tmp_path / "c.py")
    (tmp_path / "c.py").write_text("from mmengine import Config\nmodel = dict()")
    with pytest.raises(ValueError, match=r"c\.py, line 1: .*nothing is executed"):
        read_mmagic(tmp_path / "c.py")
    with pytest.raises(ValueError, match="no model_path"):
        from_dict({}).load()


def test_the_zoo():
    """Table 2.4's times, the metafile's names."""
    wanted = {
        "8xb256-imagenet1k-onestep-64x64": ("cd_imagenet64_l2", (80.0,), "determ"),
        "8xb256-imagenet1k-multistep-64x64": ("cd_imagenet64_l2", (80.0, 1.3824), "determ"),
        "8xb32-LSUN-bedroom-onestep-256x256": ("ct_bedroom256", (80.0,), "determ-indiv"),
        "8xb32-LSUN-bedroom-multistep-256x256": ("ct_bedroom256", (80.0, 3.9912), "determ-indiv"),
        "8xb32-LSUN-cat-onestep-256x256": ("ct_cat256", (80.0,), "determ-indiv"),
        "8xb32-LSUN-cat-multistep-256x256": ("ct_cat256", (80.0, 5.2485), "determ-indiv"),
    }
    assert set(ZOO) == {f"consistency_models_{name}" for name in wanted}
    for name, (weights, times, generator) in wanted.items():
        entry = ZOO[f"consistency_models_{name}"]
        release = RELEASES[weights]
        assert (entry.weights, entry.generator, entry.seed, entry.n) == (weights, generator, 42, 4)
        assert entry.times == pytest.approx(times, abs=1e-4)
        assert entry.times == pytest.approx(release.times[str(len(times))])
        shape = release.shape
        assert entry.flags["num_channels"] == shape.model_channels
        assert entry.flags["image_size"] == shape.image_size
        assert entry.flags["class_cond"] == (shape.num_classes > 0)
        assert entry.unused == {}
