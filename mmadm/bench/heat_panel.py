"""Tables of changes as colours, centred on no change, and of shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from mmadm.bench.styles import FAINT, INK

Values = NDArray[np.float64]


def largest(*tables: Values) -> float:
    """The largest change among tables, NaN left out: the end of the colour scale that they share; never 0."""
    sizes = np.abs(np.concatenate([table.ravel() for table in tables]))
    return float(max(np.nan_to_num(sizes).max(initial=0.0), 1e-6))


def heat_panel(
    panel: Axes,
    values: Values,
    limit: float,
    rows: Sequence[str],
    columns: Sequence[str],
    text: Callable[[float], str],
    change: bool = True,
) -> AxesImage:
    """Draw a table of changes: blue is more, red is less, white is no change; or one of shares, from white to blue.

    Args:
        panel: Where to draw.
        values: Changes of shape (rows, columns); a cell with NaN is grey.
        limit: Change that gets the darkest colour.
        rows: Names of the rows.
        columns: Names of the columns.
        text: What a cell says about its change.
        change: Whether values are changes; if not, they are at least 0.

    Returns:
        What a colour bar needs.
    """
    colours = mpl.colormaps['RdBu' if change else 'Blues'].with_extremes(bad=FAINT)
    low = -limit if change else 0
    image = panel.imshow(np.ma.masked_invalid(values), colours, vmin=low, vmax=limit, aspect='auto')
    panel.grid(visible=False)
    panel.spines[:].set_visible(False)
    panel.tick_params(length=0)
    panel.set_xticks(range(len(columns)), columns)
    panel.set_yticks(range(len(rows)), rows)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            ink = 'white' if abs(value) > 0.6 * limit else INK
            panel.text(column, row, text(value), ha='center', va='center', color=ink, fontsize=8)
    return image
