"""What the demo shows in the end: scores of the plain and the distilled student, and their predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from rich.table import Table

from mmadm.bench.confusion import count_pixels
from mmadm.bench.finished_runs import FinishedRun, predict, right_pixels, truth
from mmadm.bench.pictures import paint
from mmadm.bench.records import Record
from mmadm.bench.tables import differences, paired, spread, summarise
from mmadm.visualization.overlay import rgb_image, spread_indices

PLAIN, DISTILLED = 'student', 'distilled'
_IMAGES = 4


def score_table(records: Sequence[Record], teacher: float) -> Table:
    """A row for each network, and by how many points the distilled student is better.

    Args:
        records: Result records of ``PLAIN`` and ``DISTILLED`` runs, of one or more seeds each.
        teacher: The frozen teacher's mIoU in percent.
    """
    rows = {row.method: row for row in summarise(records)}
    plain, distilled = rows[PLAIN], rows[DISTILLED]
    seeds = len(plain.seeds)
    printed = Table()
    for title in ('network', 'parameters', 'mIoU', f'gain{" [95 % interval]" if seeds > 1 else ""}'):
        printed.add_column(title, justify='left' if title == 'network' else 'right')
    gain = paired(differences(distilled, plain))
    printed.add_row('student, plain', f'{plain.parameters["student"]:,}', spread(plain.main, 1), '')
    printed.add_row('student, distilled', f'{distilled.parameters["student"]:,}', spread(distilled.main, 1), gain)
    printed.add_row('teacher', f'{distilled.parameters["teacher"]:,}', f'{teacher:.1f}', '')
    return printed


def mean_iou(run: FinishedRun) -> float:
    """Mean IoU in percent over the classes that occur or are predicted, on the whole data set; as ``IoUMetric``."""
    classes = len(run.dataset.metainfo['classes'])
    items = (run.dataset[index] for index in range(len(run.dataset)))
    counts = sum(count_pixels(truth(item), predict(run, item), classes) for item in items)
    both = counts.diag()
    return 100 * (both / (counts.sum(0) + counts.sum(1) - both)).nanmean().item()


def draw_comparison(plain: FinishedRun, distilled: FinishedRun, out: Path) -> None:
    """Write a picture with a row for each of some images: image, truth, and what both students predict.

    Args:
        plain: The plain student.
        distilled: The distilled one.
        out: PNG file to write.
    """
    dataset = plain.dataset
    names, palette = dataset.metainfo['classes'], dataset.metainfo['palette']
    indices = spread_indices(len(dataset), _IMAGES)
    figure = Figure((13, 1.75 * len(indices) + 0.6), layout='constrained')
    grid, shown = figure.subplots(len(indices), 4, squeeze=False), set()
    for axes, index in zip(grid, indices, strict=True):
        item = dataset[index]
        labels = truth(item)
        shown |= set(labels.unique().tolist())
        cells = [('image', rgb_image(item)), ('truth', paint(labels, palette))]
        for name, run in (('plain student', plain), ('distilled student', distilled)):
            prediction = predict(run, item)
            right = f'{name}: {right_pixels(prediction, labels):.1f} % of pixels right'
            # what nobody labelled, such as the bonnet, is left out of the prediction, too
            cells.append((right, paint(prediction.where(labels != 255, labels), palette)))
            shown |= set(prediction.unique().tolist())
        for axis, (title, pixels) in zip(axes, cells, strict=True):
            axis.imshow(pixels, interpolation='nearest')
            axis.set_title(title, fontsize=9)
            axis.set_axis_off()
    colours = [Patch(color=np.asarray(palette[i]) / 255, label=names[i]) for i in sorted(shown) if i < len(names)]
    figure.legend(handles=colours, loc='outside lower center', ncols=len(colours), fontsize=9, frameon=False)
    figure.savefig(out, dpi=110)
