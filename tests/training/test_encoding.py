"""Latents and embeddings that are kept: the right numbers, of the right pictures, whatever interrupts."""

import errno
import json
import shutil
import signal
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from images_helpers import encoded, write_folder
from training_helpers import ended, start

from fewstep.images import Batches, Data, open_images
from fewstep.tensors import AUGMENT, rng
from fewstep.training import caching
from fewstep.training.encoding import embed_captions, encode_images

N = 23


def pool(x):
    """A toy autoencoder: latents (2, 2, 2) whose mean and deviation say which picture it is, and how it is turned."""
    mean = torch.nn.functional.avg_pool2d(x, 2)
    return torch.cat([mean, mean**2], 1), torch.cat([mean.abs() + 0.1, mean.abs() + 0.5], 1)


class Counting:
    """Counts the pictures or texts it is given, and gives up at one call."""

    def __init__(self, work=pool, stop_at: int | None = None):
        self.work, self.stop_at, self.calls, self.seen = work, stop_at, 0, 0

    def __call__(self, x):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        self.seen += len(x)
        return self.work(x)


@pytest.fixture
def path(tmp_path) -> str:
    """Grey pictures of 4×4 with captions: five different ones, and empty ones."""
    rng = np.random.default_rng(0)
    files = {}
    for i in range(N):
        files[f"{i:02}.png"] = encoded(rng.integers(0, 256, (4, 4), np.uint8))
        files[f"{i:02}.txt"] = b"" if i % 7 == 0 else f"kind {i % 5}".encode()
    return str(write_folder(tmp_path / "set", files))


def make(path, folder, encode=pool, fingerprint="one", batch=4, **options):
    precision = options.pop("precision", "fp16")
    images = open_images(Data(path, **options))
    return encode_images(images, encode, folder=folder, fingerprint=fingerprint, batch=batch, precision=precision)


def same(a, b) -> bool:
    return all(torch.equal(x, y) and torch.equal(i, j) for (x, i), (y, j) in zip(a, b, strict=True))


def content(folder) -> list[bytes]:
    return [p.read_bytes() for p in sorted(Path(folder).glob("*/records.bin"))]


# -- what is drawn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_a_latent_is_mean_plus_deviation_times_the_noise_of_its_draws(path, tmp_path, flip):
    latents = make(path, tmp_path / "cache", precision="fp32", flip=flip)
    assert latents.shape == (2, 2, 2)
    assert len(latents) == N
    draws = np.random.default_rng(3).integers(0, 1 << 53, (N, 3)) / 2.0**53
    x_0, ids = latents.rows(np.arange(N), draws)
    assert x_0.dtype == np.float32
    assert ids.dtype == np.int64
    for i in range(N):
        picture = torch.from_numpy(latents.picture(i)).permute(2, 0, 1)[None].float() / 127.5 - 1
        mean, std = pool(picture.flip(-1) if flip and draws[i, 0] < 0.5 else picture)
        z = rng(int(draws[i, 1] * 2**53), AUGMENT, int(draws[i, 2] * 2**53)).standard_normal((2, 2, 2), np.float32)
        np.testing.assert_allclose(x_0[i], mean[0].numpy() + std[0].numpy() * z, rtol=1e-6, atol=1e-6)
        assert latents.captions[i] == ("" if ids[i] == -1 else latents.table[ids[i]])
        assert latents.captions[i] == ("" if i % 7 == 0 else f"kind {i % 5}")


def test_draws_have_the_mean_and_deviation_of_the_autoencoder(path, tmp_path):
    latents = make(path, tmp_path)
    mean, std = (
        t.numpy() for t in pool(torch.from_numpy(latents.picture(5)).permute(2, 0, 1)[None].float() / 127.5 - 1)
    )
    n = 20_000
    x_0, _ = latents.rows(np.full(n, 5), np.random.default_rng(0).random((n, 3)))
    z = (x_0 - mean) / std
    assert np.abs(z.mean(0)).max() < 5 / n**0.5 + 2e-3  # five standard errors, and the rounding
    assert np.abs(z.var(0) - 1).max() < 5 * (2 / n) ** 0.5 + 2e-3
    across = np.corrcoef(z.reshape(n, -1).T) - np.eye(8)
    assert np.abs(across).max() < 5 / n**0.5


def test_half_precision_is_near_single_precision(path, tmp_path):
    draws = np.random.default_rng(0).random((N, 3))
    half = make(path, tmp_path).rows(np.arange(N), draws)[0]
    single = make(path, tmp_path, precision="fp32").rows(np.arange(N), draws)[0]
    assert 0 < np.abs(half - single).max() < 4e-3


def test_a_deterministic_autoencoder_needs_no_deviation(path, tmp_path):
    latents = make(path, tmp_path, lambda x: (x * 2, None), precision="fp32")
    one, two = (latents.rows(np.arange(N), np.full((N, 3), u))[0] for u in (0.1, 0.9))
    expected = np.stack([latents.picture(i).transpose(2, 0, 1) for i in range(N)]) / 127.5 * 2 - 2
    assert np.array_equal(one, two)
    np.testing.assert_allclose(one, expected, atol=1e-6)


# -- batches ---------------------------------------------------------------------------------------------------------


def test_batches_of_latents_are_those_of_step_and_row_alone(path, tmp_path):
    latents = make(path, tmp_path, flip=True)
    through = list(islice(Batches(latents, 5, 6), 12))
    assert through[0][0].dtype == torch.float32
    assert through[0][0].shape == (6, 2, 2, 2)
    assert same(through[7:], islice(Batches(latents, 5, 6, start=7, workers=2), 5))
    reopened = make(path, tmp_path, flip=True)
    parts = [list(islice(Batches(reopened, 5, 6, rank=r, world=3, workers=r), 12)) for r in range(3)]
    joined = [tuple(torch.cat([p[k][i] for p in parts]) for i in (0, 1)) for k in range(12)]
    assert same(through, joined)
    again = torch.cat([x for x, _ in through])
    assert len(again.unique(dim=0)) == len(again)  # 72 draws of 23 pictures, and never the same noise


# -- what the cache is of --------------------------------------------------------------------------------------------


def test_a_second_time_nothing_is_computed(path, tmp_path):
    first, second = Counting(), Counting()
    a, b = make(path, tmp_path / "cache", first), make(path, tmp_path / "cache", second)
    assert (first.seen, second.seen) == (N, 0)
    draws = np.random.default_rng(0).random((N, 3))
    assert np.array_equal(a.rows(np.arange(N), draws)[0], b.rows(np.arange(N), draws)[0])
    assert make(path, tmp_path / "cache", second, memory=0) is not None
    assert second.seen == 0


def changed_picture(path):
    name = Path(path) / "03.png"
    shutil.copy(Path(path) / "04.png", name)
    return {}


def fewer_pictures(path):
    (Path(path) / "22.png").unlink()
    return {}


@pytest.mark.parametrize(
    ("change", "views"),
    [
        (changed_picture, 1),
        (fewer_pictures, 1),
        (lambda path: {"fingerprint": "two"}, 1),
        (lambda path: {"precision": "fp32"}, 1),
        (lambda path: {"channels": 3, "encode": None}, 1),
        (lambda path: {"size": 4}, 1),
        (lambda path: {"flip": True}, 2),
    ],
)
def test_other_data_weights_or_geometry_never_use_it(path, tmp_path, change, views):
    make(path, tmp_path / "cache")
    before = content(tmp_path / "cache")
    encode = Counting()
    latents = make(path, tmp_path / "cache", **{**change(path), "encode": encode})
    assert encode.seen == views * len(latents)
    assert before[0] in content(tmp_path / "cache")  # and the first is still there
    mean, _ = pool(torch.from_numpy(latents.picture(3)).permute(2, 0, 1)[None].float() / 127.5 - 1)
    np.testing.assert_allclose(latents._records["mean"][3, 0], mean[0], atol=1e-3)


def test_other_captions_need_no_other_latents(path, tmp_path):
    make(path, tmp_path / "cache")
    (Path(path) / "00.txt").write_text("a new one")
    encode = Counting()
    latents = make(path, tmp_path / "cache", encode)
    assert encode.seen == 0
    assert latents.captions[0] == "a new one"
    assert latents.table == ("a new one", *(f"kind {k}" for k in range(5)))
    assert latents.rows(np.array([0, 7, 1]), np.zeros((3, 3)))[1].tolist() == [0, -1, 2]


def test_a_folder_that_says_it_is_of_something_else_is_made_anew(path, tmp_path):
    make(path, tmp_path / "cache")
    before = content(tmp_path / "cache")
    (about,) = (tmp_path / "cache").glob("*/about.json")
    for damage in ('{"made_from": {}, "layout": [], "done": 23}', "{", "[]", '{"made_from"'):
        about.write_text(damage)
        encode = Counting()
        make(path, tmp_path / "cache", encode)
        assert encode.seen == N
        assert content(tmp_path / "cache") == before
    stored = json.loads(about.read_text())
    about.write_text(json.dumps({**stored, "layout": [["number", "|O", []]]}))
    make(path, tmp_path / "cache")
    assert content(tmp_path / "cache") == before


# -- what interrupts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("stop_at", [1, 2, 4, 6])
def test_an_interrupted_encoding_goes_on_bit_for_bit(path, tmp_path, stop_at, flip):
    make(path, tmp_path / "whole", flip=flip)
    with pytest.raises(KeyboardInterrupt):
        make(path, tmp_path / "cut", Counting(stop_at=stop_at), flip=flip)
    rest = Counting()
    make(path, tmp_path / "cut", rest, flip=flip)
    views = 1 + flip
    assert rest.seen == views * (N - (stop_at - 1) // views * 4)
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


@pytest.mark.parametrize("kept", [0, 1, 100, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_filled_up(path, tmp_path, kept):
    make(path, tmp_path)
    before = content(tmp_path)
    (records,) = tmp_path.glob("*/records.bin")
    records.write_bytes(before[0][: kept if isinstance(kept, int) else int(len(before[0]) * kept)])
    encode = Counting()
    make(path, tmp_path, encode)
    assert 0 < encode.seen <= N
    assert content(tmp_path) == before
    records.unlink()
    make(path, tmp_path)
    assert content(tmp_path) == before


def test_another_batch_goes_on_too(path, tmp_path):
    make(path, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        make(path, tmp_path / "cut", Counting(stop_at=5), batch=3)
    rest = Counting()
    make(path, tmp_path / "cut", rest, batch=5)
    assert rest.seen == N - 10
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def slow(x):
    time.sleep(0.3)
    return pool(x)


def make_and_say(path, folder, said):
    caching._EVERY = 0.0
    encode = Counting(slow)
    x_0, _ = make(path, folder, encode).rows(np.arange(N), np.full((N, 3), 0.25))
    np.savez(said, seen=encode.seen, x_0=x_0)


def test_processes_wait_for_the_first(path, tmp_path):
    said = [tmp_path / f"{k}.npz" for k in range(3)]
    processes = [start(make_and_say, path, tmp_path / "cache", name) for name in said]
    assert [ended(process) for process in processes] == [0, 0, 0]
    found = [np.load(name) for name in said]
    assert sorted(int(f["seen"]) for f in found) == [0, 0, N]
    assert all(np.array_equal(f["x_0"], found[0]["x_0"]) for f in found)


def test_a_killed_process_leaves_what_it_did_and_no_lock(path, tmp_path):
    process = start(make_and_say, path, tmp_path / "cut", tmp_path / "said.npz")
    while not list((tmp_path / "cut").glob("*/about.json")):
        assert process.is_alive()
        time.sleep(0.01)
    process.kill()
    assert ended(process) == -signal.SIGKILL
    encode = Counting()
    make(path, tmp_path / "cut", encode)
    make(path, tmp_path / "whole")
    assert 0 < encode.seen < N
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_a_complete_cache_is_only_read(path, tmp_path):
    make(path, tmp_path / "cache")
    for p in (tmp_path / "cache").glob("*/*"):
        p.chmod(0o444)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}
    make(path, tmp_path / "cache")
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*")}


def test_no_room(path, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 100))
    with pytest.raises(OSError, match=r"needs 0.0 GiB, and 0.0 GiB are free: make room, or choose another folder"):
        make(path, tmp_path)


def test_a_cache_that_cannot_be_written_says_so_and_keeps_what_it_has(path, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/latents-\w+ cannot be written to .*another folder .*--latent\.cache"):
        make(path, tmp_path / "file")

    class Full(Counting):
        def __call__(self, x):
            try:
                return super().__call__(x)
            except KeyboardInterrupt:
                raise OSError(errno.ENOSPC, "full") from None

    with pytest.raises(OSError, match=r"No room is left for .*latents-\w+: make some, and start again"):
        make(path, tmp_path, Full(stop_at=4))
    rest = Counting()
    make(path, tmp_path, rest)
    assert 0 < rest.seen < N
    with pytest.raises(OSError, match="of the pictures"):
        make(path, tmp_path / "other", elsewhere)


def elsewhere(x):
    raise OSError("of the pictures")


# -- damage ----------------------------------------------------------------------------------------------------------


def test_a_picture_damaged_after_opening_gives_way_with_its_caption(tmp_path):
    files = {f"{i:03}.png": encoded(np.full((4, 4), i, np.uint8)) for i in range(120)}
    files |= {f"{i:03}.txt": f"{i}".encode() for i in range(120)}
    folder = write_folder(tmp_path / "set", files)
    images = open_images(Data(str(folder), memory=0))
    (folder / "007.png").write_bytes(b"no picture any more")
    latents = encode_images(images, lambda x: (x, None), folder=tmp_path, fingerprint="x", precision="fp32")
    x_0, ids = latents.rows(np.arange(120), np.zeros((120, 3)))
    shown = ((x_0[:, 0, 0, 0] + 1) * 127.5).round().astype(int)
    assert shown[7] == 8
    assert [latents.table[i] for i in ids] == [str(k) for k in shown] == latents.captions
    assert latents.damaged == ["007.png"]
    assert latents.name(7) == "008.png"
    assert (latents.picture(7) == 8).all()


# -- refusals --------------------------------------------------------------------------------------------------------


def test_refusals(path, tmp_path):
    with pytest.raises(ValueError, match=r"cannot be kept of random crops.*--data\.crop centre"):
        make(path, tmp_path, size=2, crop="random")
    assert len(make(path, tmp_path, crop="random")) == N  # without a size nothing is cropped
    with pytest.raises(ValueError, match="needs the fingerprint of the weights"):
        make(path, tmp_path, fingerprint="")
    with pytest.raises(ValueError, match="batch must be at least 1"):
        make(path, tmp_path, batch=0, fingerprint="new")
    with pytest.raises(ValueError, match=r"mean has numbers up to 1e\+05.* not finite in fp16: .*precision='fp32'"):
        make(path, tmp_path / "a", lambda x: (x * 0 + 1e5, None))
    assert len(make(path, tmp_path / "a", lambda x: (x * 0 + 1e5, None), precision="fp32")) == N
    with pytest.raises(ValueError, match=r"mean has numbers up to nan, which are not finite in fp32$"):
        make(path, tmp_path / "b", lambda x: (x * float("nan"), None), precision="fp32")
    with pytest.raises(ValueError, match=r"mean of 4 records has the shape \(2, .*: it should begin with 4"):
        make(path, tmp_path / "c", lambda x: (x[:2], None))


def test_pictures_with_classes_alone_keep_them(tmp_path):
    images = open_images(Data("digits"))
    latents = encode_images(images, lambda x: (x, None), folder=tmp_path, fingerprint="x", batch=512)
    assert latents.num_classes == 10
    assert latents.captions is None
    assert np.array_equal(latents.rows(np.arange(9), np.zeros((9, 3)))[1], images.labels[:9])


# -- embeddings ------------------------------------------------------------------------------------------------------


def letters(texts):
    """A toy text encoder: (n, 3, 2) and (n, 1), and a mask of whole numbers."""
    counts = torch.tensor([[len(t), t.count("k"), len(t.split())] for t in texts], dtype=torch.bfloat16)
    return {"prompt": torch.stack([counts, -counts], -1), "pooled": counts[:, :1] / 8, "mask": counts.long() > 0}


CAPTIONS = ("a kite", "kk", "two kind words")


def embed(folder, work=letters, captions=CAPTIONS, fingerprint="t", **options):
    return embed_captions(captions, work, folder=folder, fingerprint=fingerprint, **options)


def test_embeddings_are_gathered_by_number_and_minus_one_is_the_empty_prompt(tmp_path):
    found = embed(tmp_path)
    assert len(found) == 3
    ids = torch.tensor([2, -1, 0, 2])
    gathered = found.gather(ids)
    expected = letters(["two kind words", "", "a kite", "two kind words"])
    assert {name: t.shape for name, t in gathered.items()} == {"prompt": (4, 3, 2), "pooled": (4, 1), "mask": (4, 3)}
    assert gathered["prompt"].dtype == torch.float32
    assert gathered["mask"].dtype == torch.bool
    assert all(torch.equal(gathered[name], expected[name].to(gathered[name].dtype)) for name in expected)
    for wrong in (-2, 3):
        with pytest.raises(IndexError, match="captions are numbered −1 to 2"):
            found.gather(torch.tensor([0, wrong]))


def test_the_empty_prompt_may_be_zeros(tmp_path):
    def zeros(texts):
        return {"prompt": torch.stack([torch.full((2,), float(len(t)) + 1 if t else 0.0) for t in texts])}

    assert embed(tmp_path, zeros).gather(torch.tensor([-1, 1]))["prompt"].tolist() == [[0, 0], [3, 3]]
    assert len(embed(tmp_path, zeros, captions=())) == 0


def test_embeddings_of_other_captions_or_weights_are_others(tmp_path):
    seen = []
    for options in ({}, {}, {"fingerprint": "u"}, {"captions": ("a kite", "kk", "two kind word")}, {"captions": ()}):
        work = Counting(letters)
        embed(tmp_path, work, **options)
        seen.append(work.seen)
    assert seen == [4, 0, 4, 4, 1]


def test_interrupted_embeddings_go_on_bit_for_bit(tmp_path):
    captions = tuple(f"k number {i}" for i in range(30))
    embed(tmp_path / "whole", captions=captions, batch=4)
    with pytest.raises(KeyboardInterrupt):
        embed(tmp_path / "cut", Counting(letters, stop_at=5), captions, batch=4)
    rest = Counting(letters)
    embed(tmp_path / "cut", rest, captions, batch=4)
    assert rest.seen == 31 - 16
    assert content(tmp_path / "cut") == content(tmp_path / "whole")


def test_embeddings_of_different_lengths_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Record 2 of .* is laid out as .*, those before as"):
        embed(tmp_path, lambda texts: {"prompt": torch.zeros(len(texts), len(texts[0]) + 1)}, batch=2)


def test_batches_of_latents_gather_their_prompts(path, tmp_path):
    """The whole way: pictures and captions -> latents and prompts of a batch, empty prompts among them."""
    latents = make(path, tmp_path / "cache")
    prompts = embed(tmp_path / "cache", captions=latents.table)
    _, ids = Batches(latents, 0, 8).at(3)
    expected = letters(["" if i == -1 else latents.table[i] for i in ids])
    assert torch.equal(prompts.gather(ids)["prompt"], expected["prompt"].float())
