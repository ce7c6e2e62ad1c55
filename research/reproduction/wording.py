"""The sentences that stand beside the tables and figures."""

from .study import Study


# The mean that a protocol puts first.
HEADLINE = {"honest": "official", "paper": "pooled"}
MEANING = {
    "official": "AUC and pAUC (false positive rates up to 0.1, standardised: chance is 50) in per cent; a machine type's "
    "figure is the mean over its machine IDs",
    "pooled": "AUC and pAUC (false positive rates up to 0.1, standardised: chance is 50) in per cent; a machine type's clips "
    "are ranked together, whatever their machine ID, as in the paper",
}
INTERVAL = (
    "In brackets the 95 % interval of a stratified bootstrap over the test clips (mean of the seeds' intervals); ± is the "
    "standard deviation over seeds."
)
DIFFERENCE = (
    "A difference, of means over seeds, has the interval of paired bootstrap samples, the same for both systems: where it "
    "holds 0, these test clips do not tell them apart."
)
PUBLISHED_ON = "Quoted: AUC/pAUC in per cent on the DCASE 2020 Task 2 development test set, not measured here."
RULES = {
    "honest": "one class per machine ID, the epoch chosen on held-out normal clips, AUC averaged over machine IDs",
    "paper": "the published evaluation with its faults: classes that collide, the epoch chosen on the test set, AUC pooled",
}


def preamble(study: Study, title: str, data: str, protocol: str) -> str:
    """Return the lines before every table and figure: what was measured, on which data and how.

    Args:
        study: settings of this call.
        title: heading of the report.
        data: the data in words.
        protocol: `"honest"` or `"paper"`.
    """
    epochs, batch, rate = (
        study.recipe[name] for name in ("num_train_epochs", "per_device_train_batch_size", "learning_rate")
    )
    recipe = (
        f"clips of {study.recipe['clip_seconds']} s, {epochs} epochs, batches of {batch}, learning rate {rate}, "
        f"{study.recipe['mixed_precision'].replace('no', 'full')} precision"
    )
    return (
        f"# {title}\n\n"
        f"- **Data**: {data}.\n"
        f"- **Size**: {study.size}: {recipe}; seeds {', '.join(map(str, study.seeds))}, "
        f"peers {', '.join(map(str, study.peer_seeds))}.\n"
        f"- **Protocol**: {protocol}: {RULES[protocol]}."
    )
