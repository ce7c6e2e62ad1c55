"""A detector on disk: the same to the bit when loaded, and refused where it cannot be read."""

import json

import numpy as np
import pytest
from machine_world import NAMES, NEW, World

from modeling import AnomalyDetector, ClipOutputs
from modeling.backends_attention_asd import BACKENDS


FILES = ("scoring.safetensors", "scoring_config.json")


@pytest.mark.parametrize("with_spectra", [True, False])
def test_saved_detector_is_the_same_to_the_bit(tmp_path, with_spectra):
    world = World()
    detector = world.detector(with_spectra=with_spectra, false_alarm_rate=0.05, backend="gmm")
    detector.enroll("../Förderband", world.clips(NEW, 3))
    detector.enroll("press", world.clips(NEW, 1))
    detector.save_pretrained(tmp_path)
    loaded = AnomalyDetector.from_pretrained(tmp_path)
    assert loaded.machines == [*NAMES, "../Förderband", "press"]
    assert (loaded.backend, loaded.false_alarm_rate, loaded.backends) == ("gmm", 0.05, detector.backends)
    clips = ClipOutputs.concatenate([world.clips(machine, 3) for machine in range(NEW + 1)])
    for backend in detector.backends:
        for machine in (None, *loaded.machines):
            assert loaded.decide(clips, machine, None, backend) == detector.decide(clips, machine, None, backend)
    assert np.array_equal(loaded.normal_level("press")[1], detector.normal_level("press")[1])
    loaded.save_pretrained(tmp_path / "again")
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    # A machine's name is text in a file, never the name of one.
    assert not (tmp_path.parent / "Förderband").exists()


def test_answers_do_not_depend_on_what_was_asked_before(tmp_path):
    """A detector that was asked and enrolled into keeps what it worked out; one fresh from files has nothing kept."""
    world = World()
    used = world.detector()
    clips = ClipOutputs.concatenate([world.clips(machine, 3) for machine in range(NEW + 1)])
    for machine, count in ((NEW, 5), (2, 1), (NEW, 1), (NEW, 4)):
        used.decide(clips)
        used.enroll("press", world.clips(machine, count))
        used.enroll("pump", world.clips(machine, 1))
    used.save_pretrained(tmp_path)
    fresh = AnomalyDetector.from_pretrained(tmp_path)
    new = world.clips(NEW, 1)
    for detector in (used, fresh):
        detector.enroll("lathe", new)
    for backend in BACKENDS:
        for machine in (None, "press", "lathe"):
            assert used.decide(clips, machine, None, backend) == fresh.decide(clips, machine, None, backend)


def test_files_that_are_missing_or_broken_are_named(tmp_path):
    with pytest.raises(OSError, match="scoring_config.json"):
        AnomalyDetector.from_pretrained(tmp_path)
    World().detector().save_pretrained(tmp_path)
    tensors = (tmp_path / "scoring.safetensors").read_bytes()
    for broken in (b"", tensors[:100], tensors[:-8]):
        (tmp_path / "scoring.safetensors").write_bytes(broken)
        with pytest.raises(ValueError, match="scoring.safetensors cannot be read"):
            AnomalyDetector.from_pretrained(tmp_path)
    (tmp_path / "scoring.safetensors").write_bytes(tensors)
    (tmp_path / "scoring_config.json").write_text("{}")
    with pytest.raises(ValueError, match="cannot be read"):
        AnomalyDetector.from_pretrained(tmp_path)


def test_files_of_an_older_version_are_refused_with_what_to_do(tmp_path):
    World().detector().save_pretrained(tmp_path)
    config = tmp_path / "scoring_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"format_version": 3}))
    with pytest.raises(ValueError, match="version 3, this code reads version 5.*scripts/fit_detector.py"):
        AnomalyDetector.from_pretrained(tmp_path)
