"""What a run shows and leaves behind: progress, JSON lines, tables, figures; nothing of models or data."""

from cyclemlp.report.curves import plot_curves, plot_runs
from cyclemlp.report.dense_curves import plot_dense_curves
from cyclemlp.report.figures import require_matplotlib, saved_figure
from cyclemlp.report.jsonlines import JsonLines, in_order, read_json_lines
from cyclemlp.report.overlays import draw_detections, image_sheet, overlay_masks
from cyclemlp.report.palette import class_colour
from cyclemlp.report.progress import Progress, progress
from cyclemlp.report.sheet import plot_predictions, plot_samples
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
    "in_order",
    "markdown_table",
    "open_writer",
    "overlay_masks",
    "plot_curves",
    "plot_dense_curves",
    "plot_predictions",
    "plot_runs",
    "plot_samples",
    "progress",
    "read_json_lines",
    "require_matplotlib",
    "saved_figure",
]
