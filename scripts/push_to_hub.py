#!/usr/bin/env python
"""Push a trained model, the data set, the metric or the Space to the Hugging Face Hub.

    python scripts/push_to_hub.py model OUT you/attention-asd --private
    python scripts/push_to_hub.py dataset you/dcase2020-task2 --name development
    python scripts/push_to_hub.py metric you/asd_auc
    python scripts/push_to_hub.py space you/attention-asd

With --dry_run it lists what would be uploaded, and sends and downloads nothing. A push that was
interrupted is repaired by the same command, which sends what has not arrived yet.
"""

import argparse
import math
import sys
from pathlib import Path

import datasets
from huggingface_hub import DatasetCard, HfApi, RepoCard, hf_hub_download
from huggingface_hub.errors import HTTPError


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dcase2020_task2 import ArchiveError, load_clips  # noqa: E402
from dcase2020_task2.download import ARCHIVES, EVALUATION_LABELS_RECORD, SELECTIONS, ZENODO  # noqa: E402
from evaluation.model_card import model_card_for  # noqa: E402
from training.hub import check_token, create_repository, model_files, push_files, push_model  # noqa: E402


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
    model.add_argument("model_dir", type=Path, help="directory that train.py wrote")
    model.add_argument("--subfolder", default="", help="folder of the repository, for one model among several")
    dataset = commands.add_parser("dataset", help="clips, as Parquet with the sounds in it")
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
        command.add_argument("--private", action="store_true", help="visible to you or your organisation alone")
        command.add_argument("--revision", help="branch, made where it is missing (default main)")
        command.add_argument("--commit_message", help="the commit's title in the repository's history")
        command.add_argument("--dry_run", action="store_true", help="list what would be sent, and send nothing")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    push = {"model": model, "dataset": dataset, "metric": metric, "space": space}[arguments.kind]
    url = push(arguments)
    print(f"{arguments.repo_id}: " + (f"pushed, {url}" if url else "dry run, nothing was sent"))
    return 0


def model(arguments: argparse.Namespace) -> str | None:
    card = model_card_for(arguments.model_dir, arguments.repo_id, arguments.subfolder)
    if arguments.dry_run:
        show(model_files(arguments.model_dir, arguments.subfolder, card))
        place = f"in {arguments.subfolder}/" if arguments.subfolder else "at the root and in evaluation/"
        print(f"deleted: files of an earlier push of a model {place} that are not listed here, but for its card")
        return None
    return push_model(
        arguments.model_dir,
        arguments.repo_id,
        arguments.private,
        arguments.commit_message or "Upload model",
        arguments.revision,
        arguments.subfolder,
        card,
    )


def dataset(arguments: argparse.Namespace) -> str | None:
    """`push_to_hub` of `datasets` makes and sends the Parquet files one by one, commits them together, and
    notes them in the card that it finds."""
    if arguments.dry_run and arguments.data_dir is None:
        return show_published_set(arguments.name)
    if not arguments.dry_run:
        check_token()
    if arguments.data_dir is None:
        clips, config_name, card = load_clips(name=arguments.name), arguments.name, DATASET_CARD
    else:
        clips, config_name, card = load_clips(arguments.data_dir), "default", arguments.data_dir / "README.md"
    lengths = {split: [Path(path).stat().st_size for path in rows["path"]] for split, rows in clips.items()}
    shards = {split: math.ceil(sum(of_clips) / MAX_PARQUET_BYTES) or 1 for split, of_clips in lengths.items()}
    if arguments.dry_run:
        for split, rows in clips.items():
            for index in range(shards[split]):
                held = rows.shard(shards[split], index, contiguous=True)["path"]
                total = sum(Path(path).stat().st_size for path in held)
                name = f"data/{split}-{index:05d}-of-{shards[split]:05d}.parquet"
                print(f"{size(total)}  {name} ({split}: {len(held):,} clips; the size is that of their sounds)")
        if card.is_file():
            print(f"{size(card.stat().st_size)}  README.md, with the data's columns and splits noted in it")
        print(DATASET_DELETED)
        return None
    repo_id = create_repository(arguments.repo_id, "dataset", arguments.private, arguments.revision)
    if card.is_file():
        push_dataset_card(card, repo_id, arguments)
    # Declaring paths to be audio decodes none: clips are published as they are, torchcodec is not needed.
    clips = clips.rename_column("path", "audio").cast_column("audio", datasets.Audio())
    message = arguments.commit_message or f"Upload {config_name}"
    commit = clips.push_to_hub(
        repo_id, config_name, revision=arguments.revision, commit_message=message, num_shards=shards
    )
    return commit.commit_url


def show_published_set(name: str) -> None:
    """What a push of a published set fetches and sends. Which clips, only the archives tell."""
    for archive in ARCHIVES:
        if archive.part in SELECTIONS[name]:
            print(f"downloaded unless it is there: {ZENODO}/records/{archive.record}/files/{archive.name}")
    if "evaluation" in SELECTIONS[name]:
        print(f"downloaded unless it is there: the labels, {ZENODO}/records/{EVALUATION_LABELS_RECORD}")
    limit = f"{MAX_PARQUET_BYTES / 1e6:.0f} MB"
    print(f"then sent: {name}/SPLIT-NUMBER-of-TOTAL.parquet, a split's clips in files of about {limit} at most")
    print(f"{size(DATASET_CARD.stat().st_size)}  README.md, with the data's columns and splits noted in it")
    print(DATASET_DELETED)


def push_dataset_card(card_file: Path, repo_id: str, arguments: argparse.Namespace) -> None:
    """The card, with what `push_to_hub` noted in the repository's own of the data that are there already."""
    card = DatasetCard.load(card_file)
    if HfApi().file_exists(repo_id, "README.md", repo_type="dataset", revision=arguments.revision):
        present = hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=arguments.revision)
        noted = DatasetCard.load(present).data.to_dict()
        card.data.__dict__.update({key: noted[key] for key in ("configs", "dataset_info") if key in noted})
    push_files(
        {"README.md": str(card).encode()},
        repo_id,
        "dataset",
        arguments.private,
        "Upload dataset card",
        arguments.revision,
        is_replaced=lambda path: False,
    )


def metric(arguments: argparse.Namespace) -> str | None:
    """A metric is a Space: evaluate.load("you/asd_auc") takes asd_auc.py from the Space of that name. It is a
    static one, since the Gradio page that evaluate makes for its metrics does not run with Gradio 6."""
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


def space(arguments: argparse.Namespace) -> str | None:
    if not (SPACE / "README.md").is_file():
        raise ValueError(f"{SPACE}: has no README.md. Expected the app, with a README.md that says what runs it.")
    if not (SPACE / "demo_model" / "config.json").is_file():
        raise ValueError(
            f"{SPACE / 'demo_model'}: holds no model, and the app needs one. Make it with scripts/build_space.py."
        )
    found = {file.relative_to(SPACE): file for file in sorted(SPACE.rglob("*")) if file.is_file()}
    # Caches and whatever else is hidden stay at home.
    files = {str(path): file for path, file in found.items() if not any(part[0] in "._" for part in path.parts)}
    return push_space(files, RepoCard.load(SPACE / "README.md").data["sdk"], arguments)


def push_space(files: dict[str, Path | bytes], sdk: str, arguments: argparse.Namespace) -> str | None:
    if arguments.dry_run:
        show(files)
        return print("deleted: every other file in the repository")
    message = arguments.commit_message or f"Upload {arguments.kind}"
    return push_files(files, arguments.repo_id, "space", arguments.private, message, arguments.revision, sdk)


def show(files: dict[str, Path | bytes]) -> None:
    total = 0
    for path, file in files.items():
        length = len(file) if isinstance(file, bytes) else file.stat().st_size
        total += length
        print(f"{size(length)}  {path}")
    print(f"{size(total)}  in {len(files)} files")


def size(length: int) -> str:
    return f"{length / 1e6:12,.3f} MB"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError, ArchiveError, HTTPError) as error:
        sys.exit(f"error: {error}")
