"""The figures of merit of anomalous sound detection; see README.md."""

from .asd_auc import asd_auc


__all__ = ["asd_auc"]
