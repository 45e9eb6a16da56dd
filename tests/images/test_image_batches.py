from itertools import islice

import numpy as np
import pytest
import torch
from images_helpers import encoded, write_folder, write_zip

from fewstep.images import Batches, Data, Order, open_images


def same(a, b) -> bool:
    return all(torch.equal(x, y) and torch.equal(i, j) for (x, i), (y, j) in zip(a, b, strict=True))


@pytest.fixture
def wide(tmp_path):
    """Seven pictures of 6×10, to be cropped."""
    rng = np.random.default_rng(1)
    return write_folder(
        tmp_path / "wide",
        {f"{i % 2}/{i}.png": encoded(rng.integers(0, 256, (6, 10, 3), np.uint8)) for i in range(7)},
    )


@pytest.mark.parametrize("crop", ["centre", "random"])
@pytest.mark.parametrize("memory", [512, 0])
def test_workers_change_nothing_and_memory_neither(wide, crop, memory):
    data = Data(str(wide), size=6, flip=True, crop=crop)
    expected = list(islice(Batches(open_images(data), 0, 5), 9))
    assert expected[0][0].shape == (5, 3, 6, 6)
    assert expected[0][0].dtype == torch.float32
    assert expected[0][1].dtype == torch.int64
    images = open_images(Data(str(wide), size=6, flip=True, crop=crop, memory=memory))
    for workers in (0, 1, 3, 8):
        assert same(expected, islice(Batches(images, 0, 5, workers=workers), 9))


@pytest.mark.parametrize("workers", [0, 2])
def test_starting_at_step_k_is_going_on(wide, workers):
    images = open_images(Data(str(wide), size=6, flip=True, crop="random"))
    through = list(islice(Batches(images, 4, 3, workers=workers), 12))
    for k in (1, 7):
        assert same(through[k:], islice(Batches(images, 4, 3, start=k, workers=workers), 12 - k))
        assert same(through[k : k + 1], [Batches(images, 4, 3).at(k)])


@pytest.mark.parametrize("world", [1, 2, 3, 5])
def test_processes_share_the_rows_of_the_global_batch(wide, world):
    images = open_images(Data(str(wide), size=6, flip=True, crop="random"))
    whole = list(islice(Batches(images, 0, 5), 4))
    parts = [list(islice(Batches(images, 0, 5, rank=rank, world=world), 4)) for rank in range(world)]
    joined = [tuple(torch.cat([p[k][i] for p in parts]) for i in (0, 1)) for k in range(4)]
    assert same(whole, joined)


def test_batches_follow_the_order(tmp_path, pixels):
    np.savez(tmp_path / "a.npz", images=pixels, labels=np.arange(12))
    batches = Batches(open_images(Data(str(tmp_path / "a.npz"))), 9, 4)
    labels = torch.cat([y for _, y in islice(batches, 6)])
    assert labels.tolist() == Order(9, 12).rows(0, 24).tolist()
    x, y = batches.at(2)
    assert torch.equal(x, torch.from_numpy(pixels)[y].permute(0, 3, 1, 2).float() / 127.5 - 1)


def test_a_file_damaged_after_opening_gives_way_to_its_neighbour(tmp_path):
    files = {f"{i:03}.png": encoded(np.full((4, 4), i, np.uint8)) for i in range(200)}
    images = open_images(Data(str(write_folder(tmp_path / "set", files)), memory=0))
    (tmp_path / "set" / "007.png").write_bytes(files["007.png"][:-30])
    assert (images.picture(7) == 8).all()
    for workers in (0, 2):
        levels = torch.cat([x[:, 0, 0, 0] for x, _ in islice(Batches(images, 0, 50, workers=workers), 4)])
        assert sorted(((levels + 1) * 127.5).round().int().tolist()) == sorted([*range(7), 8, *range(8, 200)])
    assert images.damaged == ["007.png"]
    for name in ("008.png", "009.png"):
        (tmp_path / "set" / name).write_bytes(b"")
    with pytest.raises(ValueError, match="3 of the 200 files in .* are damaged"):
        list(islice(Batches(images, 0, 50, workers=2), 4))


def test_no_threads_stay_behind(wide):
    import threading

    images = open_images(Data(str(wide), size=6, crop="random"))
    batches = iter(Batches(images, 0, 3, workers=2))
    next(batches)
    batches.close()
    for thread in threading.enumerate():
        if thread.name.startswith("pictures"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_threads_read_one_zip_at_once(tmp_path):
    files = {f"{i:03}.png": encoded(np.full((4, 4), i, np.uint8)) for i in range(250)}
    images = open_images(Data(str(write_zip(tmp_path / "a.zip", files)), memory=0))
    x, _ = next(iter(Batches(images, 0, 250, workers=8)))
    assert sorted(((x[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()) == list(range(250))


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"rank": 2, "world": 2}, {"world": 9}, {"start": -1}, {"workers": -1}])
def test_refusals(wide, wrong):
    images = open_images(Data(str(wide), size=6))
    with pytest.raises(ValueError):
        Batches(**{"images": images, "seed": 0, "batch": 4, **wrong})
