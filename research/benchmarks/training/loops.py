"""The ways to train that are compared, from the authors' to this project's."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Loop:
    """A way to train. The defaults are the authors'.

    Args:
        name: name of the row.
        tuned_allocator: the C library's allocator keeps freed memory.
        waveform_bank: clips are decoded once, into int16.
        our_network: this project's network and fused AdamW.
        channels_last: the network's memory format.
        vectorised_prelu: this project's PReLU in place of PyTorch's.
        bfloat16: autocast to bfloat16.
        halving_by_stride_1: this project's gradient of depthwise convolutions with stride 2 in place of PyTorch's.
        compile_mode: mode of torch.compile; None for eager.
        train_py: train.py's own loop.
    """

    name: str
    tuned_allocator: bool = False
    waveform_bank: bool = False
    our_network: bool = False
    channels_last: bool = False
    vectorised_prelu: bool = False
    bfloat16: bool = False
    halving_by_stride_1: bool = False
    compile_mode: str | None = None
    train_py: bool = False


def cpu_loops() -> list[Loop]:
    """Return the loops from the authors' to this project's, one difference a row."""
    loops = [Loop("the authors' loop as published")]
    for name, change in (
        ("+ allocator that keeps freed memory", {"tuned_allocator": True}),
        ("+ clips decoded once, int16 bank", {"waveform_bank": True}),
        ("+ this project's network, fused AdamW", {"our_network": True}),
        ("+ channels-last", {"channels_last": True}),
        ("+ vectorised PReLU", {"vectorised_prelu": True}),
        ("+ bfloat16 autocast", {"bfloat16": True}),
        ("+ gradient of stride 2 by way of stride 1", {"halving_by_stride_1": True}),
        ("train.py --mixed_precision bf16", {"train_py": True}),
    ):
        loops.append(replace(loops[-1], name=name, **change))
    return loops


def device_loops() -> list[Loop]:
    """Return this project's loops on a GPU, from float32 to compiled bfloat16."""
    whole = Loop("float32", our_network=True, vectorised_prelu=True, halving_by_stride_1=True)
    mixed = replace(whole, name="bfloat16 autocast, channels-last", bfloat16=True, channels_last=True)
    return [
        whole,
        mixed,
        replace(mixed, name="+ torch.compile", compile_mode="default"),
        replace(mixed, name="+ torch.compile with CUDA graphs", compile_mode="reduce-overhead"),
    ]
