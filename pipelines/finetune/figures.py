"""Figure of a fine-tuning: its loss curve."""

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from pipelines.figures.style import ACCENT, FLOOR, Figure, legend_below, set_title
from pipelines.finetune.training import EpochLoss


def loss_figure(title: str, losses: Sequence[EpochLoss]) -> Figure:
    """Loss by epoch, of the statements trained on and of validation statements."""
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    epochs = [loss.epoch for loss in losses]
    axes.plot(epochs, [loss.training for loss in losses], "o-", color=ACCENT, markersize=3, label="training")
    axes.plot(epochs, [loss.validation for loss in losses], "o-", color=FLOOR, markersize=3, label="validation")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss, nats per token")
    set_title(axes, title)
    legend_below(figure, columns=2)
    axes.spines[["top", "right"]].set_visible(False)
    return figure
