"""LPIPS against its formula, written out with torch's own modules and random VGG16 weights."""

import pickle

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from fewstep import lpips
from fewstep.lpips import LPIPS, STAGES


def vgg16_layers():
    """torchvision's `features`: convolution, ReLU, …, pooling after each stage."""
    layers, channels = [], 3
    for stage in STAGES:
        for width in stage:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers).requires_grad_(False)


@pytest.fixture(scope="module")
def features():
    torch.manual_seed(1)
    layers = vgg16_layers()
    for layer in layers:
        if isinstance(layer, nn.Conv2d):  # keeps the signal alive through 13 layers
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.normal_(layer.bias, std=0.02)
    return layers


@pytest.fixture(scope="module")
def weights(features, tmp_path_factory):
    """The same weights as torchvision saves them and as timm's model.safetensors has them."""
    folder = tmp_path_factory.mktemp("vgg")
    state = {f"features.{name}": value for name, value in features.state_dict().items()}
    torch.save(state | {"classifier.0.weight": torch.zeros(2, 2)}, folder / "vgg16.pth")
    save_file(state | {"pre_logits.fc1.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    return {"pth": str(folder / "vgg16.pth"), "safetensors": str(folder / "model.safetensors")}


def written_out(features, x, y, pooling):
    """Σ_l mean of w_l (x̂ − ŷ)² after the last ReLU of each stage."""
    heads = load_file(str(lpips.files("fewstep") / "lpips_heads" / "vgg.safetensors"))
    shift, scale = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])  # for [-1, 1]
    x, y = ((a - shift[:, None, None]) / scale[:, None, None] for a in (x, y))
    total, stage = torch.zeros(len(x)), 0
    for layer in features:
        if isinstance(layer, nn.MaxPool2d):
            unit = [a / (a.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for a in (x, y)]
            total += F.conv2d((unit[0] - unit[1]) ** 2, heads[f"head.{stage}"][None, :, None, None]).mean((1, 2, 3))
            layer = nn.AvgPool2d(2) if pooling == "average" else layer
            stage += 1
        x, y = layer(x), layer(y)
    return total


def pictures(n=2, channels=3, size=32):
    return torch.rand(n, channels, size, size) * 2 - 1, torch.rand(n, channels, size, size) * 2 - 1


@pytest.mark.parametrize("pooling", ["max", "average"])
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_it_is_the_formula(features, weights, pooling, kind):
    x, y = pictures()
    wanted = written_out(features, x, y, pooling)
    torch.testing.assert_close(LPIPS(pooling, None, weights=weights[kind])(x, y), wanted, rtol=1e-4, atol=1e-6)


def test_the_poolings_are_different_functions(weights):
    x, y = pictures()
    both = [LPIPS(pooling, None, weights=weights["pth"])(x, y) for pooling in ("max", "average")]
    assert ((both[0] - both[1]).abs() / both[0]).min() > 0.01


def test_sizes(features, weights):
    """Below 256 the pictures are enlarged; with below=None all are resized; with size=None none."""
    x, y = pictures(1, size=32)
    up = lambda a: F.interpolate(a, (48, 48), mode="bilinear", align_corners=False)  # noqa: E731
    resized = written_out(features, up(x), up(y), "average")
    torch.testing.assert_close(LPIPS(size=48, weights=weights["pth"])(x, y), resized, rtol=1e-4, atol=1e-6)
    plain = written_out(features, x, y, "average")
    torch.testing.assert_close(LPIPS(size=48, below=32, weights=weights["pth"])(x, y), plain, rtol=1e-4, atol=1e-6)
    always = LPIPS(size=48, below=None, weights=weights["pth"])
    torch.testing.assert_close(always(up(up(x)), up(up(y))), written_out(features, up(up(x)), up(up(y)), "average"))


def test_equal_pictures_and_grey_ones(weights):
    d = LPIPS(size=None, weights=weights["pth"])
    x, y = pictures(channels=1, size=16)
    assert torch.equal(d(x, x), torch.zeros(2))
    torch.testing.assert_close(d(x, y), d(x.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(d(x, y), d(y, x))
    one_at_a_time = torch.cat([d(x[i : i + 1], y[i : i + 1]) for i in range(2)])
    torch.testing.assert_close(d(x, y), one_at_a_time, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="1 or 3"):
        d(torch.zeros(1, 4, 16, 16), torch.zeros(1, 4, 16, 16))


def test_the_gradient_reaches_the_picture_alone(weights):
    d = LPIPS(size=None, weights=weights["pth"])
    x, y = (a.double() for a in pictures(1, size=16))
    x.requires_grad_()
    d(x, y).sum().backward()
    assert y.grad is None
    assert all(
        not w.requires_grad for stage in lpips._network(weights["pth"], x.device, x.dtype).stages for w, _ in stage
    )
    direction = torch.randn_like(x)
    direction /= direction.norm()
    h = 1e-5
    with torch.no_grad():
        slope = (d(x + h * direction, y) - d(x - h * direction, y)) / (2 * h)
    assert slope.item() == pytest.approx((x.grad * direction).sum().item(), rel=1e-3)


def test_the_gradient_is_finite_for_equal_and_for_flat_pictures(weights):
    d = LPIPS(size=None, weights=weights["pth"])
    for start in (torch.zeros(1, 3, 16, 16), torch.rand(1, 3, 16, 16)):
        x = start.clone().requires_grad_()
        d(x, start).sum().backward()
        assert torch.isfinite(x.grad).all()


def test_the_network_is_read_once_for_each_dtype(weights, monkeypatch):
    reads = []
    read = lpips.read_vgg16
    monkeypatch.setattr(lpips, "read_vgg16", lambda path: reads.append(path) or read(path))
    lpips._network.cache_clear()
    x, y = pictures(1, size=16)
    for pooling in ("max", "average", "max"):
        LPIPS(pooling, None, weights=weights["pth"])(x, y)
    assert len(reads) == 1
    assert LPIPS("max", None, weights=weights["pth"])(x.double(), y.double()).dtype == torch.float64
    assert len(reads) == 2
    lpips._network.cache_clear()


def test_a_first_call_for_a_score_leaves_training_possible(weights):
    lpips._network.cache_clear()
    d, (x, y) = LPIPS(size=None, weights=weights["pth"]), pictures(1, size=16)
    with torch.inference_mode():
        d(x, y)
    d(x.requires_grad_(), y).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_pictures_are_compared_in_float32(weights, dtype):
    d, (x, y) = LPIPS(size=None, weights=weights["pth"]), pictures(1, size=16)
    x, y = x.to(dtype), y.to(dtype)
    assert torch.equal(d(x, y), d(x.float(), y.float()))


class Evil:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_a_malicious_file_is_refused(tmp_path, capsys):
    path = tmp_path / "vgg16.pth"
    torch.save({"features.0.weight": Evil()}, path)
    with pytest.raises(ValueError, match="something else than tensors"):
        LPIPS(weights=str(path))(*pictures(1))
    path.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(ValueError, match="something else than tensors"):
        LPIPS(weights=str(path))(*pictures(1))
    (tmp_path / "broken.safetensors").write_bytes(b"not tensors")
    with pytest.raises(ValueError, match="something else than tensors"):
        LPIPS(weights=str(tmp_path / "broken.safetensors"))(*pictures(1))
    assert capsys.readouterr().out == ""


def test_missing_weights_are_one_sentence(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="no VGG16 weights at"):
        LPIPS(weights=str(tmp_path / "nowhere.pth"))(*pictures(1))
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="features.0 is missing or has another shape"):
        LPIPS(weights=str(tmp_path / "other.pth"))(*pictures(1))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="LPIPS.weights='model.safetensors'"):
        LPIPS()(*pictures(1))


def test_the_heads_are_the_published_ones():
    """Version 0.1 for VGG16: five rows of non-negative weights, these their sums; their licence lies beside them."""
    folder = lpips.files("fewstep") / "lpips_heads"
    heads = load_file(str(folder / "vgg.safetensors"))
    sums = [heads[f"head.{i}"].sum().item() for i in range(5)]
    assert sums == pytest.approx([6.92599, 8.85833, 17.51501, 51.52132, 47.03487], rel=1e-5)
    assert all((head >= 0).all() for head in heads.values())
    assert "Richard Zhang" in (folder / "LICENSE").read_text()


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_its_limit_for_pictures_that_meet(weights, pooling):
    """What continuous time needs: limit(x, v) = lim LPIPS(x, x − h v)/h², its gradient by v is LPIPS's by x, over h."""
    distance = LPIPS(pooling=pooling, size=32, weights=weights["safetensors"])
    x, v = torch.rand(2, 2, 3, 32, 32, dtype=torch.float64) * 2 - 1
    v.requires_grad_()
    limit, h, y = distance.limit(x, v), 1e-6, x.clone().requires_grad_()
    near = distance(y, x - h * v.detach())
    torch.testing.assert_close(limit.detach(), near.detach() / h**2, rtol=1e-3, atol=0)
    ours = torch.autograd.grad(limit.sum(), v)[0].flatten()
    theirs = torch.autograd.grad(near.sum(), y)[0].flatten() / h
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.999
    assert ours.norm().item() == pytest.approx(theirs.norm().item(), rel=1e-2)
