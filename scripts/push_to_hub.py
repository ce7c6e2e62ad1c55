#!/usr/bin/env python
"""Push a trained model, the data set, the metric or the Space to the Hugging Face Hub.

    python scripts/push_to_hub.py model OUT you/attention-asd --private
    python scripts/push_to_hub.py model EXP you/attention-asd-int8 --base_model you/attention-asd     # an export
    python scripts/push_to_hub.py dataset you/dcase2020-task2 --name development
    python scripts/push_to_hub.py metric you/asd_auc
    python scripts/push_to_hub.py space you/attention-asd

With --dry_run it lists what would be uploaded, and sends and downloads nothing. The same command repairs a push that
was interrupted: it sends what has not arrived yet.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub import DatasetCard, HfApi, RepoCard, hf_hub_download
from huggingface_hub.errors import HTTPError  # pyright: ignore[reportPrivateImportUsage]  # the client's own errors

from dcase2020_task2 import ArchiveError, load_clips
from dcase2020_task2.download import ARCHIVES, EVALUATION_LABELS_RECORD, SELECTIONS, ZENODO
from evaluation.command import run
from evaluation.model_card import model_card_for
from training.hub import HubRepository, check_token, files_in, push_model, pushed_files
from training.repository_files import export_card


ROOT = Path(__file__).resolve().parents[1]
METRIC, SPACE = ROOT / "metrics" / "asd_auc", ROOT / "space"
DATASET_CARD = ROOT / "dcase2020_task2" / "README.md"
MAX_PARQUET_BYTES = 500 * 10**6

DATASET_DELETED = "deleted: Parquet files of an earlier push of the same configuration that are not among these"
METRIC_PAGE = """\
<!doctype html>
<meta charset="utf-8">
<title>{title}</title>
<h1>{title}</h1>
<p>{description}</p>
<pre>import evaluate

metric = evaluate.load("{repo_id}")</pre>
<p><a href="https://huggingface.co/spaces/{repo_id}/blob/main/README.md">How to use it</a></p>
"""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="kind", required=True, metavar="KIND")
    model = commands.add_parser("model", help="a trained model")
    model.add_argument("model_dir", type=Path, help="directory that train.py or export.py wrote")
    model.add_argument("--base_model", help="for an export: repository of the model that was exported")
    model.add_argument("--subfolder", default="", help="folder of the repository, for one model among several")
    dataset = commands.add_parser("dataset", help="clips, as Parquet with the sounds inside")
    source = dataset.add_mutually_exclusive_group()
    source.add_argument(
        "--name",
        choices=SELECTIONS,
        default="development",
        help="part of DCASE 2020 Task 2 (default %(default)s)",
    )
    source.add_argument(
        "--data_dir", type=Path, help="clips of your own in its layout; a README.md beside them is their card"
    )
    metric = commands.add_parser("metric", help="AUC, pAUC and mAUC, for evaluate.load")
    space = commands.add_parser("space", help="the app")
    for command in (model, dataset, metric, space):
        command.add_argument("repo_id", help="repository on the Hub, user/name")
        command.add_argument("--private", action="store_true", help="visible only to you or your organization")
        command.add_argument("--revision", help="branch, made where it is missing (default main)")
        command.add_argument("--commit_message", help="the commit's title in the repository's history")
        command.add_argument("--dry_run", action="store_true", help="list what would be sent, and send nothing")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    push = {"model": push_a_model, "dataset": push_dataset, "metric": push_metric, "space": push_app}[arguments.kind]
    try:
        url = push(arguments)
    except (ArchiveError, HTTPError) as error:
        raise OSError(str(error)) from error
    print(f"{arguments.repo_id}: " + (f"pushed, {url}" if url else "dry run, nothing was sent"))


# The model


def push_a_model(arguments: argparse.Namespace) -> str | None:
    card = export_card(arguments.model_dir, arguments.repo_id, arguments.base_model, arguments.subfolder)
    if card is None:
        card = model_card_for(arguments.model_dir, arguments.repo_id, arguments.subfolder)
    if arguments.dry_run:
        print_files(pushed_files(arguments.model_dir, arguments.repo_id, arguments.subfolder, card))
        place = f"in {arguments.subfolder}/" if arguments.subfolder else "at the root and in evaluation/"
        print(f"deleted: files of an earlier push of a model {place} that are not listed here, but for its card")
        return None
    repository = HubRepository(arguments.repo_id, "model", arguments.private, arguments.revision)
    message = arguments.commit_message or "Upload model"
    return push_model(arguments.model_dir, repository, message, arguments.subfolder, card)


# The data set


def push_dataset(arguments: argparse.Namespace) -> str | None:
    if arguments.dry_run and arguments.data_dir is None:
        print_published_set(arguments.name)
        return None
    if not arguments.dry_run:
        check_token()
    if arguments.data_dir is None:
        clips, config_name, card = load_clips(name=arguments.name), arguments.name, DATASET_CARD
    else:
        clips, config_name, card = load_clips(arguments.data_dir), "default", arguments.data_dir / "README.md"
    num_shards = {str(split): math.ceil(sound_bytes(rows) / MAX_PARQUET_BYTES) or 1 for split, rows in clips.items()}
    if arguments.dry_run:
        print_parquet_files(clips, num_shards, card)
        return None
    repository = HubRepository(arguments.repo_id, "dataset", arguments.private, arguments.revision).create()
    if card.is_file():
        push_dataset_card(card, repository)
    # Declaring paths to be audio decodes none: clips are published as they are, torchcodec is not needed.
    clips = clips.rename_column("path", "audio").cast_column("audio", datasets.Audio())
    # `datasets` writes and sends the Parquet files one by one, commits them together, and notes them in the card.
    message = arguments.commit_message or f"Upload {config_name}"
    commit = clips.push_to_hub(
        repository.repo_id, config_name, revision=repository.revision, commit_message=message, num_shards=num_shards
    )
    return commit.commit_url if commit else None


def push_dataset_card(card_file: Path, repository: HubRepository) -> None:
    """Push the card, with what an earlier push of data noted in the card of the repository."""
    card = DatasetCard.load(card_file)
    place = {"repo_type": "dataset", "revision": repository.revision}
    if HfApi().file_exists(repository.repo_id, "README.md", **place):
        noted = DatasetCard.load(hf_hub_download(repository.repo_id, "README.md", **place)).data.to_dict()
        card.data.__dict__.update({key: noted[key] for key in ("configs", "dataset_info") if key in noted})
    files = {"README.md": str(card).encode()}
    repository.push(files, "Upload dataset card", is_replaced=lambda path: False)


def sound_bytes(rows: datasets.Dataset) -> int:
    return sum(Path(path).stat().st_size for path in rows["path"])


def print_parquet_files(clips: datasets.DatasetDict, num_shards: Mapping[Any, int], card: Path) -> None:
    for split, rows in clips.items():
        for index in range(num_shards[split]):
            shard = rows.shard(num_shards[split], index, contiguous=True)
            name = f"data/{split}-{index:05d}-of-{num_shards[split]:05d}.parquet"
            clips_of_it = f"({split}: {len(shard):,} clips; the size is that of their sounds)"
            print(f"{megabytes(sound_bytes(shard))}  {name} {clips_of_it}")
    if card.is_file():
        print_dataset_card(card)
    print(DATASET_DELETED)


def print_published_set(name: str) -> None:
    """Print what a push of a published set downloads and sends. Only the archives tell which clips they hold."""
    for archive in ARCHIVES:
        if archive.part in SELECTIONS[name]:
            print(f"downloaded unless it is there: {ZENODO}/records/{archive.record}/files/{archive.name}")
    if "evaluation" in SELECTIONS[name]:
        print(f"downloaded unless it is there: the labels, {ZENODO}/records/{EVALUATION_LABELS_RECORD}")
    limit = f"{MAX_PARQUET_BYTES / 1e6:.0f} MB"
    print(f"then sent: {name}/SPLIT-NUMBER-of-TOTAL.parquet, a split's clips in files of about {limit} at most")
    print_dataset_card(DATASET_CARD)
    print(DATASET_DELETED)


def print_dataset_card(card: Path) -> None:
    print(f"{megabytes(card.stat().st_size)}  README.md, with the data's columns and splits noted in it")


# The metric and the app, both Spaces


def push_metric(arguments: argparse.Namespace) -> str | None:
    """Push the metric as a Space: evaluate.load("you/asd_auc") takes asd_auc.py from the Space of that name.

    The Space is static: the Gradio page that evaluate makes for its metrics does not run with Gradio 6.
    """
    name = METRIC.name
    if not arguments.repo_id.endswith(f"/{name}"):
        raise ValueError(f"{arguments.repo_id}: expected you/{name}: evaluate.load looks for a file of that name.")
    card = RepoCard.load(METRIC / "README.md")
    card.data["sdk"] = "static"
    title, description = card.data["title"], card.data["description"]
    page = METRIC_PAGE.format(repo_id=arguments.repo_id, title=title, description=description)
    files = {
        "README.md": str(card).encode(),
        "index.html": page.encode(),
        f"{name}.py": METRIC / f"{name}.py",
    }
    return push_space(files, "static", arguments)


def push_app(arguments: argparse.Namespace) -> str | None:
    if not (SPACE / "README.md").is_file():
        raise ValueError(f"{SPACE}: has no README.md. Expected the app, with a README.md that says what runs it.")
    if not (SPACE / "demo_model" / "config.json").is_file():
        raise ValueError(
            f"{SPACE / 'demo_model'}: holds no model, and the app needs one. Make it with scripts/build_space.py."
        )
    # Caches and hidden files are not pushed.
    files = {
        path: file for path, file in files_in(SPACE).items() if not any(part[0] in "._" for part in Path(path).parts)
    }
    return push_space(files, RepoCard.load(SPACE / "README.md").data["sdk"], arguments)


def push_space(files: Mapping[str, Path | bytes], sdk: str, arguments: argparse.Namespace) -> str | None:
    if arguments.dry_run:
        print_files(files)
        print("deleted: every other file in the repository")
        return None
    repository = HubRepository(arguments.repo_id, "space", arguments.private, arguments.revision, sdk)
    return repository.push(files, arguments.commit_message or f"Upload {arguments.kind}")


def print_files(files: Mapping[str, Path | bytes]) -> None:
    sizes = {path: len(file) if isinstance(file, bytes) else file.stat().st_size for path, file in files.items()}
    for path, length in sizes.items():
        print(f"{megabytes(length)}  {path}")
    print(f"{megabytes(sum(sizes.values()))}  in {len(files)} files")


def megabytes(length: int) -> str:
    return f"{length / 1e6:12,.3f} MB"


if __name__ == "__main__":
    run(main)
