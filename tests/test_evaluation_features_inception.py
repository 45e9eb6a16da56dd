"""The 2015 Inception network against its graph written out, TensorFlow's resize against its formula, and its files."""

import hashlib
import pickle
import zipfile

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from fewstep.evaluation.features import inception_files, open_features, torchscript
from fewstep.evaluation.features.inception import Inception2015, tensorflow_resize
from fewstep.evaluation.features.inception_files import FILES, graph_names, load, name_of, published_file, tensors
from fewstep.formats.download import kept

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

# Shapes (out, in, height, width) of the graph's convolutions, by scope, as its published dumps list them.
KNOWN = {
    "conv": (32, 3, 3, 3),
    "conv_4": (192, 80, 3, 3),
    "mixed/tower/conv_1": (64, 48, 5, 5),
    "mixed/tower_2/conv": (32, 192, 1, 1),
    "mixed_3/conv": (384, 288, 3, 3),
    "mixed_4/tower_1/conv_4": (192, 128, 1, 7),
    "mixed_6/tower/conv_1": (160, 160, 1, 7),
    "mixed_8/tower_1/conv_3": (192, 192, 3, 3),
    "mixed_9/tower/mixed/conv_1": (384, 384, 3, 1),
    "mixed_10/tower_1/conv": (448, 2048, 1, 1),
}
# The same layer in the graph and in PyTorch's conversions.
ALIKE = {
    "mixed_8/tower_1/conv_2": "Mixed_7a.branch7x7x3_3",
    "mixed_9/conv": "Mixed_7b.branch1x1",
    "mixed_9/tower/mixed/conv": "Mixed_7b.branch3x3_2a",
    "mixed_9/tower_1/conv_1": "Mixed_7b.branch3x3dbl_2",
    "mixed_10/tower_1/mixed/conv_1": "Mixed_7c.branch3x3dbl_3b",
    "mixed_3/conv": "Mixed_6a.branch3x3",
    "mixed/tower_2/conv": "Mixed_5b.branch_pool",
}


@pytest.fixture(scope="module")
def graph() -> dict[str, torch.Tensor]:
    """Random weights by the graph's scopes: weight, beta, mean, var."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: w.shape for name, w in Inception2015().state_dict().items()}
    found = {}
    for ours, scope in graph_names():
        shape = shapes[f"{ours}.conv.weight"]
        found[f"{scope}/weight"] = torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5
        found[f"{scope}/beta"] = 0.1 * torch.randn(shape[0])
        found[f"{scope}/mean"] = 0.1 * torch.randn(shape[0])
        found[f"{scope}/var"] = 0.5 + torch.rand(shape[0])
    return {**found, "output/weight": torch.randn(1008, 2048) / 45, "output/bias": torch.randn(1008)}


class Held(nn.Module):
    """A module of tensors, as NVIDIA's file nests them."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        super().__init__()
        for key in dict.fromkeys(name.split("/")[0] for name in tensors):
            inner = {n.partition("/")[2]: w for n, w in tensors.items() if n.split("/")[0] == key}
            if "" in inner:
                self.register_buffer(key, inner[""])
            else:
                self.add_module(key, Held(inner))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.fixture(scope="module")
def nvidia(graph, tmp_path_factory):
    """A TorchScript archive with NVIDIA's names."""
    layers = {f"layers/{n}": w for n, w in graph.items() if not n.startswith("output")}
    path = tmp_path_factory.mktemp("nvidia") / "inception-2015-12-05.pt"
    output = {n: w for n, w in graph.items() if n.startswith("output")}
    torch.jit.save(torch.jit.script(Held({**layers, **output})), str(path))
    return path


@pytest.fixture(scope="module")
def fidelity(graph, tmp_path_factory):
    """A state dict with torch-fidelity's names."""
    parts = {"conv.weight": "weight", "bn.bias": "beta", "bn.running_mean": "mean", "bn.running_var": "var"}
    state = {f"{ours}.{part}": graph[f"{scope}/{w}"] for ours, scope in graph_names() for part, w in parts.items()}
    state |= {f"{ours}.bn.weight": torch.ones(len(graph[f"{scope}/beta"])) for ours, scope in graph_names()}
    state |= {f"{ours}.bn.num_batches_tracked": torch.tensor(0) for ours, _ in graph_names()}
    path = tmp_path_factory.mktemp("fidelity") / "weights.pth"
    torch.save({**state, "fc.weight": graph["output/weight"], "fc.bias": graph["output/bias"]}, path)
    return path


def written_out(graph: dict[str, torch.Tensor], x: torch.Tensor):
    """The graph, layer by layer, of scaled pictures (n, 3, 299, 299)."""

    def conv(h, scope, stride=1, pad=(0, 0)):
        w, beta, mean, var = (graph[f"{scope}/{part}"] for part in ("weight", "beta", "mean", "var"))
        h = F.conv2d(h, w, stride=stride, padding=pad)
        h = (h - mean[:, None, None]) / (var + 0.001).sqrt()[:, None, None] + beta[:, None, None]
        return h.clamp(min=0)

    def mean_pool(h):  # the mean over those of the nine places that are in the picture
        ones = torch.ones_like(h[:1, :1])
        return 9 * F.avg_pool2d(h, 3, 1, 1) / (9 * F.avg_pool2d(ones, 3, 1, 1))

    def max_pool(h):
        return F.max_pool2d(h, 3, 2)

    h = conv(x, "conv", 2)
    h = conv(conv(h, "conv_1"), "conv_2", 1, (1, 1))
    h = conv(conv(max_pool(h), "conv_3"), "conv_4")
    h = max_pool(h)
    for b in ("mixed", "mixed_1", "mixed_2"):
        five = conv(conv(h, f"{b}/tower/conv"), f"{b}/tower/conv_1", 1, (2, 2))
        three = conv(conv(h, f"{b}/tower_1/conv"), f"{b}/tower_1/conv_1", 1, (1, 1))
        three = conv(three, f"{b}/tower_1/conv_2", 1, (1, 1))
        h = torch.cat([conv(h, f"{b}/conv"), five, three, conv(mean_pool(h), f"{b}/tower_2/conv")], 1)
    three = conv(conv(h, "mixed_3/tower/conv"), "mixed_3/tower/conv_1", 1, (1, 1))
    h = torch.cat([conv(h, "mixed_3/conv", 2), conv(three, "mixed_3/tower/conv_2", 2), max_pool(h)], 1)
    for b in ("mixed_4", "mixed_5", "mixed_6", "mixed_7"):
        once = conv(conv(h, f"{b}/tower/conv"), f"{b}/tower/conv_1", 1, (0, 3))
        once = conv(once, f"{b}/tower/conv_2", 1, (3, 0))
        twice = conv(h, f"{b}/tower_1/conv")
        for i, pad in enumerate([(3, 0), (0, 3), (3, 0), (0, 3)], 1):
            twice = conv(twice, f"{b}/tower_1/conv_{i}", 1, pad)
        first = conv(h, f"{b}/conv")
        if b == "mixed_6":
            spatial = first.permute(0, 2, 3, 1)[..., :7].reshape(len(x), -1)
        h = torch.cat([first, once, twice, conv(mean_pool(h), f"{b}/tower_2/conv")], 1)
    long = conv(conv(h, "mixed_8/tower_1/conv"), "mixed_8/tower_1/conv_1", 1, (0, 3))
    long = conv(conv(long, "mixed_8/tower_1/conv_2", 1, (3, 0)), "mixed_8/tower_1/conv_3", 2)
    h = torch.cat([conv(conv(h, "mixed_8/tower/conv"), "mixed_8/tower/conv_1", 2), long, max_pool(h)], 1)
    for b, pool in (("mixed_9", mean_pool), ("mixed_10", lambda h: F.max_pool2d(h, 3, 1, 1))):
        a = conv(h, f"{b}/tower/conv")
        c = conv(conv(h, f"{b}/tower_1/conv"), f"{b}/tower_1/conv_1", 1, (1, 1))
        forks = [
            conv(part, f"{b}/{tower}/mixed/{name}", 1, pad)
            for part, tower in ((a, "tower"), (c, "tower_1"))
            for name, pad in (("conv", (0, 1)), ("conv_1", (1, 0)))
        ]
        h = torch.cat([conv(h, f"{b}/conv"), *forks, conv(pool(h), f"{b}/tower_2/conv")], 1)
    features = F.avg_pool2d(h, 8).flatten(1)
    return features, spatial, features @ graph["output/weight"].T


def shares(length: int, size: int) -> np.ndarray:
    """Rows: how much of each of the old pixels makes a new one, whose sample lies at j · length / size."""
    out = np.zeros((size, length))
    for j in range(size):
        at = float(np.float32(j) * np.float32(length / size))
        low = int(at)
        out[j, low] += 1 - (at - low)
        out[j, min(low + 1, length - 1)] += at - low
    return out


def sampled(picture: np.ndarray, size: int) -> np.ndarray:
    """TensorFlow 1's resize_bilinear of (…, H, W) by its formula."""
    return shares(picture.shape[-2], size) @ picture @ shares(picture.shape[-1], size).T


@pytest.mark.parametrize(("height", "width"), [(32, 32), (28, 40), (70, 64)])
def test_resize_is_tensorflow_ones_formula(height, width):
    picture = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.float64)
    made = tensorflow_resize(torch.from_numpy(picture)[None, None].float(), 53)[0, 0]
    np.testing.assert_allclose(made.numpy(), sampled(picture, 53), atol=1e-3)


def test_resize_of_two_pixels_by_hand():
    """Its corners: the first pixel is met exactly, the last fills what lies beyond it."""
    made = tensorflow_resize(torch.tensor([[[[0.0, 8.0]]]]).expand(1, 1, 2, 2), 4)
    assert made[0, 0, 0].tolist() == [0, 4, 8, 8]
    same = torch.rand(1, 3, 299, 299)
    assert tensorflow_resize(same, 299) is same


def test_names_and_shapes_are_those_of_the_graph():
    with torch.device("meta"):
        network = Inception2015()
    state, scopes = network.state_dict(), {scope: ours for ours, scope in graph_names()}
    assert {s: tuple(state[f"{scopes[s]}.conv.weight"].shape) for s in KNOWN} == KNOWN
    assert {scope: scopes[scope] for scope in ALIKE} == ALIKE
    assert len(scopes) == 94
    assert state["fc.weight"].shape == (1008, 2048)
    body = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("fc."))
    assert body + 2048 * 1000 + 1000 == 23_834_568  # Inception v3 of 1000 classes, without its auxiliary classifier


def test_network_is_the_graph_written_out(graph, nvidia):
    """Read from NVIDIA's archive; a grey picture is seen as one of three equal colours."""
    features = open_features(nvidia)
    grey = torch.randint(0, 256, (1, 1, 40, 40), dtype=torch.uint8)
    scaled = torch.from_numpy((sampled(grey.double().numpy(), 299) - 128) / 128).float()
    seen, wanted = features(grey), written_out(graph, scaled.expand(-1, 3, -1, -1))
    assert [part.shape for part in seen] == [(1, 2048), (1, 2023), (1, 1008)]
    for made, right in zip(seen, wanted, strict=True):
        assert right.std() > 0.01
        torch.testing.assert_close(made, right, rtol=1e-3, atol=1e-4)
    assert features.name == "inception (inception-2015-12-05.pt)"  # random weights are not the published ones
    assert (features.dimension, features.resize) == (2048, "299×299 bilinear, TensorFlow 1's corners")


def test_both_files_are_one_network(nvidia, fidelity):
    theirs, ours = load(torchscript.tensors(nvidia), nvidia), load(tensors(fidelity), fidelity)
    assert all(torch.equal(w, theirs.state_dict()[name]) for name, w in ours.state_dict().items())


@pytest.mark.parametrize("name", ["other.pth", "other.safetensors"])
def test_a_network_of_another_shape_is_refused(tmp_path, name):
    state = {"Conv2d_1a_3x3.conv.weight": torch.zeros(32, 3, 3, 3), "Conv2d_1a_3x3.bn.weight": torch.zeros(31)}
    (torch.save if name.endswith("pth") else save_file)(state, tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is not the Inception network.*Conv2d_1a_3x3.bn.weight"):
        open_features(tmp_path / name)


def test_published_files_are_known_by_their_sha256(monkeypatch, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"weights")
    assert name_of(tmp_path / "weights.pth") == "inception (weights.pth)"
    digest = hashlib.sha256(b"weights").hexdigest()
    monkeypatch.setattr(inception_files, "FILES", {"https://host/weights.pth": digest})
    assert name_of(tmp_path / "weights.pth") == "inception-2015"


def test_missing_weights_are_one_sentence_with_the_place(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError) as error:
        open_features("inception")
    url = next(iter(FILES))
    assert str(kept(url)) in str(error.value)
    assert url in str(error.value)


def test_any_published_file_in_the_cache_is_taken(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    place = kept(list(FILES)[2])
    place.parent.mkdir(parents=True)
    place.write_bytes(b"here")
    assert published_file() == place


class Evil:
    def __reduce__(self):
        return print, ("run",)


def archive(path, data: bytes):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", data)
        file.writestr("m/constants.pkl", pickle.dumps(()))
    return path


def test_no_program_of_an_archive_runs(tmp_path, capsys):
    path = archive(tmp_path / "evil.pt", pickle.dumps({"weight": Evil()}, protocol=2))
    with pytest.raises(ValueError, match=r"evil.pt asks for __builtin__.print.*nothing of it was run"):
        open_features(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("data", [b"", b"nonsense", pickle.dumps([1, 2], protocol=2)[:-1]])
def test_damaged_archives_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match="no TorchScript archive"):
        torchscript.tensors(archive(tmp_path / "cut.pt", data))


def test_a_view_beyond_its_storage_is_refused(tmp_path):
    torch.jit.save(torch.jit.script(Held({"weight": torch.randn(9)})), str(tmp_path / "m.pt"))
    with zipfile.ZipFile(tmp_path / "m.pt") as whole, zipfile.ZipFile(tmp_path / "short.pt", "w") as cut:
        for name in whole.namelist():
            data = whole.read(name)
            cut.writestr(name, data[:8] if name.endswith("/data/0") else data)
    with pytest.raises(ValueError, match=r"short.pt is no TorchScript archive"):
        open_features(tmp_path / "short.pt")


def test_tensors_of_an_archive_are_bit_exact(tmp_path):
    module = Held({"a/weight": torch.randn(3, 4).T, "b": torch.randn(5).half(), "count": torch.tensor(7)})
    torch.jit.save(torch.jit.script(module), str(tmp_path / "m.pt"))
    found = torchscript.tensors(tmp_path / "m.pt")
    assert {n: w.dtype for n, w in found.items()} == {n: w.dtype for n, w in module.state_dict().items()}
    assert all(torch.equal(found[name], w) for name, w in module.state_dict().items())
