"""Synthetic machines in the layout of DCASE 2020 Task 2. The place of every fault in time and frequency is known."""

from .clips import MACHINE_IDS, MACHINE_TYPES, planned_fault, render_clip
from .faults import FAULTS, Fault
from .generate import generate_machine_room


__all__ = [
    "FAULTS",
    "MACHINE_IDS",
    "MACHINE_TYPES",
    "Fault",
    "generate_machine_room",
    "planned_fault",
    "render_clip",
]
