"""What the figures claim: axes in Hz and seconds, the metric's own AUC, fixed colours, stable files."""

import numpy as np
import pytest

from evaluation import figures
from metrics.asd_auc import asd_auc


# Centres of 128 HTK mel filters between 0 and 8000 Hz.
MELS = np.linspace(0, 2595 * np.log10(1 + 8000 / 700), 130)[1:-1]
FREQUENCIES_HZ = 700 * (10 ** (MELS / 2595) - 1)
TICKS = ["125", "250", "500", "1k", "2k", "4k", "8k"]


def random_test_set() -> tuple[list, list, list, list]:
    """Fan with two machine IDs, pump with one and one that has normal clips alone."""
    generator = np.random.default_rng(0)
    scores, labels, machine_types, machine_ids = [], [], [], []
    for machine_type, machine_id in (("fan", "00"), ("fan", "02"), ("pump", "04"), ("pump", "06")):
        own = [0] * 20 + [0 if machine_id == "06" else 1] * 20
        scores += (generator.normal(size=40) + own).tolist()
        labels += own
        machine_types += [machine_type] * 40
        machine_ids += [machine_id] * 40
    return scores, labels, machine_types, machine_ids


def random_maps(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 1, shape)


def panels(figure) -> list:
    """The axes of a figure but for the colour bars'."""
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def legend_of(ax) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


def image(ax):
    (only,) = ax.get_images()
    return only


def test_histograms_have_a_panel_a_type_with_each_class_in_per_cent_of_its_clips():
    scores, labels, machine_types, _ = random_test_set()
    fan, pump = panels(figures.score_histograms(scores, labels, machine_types))
    assert (fan.get_title(), pump.get_title()) == ("fan", "pump")
    assert fan.get_xlabel() == "anomaly score" and "[%]" in fan.get_ylabel()
    assert legend_of(pump) == ["normal, 60 clips", "anomalous, 20 clips"]
    outlines = pump.patches[1::2]
    assert [outline.get_data().values.sum() for outline in outlines] == pytest.approx([100, 100])


def test_roc_legend_gives_the_metric_s_own_auc_and_pauc_for_every_id_and_pooled():
    columns = random_test_set()
    results = asd_auc(*columns, max_fpr=0.2, n_bootstrap=0)
    fan, pump = panels(figures.roc_curves(*columns, max_fpr=0.2))
    legend = legend_of(fan)
    assert legend[0] == "pAUC region, FPR ≤ 0.2"
    auc, pauc = results["auc"], results["pauc"]
    for line, name in zip(legend[1:3], ("fan_id_00", "fan_id_02"), strict=False):
        assert line == f"{name[4:]}: AUC {auc['per_id'][name]:.3f}, pAUC {pauc['per_id'][name]:.3f}"
    pooled = [metric["per_type"]["fan"]["pooled"] for metric in (auc, pauc)]
    assert legend[3] == f"pooled: AUC {pooled[0]:.3f}, pAUC {pooled[1]:.3f}"
    assert "id_06: no anomalous clips" in legend_of(pump)


def test_roc_curves_enclose_the_auc_and_the_shaded_region_ends_at_max_fpr():
    columns = random_test_set()
    fan = panels(figures.roc_curves(*columns, max_fpr=0.2))[0]
    region, *_ = fan.patches
    assert region.get_extents().transformed(fan.transData.inverted()).x1 == pytest.approx(0.2)
    curves = {line.get_label().split(":")[0]: line for line in fan.lines if "AUC" in line.get_label()}
    area = np.trapezoid(curves["id_02"].get_ydata(), curves["id_02"].get_xdata())
    assert area == pytest.approx(asd_auc(*columns, n_bootstrap=0)["auc"]["per_id"]["fan_id_02"])
    assert curves["pooled"].get_linewidth() > 2 * curves["id_02"].get_linewidth()


@pytest.mark.parametrize("machine_ids", [["00"] * 4, ["id_00"] * 4, ["fan_id_00"] * 4])
def test_roc_takes_machine_ids_in_each_way_the_metric_does(machine_ids):
    (fan,) = panels(figures.roc_curves([1, 2, 3, 4], [0, 1, 0, 1], ["fan"] * 4, machine_ids))
    assert "id_00: AUC 0.750" in legend_of(fan)[1]


def test_figure_2_has_the_log_mel_in_hz_and_db_and_the_wavegram_by_filter():
    log_mel = random_maps(128, 313)
    figure = figures.paper_figure_2(log_mel, random_maps(128, 313), FREQUENCIES_HZ, 10.0, title="clip")
    left, right = panels(figure)
    assert (left.get_ylabel(), right.get_ylabel()) == ("frequency [Hz]", "filter index")
    assert left.get_xlabel() == right.get_xlabel() == "time [s]"
    assert left.get_xlim() == right.get_xlim() == (0, 10)
    assert [tick.get_text() for tick in left.get_yticklabels()] == TICKS
    assert "power [dB]" in [ax.get_ylabel() for ax in figure.axes]
    np.testing.assert_array_equal(image(left).get_array(), log_mel)
    assert image(left).origin == "lower"


def test_frequency_ticks_stand_at_the_bins_of_their_frequencies():
    ax = panels(figures.paper_figure_2(random_maps(128, 9), random_maps(128, 9), FREQUENCIES_HZ, 1.0))[0]
    at_ticks = np.interp(ax.get_yticks()[:-1], np.arange(128), FREQUENCIES_HZ)
    assert at_ticks == pytest.approx([125, 250, 500, 1000, 2000, 4000], rel=1e-6)
    assert ax.get_yticks()[-1] == 127.5  # 8 kHz is the end of the last filter


def test_ticks_above_the_highest_filter_are_left_out():
    half = panels(figures.paper_figure_2(random_maps(64, 9), random_maps(64, 9), FREQUENCIES_HZ[:64], 1.0))[0]
    assert [tick.get_text() for tick in half.get_yticklabels()] == TICKS[:4]


def test_attention_is_drawn_on_a_fixed_scale_from_one_half_to_one():
    nearly_flat = np.full((2, 128, 313), 0.51)
    figure = figures.paper_figure_3(nearly_flat, FREQUENCIES_HZ, 10.0, ["log_mel", "wavegram"])
    log_mel, wavegram = panels(figure)
    assert image(log_mel).get_clim() == image(wavegram).get_clim() == (0.5, 1.0)
    assert log_mel.get_title() == "attention on the log-mel" and log_mel.get_ylabel() == "frequency [Hz]"
    assert wavegram.get_title() == "attention on the Wavegram" and wavegram.get_ylabel() == "filter index"


def test_figure_3_refuses_names_that_do_not_match_the_channels():
    with pytest.raises(ValueError):
        figures.paper_figure_3(random_maps(1, 128, 9), FREQUENCIES_HZ, 1.0, ["log_mel", "wavegram"])


def test_figure_4_shades_the_paper_s_bands_and_draws_mean_and_deviation():
    mean, deviation = random_maps(128), np.full(128, 0.02)
    (ax,) = panels(figures.paper_figure_4(mean, deviation, FREQUENCIES_HZ))
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), mean)
    to_data = ax.transData.inverted()
    edges = [patch.get_extents().transformed(to_data) for patch in ax.patches]
    hz = np.interp([edges[0].x1, edges[1].x0], np.arange(128), FREQUENCIES_HZ)
    assert hz == pytest.approx([71, 1700], rel=1e-3)
    assert (edges[0].x0, edges[1].x1) == pytest.approx((-0.5, 127.5))
    assert [text.get_text() for text in ax.texts] == ["paper: 0–71 Hz", "paper: 1.7–8 kHz"]
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == pytest.approx((mean.min() - 0.02, mean.max() + 0.02))


@pytest.mark.parametrize("with_wavegram, channels, rows", [(True, 2, 5), (False, 1, 3), (False, 0, 2)])
def test_clip_report_shows_what_the_model_has_over_one_time_axis(with_wavegram, channels, rows):
    figure = figures.clip_report(
        random_maps(24000),
        random_maps(128, 47),
        random_maps(channels, 128, 47) if channels else None,
        FREQUENCIES_HZ,
        sampling_rate=16000,
        title="machines$1/a$b.wav",
        verdict_line="ANOMALOUS: score 12.31",
        wavegram=random_maps(128, 47) if with_wavegram else None,
        channel_names=["log_mel", "wavegram"][:channels],
    )
    figure.draw_without_rendering()
    assert figure.get_suptitle() == "ANOMALOUS: score 12.31"
    assert len(panels(figure)) == rows
    assert {ax.get_xlim() for ax in panels(figure)} == {(0, 1.5)}
    columns = {(round(ax.get_position().x0, 6), round(ax.get_position().x1, 6)) for ax in panels(figure)}
    assert len(columns) == 1
    assert panels(figure)[0].get_title() == "machines$1/a$b.wav"
    assert panels(figure)[-1].get_xlabel() == "time [s]"


def test_training_curves_draw_each_value_at_its_step():
    history = [
        {"step": 1, "epoch": 0.5, "loss": 9.0, "learning_rate": 1e-4},
        {"step": 2, "epoch": 1.0, "loss": 8.0, "learning_rate": 5e-5},
        {"step": 2, "epoch": 1.0, "eval_loss": 8.5},
    ]
    losses, rates = panels(figures.training_curves(history))
    training, held_out = losses.lines
    assert training.get_xydata().tolist() == [[1, 9], [2, 8]]
    assert held_out.get_xydata().tolist() == [[2, 8.5]]
    assert rates.lines[0].get_ydata().tolist() == [1e-4, 5e-5]
    assert (losses.get_ylabel(), rates.get_ylabel(), rates.get_xlabel()) == (
        "loss",
        "learning rate",
        "optimiser step",
    )


@pytest.mark.parametrize("types, ids", [(1, 1), (1, 7), (4, 4)])
def test_nothing_is_cut_off_whatever_the_number_of_machines(types, ids):
    machines = [(f"type{t}", f"{i:02d}") for t in range(types) for i in range(ids) for _ in range(4)]
    machine_types, machine_ids = zip(*machines, strict=False)
    scores, labels = np.random.default_rng(0).normal(size=len(machines)), [0, 1, 0, 1] * (types * ids)
    roc = figures.roc_curves(scores, labels, machine_types, machine_ids)
    histograms = figures.score_histograms(scores, labels, machine_types)
    for figure in (roc, histograms):
        figure.draw_without_rendering()
        needed, given = figure.get_tightbbox(), figure.bbox_inches
        assert needed.x0 >= 0 and needed.y0 >= 0
        assert needed.x1 <= given.width and needed.y1 <= given.height
    for panel in panels(roc):
        assert panel.bbox.height > 0.7 * panel.bbox.width


def test_a_figure_drawn_and_saved_twice_gives_the_same_bytes(tmp_path):
    columns = random_test_set()
    for name in ("first.png", "second.png"):
        figures.save(figures.roc_curves(*columns), tmp_path / name)
    content = (tmp_path / "first.png").read_bytes()
    assert content == (tmp_path / "second.png").read_bytes()
    assert content.startswith(b"\x89PNG") and b"Software" not in content
