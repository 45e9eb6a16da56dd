"""Downloads from a server of this process: whole or not there, gone on with, checked; and what is said without one."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from openai_helpers import CONFIG, save_pt

from fewstep.formats import architecture, download, load, locate, releases
from fewstep.formats.download import fetch, kept

CONTENT = bytes(range(256)) * 20_000


class Server(ThreadingHTTPServer):
    """Serves `files`; may break off after `most` bytes, know no ranges, or tell no length."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[str | None] = []
        self.most: int | None = None
        self.ranges = self.length = True
        self.tag = '"one"'

    def handle_error(self, *args):
        """Clients may leave early."""

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        wanted, s = self.headers.get("Range"), self.server
        s.asked.append(wanted)
        content = s.files.get(self.path.split("?")[0].lstrip("/"))
        if content is None:
            return self.send_error(404)
        first = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if not s.ranges or self.headers.get("If-Range") != s.tag:
            first = 0
        if first >= len(content) and first:
            return self.send_error(416)
        self.send_response(206 if first else 200)
        self.send_header("ETag", s.tag)
        if s.length:
            self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first : first + (s.most or len(content))])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with Server() as found:
        threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield found
        found.shutdown()


def fine(path: Path) -> None:
    pass


def names(tmp_path: Path) -> list[str]:
    """What is in the cache, but for locks."""
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file() and not p.name.endswith(".lock"))


def test_once_and_whole(server, tmp_path):
    server.files["dir/a b.pt"] = server.files["dir/a%20b.pt"] = CONTENT
    path = fetch(server.url("dir/a%20b.pt?download=true"), fine)
    assert path == tmp_path / "cache" / f"127.0.0.1_{server.server_port}" / "dir" / "a b.pt"
    assert path.read_bytes() == CONTENT
    assert fetch(server.url("dir/a%20b.pt"), fine) == path
    assert server.asked == [None]
    assert names(tmp_path) == ["a b.pt"]


def test_a_lost_connection_is_taken_up_again(server, tmp_path):
    server.files["a.pt"], server.most = CONTENT, 2_000_000
    assert fetch(server.url("a.pt"), fine).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-", "bytes=4000000-"]
    assert names(tmp_path) == ["a.pt"]


def test_the_next_attempt_goes_on(server, tmp_path, monkeypatch):
    server.files["a.pt"], server.most = CONTENT, 2_000_000

    def interrupted(*args):
        raise KeyboardInterrupt

    receive, calls = download._receive, []
    monkeypatch.setattr(download, "_receive", lambda *a: interrupted() if calls else calls.append(receive(*a)))
    with pytest.raises(KeyboardInterrupt):
        fetch(server.url("a.pt"), fine)
    assert names(tmp_path) == [".partial-a.pt", ".partial-a.pt.etag"]
    monkeypatch.setattr(download, "_receive", receive)
    server.most = None
    assert fetch(server.url("a.pt"), fine).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-"]


@pytest.mark.parametrize("change", ["tag", "ranges", "longer"])
def test_what_does_not_belong_together_is_not_joined(change, server, tmp_path):
    part = kept(server.url("a.pt")).with_name(".partial-a.pt")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"old" * 100 if change != "longer" else CONTENT + b"x")
    part.with_name(".partial-a.pt.etag").write_text('"one"')
    server.files["a.pt"], server.ranges = CONTENT, change != "ranges"
    server.tag = '"two"' if change == "tag" else '"one"'
    assert fetch(server.url("a.pt"), fine).read_bytes() == CONTENT


def test_a_part_of_unknown_origin_is_not_gone_on_with(server, tmp_path):
    part = kept(server.url("a.pt")).with_name(".partial-a.pt")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"old")
    server.files["a.pt"] = CONTENT
    assert fetch(server.url("a.pt"), fine).read_bytes() == CONTENT
    assert server.asked == [None]


def test_a_server_that_tells_no_length(server, tmp_path):
    server.files["a.pt"], server.length = CONTENT, False
    assert fetch(server.url("a.pt"), fine).read_bytes() == CONTENT


def test_a_connection_that_gives_nothing_ends(server, tmp_path, monkeypatch):
    server.files["a.pt"] = CONTENT
    monkeypatch.setattr(download, "_pour", lambda *args: False)
    with pytest.raises(
        FileNotFoundError, match=r"the connection was lost after 0 MiB, which are kept: it is expected at"
    ):
        fetch(server.url("a.pt"), fine)


def test_what_is_no_model_is_thrown_away(server, tmp_path):
    server.files["a.pt"] = b"<html>please log in</html>"
    with pytest.raises(ValueError, match=r"a\.pt gave is no model, and was thrown away: .*no checkpoint of tensors"):
        load(server.url("a.pt"))
    assert names(tmp_path) == []


def test_the_disk_is_full(server, tmp_path, monkeypatch):
    server.files["a.pt"] = CONTENT
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 20))
    with pytest.raises(OSError, match=r"a\.pt needs 4 MiB in .*, and 1 MiB are free: make room, or set FEWSTEP_CACHE"):
        fetch(server.url("a.pt"), fine)


def test_nothing_there_and_nobody_there(server, tmp_path, monkeypatch):
    with pytest.raises(
        FileNotFoundError, match=r"the server says 404 Not Found: it is expected at .*a\.pt, from http:"
    ):
        fetch(server.url("a.pt"), fine)
    server.shutdown()
    server.server_close()
    with pytest.raises(
        FileNotFoundError, match=r"there is no connection \(.*refused\): it is expected at .*a\.pt, from"
    ):
        fetch(server.url("a.pt"), fine)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    place = tmp_path / "cache" / f"127.0.0.1_{server.server_port}" / "a.pt"
    with pytest.raises(
        FileNotFoundError, match=f"HF_HUB_OFFLINE forbids to download it: it is expected at {place}, from"
    ):
        fetch(server.url("a.pt"), fine)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"put there by hand")
    assert fetch(server.url("a.pt"), fine) == place


def test_addresses_stay_in_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    assert kept("https://host/a/../../b%2F..%2Fc.pt") == tmp_path / "host" / "a" / "b" / "c.pt"
    with pytest.raises(ValueError, match="is no address of a file"):
        kept("https://host/")
    monkeypatch.delenv("FEWSTEP_CACHE")
    assert kept("https://host/c.pt") == Path.home() / ".cache" / "fewstep" / "host" / "c.pt"


def test_several_at_once_fetch_once(server, tmp_path):
    server.files["a.pt"] = CONTENT
    found: list[Path] = []
    crowd = [threading.Thread(target=lambda: found.append(fetch(server.url("a.pt"), fine))) for _ in range(4)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert len(found) == 4
    assert server.asked == [None]


# -- models ---------------------------------------------------------------------------------------------------------


def test_a_model_at_an_address(server, tmp_path):
    server.files["edm_x.pt"] = save_pt(tmp_path / "x.pt").read_bytes()
    model = load(server.url("edm_x.pt"), config=CONFIG, device="cpu")
    assert not model.consistent
    assert locate(server.url("edm_x.pt")) == tmp_path / "cache" / f"127.0.0.1_{server.server_port}" / "edm_x.pt"
    assert model.denoiser(torch.randn(1, 3, 16, 16), 1.0, labels=torch.tensor([3])).shape == (1, 3, 16, 16)


@pytest.fixture
def small_releases(server, monkeypatch) -> Callable[[str], None]:
    """The releases, of small networks, on our server."""
    from unet_helpers import IMAGENET, LSUN

    small = {"imagenet64": IMAGENET, "bedroom256": LSUN, "cat256": LSUN}
    for data, shape in small.items():
        monkeypatch.setitem(releases.SHAPES, data, shape)
    monkeypatch.setattr(releases, "BASE", server.url("consistency/"))

    def put(name: str, data: str | None = None) -> None:
        path = save_pt(Path(download.cache()).parent / "up.pt", small[data or releases.RELEASES[name].data])
        server.files[f"consistency/{name}.pt"] = path.read_bytes()

    return put


def test_a_release_by_its_name(small_releases, server, tmp_path):
    small_releases("cd_imagenet64_lpips")
    assert architecture("cd_imagenet64_lpips").image_size == 16  # known without a download
    assert server.asked == []
    for name in ("cd_imagenet64_lpips", "cd_imagenet64_lpips.pt"):
        model = load(name, device="cpu")
        assert model.design.about["name"] == "cd_imagenet64_lpips"
        assert list(model.design.times) == ["1", "2"]
    assert server.asked == [None]
    assert names(tmp_path) == ["cd_imagenet64_lpips.pt"]
    assert architecture("cd_imagenet64_lpips") == model.design.architecture


def test_a_release_that_is_another_network_is_thrown_away(small_releases, tmp_path):
    small_releases("ct_cat256", "imagenet64")
    with pytest.raises(ValueError, match="and was thrown away: it is not the network of ct_cat256"):
        load("ct_cat256")
    assert "ct_cat256.pt" not in names(tmp_path)


def test_without_a_network_it_is_said_where_a_release_is_expected(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_CACHE", str(tmp_path))
    place = tmp_path / "openaipublic.blob.core.windows.net" / "consistency" / "cd_imagenet64_l2.pt"
    url = "https://openaipublic.blob.core.windows.net/consistency/cd_imagenet64_l2.pt"
    with pytest.raises(FileNotFoundError, match=f"it is expected at {place}, from {url}"):
        load("cd_imagenet64_l2")
    with pytest.raises(FileNotFoundError, match=r"did you mean 'cd_imagenet64_l2'\?"):
        load("cd_imagenet_l2.pt")


def test_other_addresses_are_other_files():
    addresses = ["https://h/a.pt", "https://h/a.pt?id=1", "https://h/a.pt?id=2", "http://h:1/a.pt", "http://h:2/a.pt"]
    assert len({kept(address) for address in addresses}) == len(addresses)
    assert {kept(address).suffix for address in addresses} == {".pt"}
    with pytest.raises(ValueError, match="no address"):
        kept("https://../a.pt")
