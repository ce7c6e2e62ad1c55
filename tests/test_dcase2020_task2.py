"""The data set room: names, local folders, downloads from a real local server, and the `datasets` builder."""

import asyncio
import contextlib
import hashlib
import importlib
import importlib.util
import io
import os
import shutil
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from datasets import Dataset, DatasetDict

from dcase2020_task2 import (
    ADDITIONAL_LABELS,
    DEVELOPMENT_LABELS,
    LABELS,
    ArchiveError,
    Dcase2020Task2,
    list_clips,
    load_clips,
    parse_clip_name,
)
from dcase2020_task2.__main__ import main
from dcase2020_task2.archives import ARCHIVES, Archive
from dcase2020_task2.download import fetch
from dcase2020_task2.folder import read_evaluation_labels
from dcase2020_task2.transfer import MAX_FUTILE_ATTEMPTS, download


ROOT = Path(__file__).parents[1]
REAL_CLIPS = ROOT.parent / "shared" / "data" / "machine_clips"


# Small clips, archives and a server


def wav(seed: int) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 160)
    soundfile.write(buffer, noise, 16000, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def write_clips(root: Path, *clips: str) -> Path:
    for clip in clips:
        path = root / clip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav(len(clip)))
    return root


def zipped(*names: str | zipfile.ZipInfo) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for seed, name in enumerate(names):
            file.writestr(name, wav(seed))
    return buffer.getvalue()


def archive(part: str, machine_type: str, content: bytes, md5: str | None = None) -> Archive:
    record, prefix = {
        "development": (3678171, "dev_data"),
        "additional_training": (3727685, "eval_data_train"),
        "evaluation": (3841772, "eval_data_test"),
    }[part]
    md5 = md5 or hashlib.md5(content).hexdigest()
    return Archive(part, machine_type, record, f"{prefix}_{machine_type}.zip", md5)


class Zenodo(ThreadingHTTPServer):
    """A server of `files` (name -> content) with Range. It records each request as (name, Range, bytes sent)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None, int]] = []
        self.ranges = True
        self.statuses: list[int] = []  # of the first answers, one for each request
        self.cuts: list[int] = []  # bytes after which the connection breaks, one for each request
        self.answers: dict[str, Callable[[_Handler], None]] = {}  # name -> what answers instead
        self.url = f"http://127.0.0.1:{self.server_port}"

    def serve(self, *archives_and_contents: tuple[Archive, bytes]) -> tuple[Archive, ...]:
        self.files.update({archive.name: content for archive, content in archives_and_contents})
        return tuple(archive for archive, _ in archives_and_contents)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Zenodo

    def do_GET(self):
        name, asked = self.path.rsplit("/", 1)[-1], self.headers.get("Range")
        if name in self.server.answers:
            self.server.requests.append((name, asked, 0))
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.server.answers[name](self)
            return
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        content = self.server.files.get(name)
        if status != 200 or content is None:
            self.server.requests.append((name, asked, 0))
            self.send_error(status if status != 200 else 404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.server.ranges else 0
        if start and start >= len(content):
            self.server.requests.append((name, asked, 0))
            self.send_error(416)
            return
        body = content[start:]
        cut = self.server.cuts.pop(0) if self.server.cuts else len(body)
        self.server.requests.append((name, asked, min(cut, len(body))))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut < len(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def zenodo():
    server = Zenodo()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


FAN = ("fan/train/normal_id_00_00000000.wav", "fan/train/normal_id_02_00000000.wav")
FAN_TEST = ("fan/test/anomaly_id_00_00000000.wav", "fan/test/normal_id_00_00000000.wav")
EVALUATION_CSV = (
    b"fan\nid_01_00000000.wav,normal_id_01_00000007.wav,0\nid_03_00000000.wav,anomaly_id_03_00000001.wav,1\n"
)


@pytest.fixture
def published(zenodo):
    """The table of archives of a server that has a small copy of every part."""
    zenodo.files["eval_data_list.csv"] = EVALUATION_CSV
    contents = {
        ("development", "fan"): zipped(*FAN, *FAN_TEST),
        ("development", "pump"): zipped("pump/train/normal_id_06_00000000.wav", "pump/test/normal_id_06_00000000.wav"),
        ("additional_training", "fan"): zipped("fan/train/normal_id_01_00000000.wav"),
        ("evaluation", "fan"): zipped("fan/test/id_01_00000000.wav", "fan/test/id_03_00000000.wav"),
    }
    return zenodo.serve(*((archive(*key, content), content) for key, content in contents.items()))


def builder(zenodo, archives, tmp_path, name) -> Dcase2020Task2:
    return Dcase2020Task2(
        config_name=name,
        cache_dir=str(tmp_path / "cache"),
        download_dir=str(tmp_path / "data"),
        base_url=zenodo.url,
        archives=archives,
    )


def prepared(builder: Dcase2020Task2) -> DatasetDict:
    builder.download_and_prepare()
    clips = builder.as_dataset()
    assert isinstance(clips, DatasetDict)
    return clips


def clip_names(rows) -> list[str]:
    return ["/".join(Path(row["path"]).parts[-3:]) for row in rows]


# Names


def test_the_41_published_machine_ids_are_distinct_classes():
    assert len(LABELS) == len(set(LABELS)) == 41
    assert list(LABELS) == sorted(LABELS)
    assert (len(DEVELOPMENT_LABELS), len(ADDITIONAL_LABELS)) == (23, 18)
    assert set(DEVELOPMENT_LABELS) | set(ADDITIONAL_LABELS) == set(LABELS)
    assert LABELS.index("pump_id_06") != LABELS.index("slider_id_00")


def test_every_published_archive_has_its_own_md5():
    assert len(ARCHIVES) == 18
    assert len({archive.md5 for archive in ARCHIVES}) == 18
    assert all(len(bytes.fromhex(archive.md5)) == 16 for archive in ARCHIVES)
    toy_car = next(a for a in ARCHIVES if a.name == "eval_data_train_ToyCar.zip")
    assert (toy_car.record, toy_car.md5) == (3727685, "a5d4ccd498af70b04dd74b644b820006")


@pytest.mark.parametrize(
    ("path", "machine_id", "is_anomaly"),
    [
        ("normal_id_00_00000000.wav", "00", False),
        ("anomaly_id_06_00000012.wav", "06", True),
        ("id_01_00000003.wav", "01", None),
        ("/data/abnormal/fan/test/normal_id_00_00000000.wav", "00", False),
        ("/data/normal/anomaly/test/id_02_00000000.wav", "02", None),
        (Path("fan/test/anomaly_id_press-3_7.flac"), "press-3", True),
    ],
)
def test_only_the_file_name_says_what_a_clip_is(path, machine_id, is_anomaly):
    assert parse_clip_name(path) == (machine_id, is_anomaly)


@pytest.mark.parametrize("name", ["fan.wav", "abnormal_id_00_00000000.wav", "normal_id_00_00000000.mp3", "normal/"])
def test_another_file_name_is_refused_by_name(name):
    with pytest.raises(ValueError, match="is not the name of a clip: expected normal_id_"):
        parse_clip_name(name)


# Local folders


def test_a_local_folder_of_any_machines_loads_in_order(tmp_path):
    root = write_clips(
        tmp_path / "clips",
        "saw/test/normal_id_7_2.wav",
        "saw/test/anomaly_id_7_1.wav",
        "saw/train/normal_id_7_1.wav",
        "fan/train/normal_id_00_00000001.wav",
        "fan/train/normal_id_00_00000000.flac",
        "fan/test/normal_id_00_00000000.wav",
    )
    clips = load_clips(root, cache_dir=tmp_path / "cache")
    assert list(clips) == ["train", "test"]
    assert clip_names(clips["train"]) == [
        "fan/train/normal_id_00_00000000.flac",
        "fan/train/normal_id_00_00000001.wav",
        "saw/train/normal_id_7_1.wav",
    ]
    assert clips["test"].features["label"].names == ["fan_id_00", "saw_id_7"]
    assert clips["test"][1] == {
        "path": str(root / "saw/test/anomaly_id_7_1.wav"),
        "machine_type": "saw",
        "machine_id": "7",
        "label": 1,
        "is_anomaly": True,
        "split": "test",
    }


def test_a_folder_called_abnormal_changes_no_label(tmp_path):
    root = write_clips(tmp_path / "abnormal" / "clips", *FAN, *FAN_TEST)
    clips = load_clips(root, cache_dir=tmp_path / "cache")
    assert clips["train"]["is_anomaly"][:] == [False, False]
    assert clips["test"]["is_anomaly"][:] == [True, False]


def test_a_folder_with_test_clips_alone_has_no_train_split(tmp_path):
    clips = load_clips(write_clips(tmp_path / "clips", *FAN_TEST), cache_dir=tmp_path / "cache")
    assert list(clips) == ["test"]


@pytest.mark.skipif(not REAL_CLIPS.is_dir(), reason=f"the real clips are not at {REAL_CLIPS}")
def test_real_clips_load_and_can_be_read(tmp_path, capfd):
    clips = load_clips(REAL_CLIPS, cache_dir=tmp_path)
    assert capfd.readouterr() == ("", "")
    assert clips.num_rows == {"train": 218, "test": 182}
    assert Counter(clips["train"]["is_anomaly"]) == {False: 218}
    assert clips["test"].features["label"].num_classes == 23
    samples, sampling_rate = soundfile.read(clips["train"][0]["path"])
    assert sampling_rate == 16000 and samples.ndim == 1 and len(samples) > 9 * 16000


def test_files_that_are_no_clips_are_told_in_one_warning_and_passed_over(tmp_path):
    root = write_clips(
        tmp_path / "clips",
        *FAN,
        "fan/train/recording1.wav",
        "fan/normal_id_00_00000000.wav",
        "fan/train/monday/normal_id_00_00000000.wav",
        "fan/train/._normal_id_00_00000000.wav",
        ".trash/train/normal_id_00_00000000.wav",
    )
    (root / "fan/train/notes.txt").write_text("not audio")
    with pytest.warns(UserWarning, match="passed over 3 audio files .*: fan/normal_id_00_00000000.wav, ") as told:
        clips = load_clips(root, cache_dir=tmp_path / "cache")
    assert len(told) == 1
    assert clip_names(clips["train"]) == list(FAN)


def test_the_error_for_a_folder_without_clips_says_what_is_expected(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no folder .*nowhere"):
        load_clips(tmp_path / "nowhere")
    with pytest.raises(
        ValueError, match="holds no clip. Expected .*/<machine type>/{train,test}/.*dcase2020_task2 download"
    ):
        load_clips(tmp_path)
    write_clips(tmp_path / "clips", *FAN)
    with pytest.raises(ValueError, match=f"pass the one above it, {tmp_path / 'clips'}"):
        load_clips(tmp_path / "clips" / "fan")
    write_clips(tmp_path / "others", "fan/train/recording1.wav")
    with pytest.raises(ValueError, match="1 audio file with another place or name: fan/train/recording1.wav"):
        load_clips(tmp_path / "others")


@pytest.mark.parametrize("wrong", ["fan/train/anomaly_id_00_00000000.wav", "fan/train/id_00_00000000.wav"])
def test_training_clips_not_known_to_be_normal_are_an_error(tmp_path, wrong):
    root = write_clips(tmp_path / "clips", *FAN, *FAN_TEST, wrong)
    with pytest.raises(ValueError, match=f"1 audio file in train not named normal_.*{wrong}.*move anomalous clips"):
        load_clips(root)


def test_the_cached_table_follows_an_added_a_changed_and_a_removed_clip(tmp_path):
    root, cache = write_clips(tmp_path / "clips", *FAN), tmp_path / "cache"

    def load() -> Dataset:
        return load_clips(root, cache_dir=cache)["train"]

    def sizes() -> tuple[str, list[int]]:
        """A column computed from the clips, and the file in which `datasets` caches it."""
        table = load().map(lambda row: {"bytes": os.path.getsize(row["path"])})
        return table.cache_files[0]["filename"], table["bytes"][:]

    assert load().cache_files == load().cache_files
    assert sizes() == sizes()

    write_clips(root, "fan/train/normal_id_02_00000001.wav")
    assert clip_names(load()) == [*FAN, "fan/train/normal_id_02_00000001.wav"]

    clip = root / FAN[0]
    states = [sizes()]
    os.utime(clip, (0, 0))
    states.append(sizes())
    clip.write_bytes(clip.read_bytes()[:-2])
    os.utime(clip, (0, 0))
    states.append(sizes())
    assert len({file for file, _ in states}) == 3
    assert states[2][1][0] == states[0][1][0] - 2

    clip.unlink()
    assert clip_names(load()) == [FAN[1], "fan/train/normal_id_02_00000001.wav"]


def test_two_folders_of_the_same_relative_name_are_not_mistaken_for_each_other(tmp_path, monkeypatch):
    for place in ("a", "b"):
        root = write_clips(tmp_path / place / "clips", *FAN)
        for clip in FAN:
            os.utime(root / clip, (0, 0))
        monkeypatch.chdir(tmp_path / place)
        clips = load_clips("clips", cache_dir=tmp_path / "cache")
        assert clips["train"][0]["path"] == str(root / FAN[0])


def test_streaming_and_two_processes_give_the_same_rows(tmp_path):
    root = write_clips(
        tmp_path / "clips",
        *(
            f"{kind}/train/normal_id_{i:02d}_{n:08d}.wav"
            for kind in ("fan", "saw")
            for i in range(3)
            for n in range(15)
        ),
        *(f"saw/test/{label}_id_00_{n:08d}.wav" for label in ("normal", "anomaly") for n in range(5)),
    )
    clips = load_clips(root, cache_dir=tmp_path / "one")
    by_two = load_clips(root, cache_dir=tmp_path / "two", num_proc=2)
    streamed = load_clips(root, streaming=True)
    assert clips.num_rows == by_two.num_rows == {"train": 90, "test": 10}
    assert len(by_two["train"].cache_files) == 2
    for split in clips:
        assert by_two[split].to_list() == clips[split].to_list()
        assert list(streamed[split]) == clips[split].to_list()
        assert streamed[split].features == clips[split].features


def test_a_published_set_reads_no_data_dir_and_local_needs_one(tmp_path):
    with pytest.raises(ValueError, match="'fan' is a published one and reads no data_dir"):
        load_clips(tmp_path, name="fan")
    with pytest.raises(ValueError, match="'local' reads a folder: pass data_dir="):
        Dcase2020Task2(config_name="local")


@pytest.mark.skipif(importlib.util.find_spec("torchcodec") is not None, reason="torchcodec is installed")
def test_audio_without_torchcodec_names_the_extra(tmp_path):
    with pytest.raises(ImportError, match=r"install the extra `embedded` \(`pip install -e '.\[embedded\]'`\)"):
        load_clips(write_clips(tmp_path / "clips", *FAN), with_audio=True)


def test_audio_is_a_column_and_is_embedded_in_parquet(tmp_path):
    try:
        importlib.import_module("torchcodec")
    except (ImportError, RuntimeError, OSError) as error:
        pytest.skip(f"torchcodec with FFmpeg is not here: {error}")
    root = write_clips(tmp_path / "clips", *FAN)
    row = load_clips(root, cache_dir=tmp_path / "cache", with_audio=True)["train"][0]
    expected, _ = soundfile.read(row["path"], dtype="float32")
    np.testing.assert_array_equal(row["audio"].get_all_samples().data.numpy()[0], expected)

    local = Dcase2020Task2(config_name="local", cache_dir=str(tmp_path / "cache"), data_dir=str(root), with_audio=True)
    local.download_and_prepare(str(tmp_path / "parquet"), file_format="parquet")
    (file,) = (tmp_path / "parquet").glob("*train*.parquet")
    content = (root / FAN[0]).read_bytes()
    shutil.rmtree(root)
    audio = Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache")).data.column("audio")[0].as_py()
    assert audio == {"bytes": content, "path": Path(FAN[0]).name}


# Downloads


def test_a_download_is_checked_extracted_and_not_repeated(zenodo, published, tmp_path):
    for _ in range(2):
        fetch(tmp_path, archives=published, base_url=zenodo.url)
    assert [name for name, _, _ in zenodo.requests] == ["dev_data_fan.zip", "dev_data_pump.zip"]
    assert clip_names(list_clips(tmp_path).rows) == sorted(FAN_TEST) + sorted(FAN) + [
        "pump/test/normal_id_06_00000000.wav",
        "pump/train/normal_id_06_00000000.wav",
    ]
    assert (tmp_path / FAN[0]).read_bytes() == wav(0)
    assert not list(tmp_path.rglob("*.zip"))


def test_a_wrong_md5_names_file_expected_and_got_and_leaves_nothing(zenodo, tmp_path):
    content = zipped(*FAN)
    archives = zenodo.serve((archive("development", "fan", content, md5="0" * 32), content))
    with pytest.raises(ArchiveError) as error:
        fetch(tmp_path, archives=archives, base_url=zenodo.url)
    for said in ("dev_data_fan.zip", "0" * 32, hashlib.md5(content).hexdigest(), zenodo.url, "was removed"):
        assert said in str(error.value)
    assert not list(tmp_path.rglob("*.zip*")) and not list(tmp_path.rglob("*.wav"))


def test_an_archive_cut_short_on_the_server_is_an_error(zenodo, tmp_path):
    content = zipped(*FAN)[:-40]
    archives = zenodo.serve((archive("development", "fan", content), content))
    with pytest.raises(ArchiveError, match="dev_data_fan.zip is damaged or cut short"):
        fetch(tmp_path, archives=archives, base_url=zenodo.url)
    assert not list(tmp_path.rglob("*.zip*")) and not list(tmp_path.rglob("*.wav"))


def test_a_damaged_clip_in_an_archive_leaves_no_half_folder(zenodo, tmp_path):
    content = bytearray(zipped(*FAN))
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        content[file.getinfo(FAN[1]).header_offset + 120] ^= 0xFF
    archives = zenodo.serve((archive("development", "fan", bytes(content)), bytes(content)))
    with pytest.raises(ArchiveError, match="damaged or cut short"):
        fetch(tmp_path, archives=archives, base_url=zenodo.url)
    assert not list(tmp_path.rglob("*.wav"))


def test_a_broken_connection_is_resumed_where_it_broke(zenodo, tmp_path):
    content = zenodo.files["a.zip"] = zipped(*FAN)
    zenodo.cuts = [100, 50]
    download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(content).hexdigest(), retry_wait_s=0)
    assert zenodo.requests == [
        ("a.zip", None, 100),
        ("a.zip", "bytes=100-", 50),
        ("a.zip", "bytes=150-", len(content) - 150),
    ]
    assert (tmp_path / "a.zip").read_bytes() == content


@pytest.mark.parametrize("missing", [1, 0])
def test_a_later_run_goes_on_from_what_an_earlier_one_left(zenodo, tmp_path, missing):
    content = zenodo.files["a.zip"] = zipped(*FAN)
    (tmp_path / "a.zip.part").write_bytes(content[: len(content) - missing])
    download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(content).hexdigest())
    assert zenodo.requests == [("a.zip", f"bytes={len(content) - missing}-", missing)]
    assert (tmp_path / "a.zip").read_bytes() == content


def test_a_server_without_range_support_starts_over(zenodo, tmp_path):
    content = zenodo.files["a.zip"] = zipped(*FAN)
    zenodo.ranges, zenodo.cuts = False, [100]
    download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(content).hexdigest(), retry_wait_s=0)
    assert zenodo.requests == [("a.zip", None, 100), ("a.zip", "bytes=100-", len(content))]
    assert (tmp_path / "a.zip").read_bytes() == content


def test_attempts_end_when_nothing_new_comes(zenodo, tmp_path):
    content = zenodo.files["a.zip"] = zipped(*FAN)
    zenodo.ranges, zenodo.cuts = False, [100] * 50
    with pytest.raises(ArchiveError, match=f"gave up after {MAX_FUTILE_ATTEMPTS} attempts .*ended after 100 of"):
        download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(content).hexdigest(), retry_wait_s=0)
    assert len(zenodo.requests) == MAX_FUTILE_ATTEMPTS


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(zenodo, tmp_path):
    zenodo.files["a.zip"], zenodo.statuses = b"content", [503, 429]
    download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(b"content").hexdigest(), retry_wait_s=0)
    assert len(zenodo.requests) == 3
    with pytest.raises(ArchiveError, match="/b.zip: the server answered 404"):
        download(f"{zenodo.url}/b.zip", tmp_path / "b.zip", None, retry_wait_s=0)
    assert len(zenodo.requests) == 4


def test_no_server_at_all_is_an_error_that_names_the_address(tmp_path):
    with pytest.raises(ArchiveError, match="http://127.0.0.1:9/a.zip: gave up after .*connection attempts failed"):
        download("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", None, retry_wait_s=0)


def sending(
    head: str, body: bytes = b"", times: int = 1, pause_s: float = 0.0
) -> Callable[[BaseHTTPRequestHandler], None]:
    """Make an answer of raw lines of headers, and of a body so many times, with a pause after each."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(f"HTTP/1.1 {head}".replace("\n", "\r\n").encode())
        for _ in range(times):
            handler.wfile.write(body)
            time.sleep(pause_s)

    return answer


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sending("200 OK\nContent-Length: 99999999999\n\n"), "the file has 99999999999 bytes, expected at most 100000"),
        (sending("200 OK\n\n", bytes(10_000), times=10_000), "more than 100000 bytes came"),
        (
            sending("200 OK\n\n", b"R", times=1000, pause_s=0.02),
            "gave up after 5 attempts .*slower than 10000 bytes a second",
        ),
        (sending("200 OK\nX-Slow: ", b"R", times=1000, pause_s=0.02), "gave up after 5 attempts .*no answer in 0.2 s"),
        (
            sending("503 Busy\nRetry-After: 999999999\n\n"),
            "asks to wait for 999999999 s. Run the same command again later",
        ),
        (
            sending("302 Found\nLocation: ftp://127.0.0.1/a.zip\n\n"),
            "ftp://127.0.0.1. Expected https|leads astray .*ftp",
        ),
        (sending("302 Found\nLocation: http://zenodo.org/a.zip\n\n"), "leads to http://zenodo.org. Expected https"),
        (sending("302 Found\nLocation: a.zip\n\n"), "leads astray .*redirects"),
        (sending("416 Range Not Satisfiable\n\n"), "the server answered 416"),
        (sending("200 OK\nContent-Length: many\n\nbody"), "gave up after 5 attempts"),
        (
            sending("206 Partial Content\nContent-Range: bytes 7-9/10\n\nabc"),
            "gave up after 5 .*the bytes from 7 on",
        ),
        (sending("206 Partial Content\nContent-Range: some\n\nabc"), "gave up after 5 attempts"),
        (sending("no HTTP at all"), "gave up after 5 attempts"),
    ],
    ids=[
        "too large by its header",
        "endless",
        "dripping",
        "dripping headers",
        "a pause of 31 years",
        "to ftp",
        "to http elsewhere",
        "in circles",
        "416 to no range",
        "a length that is no number",
        "a range not asked for",
        "a range that is none",
        "no HTTP",
    ],
)
def test_what_no_server_should_answer_is_an_error_that_names_the_file(zenodo, tmp_path, answer, said):
    zenodo.answers["a.zip"] = answer
    start_s = time.monotonic()
    with pytest.raises(ArchiveError, match=rf"^{zenodo.url}/a\.zip: .*({said})"):
        download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", "0" * 32, max_bytes=100_000, retry_wait_s=0, patience_s=0.2)
    assert time.monotonic() - start_s < 10
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("url", ["http://zenodo.org/a.zip", "ftp://127.0.0.1/a.zip", "file:///etc/hostname"])
def test_another_protocol_than_https_is_refused_before_anything_is_sent(tmp_path, url):
    with pytest.raises(ArchiveError, match=f"{url}: leads "):
        download(url, tmp_path / "a.zip", None, retry_wait_s=0)


def test_what_came_of_another_file_is_fetched_anew(zenodo, tmp_path):
    content = zenodo.files["a.zip"] = zipped(*FAN)
    (tmp_path / "a.zip.part").write_bytes(bytes(len(content) + 100))

    def refuse_once(handler: BaseHTTPRequestHandler) -> None:
        del zenodo.answers["a.zip"]
        sending(f"416 Range Not Satisfiable\nContent-Range: bytes */{len(content)}\n\n")(handler)

    zenodo.answers["a.zip"] = refuse_once
    download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(content).hexdigest(), retry_wait_s=0)
    assert (tmp_path / "a.zip").read_bytes() == content


def test_a_download_works_where_an_event_loop_runs_as_in_a_notebook(zenodo, tmp_path):
    content = zenodo.files["a.zip"] = zipped(*FAN)

    async def cell() -> None:
        download(f"{zenodo.url}/a.zip", tmp_path / "a.zip", hashlib.md5(content).hexdigest())

    asyncio.run(cell())
    assert (tmp_path / "a.zip").read_bytes() == content


def odd_archive(kind: str) -> bytes:
    """An archive that zipfile opens and that is none of the published ones."""
    if kind == "twice":
        return zipped(*FAN, "other/train/normal_id_00_00000000.wav")
    if kind == "LZMA":
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_LZMA) as file:
            file.writestr(FAN[0], wav(0))
        return buffer.getvalue()
    content = bytearray(zipped(*FAN))
    local, central = content.index(b"PK\3\4"), content.index(b"PK\1\2")
    if kind == "encrypted":
        content[local + 6] |= 1
        content[central + 8] |= 1
    if kind == "bomb":
        for entry in (central, content.index(b"PK\1\2", central + 4)):
            content[entry + 24 : entry + 28] = struct.pack("<I", 2**32 - 2)
    if kind == "version":
        content[central + 6] = content[local + 4] = 99
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("twice", "'other/train/normal_id_00_00000000.wav' is a second fan/train/normal_id_00_00000000.wav"),
        ("encrypted", "the entry .* is encrypted"),
        ("LZMA", r"the entry .* is compressed by another method \(14\)"),
        ("bomb", "makes more than 4294967296 bytes of clips"),
        ("version", "is damaged or cut short .*version"),
    ],
)
def test_an_archive_that_is_not_as_published_is_refused_whole(zenodo, tmp_path, kind, said):
    content = odd_archive(kind)
    archives = zenodo.serve((archive("development", "fan", content), content))
    with pytest.raises(ArchiveError, match=f"dev_data_fan.zip.*{said}"):
        fetch(tmp_path / "data", archives=archives, base_url=zenodo.url)
    assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.rglob("*.zip*"))


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("../normal_id_00_00000000.wav", "leads out"),
        ("fan/train/../../../train/normal_id_00_00000000.wav", "leads out"),
        ("/tmp/train/normal_id_00_00000000.wav", "leads out"),
        ("C:/train/normal_id_00_00000000.wav", "leads out"),
        ("..\\train\\normal_id_00_00000000.wav", "leads out"),
        (link("fan/train/normal_id_00_00000009.wav"), "is a link"),
    ],
)
def test_an_archive_with_an_entry_that_escapes_is_refused_whole(zenodo, tmp_path, entry, reason):
    content = zipped(*FAN, entry)
    archives = zenodo.serve((archive("development", "fan", content), content))
    with pytest.raises(ArchiveError, match=f"dev_data_fan.zip: the entry .* {reason}"):
        fetch(tmp_path / "data", archives=archives, base_url=zenodo.url)
    assert not list(tmp_path.rglob("*.wav")) and not list(tmp_path.rglob("*.zip*"))


def test_an_interrupted_extraction_does_not_look_whole_and_is_finished_by_the_next(zenodo, published, tmp_path):
    (tmp_path / "fan").mkdir()
    obstacle = tmp_path / "fan" / "test"
    obstacle.write_text("a file where a folder belongs stops the extraction half-way")
    for _ in range(2):
        with pytest.raises(OSError, match="fan/test"):
            fetch(tmp_path, archives=published, base_url=zenodo.url)
        assert list(tmp_path.glob("fan/train/*.wav"))
        with pytest.raises(ValueError, match="holds only a part of dev_data_fan.zip"):
            list_clips(tmp_path)

    obstacle.unlink()
    fetch(tmp_path, machine_types=["fan"], archives=published, base_url=zenodo.url)
    assert clip_names(list_clips(tmp_path).rows) == sorted(FAN_TEST) + sorted(FAN)
    assert len(zenodo.requests) == 1  # the archive was at hand

    # What a kill just before the very end leaves.
    (tmp_path / ".dcase2020_task2" / "dev_data_fan.zip.merging").touch()
    with pytest.raises(ValueError, match="holds only a part of dev_data_fan.zip"):
        list_clips(tmp_path)
    fetch(tmp_path, machine_types=["fan"], archives=published, base_url=zenodo.url)
    assert clip_names(list_clips(tmp_path).rows) == sorted(FAN_TEST) + sorted(FAN)


# Published configurations


def test_published_configurations_select_their_parts_from_one_folder(zenodo, published, tmp_path):
    expected = {
        "development": ({"fan_id_00", "fan_id_02", "pump_id_06"}, {"fan_id_00", "pump_id_06"}),
        "fan": ({"fan_id_00", "fan_id_02"}, {"fan_id_00"}),
        "additional_training": ({"fan_id_01"}, None),
        "all": ({"fan_id_00", "fan_id_01", "fan_id_02", "pump_id_06"}, {"fan_id_00", "pump_id_06"}),
    }
    for name, labels in expected.items():
        clips = prepared(builder(zenodo, published, tmp_path, name))
        for split, found in zip(("train", "test"), labels, strict=True):
            if found is None:
                assert split not in clips
            else:
                assert clips[split].features["label"].names == list(LABELS)
                assert {LABELS[label] for label in clips[split]["label"]} == found
        streamed: Any = builder(zenodo, published, tmp_path, name).as_streaming_dataset()
        assert {split: list(streamed[split]) for split in streamed} == {s: clips[s].to_list() for s in clips}
    assert Counter(name for name, _, _ in zenodo.requests) == {
        "dev_data_fan.zip": 1,
        "dev_data_pump.zip": 1,
        "eval_data_train_fan.zip": 1,
    }


def test_evaluation_clips_get_their_published_labels(zenodo, published, tmp_path):
    with pytest.warns(UserWarning, match="labels 2 clips where 7103 were published"):
        clips = prepared(builder(zenodo, published, tmp_path, "evaluation"))
    assert list(clips) == ["test"]
    assert [(row["machine_id"], row["is_anomaly"]) for row in clips["test"].to_list()] == [("01", False), ("03", True)]

    local = load_clips(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert local["test"]["is_anomaly"][:] == [False, True]
    (tmp_path / "data" / "eval_data_list.csv").unlink()
    local = load_clips(tmp_path / "data", cache_dir=tmp_path / "cache")
    assert local["test"]["is_anomaly"][:] == [None, None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id_01_00000000.wav,normal_id_01_00000007.wav,0\n", "line 1: 'id_01_00000000.wav,"),
        ("fan\nid_01_00000000.wav,normal_id_01_00000007.wav,2\n", "line 2: "),
        ("<html>not found</html>\n", "lists no clip"),
        ("", "lists no clip"),
    ],
)
def test_evaluation_labels_that_do_not_parse_are_an_error(zenodo, published, tmp_path, content, said):
    (tmp_path / "eval_data_list.csv").write_text(content)
    with pytest.raises(ValueError, match=said):
        read_evaluation_labels(tmp_path / "eval_data_list.csv")
    zenodo.files["eval_data_list.csv"] = content.encode()
    with pytest.raises(ArchiveError, match=f"evaluation labels cannot be read: .*{said}"):
        fetch(tmp_path / "data", ["evaluation"], archives=published, base_url=zenodo.url)
    assert not (tmp_path / "data" / "eval_data_list.csv").exists()


def test_a_published_clip_that_was_removed_is_fetched_again(zenodo, published, tmp_path):
    for _ in range(2):
        row = prepared(builder(zenodo, published, tmp_path, "fan"))["train"][0]
        assert Path(row["path"]).exists()
        Path(row["path"]).unlink()
    assert len(zenodo.requests) == 2


# Command line


def test_the_download_command_fills_a_folder_for_data_dir(zenodo, published, tmp_path, capsys):
    data_dir = tmp_path / "data"
    assert main(["download", "--types", "fan", str(data_dir), "--base_url", zenodo.url], published) == 0
    all_parts = ["download", "--name", "all", "--base_url", zenodo.url, "--types", "fan", str(data_dir)]
    assert main(all_parts, published) == 0
    assert f"{data_dir} now holds" in capsys.readouterr().out
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clips = load_clips(data_dir, cache_dir=tmp_path / "cache")
    assert clips.num_rows == {"train": 3, "test": 2}
    assert clips["train"].features["label"].names == ["fan_id_00", "fan_id_01", "fan_id_02"]


def test_the_download_command_fails_on_an_archive_that_is_not_the_published_one(zenodo, tmp_path):
    zenodo.files["dev_data_fan.zip"] = zipped(*FAN)
    command = [sys.executable, "-m", "dcase2020_task2", "download"]
    arguments = ["--types", "fan", "--base_url", zenodo.url, str(tmp_path)]
    done = subprocess.run(command + arguments, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "error: dev_data_fan.zip: the md5 is" in done.stderr and "649bdfc06263ae7a838963f43b6641e6" in done.stderr


@pytest.mark.parametrize("arguments", [["--types", "fan"], ["--types", "fan", "drill", "DIR"], []])
def test_the_download_command_refuses_unknown_types_and_a_missing_folder(arguments):
    with pytest.raises(SystemExit, match="2"):
        main(["download", *arguments])
