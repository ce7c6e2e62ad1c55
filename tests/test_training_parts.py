"""Batches, mixup, the waveform bank and checkpoints, each on its own."""

import argparse
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from evaluation.command import above_zero
from training.batches import KeyedBatches, draw_mixup, hold_out
from training.checkpoints import Progress, list_checkpoints, load_checkpoint, save_checkpoint
from training.setup import read_labels
from training.waveform_bank import WaveformBank, to_waveforms


def test_an_epoch_shows_every_clip_and_the_next_one_in_another_order():
    batches = KeyedBatches(num_clips=23, batch_size=4, seed=5)
    first = [index for batch in batches for index in batch]
    batches.epoch = 1
    second = [index for batch in batches for index in batch]
    assert set(first) == set(second) == set(range(23)) and first != second
    assert len(first) == 24


def test_processes_and_accumulation_share_out_the_same_clips():
    alone = np.array(list(KeyedBatches(num_clips=48, batch_size=8, seed=1)))
    shared = [list(KeyedBatches(48, 2, accumulation=2, num_processes=2, process_index=rank, seed=1)) for rank in (0, 1)]
    for update in range(6):
        seen = [shared[rank][2 * update + micro] for micro in (0, 1) for rank in (0, 1)]
        assert np.array_equal(np.concatenate(seen), alone[update])


def test_an_epoch_resumed_after_some_updates_goes_on_where_it_was():
    whole = list(KeyedBatches(num_clips=40, batch_size=4, accumulation=2, seed=3, epoch=7))
    rest = list(KeyedBatches(num_clips=40, batch_size=4, accumulation=2, seed=3, epoch=7, first_update=2))
    assert rest == whole[4:]


def test_batches_shrink_where_clips_are_few():
    batches = KeyedBatches(num_clips=5, batch_size=64, num_processes=2)
    assert batches.batch_size == 3 and batches.updates_per_epoch == 1


def test_every_machine_id_keeps_and_holds_out_clips():
    labels = [0] * 100 + [1] * 2 + [2]
    train, held_out = hold_out(labels, 0.05, seed=0)
    assert sorted([*train, *held_out]) == list(range(103))
    assert [sum(labels[i] == k for i in held_out) for k in range(3)] == [5, 1, 0]
    assert not np.array_equal(held_out, hold_out(labels, 0.05, seed=1)[1])
    assert len(hold_out(labels, 0.0, seed=0)[1]) == 0


def test_mixup_draws_depend_on_their_key_alone():
    share, partner = draw_mixup(8, 0.2, 0, 17, 1)
    torch.rand(3)
    np.random.rand(3)
    again, partner_again = draw_mixup(8, 0.2, 0, 17, 1)
    assert share == again and torch.equal(partner, partner_again)
    assert draw_mixup(8, 0.2, 0, 18, 1)[0] != share
    assert sorted(partner.tolist()) == list(range(8)) and 0 <= share <= 1
    shares = [draw_mixup(2, 0.2, 0, step)[0] for step in range(2000)]
    # Beta(0.2, 0.2): mean 1/2, variance 1 / (4 (2 * 0.2 + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03) and np.var(shares) == pytest.approx(1 / 5.6, abs=0.01)


@pytest.fixture
def clips(tmp_path):
    paths = []
    for index in range(4):
        samples = np.random.default_rng(index).integers(-9000, 9000, 16_000).astype(np.int16)
        soundfile.write(tmp_path / f"{index}.wav", samples, 16_000)
        paths.append(str(tmp_path / f"{index}.wav"))
    return paths


def test_the_bank_holds_the_files_very_samples(clips, small_extractor, tmp_path):
    bank = WaveformBank(clips, [0, 1, 2, 0], small_extractor, cache_dir=tmp_path / "cache", progress=False)
    samples, labels = bank.fetch([2, 0])
    assert samples.dtype == torch.int16 and labels.tolist() == [2, 0]
    expected = soundfile.read(clips[2], dtype="float32")[0]
    assert np.array_equal(to_waveforms(samples)[0].numpy(), expected)


def test_the_bank_names_unreadable_files_and_goes_on(clips, small_extractor, tmp_path):
    (tmp_path / "1.wav").write_text("no sound")
    bank = WaveformBank(clips, [0, 1, 2, 3], small_extractor, cache_dir=tmp_path / "cache", progress=False)
    assert list(bank.errors) == [clips[1]] and "1.wav" in bank.errors[clips[1]]
    assert len(bank) == 3 and bank.labels.tolist() == [0, 2, 3]
    assert bank.fetch([1])[1].tolist() == [2]


def test_the_bank_is_decoded_once_and_again_when_a_file_changed(clips, small_extractor, tmp_path):
    cache = tmp_path / "cache"
    first = WaveformBank(clips, [0] * 4, small_extractor, cache_dir=cache, progress=False)
    made = first.file.stat().st_mtime_ns
    second = WaveformBank(clips, [0] * 4, small_extractor, cache_dir=cache, progress=False)
    assert second.file == first.file and second.file.stat().st_mtime_ns == made
    soundfile.write(clips[0], np.zeros(16_001, np.int16), 16_000)
    third = WaveformBank(clips, [0] * 4, small_extractor, cache_dir=cache, progress=False)
    assert third.file != first.file and not third.fetch([0])[0].any()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse names in Latin-1")
def test_clips_that_no_recorder_makes_are_named_and_the_others_are_trained_on(small_extractor, tmp_path):
    """1 Hz, raw samples, the floats of 16-bit units, and a header of 50 days: each was the end of a run."""
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    names = ["1 Hz.wav", "samples.raw", "units.wav", "years.flac", os.fsdecode(b"caf\xe9.wav")]
    clips = [str(tmp_path / name) for name in names]
    for clip in (clips[0], clips[4]):
        with open(clip, "wb") as file:
            soundfile.write(file, sound, 16_000, format="WAV")
    with open(clips[0], "r+b") as file:
        file.seek(24)
        file.write(struct.pack("<I", 1))
    Path(clips[1]).write_bytes(bytes(32_000))
    soundfile.write(clips[2], 32768 * sound, 16_000, subtype="FLOAT")
    soundfile.write(clips[3], sound, 16_000)
    with open(clips[3], "r+b") as file:
        file.seek(21)
        file.write(bytes([0xFF]) * 5)
    bank = WaveformBank(clips, [0] * 5, small_extractor, cache_dir=tmp_path / "cache", progress=False)
    assert list(bank.errors) == clips[:4] and bank.rows == [4]
    for clip, said in zip(clips, ("sampling_rate=1:", "Format not", "divide by 32768", "it is too long"), strict=False):
        assert bank.errors[clip].startswith(f"{clip}: ") and said in bank.errors[clip]


def test_a_checkpoint_restores_weights_moments_and_place_without_pickle(small_model, tmp_path):
    def made():
        model = small_model().train().to(memory_format=torch.channels_last)
        return model, torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def update(model, optimizer, seed):
        generator = torch.Generator().manual_seed(seed)
        values, features = torch.randn(4, 16_000, generator=generator), torch.randn(4, 128, 32, generator=generator)
        model(input_values=values, input_features=features, labels=torch.tensor([0, 1, 2, 0])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    model, optimizer = made()
    update(model, optimizer, 0)
    progress = Progress(epoch=3, update=5, step=41, epoch_loss_sum=1.25, history=[{"loss": 2.0}])
    checkpoint = save_checkpoint(tmp_path, model, optimizer, progress, {"seed": 0})
    assert {path.suffix for path in checkpoint.iterdir()} == {".safetensors", ".json"}

    other, other_optimizer = made()
    loaded, _ = load_checkpoint(checkpoint, other, other_optimizer, {"seed": 0})
    assert loaded == progress
    update(model, optimizer, 1)
    update(other, other_optimizer, 1)
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), other.state_dict().values(), strict=True))


def test_only_the_newest_checkpoints_are_kept(small_model, tmp_path):
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    for step in (1, 2, 10):
        save_checkpoint(tmp_path, model, optimizer, Progress(step=step), {})
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step_00000002", "step_00000010"]


def test_a_folder_that_is_no_checkpoint_is_refused_by_name(small_model, tmp_path):
    model = small_model()
    with pytest.raises(ValueError, match="step_00000009"):
        load_checkpoint(tmp_path / "step_00000009", model, torch.optim.AdamW(model.parameters()), {})


def test_a_checkpoint_of_a_run_with_other_settings_is_refused_by_the_setting(small_model, tmp_path):
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint = save_checkpoint(tmp_path, model, optimizer, Progress(), {"seed": 0, "learning_rate": 1e-3})
    with pytest.raises(ValueError, match="learning_rate"):
        load_checkpoint(checkpoint, model, optimizer, {"seed": 0, "learning_rate": 1e-4})


def test_a_cut_off_checkpoint_is_refused_by_name(small_model, tmp_path):
    model = small_model()
    optimizer = torch.optim.AdamW(model.parameters())
    checkpoint = save_checkpoint(tmp_path, model, optimizer, Progress(), {})
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:500])
    with pytest.raises(ValueError, match=checkpoint.name):
        load_checkpoint(checkpoint, model, optimizer, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{ 'id2label'", "labels.json: no JSON"),
        ("[1]", "labels.json: holds a list: expected one JSON object"),
        ('{"id2label": {"0": "fan_id_00"}}', "labels.json: expected id2label, a name for each number, and label2id"),
        ('{"id2label": {"first": "fan_id_00"}, "label2id": {"fan_id_00": 0}}', "labels.json: expected id2label"),
        ('{"id2label": {"0": "fan_id_02"}, "label2id": {"fan_id_02": 0}}', "label2id has no fan_id_00"),
    ],
)
def test_a_file_of_labels_that_cannot_be_used_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_labels(str(tmp_path / "labels.json"), ["fan_id_00"])


def test_a_batch_holds_one_clip_or_more():
    assert above_zero("12") == 12
    for text in ("0", "-1", "1.5", "many"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text}: expected a whole number above 0"):
            above_zero(text)
