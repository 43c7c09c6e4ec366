"""What a run shows and leaves behind: progress, JSON lines, tables, figures; nothing of models or data."""

from cyclemlp.report.dense_curves import plot_dense_curves
from cyclemlp.report.jsonlines import JsonLines, read_epochs, read_json_lines
from cyclemlp.report.overlays import class_colour, draw_detections, image_sheet, overlay_masks
from cyclemlp.report.plots import plot_confusion, plot_curves, plot_predictions, plot_runs
from cyclemlp.report.progress import Progress, progress
from cyclemlp.report.tables import format_duration, format_table, markdown_table
from cyclemlp.report.writers import WRITERS, Writer, open_writer

__all__ = [
    "WRITERS",
    "JsonLines",
    "Progress",
    "Writer",
    "class_colour",
    "draw_detections",
    "format_duration",
    "format_table",
    "image_sheet",
    "markdown_table",
    "open_writer",
    "overlay_masks",
    "plot_confusion",
    "plot_curves",
    "plot_dense_curves",
    "plot_predictions",
    "plot_runs",
    "progress",
    "read_epochs",
    "read_json_lines",
]
