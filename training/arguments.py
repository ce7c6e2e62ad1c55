"""The arguments of a training run."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Arguments:
    """The arguments of train.py. The defaults are the paper's recipe."""

    output_dir: str = field(
        metadata={
            "help": "Where the trained model goes. With --resume_from_checkpoint latest, an interrupted run in it goes on."
        }
    )
    data_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder in the DCASE 2020 Task 2 layout, <machine type>/{train,test}/{normal,anomaly}_id_XX_*.wav, with "
            "any machine types and IDs. Without it: synthetic machines and the quick preset (2 s clips, 12 epochs at 1e-3)."
        },
    )
    labels: str | None = field(
        default=None,
        metadata={
            "help": "JSON file with id2label and label2id: which machine IDs are which class, where that is not one each."
        },
    )
    machine_types: list[str] | None = field(default=None, metadata={"help": "Train on these machine types only."})
    num_train_epochs: int = field(default=300, metadata={"help": "Passes over the training clips."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Clips per process and forward pass."})
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Clips per forward pass without gradients."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Forward passes per update."})
    learning_rate: float = field(default=1e-4, metadata={"help": "AdamW's learning rate at the start."})
    min_learning_rate_ratio: float = field(default=0.1, metadata={"help": "Where its cosine ends, epoch by epoch."})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's weight decay."})
    mixup_alpha: float = field(default=0.2, metadata={"help": "Mixup of waveforms, Beta(alpha, alpha); 0 is without."})
    angular_loss: str = field(
        default="noisy_arcmix",
        metadata={
            "help": "Angular loss; arcface is for --mixup_alpha 0.",
            "choices": ["noisy_arcmix", "arcmix", "arcface"],
        },
    )
    scale: float = field(default=40.0, metadata={"help": "s of ArcFace."})
    margin: float = field(default=0.7, metadata={"help": "m of ArcFace, in radians."})
    input_representations: list[str] = field(
        default_factory=lambda: ["log_mel", "wavegram"], metadata={"help": "The network's inputs (Table 3)."}
    )
    embedding_size: int = field(default=128, metadata={"help": "h, the size of the embedding (Table 3)."})
    use_attention: bool = field(default=True, metadata={"help": "The attention map (Table 4)."})
    use_separable_convolutions: bool = field(default=True, metadata={"help": "Separable convolutions (Table 4)."})
    clip_seconds: float = field(default=10.0, metadata={"help": "Length of a clip in seconds."})
    short_clips: str = field(
        default="repeat", metadata={"help": "What fills shorter recordings.", "choices": ["repeat", "zeros"]}
    )
    channels: str = field(
        default="first", metadata={"help": "What becomes of several channels.", "choices": ["first", "mean"]}
    )
    validation_fraction: float = field(
        default=0.05,
        metadata={
            "help": "Share of each ID's normal training clips held out: they choose the best epoch, and calibrate the back "
            "ends that need the network."
        },
    )
    seed: int = field(default=0, metadata={"help": "Key of everything random."})
    mixed_precision: str = field(
        default="no", metadata={"help": "Precision of the forward pass.", "choices": ["no", "bf16", "fp16"]}
    )
    gradient_checkpointing: bool = field(
        default=False, metadata={"help": "Recompute the attention module: less memory, more time."}
    )
    checkpointing_steps: str = field(
        default="epoch", metadata={"help": "A checkpoint every so many updates, or at every 'epoch'."}
    )
    save_total_limit: int = field(default=2, metadata={"help": "How many of the newest checkpoints are kept."})
    resume_from_checkpoint: str | None = field(
        default=None,
        metadata={
            "help": "'latest', or a step_N folder; goes on as if never interrupted. Without it, an interrupted run of the same "
            "settings in --output_dir is an error."
        },
    )
    report_to: str = field(default="none", metadata={"help": "A tracker of accelerate, such as tensorboard, or none."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that fetch batches ahead."})
    push_to_hub: bool = field(default=False, metadata={"help": "Push the output directory to the Hub at the end."})
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Repository for it, user/name; by default yours, named as the output directory."},
    )
    hub_private: bool = field(default=False, metadata={"help": "Make that repository a private one."})


def check_numbers(arguments: Arguments) -> None:
    """Refuse numbers that would fail an hour later.

    Raises:
        ValueError: a number cannot be; the message names its flag.
    """
    for name in (
        "num_train_epochs",
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "clip_seconds",
        "save_total_limit",
    ):
        if getattr(arguments, name) <= 0:
            raise ValueError(f"--{name} {getattr(arguments, name)}: expected a number above 0.")
    if not 0 <= arguments.validation_fraction < 1:
        raise ValueError(f"--validation_fraction {arguments.validation_fraction}: expected a share from 0 to below 1.")
    steps = arguments.checkpointing_steps
    if steps != "epoch" and not (steps.isdigit() and int(steps) > 0):
        raise ValueError(f"--checkpointing_steps {steps}: expected a number of updates above 0, or 'epoch'.")


def run_settings(arguments: Arguments) -> dict[str, Any]:
    """Return the settings that two runs must share for one to go on where the other stopped."""
    free = {
        "output_dir",
        "per_device_eval_batch_size",
        "checkpointing_steps",
        "save_total_limit",
        "resume_from_checkpoint",
        "report_to",
        "dataloader_num_workers",
        "push_to_hub",
        "hub_model_id",
        "hub_private",
    }
    return {name: value for name, value in asdict(arguments).items() if name not in free}
