"""Features by name, file and module: what they see, what they are called, and what tells them apart."""

import functools

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from fewstep.evaluation.features import NAMES, auto, open_features
from fewstep.evaluation.features.readers import bundled, load_reader
from fewstep.evaluation.features.seeing import bicubic, digest_of, fitted, grey
from fewstep.evaluation.types import Features, Seen
from fewstep.images import Data, open_images
from fewstep.lpips import LPIPS, STAGES


def pictures(n: int = 4, channels: int = 3, size: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, channels, size, size), dtype=torch.uint8, generator=generator)


def test_the_bundled_reader_of_digits_reads_what_it_says():
    """Of the 397 pictures that it did not learn from, by the rule in its metadata."""
    images = open_images(Data("digits"))
    unseen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[1400:].tolist()
    shown = torch.stack([torch.from_numpy(images.picture(i).transpose(2, 0, 1)) for i in unseen])
    seen = open_features("digits")(shown)
    right = (seen.logits.argmax(1).numpy() == np.asarray(images.labels)[unseen]).mean()
    with safe_open(str(bundled("digits")), "pt") as file:
        about = file.metadata()
    assert about["test_accuracy"] == f"{right:.4f} of the other 397"
    assert right > 0.99
    assert seen.features.shape == (397, 128)


@pytest.mark.parametrize("name", ["mnist", "digits"])
def test_bundled_readers_say_where_they_come_from(name):
    with safe_open(str(bundled(name)), "pt") as file:
        about = file.metadata()
    assert {"architecture", "data", "command", "test_accuracy"} <= about.keys()
    assert "benchmarks/" in about["command"]


def test_a_reader_sees_grey_at_its_own_size():
    features, reader = open_features("mnist"), load_reader(bundled("mnist"))
    shown = pictures(3, 1, 28)
    seen = features(shown)
    assert torch.equal(seen.logits, reader(shown.float() / 127.5 - 1))
    assert torch.equal(seen.features, reader.features(shown.float() / 127.5 - 1))
    torch.testing.assert_close(features(shown.expand(-1, 3, -1, -1)).features, seen.features, rtol=1e-4, atol=1e-4)
    assert features(pictures(2, 3, 14)).features.shape == (2, 96)


def test_shrinking_averages_and_growing_is_bilinear():
    shown = torch.arange(16.0).reshape(1, 1, 4, 4)
    assert fitted(shown, 4) is shown
    # antialiased: weights 1, 3, 3, 1 of 8 inside, cut off at the edge
    rows = torch.tensor([[3.0, 3, 1, 0], [0, 1, 3, 3]]) / 7
    torch.testing.assert_close(fitted(shown, 2)[0, 0], rows @ shown[0, 0] @ rows.T)
    assert fitted(torch.tensor([[[[0.0, 4.0]]]]).expand(1, 1, 2, 2), 4)[0, 0, 0].tolist() == [0, 1, 3, 4]


def test_grey_is_luma():
    shown = torch.tensor([255, 0, 100], dtype=torch.uint8).reshape(1, 3, 1, 1)
    assert grey(shown).item() == pytest.approx(0.299 * 255 + 0.114 * 100, rel=1e-6)


def test_bicubic_is_pillows_on_the_middle_square():
    from PIL import Image

    shown = torch.randint(0, 256, (2, 3, 20, 31), dtype=torch.uint8)
    middle = shown[..., 5:25].permute(0, 2, 3, 1).numpy()
    wanted = [np.asarray(Image.fromarray(picture).resize((8, 8), Image.Resampling.BICUBIC)) for picture in middle]
    assert np.array_equal(bicubic(shown, 8, square=True).permute(0, 2, 3, 1).numpy(), np.stack(wanted))
    whole = Image.fromarray(shown[0].permute(1, 2, 0).numpy()).resize((8, 8), Image.Resampling.BICUBIC)
    assert np.array_equal(bicubic(shown, 8, square=False)[0].permute(1, 2, 0).numpy(), np.asarray(whole))


@pytest.mark.parametrize("size", [8, 28, 32])
def test_simple_features_have_two_halves(size):
    features = open_features("simple")
    shown = pictures(3, 3, size)
    seen = features(shown)
    assert features.parts == (768, 512)
    assert seen.features.shape == (3, 1280) == (3, features.dimension)
    if size in (8, 32):  # 28 places do not fall into 16 evenly
        wanted = (shown.float() / 127.5 - 1).mean((1, 2, 3))
        torch.testing.assert_close(seen.features[:, :768].mean(1), wanted, rtol=1e-4, atol=1e-5)
    flat = features(torch.full((1, 1, size, size), 9, dtype=torch.uint8)).features
    assert flat[:, 768:].abs().max() < 1e-4  # filters without a mean see nothing in it


@pytest.fixture(scope="module")
def vgg16(tmp_path_factory):
    """Random weights under torchvision's names."""
    path, index, channels, state = tmp_path_factory.mktemp("vgg") / "vgg16.safetensors", 0, 3, {}
    for stage in STAGES:
        for width in stage:
            state[f"features.{index}.weight"] = torch.randn(width, channels, 3, 3) * (2 / (9 * channels)) ** 0.5
            state[f"features.{index}.bias"] = torch.zeros(width)
            index, channels = index + 2, width
        index += 1
    save_file(state, str(path))
    return path


def test_vgg_features_are_no_farther_than_lpips(vgg16):
    features, shown = open_features(vgg16), pictures(2, 3, 16)
    shown[1] = shown[0] // 2 + shown[1] // 2
    x, y = shown[:1].float() / 127.5 - 1, shown[1:].float() / 127.5 - 1
    lpips = LPIPS(pooling="max", size=224, below=None, weights=str(vgg16))(x, y).item()
    a, b = features(shown).features
    assert a.shape == (1472,) == (features.dimension,)
    assert 0 < ((a - b) ** 2).sum().item() <= lpips


def test_auto():
    assert auto((1, 28, 28)) == "mnist"
    assert auto((1, 8, 8)) == "digits"
    assert auto((3, 32, 32)) == "inception"


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="no features 'inceptoin'; did you mean 'inception'"):
        open_features("inceptoin")
    with pytest.raises(FileNotFoundError, match="no weights at missing.pth"):
        open_features("missing.pth")


def test_a_file_of_something_else_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, str(tmp_path / "other.safetensors"))
    with pytest.raises(ValueError, match=r"other.safetensors holds none of the networks"):
        open_features(tmp_path / "other.safetensors")


def test_a_reader_of_ones_own_is_called_by_its_file(tmp_path):
    (tmp_path / "mnist.safetensors").write_bytes(bundled("mnist").read_bytes())
    own, ours = open_features(tmp_path / "mnist.safetensors"), open_features("mnist")
    assert own.name == "mnist.safetensors"
    assert own.digest == ours.digest


@pytest.mark.parametrize("name", ["mnist", "digits", "simple"])
def test_features_refuse_what_is_no_picture(name):
    features = open_features(name)
    for wrong in (torch.zeros(1, 1, 8, 8), torch.zeros(1, 4, 8, 8, dtype=torch.uint8), pictures()[0]):
        with pytest.raises(ValueError, match=r"pictures uint8 \(n, 1 or 3, H, W\)"):
            features(wrong)
    with pytest.raises(ValueError, match="read no text"):
        features.text(["a word"])


def test_no_two_of_them_share_a_digest_and_it_is_always_the_same():
    digests = {name: open_features(name).digest for name in ("mnist", "digits", "simple")}
    assert len(set(digests.values())) == 3
    assert all(open_features(name).digest == digest for name, digest in digests.items())
    assert all(len(digest) == 16 and int(digest, 16) >= 0 for digest in digests.values())


def test_digest_by_hand():
    a, b = torch.tensor([1.0, 2.0]), torch.tensor(3, dtype=torch.int64)
    one = digest_of({"a": a, "b": b}, "word")
    assert one == digest_of({"b": b, "a": a.clone()}, "word")
    others = [
        digest_of({"a": a, "b": b}, "other"),
        digest_of({"a": a, "c": b}, "word"),
        digest_of({"a": a.double(), "b": b}, "word"),
        digest_of({"a": a[None], "b": b}, "word"),
        digest_of({"a": a + 1e-6, "b": b}, "word"),
    ]
    assert len({one, *others}) == 6


def test_a_module_of_ones_own_is_shown_signed_pictures_and_left_alone():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Dropout(0.5)).train()
    features, shown = open_features(module, name="mine"), pictures()
    seen = features(shown).features
    wanted = module[0](shown.float() / 127.5 - 1).flatten(1)
    torch.testing.assert_close(seen, wanted)
    assert (features.name, features.dimension) == ("mine", 200)
    assert module.training
    assert all(w.requires_grad for w in module.parameters())
    assert not seen.requires_grad
    with torch.no_grad():
        module[0].bias += 1
    torch.testing.assert_close(features(shown).features, seen)  # the features are frozen
    assert open_features(module).digest != features.digest


def halved(x: torch.Tensor) -> Seen:
    return Seen(x.mean((2, 3)), logits=x[:, :, 0, 0])


def test_a_function_may_give_logits_too():
    features = open_features(halved)
    seen = features(pictures(5))
    assert (features.name, seen.features.shape, seen.logits.shape) == ("halved", (5, 3), (5, 3))
    assert open_features(features) is features
    with pytest.raises(ValueError, match="must return a tensor"):
        open_features(lambda x: x[:1])(pictures(2))


class Layered(torch.nn.Module):
    """Sees its pictures times `layer`, with no weight that says so."""

    def __init__(self, layer, activation=None):
        super().__init__()
        self.layer, self.activation = layer, activation
        self.register_buffer("offset", torch.zeros(1), persistent=False)

    def forward(self, x):
        return self.layer * x.flatten(1) + self.offset


def test_the_digest_of_a_module_knows_its_weights_and_its_attributes():
    one = open_features(Layered(1))
    assert one.lasting
    assert one.digest == open_features(Layered(1)).digest
    moved = Layered(1)
    moved.offset += 1
    others = [Layered(2), Layered(1.0), Layered(1, torch.relu), Layered(1, [1, "x"]), moved, torch.nn.Flatten()]
    assert len({one.digest, *(open_features(module).digest for module in others)}) == len(others) + 1
    assert not open_features(Layered(1, lambda x: x)).lasting  # it may reach for anything
    hooked = Layered(1)
    hooked.register_forward_hook(lambda *_: None)
    assert not open_features(hooked).lasting


def test_functions_are_told_apart_by_the_names_that_they_are_given():
    a, b = (open_features(functools.partial(torch.mul, other=k)) for k in (1, 2))
    assert a.digest != b.digest
    assert not a.lasting
    a, b, other = (open_features(halved, name=name) for name in ("mine", "mine", "yours"))
    assert a.lasting
    assert a.digest == b.digest != other.digest


@pytest.mark.parametrize("name", [*NAMES, "inception-2015", "dinov2-vitl14", "clip-vitl14-336"])
def test_published_names_are_not_given_to_ones_own(name):
    with pytest.raises(ValueError, match="give your own another"):
        open_features(halved, name=name)


def test_only_ones_own_are_named():
    with pytest.raises(ValueError, match="have a name already"):
        open_features("mnist", name="mine")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_one_sentence(name, monkeypatch, tmp_path):
    """Nothing is downloaded here: what comes with the package opens, the rest says what to fetch."""
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    if name in ("mnist", "digits", "simple"):
        assert isinstance(open_features(name), Features)
        return
    with pytest.raises(FileNotFoundError) as error:
        open_features(name)
    places = {"inception": str(tmp_path), "vgg": "timm/vgg16", "dinov2": "facebook/dinov2-large"}
    assert places.get(name, "openai/clip-vit-large-patch14-336") in str(error.value)
