"""Training clips, decoded once into a memory-mapped array of 16-bit samples that every process shares."""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.constants import HF_HOME
from tqdm.auto import tqdm

from feature_extraction import AttentionAsdFeatureExtractor
from modeling.clip_checks_attention_asd import Looks, look_at
from modeling.recordings_attention_asd import open_normal
from modeling.saving_attention_asd import naming_full_disk


# Banks of another version are decoded anew. Since version 2 silence at both ends and an offset (DC) are left out, since
# version 4 recordings that are too short or mostly silent.
BANK_VERSION = 4
CACHE_DIR = Path(HF_HOME) / "attention_asd"


class WaveformBank:
    """Clips as `(clip_length,)` int16 and their labels, in the order of `paths`.

    The first use decodes every file (about 4 ms a ten-second clip and core) into a file in the Hugging Face
    cache; later runs over unchanged files map that file. The clips of DCASE 2020 have 16 bits, so nothing is lost.

    Args:
        paths: sound files.
        labels: the class of each file.
        feature_extractor: gives the clip's length and reads the files.
        cache_dir: where the decoded clips go.
        progress: whether to show a progress bar.

    Attributes:
        rows: the index in `paths` of each clip.
        errors: path and message of each file that could not be used; such files are left out.
        looks: what each clip looks like, by its path.
        labels: `(clips,)` int64.
        lengths: `(clips,)`, the samples of each clip that were recorded; a short clip is filled.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        feature_extractor: AttentionAsdFeatureExtractor,
        cache_dir: Path = CACHE_DIR,
        progress: bool = True,
    ):
        self.clip_length = feature_extractor.clip_length
        self.file = cache_dir / f"waveforms-{bank_digest(paths, feature_extractor)}.npy"
        self.report = self.file.with_suffix(".json")
        # The report is written last: where it exists, the bank is whole.
        if not self.report.exists():
            self._decode(paths, feature_extractor, progress)
        report = json.loads(self.report.read_text(encoding="utf-8"))
        self.errors: dict[str, str] = report["errors"]
        self.looks = {path: Looks(**look) for path, look in report["looks"].items()}
        self.waveforms = np.load(self.file, mmap_mode="r")
        self.rows = [row for row, path in enumerate(paths) if path not in self.errors]
        self.labels = np.asarray([labels[row] for row in self.rows], dtype=np.int64)
        self.lengths = np.asarray(report["lengths"], dtype=np.int64)[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def keep(self, clips: Sequence[int]) -> None:
        """Keep these clips alone, by their numbers in the bank."""
        self.rows = [self.rows[clip] for clip in clips]
        self.labels = self.labels[list(clips)]
        self.lengths = self.lengths[list(clips)]

    def fetch(self, indices: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return a batch: `(batch, clip_length)` int16 and `(batch,)` labels."""
        samples = self.waveforms[[self.rows[index] for index in indices]]
        return torch.from_numpy(samples), torch.from_numpy(self.labels[list(indices)])

    def inputs(
        self,
        samples: torch.Tensor,
        feature_extractor: AttentionAsdFeatureExtractor,
        share: float = 1.0,
        partner: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """Return the network's inputs of fetched clips.

        Section II.A of the paper: sounds are mixed before the log-mel, as they would be in the air.

        Args:
            samples: `(batch, clip_length)` int16, as [`fetch`] gives them.
            feature_extractor: computes the log-mel.
            share: what each mixed clip keeps of itself; its partner makes up the rest.
            partner: `(batch,)`, the clip of the batch that each clip is mixed with; without partners nothing is mixed.
        """
        waveforms = to_waveforms(samples)
        if partner is not None:
            waveforms = share * waveforms + (1.0 - share) * waveforms[partner]
        return {"input_values": waveforms, "input_features": feature_extractor.log_mel(waveforms)}

    def _decode(self, paths: Sequence[str], feature_extractor: AttentionAsdFeatureExtractor, progress: bool) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        partial = self.file.with_suffix(f".{os.getpid()}.partial")
        report = decode_clips(paths, feature_extractor, partial, progress)
        if self.report.exists():  # another run was faster, and may have mapped its file, which Windows does not replace
            partial.unlink()
            return
        os.replace(partial, self.file)
        report_partial = self.report.with_suffix(f".{os.getpid()}.json.partial")
        with naming_full_disk(report_partial):
            report_partial.write_text(json.dumps(report), encoding="utf-8")
        os.replace(report_partial, self.report)


def decode_clips(
    paths: Sequence[str], feature_extractor: AttentionAsdFeatureExtractor, file: Path, progress: bool
) -> dict[str, Any]:
    """Write the clips into a file of 16-bit samples, which is closed at the end: Windows renames no file that is mapped.

    Returns:
        What the report holds: `errors` and `looks` by path, and the `lengths` of all clips.
    """
    bank = empty_bank(file, (len(paths), feature_extractor.clip_length))
    errors, looks, lengths = {}, {}, [0] * len(paths)

    def decode(row: int) -> None:
        try:
            recording = open_normal(paths[row], feature_extractor)
            sound, is_clipped = recording.window(0), recording.heard.conditions.is_clipped
            looks[paths[row]] = asdict(look_at([sound], is_clipped, feature_extractor.is_silent))
            clip, lengths[row] = feature_extractor.fit_length(torch.from_numpy(sound)), len(sound)
            bank[row] = clip.mul(32768.0).round_().clamp_(-32768, 32767).short().numpy()
        except ValueError as error:
            errors[paths[row]] = str(error)

    # libsndfile decodes outside Python's lock.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        rows = pool.map(decode, range(len(paths)))
        list(tqdm(rows, total=len(paths), desc="Decoding", unit="clip", disable=not progress))
    bank.flush()
    errors = {path: errors[path] for path in paths if path in errors}  # the threads end in any order
    return {"errors": errors, "looks": looks, "lengths": lengths}


def empty_bank(path: Path, shape: tuple[int, int]) -> np.memmap:
    """Make a file of int16 and map it into memory.

    Raises:
        OSError: the disk is full.
    """
    bank = np.lib.format.open_memmap(path, mode="w+", dtype=np.int16, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # The file has no blocks yet. Where the disk fills up later, a write through the map ends the process by SIGBUS.
        try:
            with naming_full_disk(path), open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError:
            path.unlink()
            raise
    return bank


def bank_digest(paths: Sequence[str], feature_extractor: AttentionAsdFeatureExtractor) -> str:
    """Return a name that changes when a file is added, removed or touched, or when the extractor reads otherwise."""
    digest = hashlib.sha256(f"{BANK_VERSION}{feature_extractor.to_json_string()}".encode())
    for path in paths:
        try:
            stat = os.stat(path)
            digest.update(os.fsencode(path) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(os.fsencode(path) + b"\0missing\n")
    return digest.hexdigest()[:24]


def to_waveforms(samples: torch.Tensor) -> torch.Tensor:
    """Turn int16 samples of a bank into float32 in [-1, 1)."""
    return samples.float() / 32768.0
