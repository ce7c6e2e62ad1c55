"""Push and load: the unmodified clients, in processes of their own, against a stand-in for the Hub."""

import hashlib
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import evaluate
import pytest
import soundfile
import torch
from hub_server import TOKEN, run_hub
from huggingface_hub import ModelCard
from packaging.requirements import Requirement
from packaging.version import Version
from small_detector import RATE, machine_sound, small_pipeline
from transformers import pipeline
from warm_python import Forked, WarmPython

from evaluation.model_card import render_model_card
from feature_extraction import AttentionAsdFeatureExtractor
from modeling import AnomalyDetector, AttentionAsdModel
from modeling.digests_attention_asd import weights_digest
from training.hub import code_files, model_files
from training.repository_files import export_card


ROOT = Path(__file__).resolve().parents[1]
SPACE = ROOT / "space"
PUSH = "scripts/push_to_hub.py"
BESIDE = ROOT / "training" / "repository"
make_pipeline: Any = pipeline  # its types know no task that comes with a model


# A Hub, clients, and a model to push


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with run_hub(tmp_path_factory.mktemp("hub")) as server:
        yield server


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Where the clients of the Hub keep what they downloaded."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def environment(hub, home) -> dict[str, str]:
    """The environment of a client of the Hub."""
    return {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home),
        "HF_TOKEN": TOKEN,
        "HF_HUB_DISABLE_XET": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "NO_PROXY": "127.0.0.1",
    }


@pytest.fixture(scope="module")
def client(environment, tmp_path_factory):
    """A function that starts Python, as a client of the Hub, on a script of the repository or on code in an
    empty folder."""
    empty = tmp_path_factory.mktemp("empty")

    def start(*command, **changes) -> Forked | subprocess.Popen:
        is_script = str(command[0]).endswith(".py")
        arguments = [str(ROOT / command[0])] if is_script else ["-c", command[0]]
        arguments += map(str, command[1:])
        folder = ROOT if is_script else empty
        if changes.keys() <= {"HF_TOKEN"}:
            return warm.start(arguments, folder, **changes)
        # The rest of the environment is read while the libraries are imported.
        return subprocess.Popen(
            [sys.executable, *arguments],
            env={name: value for name, value in {**environment, **changes}.items() if value is not None},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with WarmPython(environment) as warm:
        yield start


@pytest.fixture(scope="module")
def run(client):
    """As `client`, waits for the end, and returns what was printed; the test fails where the process does."""

    def wait(*command, fails: bool = False, **changes) -> str:
        process = client(*command, **changes)
        stdout, stderr = process.communicate(timeout=300)
        assert (process.returncode != 0) == fails, stdout + stderr
        return stderr if fails else stdout

    return wait


@pytest.fixture
def model_dir(small_model, small_extractor, tmp_path):
    """What train.py leaves behind, with a small network: what belongs on the Hub, and what does not."""
    folder = tmp_path / "model"
    small_model().save_pretrained(folder)
    small_extractor.save_pretrained(folder)
    exported = ("network.onnx", "network.xml", "network.bin", "native_attention_asd.c", "optimizer.bin")
    for name in ("scoring.safetensors", "evaluation/roc_curves.png", "checkpoints/best.safetensors", *exported):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"\0" + name.encode())
    for name in ("README.md", "evaluation/scores.csv", "all_results.json"):
        (folder / name).write_text("---\nlicense: apache-2.0\n---\n")
    for name in ("machine_room/fan/train/normal_id_00_00000000.wav", "attention_asd/events.out.tfevents.1"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(b"\0" * 1000)
    (folder / "attention_asd" / "hparams.json").write_text("{}")
    (folder / "checkpoints" / "progress.json").write_text("{}")
    return folder


def commit_of(printed: str) -> str:
    return printed.split("/commit/")[1].split()[0]


def pushed_files(model_dir: Path) -> dict[str, bytes]:
    """What of `model_dir`, which has no detector, belongs on the Hub, and what a push adds; told by hand."""
    at_home = ("checkpoints", "machine_room", "attention_asd", "optimizer.bin")
    files = {file.relative_to(model_dir).as_posix(): file for file in model_dir.rglob("*") if file.is_file()}
    files["requirements.txt"] = BESIDE / "requirements.txt"
    return {path: file.read_bytes() for path, file in files.items() if not path.startswith(at_home)}


# The round trip of a model


def digest(model, feature_extractor, clips: list[str]) -> str:
    import hashlib

    import torch

    inputs = feature_extractor([feature_extractor.read_audio(clip) for clip in clips], sampling_rate=16_000)
    with torch.no_grad():
        output = model.eval()(**inputs)
    total = hashlib.sha256()
    for name in ("anomaly_scores", "scored_labels", "logits", "embeddings", "attention_maps"):
        total.update(output[name].numpy().tobytes())
    return total.hexdigest()


LOAD = """
import json, sys
from transformers import AutoFeatureExtractor, AutoModel, pipeline

clips, versions = json.loads(sys.argv[1])
detect = pipeline("anomalous-sound-detection", model="user/trained", trust_remote_code=True)
verdict = detect(clips[0], machine="fan_id_00", false_alarm_rate=0.2)
digests = []
for version in versions:
    version["trust_remote_code"] = True
    model = AutoModel.from_pretrained("user/trained", **version)
    feature_extractor = AutoFeatureExtractor.from_pretrained("user/trained", **version)
    assert type(model).__module__.startswith("transformers_modules."), type(model).__module__
    digests.append(digest(model, feature_extractor, clips))
print(json.dumps([verdict, *digests]))
"""


@pytest.mark.slow
def test_a_trained_model_comes_back_from_the_hub_equal_to_the_last_bit(hub, run, sound_folder, tmp_path):
    out = tmp_path / "out"
    sounds = sound_folder(train=12, test=1)
    training = ("--clip_seconds", 1, "--num_train_epochs", 1, "--validation_fraction", 0.5)
    name = ("--push_to_hub", "--hub_model_id", "user/trained", "--hub_private")
    first = commit_of(run("train.py", "--data_dir", sounds, "--output_dir", out, *training, *name))
    run(PUSH, "model", out, "user/trained", "--subfolder", "first")
    clips = [str(sounds / "fan" / "test" / "anomaly_id_00_00000000.wav")]
    clips += map(str, sorted((ROOT.parent / "shared").glob("data/machine_clips/fan/test/anomaly_id_00_*.wav"))[:1])
    feature_extractor = AttentionAsdFeatureExtractor.from_pretrained(out)
    model = AttentionAsdModel.from_pretrained(out)
    pushed_first = digest(model, feature_extractor, clips)
    with torch.no_grad():
        model.arcface.weight.mul_(torch.linspace(0.5, 1.5, model.arcface.weight.numel()).view_as(model.arcface.weight))
    detector = AnomalyDetector.from_pretrained(out)
    model.save_pretrained(out)
    detector.save_pretrained(out, weights=weights_digest(out))
    run(PUSH, "model", out, "user/trained")
    pushed_second = digest(model, feature_extractor, clips)
    detect = make_pipeline("anomalous-sound-detection", model=str(out), trust_remote_code=True)
    verdict = json.loads(json.dumps(detect(clips[0], machine="fan_id_00", false_alarm_rate=0.2)))

    load = inspect.getsource(digest) + LOAD
    versions = [{}, {"revision": first}, {"subfolder": "first"}]
    there, *loaded = json.loads(run(load, json.dumps([clips, versions])).splitlines()[-1])
    asked = len(hub.requests)
    cached, *offline = json.loads(
        run(load, json.dumps([clips, [{}]]), HF_HUB_OFFLINE="1", HF_TOKEN=None).splitlines()[-1]
    )
    print(f"{len(clips)} clips, sha256 of scores, logits, embeddings and attention maps")
    print(f"first version  pushed                {pushed_first}")
    print(f"               loaded by its commit  {loaded[1]}")
    print(f"               loaded from a folder  {loaded[2]}")
    print(f"second version pushed                {pushed_second}")
    print(f"               loaded by name        {loaded[0]}")
    print(f"               loaded offline        {offline[0]}")
    assert pushed_first != pushed_second
    assert loaded == [pushed_second, pushed_first, pushed_first]
    assert offline == [pushed_second] and len(hub.requests) == asked
    print(f"{verdict['verdict']}, score {verdict['score']!r}, p-value {verdict['p_value']!r}")
    assert there == cached == verdict and verdict["score"] is not None
    assert hub.repositories["models", "user/trained"].private
    tree = hub.tree("models", "user/trained")
    assert tree["README.md"].decode().count('"user/trained"') == 2
    assert tree["first/README.md"].decode().count('subfolder="first"') == 2
    assert '{"subfolder": "first"}, trust_remote_code' in tree["first/README.md"].decode()
    run(PUSH, "model", out, "user/renamed")
    renamed = hub.tree("models", "user/renamed")["README.md"].decode()
    assert renamed == tree["README.md"].decode().replace('"user/trained"', '"user/renamed"')
    by_hand = (out / "README.md").read_text() + "\nBought in 2019.\n"
    (out / "README.md").write_text(by_hand)
    run(PUSH, "model", out, "user/by-hand")
    assert hub.tree("models", "user/by-hand")["README.md"].decode() == by_hand
    assert {path.split("/")[0] for path in tree if "/" in path} == {"evaluation", "first"}
    assert not [path for path in tree if path.startswith("evaluation/") and str(tmp_path).encode() in tree[path]]


LOAD_PINNED = """
import json, pickle, sys
from pathlib import Path
from transformers import AutoModel, pipeline

clip, commit, token = sys.argv[1:]
first = {"revision": commit}, {"model_kwargs": {"subfolder": "first"}}, {"revision": commit, "local_files_only": True}
elsewhere = {"model_kwargs": {"cache_dir": "elsewhere"}}
for where in (*first, elsewhere):
    detect = pipeline("anomalous-sound-detection", model="user/pinned", trust_remote_code=True, token=token, **where)
    print(json.dumps(detect(clip, machine="fan_id_00")))
assert list(Path("elsewhere").rglob("scoring.safetensors"))
detect.save_pretrained("saved")
assert not [file for file in Path("saved").rglob("*") if file.is_file() and token.encode() in file.read_bytes()]
assert token.encode() not in pickle.dumps(detect.model.__getstate__())
model, loading = AutoModel.from_pretrained(
    "user/pinned", trust_remote_code=True, token=token, subfolder="first", output_loading_info=True
)
assert model.source["subfolder"] == "first" and "missing_keys" in loading
"""


@pytest.mark.slow
def test_a_pinned_pipeline_judges_by_what_was_fitted_to_its_own_weights(hub, run, tmp_path):
    clip, out = tmp_path / "clip.wav", tmp_path / "model"
    soundfile.write(clip, machine_sound(220.0, 1001, hiss=0.005), RATE, subtype="FLOAT")

    def save_and_judge(clips: int) -> dict:
        small_pipeline(clips).save_pretrained(out)
        detect = make_pipeline("anomalous-sound-detection", model=str(out), trust_remote_code=True)
        return json.loads(json.dumps(detect(str(clip), machine="fan_id_00")))

    first = save_and_judge(clips=40)
    commit = commit_of(run(PUSH, "model", out, "user/pinned", "--private"))
    run(PUSH, "model", out, "user/pinned", "--private", "--subfolder", "first")
    second = save_and_judge(clips=36)
    run(PUSH, "model", out, "user/pinned")
    printed = run(LOAD_PINNED, clip, commit, TOKEN, HF_TOKEN=None).splitlines()
    loaded = [json.loads(line) for line in printed if line.startswith("{")]
    assert first["threshold"] != second["threshold"]
    assert loaded == [first, first, first, second]


# What is pushed, and what is not


def test_a_dry_run_lists_what_a_push_then_sends_and_sends_nothing(hub, run, model_dir):
    asked = len(hub.requests)
    listed = run(PUSH, "model", model_dir, "user/listed", "--dry_run", HF_TOKEN=None)
    assert len(hub.requests) == asked
    run(PUSH, "model", model_dir, "user/listed")
    tree = hub.tree("models", "user/listed")
    assert tree == pushed_files(model_dir)
    lines = [line.split() for line in listed.splitlines()]
    assert {line[2]: line[0] for line in lines[:-3]} == {path: f"{len(tree[path]) / 1e6:.3f}" for path in tree}
    assert listed.splitlines()[-2].startswith("deleted: files of an earlier push of a model at the root")
    assert lines[-3] == [f"{sum(map(len, tree.values())) / 1e6:.3f}", "MB", "in", str(len(tree)), "files"]


def test_files_of_the_model_before_are_replaced_and_nothing_else_is(hub, run, model_dir):
    run(PUSH, "model", model_dir, "user/replaced")
    run(PUSH, "model", model_dir, "user/replaced", "--subfolder", "variant")
    for name in ("scoring.safetensors", "evaluation/roc_curves.png", "README.md"):
        (model_dir / name).unlink()
    run(PUSH, "model", model_dir, "user/replaced")
    left = {path for path in hub.tree("models", "user/replaced") if not path.startswith("variant/")}
    assert left == {*pushed_files(model_dir), "README.md"}
    variant = {path for path in hub.tree("models", "user/replaced") if path.startswith("variant/")}
    assert {
        "variant/scoring.safetensors",
        "variant/evaluation/roc_curves.png",
        "variant/README.md",
    } <= variant
    assert not any(path.endswith(".py") for path in variant)


def test_a_branch_takes_a_push_and_main_stays(hub, run, model_dir):
    run(PUSH, "model", model_dir, "user/branches", "--revision", "next", "--commit_message", "Try this")
    assert hub.tree("models", "user/branches", "next") == pushed_files(model_dir)
    assert hub.tree("models", "user/branches") == {}
    assert hub.repositories["models", "user/branches"].titles == ["initial commit", "Try this"]


# Who may push, and read


def test_without_a_token_the_error_says_how_to_get_one(hub, run, model_dir):
    message = run(PUSH, "model", model_dir, "user/refused", HF_TOKEN=None, fails=True)
    assert message.startswith("error: ") and "HF_TOKEN" in message and "hf auth login" in message
    message = run(PUSH, "model", model_dir, "user/refused", HF_TOKEN="hf_wrong", fails=True)
    assert message.startswith("error: ") and "does not accept" in message and "hf auth login" in message
    assert ("models", "user/refused") not in hub.repositories


def test_a_private_model_is_private_and_never_goes_to_a_public_repository(hub, run, model_dir):
    run(PUSH, "model", model_dir, "user/private", "--private")
    assert hub.repositories["models", "user/private"].private
    run(PUSH, "model", model_dir, "user/public")
    assert not hub.repositories["models", "user/public"].private
    before = hub.tree("models", "user/public")
    (model_dir / "all_results.json").write_text("secret")
    assert "public already" in run(PUSH, "model", model_dir, "user/public", "--private", fails=True)
    assert hub.tree("models", "user/public") == before


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path}: has no config.json"):
        model_files(tmp_path)


# Pushes that are cut off, and pushes at once


def hold_all_but_one_upload(hub):
    """Returns a function that tells whether one upload has arrived and another is held."""
    sent, arrived = len(hub.asked("PUT /lfs")), len(hub.asked("/verify"))
    hub.holds = lambda path: path.startswith("/lfs/") and f"PUT {path}" != hub.asked("PUT /lfs")[sent]
    return lambda: len(hub.asked("/verify")) > arrived and len(hub.asked("PUT /lfs")) > sent + 1


def hold_commits(hub):
    """Returns a function that tells whether a commit is held."""
    sent = len(hub.asked("/commit/"))
    hub.holds = lambda path: "/commit/" in path
    return lambda: len(hub.asked("/commit/")) > sent


def cut_off(hub, is_held, process: Forked) -> None:
    """Kill a push in the middle."""
    wait_until(lambda: is_held() or process.poll() is not None)
    assert process.poll() is None, process.communicate()
    lost = hub.lost
    process.kill()
    process.communicate()
    try:
        wait_until(lambda: hub.lost > lost)
    finally:
        hub.holds = lambda path: False  # or the next push would wait for ever


def wait_until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("hold", "to_send"), [(hold_all_but_one_upload, 1), (hold_commits, 0)])
def test_a_push_cut_off_changes_nothing_and_the_next_repairs_it(hub, client, run, model_dir, hold, to_send):
    repository = f"user/{hold.__name__}"
    run(PUSH, "model", model_dir, repository)
    before = hub.tree("models", repository)
    for name in ("scoring.safetensors", "evaluation/roc_curves.png"):
        (model_dir / name).write_bytes(f"\0 second version for {repository}, {name}".encode())
    cut_off(hub, hold(hub), client(PUSH, "model", model_dir, repository))
    assert hub.tree("models", repository) == before
    sent = len(hub.asked("PUT /lfs"))
    run(PUSH, "model", model_dir, repository)
    assert hub.tree("models", repository) == pushed_files(model_dir)
    assert len(hub.asked("PUT /lfs")) == sent + to_send


def test_of_two_pushes_at_once_both_arrive_and_the_last_is_whole(hub, client, model_dir, tmp_path):
    other_dir = tmp_path / "other"
    shutil.copytree(model_dir, other_dir)
    (other_dir / "evaluation" / "roc_curves.png").rename(other_dir / "evaluation" / "other.png")
    for name in ("model.safetensors", "all_results.json"):
        (other_dir / name).write_bytes((other_dir / name).read_bytes() + b" ")
    # Neither commit is let through before both have been asked for: both start from the same state.
    commits = "POST /api/models/user/both/commit"
    hub.holds = lambda path: "/commit/" in path and len(hub.asked(commits)) < 2
    pushes = [
        client(PUSH, "model", folder, "user/both", "--commit_message", folder.name) for folder in (model_dir, other_dir)
    ]
    printed = [push.communicate(timeout=120) for push in pushes]
    assert [push.returncode for push in pushes] == [0, 0], printed
    assert len(hub.asked(commits)) == 3
    titles = hub.repositories["models", "user/both"].titles
    assert sorted(titles[1:]) == ["model", "other"]
    assert hub.tree("models", "user/both") == pushed_files({"model": model_dir, "other": other_dir}[titles[-1]])


# What lies beside a model


@pytest.fixture(scope="module")
def bundled(run, tmp_path_factory) -> Path:
    """The bundled model with a card of its own, pushed to user/bundled, and a recording beside it."""
    folder = tmp_path_factory.mktemp("bundled")
    model = shutil.copytree(SPACE / "demo_model", folder / "model")
    render_model_card(model, "user/bundled")
    run(PUSH, "model", model, "user/bundled")
    samples, rate = soundfile.read(SPACE / "examples" / "fan_clogged.flac")
    soundfile.write(folder / "machine.wav", samples, rate)
    return folder


def snippets(tree: dict[str, bytes]) -> list[str]:
    """The Python examples of a repository's card."""
    return re.findall(r"^```python\n(.*?)^```$", tree["README.md"].decode(), re.MULTILINE | re.DOTALL)


def run_snippets(run, codes: list[str], folder: Path) -> str:
    """Run examples in a process of their own that does not know this project, in the folder of a recording machine.wav."""
    start = f"import os, sys; os.chdir({str(folder)!r})\n"
    end = "\nassert not {'modeling', 'feature_extraction', 'engines', 'training'} & sys.modules.keys()\n"
    return run(start + "\n".join(codes) + end, PYTHONPATH=None)


@pytest.mark.slow
def test_the_examples_of_a_card_run_as_they_stand_and_pinned_to_the_commit(hub, run, bundled):
    codes = snippets(hub.tree("models", "user/bundled"))
    assert len(codes) == 2 and "pipeline(" in codes[0] and "AutoModel" in codes[1]
    commit = hub.repositories["models", "user/bundled"].branches["main"]
    pinned = [code.replace("trust_remote_code=True", f"trust_remote_code=True, revision={commit!r}") for code in codes]
    printed = run_snippets(run, codes + pinned, bundled)
    assert printed.count("'verdict': ") == 2 and printed.count("torch.Size([1, 2, 128, 313])") == 2


def test_a_card_names_what_its_reader_has_to_install_and_so_does_requirements_txt(hub, bundled):
    tree = hub.tree("models", "user/bundled")
    assert '\npip install torch "transformers>=4.57" soundfile soxr\n' in tree["README.md"].decode()
    wanted = [Requirement(line) for line in tree["requirements.txt"].decode().splitlines() if line[0] != "#"]
    assert [requirement.name for requirement in wanted] == "torch transformers numpy safetensors soundfile soxr".split()
    for requirement in wanted:
        assert requirement.specifier.contains(Version(version(requirement.name)).base_version), requirement


HANDLE = """
import base64, json, sys
from pathlib import Path
from huggingface_hub import snapshot_download

folder = snapshot_download("user/bundled")
sys.path.insert(0, folder)
from handler import EndpointHandler

handle = EndpointHandler(folder)
sound = Path(sys.argv[1]).read_bytes()
named = {"machine": "synthetic_fan_04", "false_alarm_rate": 0.05}
requests = [
    {"inputs": sound, "parameters": named},
    {"inputs": base64.encodebytes(sound).decode(), "parameters": named},
    {"inputs": bytearray(sound)},
    {"inputs": sys.argv[1]},
    {"inputs": sys.argv[2]},
    {"inputs": b"no sound"},
    {"inputs": sound, "parameters": {"machine": "no_such_machine"}},
    {"inputs": sound, "parameters": {"machine": ["fan"]}},
    {"inputs": sound, "parameters": {"false_alarm_rate": 7}},
    {"inputs": sound, "parameters": {"false_alarm_rate": "0.1"}},
    {"inputs": sound, "parameters": {"backend": "arcface"}},
    {},
    [1],
]
for request in requests:
    print(json.dumps(handle(request), allow_nan=False))
assert not {"modeling", "feature_extraction", "engines"} & sys.modules.keys()
"""


@pytest.mark.slow
def test_an_endpoint_judges_the_sound_of_a_request_and_answers_a_bad_one_with_a_sentence(hub, run, bundled):
    asked = len(hub.requests)
    printed = run(HANDLE, bundled / "machine.wav", f"{hub.url}/secret.wav", PYTHONPATH=None)
    by_bytes, by_text, unnamed, *bad = map(json.loads, printed.splitlines()[-13:])
    assert by_bytes["verdict"] == "anomalous" and by_bytes["reason"] and by_text == by_bytes
    assert unnamed["verdict"] != "anomalous"
    expected = [
        "base64",
        "base64",
        "audio data",
        "no_such_machine",
        "machine",
        "false_alarm_rate=7",
        "'0.1'",
        "backend",
    ]
    assert len(bad) == 10
    for answer, part in zip(bad, [*expected, "inputs", "inputs"], strict=True):
        assert answer.keys() == {"error"} and part in answer["error"], answer
    assert not [request for request in hub.requests[asked:] if "secret" in request[1]]


@pytest.mark.slow
def test_the_notebook_of_a_repository_runs_from_its_first_cell_to_its_last(hub, environment, bundled, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    notebook = nbformat.reads(hub.tree("models", "user/bundled")["notebook.ipynb"].decode(), as_version=4)
    nbformat.validate(notebook)
    installing = [cell for cell in notebook.cells if cell.source.startswith("%pip install ")]
    assert len(installing) == 1 and 'torch "transformers>=4.57" soundfile soxr' in installing[0].source
    notebook.cells.remove(installing[0])
    resources = {"metadata": {"path": str(tmp_path)}}
    alone = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    nbclient.NotebookClient(notebook, timeout=300, resources=resources).execute(env=alone)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "as before: normal, p-value" in printed and "with a hiss: anomalous, p-value" in printed
    assert len([output for output in outputs if "image/png" in output.get("data", {})]) == 1
    assert (tmp_path / "my_model" / "scoring.safetensors").is_file()


@pytest.mark.slow
def test_an_export_goes_to_a_repository_of_its_own_that_names_its_model(hub, run, tmp_path):
    pytest.importorskip("onnxruntime")
    model, exported = tmp_path / "model", tmp_path / "exported"
    small_pipeline().save_pretrained(model)
    (model / "all_results.json").write_text(json.dumps({"license": "cc-by-sa-4.0", "attribution": "Made from hums."}))
    run("scripts/export.py", "--model", model, "--output_dir", exported, "--engine", "onnx")
    run(PUSH, "model", exported, "user/hums-onnx", "--base_model", "user/hums")
    tree = hub.tree("models", "user/hums-onnx")
    card = ModelCard(tree["README.md"].decode(), ignore_metadata_errors=False)
    metadata = card.data.to_dict()
    assert metadata["base_model"] == "user/hums" and metadata["base_model_relation"] == "quantized"
    assert metadata["license"] == "cc-by-sa-4.0" and "Made from hums." in card.text and "| embeddings |" in card.text
    assert tree["requirements.txt"].decode().splitlines()[-1] == f"onnxruntime>={version('onnxruntime')}"
    assert {"network.onnx", "export.json", "handler.py", "notebook.ipynb"} <= tree.keys()
    soundfile.write(tmp_path / "machine.wav", machine_sound(220.0, 600, hiss=0.1), RATE)
    assert "'verdict': 'anomalous'" in run_snippets(run, snippets(tree), tmp_path)
    (exported / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    by_hand = ModelCard(export_card(exported, "user/hums-onnx", "user/hums") or "")
    assert by_hand.text.strip() == "# Mine"
    assert by_hand.data.to_dict() == {"license": "mit", "base_model": "user/hums", "base_model_relation": "quantized"}
    for folder, base, said in (
        (exported, None, "--base_model"),
        (exported, "user/x", "another"),
        (model, "user/y", "is none"),
    ):
        with pytest.raises(ValueError, match=said):
            export_card(folder, "user/x", base)


# The data set, the metric, the Space


LOAD_DATASET = """
import datasets, hashlib, json
clips = datasets.load_dataset("user/sounds")
for split, rows in clips.items():
    names = rows.features["label"].names
    for row in rows.cast_column("audio", datasets.Audio(decode=False)):
        name, content = row["audio"]["path"], row["audio"]["bytes"]
        path = f"{row['machine_type']}/{split}/{name}"
        print(json.dumps([path, hashlib.sha256(content).hexdigest(), names[row["label"]], row["is_anomaly"]]))
"""


@pytest.mark.slow
def test_the_data_set_comes_back_with_the_bytes_of_its_clips(hub, client, run, sound_folder):
    sounds = sound_folder(train=2, test=1)
    clips = sorted(sounds.rglob("*.wav"))
    (sounds / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# Sounds of mine\n")
    push = (PUSH, "dataset", "user/sounds", "--data_dir", sounds)
    planned = run(*push, "--dry_run", HF_TOKEN=None)
    assert "train: 8 clips" in planned and "deleted: " in planned
    assert ("datasets", "user/sounds") not in hub.repositories

    cut_off(hub, hold_all_but_one_upload(hub), client(*push))
    assert list(hub.tree("datasets", "user/sounds")) == ["README.md"]
    sent = len(hub.asked("PUT /lfs"))
    run(*push)
    assert len(hub.asked("PUT /lfs")) == sent + 1
    (sounds / "README.md").write_text("---\nlicense: cc-by-4.0\n---\n# All sounds of mine\n")
    run(*push)
    assert len(hub.asked("PUT /lfs")) == sent + 1
    tree = hub.tree("datasets", "user/sounds")
    parquet = ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet"]
    assert sorted(tree) == ["README.md", *parquet]
    assert sorted(line.split()[2].rstrip(",") for line in planned.splitlines() if " MB  " in line) == sorted(tree)
    card = tree["README.md"].decode()
    assert card.endswith("# All sounds of mine\n") and "license: cc-by-4.0" in card and "path: data/train-*" in card

    expected = []
    for clip in clips:
        machine_id = f"{clip.parts[-3]}_{clip.stem[clip.stem.index('id_') :][:5]}"
        content = hashlib.sha256(clip.read_bytes()).hexdigest()
        expected.append([clip.relative_to(sounds).as_posix(), content, machine_id, clip.name.startswith("anomaly")])
    loaded = [json.loads(line) for line in run(LOAD_DATASET).splitlines() if line.startswith("[")]
    for end, rows in (("pushed", expected), ("loaded", loaded)):
        total = hashlib.sha256("".join(content for _, content, *_ in sorted(rows)).encode())
        print(f"{len(rows)} clips {end}, sha256 of their sha256 {total.hexdigest()}")
    assert sorted(loaded) == sorted(expected)


def test_a_dry_run_of_the_published_set_downloads_nothing_and_says_what_a_push_would(run, home):
    before = set(home.rglob("*"))
    planned = run(PUSH, "dataset", "user/dcase", "--name", "all", "--dry_run", HF_TOKEN=None)
    assert planned.count("downloaded unless it is there: https://zenodo.org/records/") == 12
    assert "/dev_data_fan.zip" in planned and "/eval_data_train_valve.zip" in planned
    assert "all/SPLIT-" in planned and "README.md" in planned
    assert set(home.rglob("*")) == before


COMPUTE = """
import evaluate, json, sys
print(json.dumps(evaluate.load("user/asd_auc").compute(**json.loads(sys.argv[1]))))
"""


@pytest.mark.slow
def test_the_metric_comes_back_by_name_and_computes_the_same(hub, run):
    assert "expected you/asd_auc" in run(PUSH, "metric", "user/auc", fails=True)
    run(PUSH, "metric", "user/asd_auc")
    tree = hub.tree("spaces", "user/asd_auc")
    assert sorted(tree) == ["README.md", "asd_auc.py", "index.html"]
    assert b"\nsdk: static\n" in tree["README.md"]
    assert b'evaluate.load("user/asd_auc")' in tree["index.html"]
    data = {
        "predictions": [0.1, 0.4, 0.3, 0.8, 0.2, 0.9],
        "references": [0, 0, 1, 1, 0, 1],
        "machine_types": ["fan"] * 6,
        "machine_ids": ["00", "00", "00", "00", "02", "02"],
    }
    loaded = json.loads(run(COMPUTE, json.dumps(data)).splitlines()[-1])
    assert loaded == evaluate.load(str(ROOT / "metrics" / "asd_auc")).compute(**data)


LOAD_DEMO = """
import sys
from transformers import pipeline

detect = pipeline("anomalous-sound-detection", model=sys.argv[1], trust_remote_code=True)
print(type(detect).__module__, detect(sys.argv[2], machine="synthetic_fan_04")["verdict"])
"""


def test_the_space_is_pushed_whole_without_caches_and_stands_alone_without_links(hub, run, tmp_path):
    assert "deleted: every other file" in run(PUSH, "space", "user/app", "--dry_run", HF_TOKEN=None)
    run(PUSH, "space", "user/app")
    tree = hub.tree("spaces", "user/app")
    assert not [path for path in tree if "__pycache__" in path or path.startswith(".")]
    assert {"README.md", "requirements.txt", "demo_model/config.json"} <= tree.keys()
    app = {file.name: file.read_bytes() for file in SPACE.glob("*.py")}
    assert code_in(tree) == app
    assert code_in(tree, "demo_model/") == {name: file.read_bytes() for name, file in code_files().items()}
    for path, content in tree.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    loaded = run(LOAD_DEMO, tmp_path / "demo_model", tmp_path / "examples" / "fan_clogged.flac").split()
    assert loaded[-2].startswith("transformers_modules.") and loaded[-1] == "anomalous"


def test_a_model_whose_code_is_links_is_pushed_with_the_code_itself(hub, run):
    run(PUSH, "model", SPACE / "demo_model", "user/linked")
    tree = hub.tree("models", "user/linked")
    assert code_in(tree) == {name: file.read_bytes() for name, file in {**code_files(), **beside("handler.py")}.items()}
    added = {"handler.py", "notebook.ipynb", "requirements.txt"}
    assert tree.keys() == {file.name for file in (SPACE / "demo_model").iterdir()} | added


def beside(*names: str) -> dict[str, Path]:
    """What a push adds to a model, by name."""
    return {name: BESIDE / name for name in names}


def code_in(tree: dict[str, bytes], folder: str = "") -> dict[str, bytes]:
    """The Python files of a folder of a repository, by name."""
    files = {path.removeprefix(folder): content for path, content in tree.items() if path.startswith(folder)}
    return {path: content for path, content in files.items() if path.endswith(".py") and "/" not in path}
