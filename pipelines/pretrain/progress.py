"""Training with a progress bar: loss, speed, and an estimate of the time left."""

from pathlib import Path

from pipelines.cli.progress import progress_bar
from pipelines.pretrain.options import SeriesConfig
from pipelines.pretrain.series import ensure_series
from pipelines.pretrain.trainer import LossRecord


def ensure_series_with_bar(config: SeriesConfig) -> Path:
    """``ensure_series``, shown step by step; silent when the series exists."""
    with progress_bar(config.steps, "pre-training", "step", delay=1) as bar:

        def show(record: LossRecord) -> None:
            bar.set_postfix_str(f"loss {record.loss:.2f} nats, {record.tokens_per_second:,.0f} tokens/s", refresh=False)
            bar.update(record.step - bar.n)

        return ensure_series(config, show)
