"""How all figures of a page look: colours of the ink, and a style of its own for every method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

INK, FAINT = '#1f2933', '#d9dee4'
# the colour-blind safe set of Okabe and Ito, without its yellow, which is lost on white
PALETTE = ('#6b7280', '#e69f00', '#0072b2', '#009e73', '#cc79a7', '#d55e00', '#56b4e9')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
LINES = ('-', '--', ':', '-.')
HATCHES = ('', '////', '....', 'xxxx')
STYLE = {
    'font.size': 10,
    'text.color': INK,
    'axes.edgecolor': FAINT,
    'axes.labelcolor': INK,
    'axes.titlesize': 11,
    'axes.titleweight': 'bold',
    'axes.titlelocation': 'left',
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': FAINT,
    'grid.linewidth': 0.6,
    'xtick.color': INK,
    'ytick.color': INK,
    'legend.frameon': False,
    'hatch.linewidth': 0.6,
}


@dataclass(frozen=True)
class MethodStyle:
    """What a method is told by in every figure of a page.

    Attributes:
        colour: Of points, lines and bars.
        marker: Of points, and of lines where they were measured.
        line: Line style.
        hatch: Pattern of bars.
    """

    colour: str
    marker: str = ''
    line: str = '-'
    hatch: str = ''


def method_styles(methods: Sequence[str]) -> dict[str, MethodStyle]:
    """One style for each method; the first, which is the plain one by custom, is grey.

    Colour and line differ between any two of 28 methods, colour and marker between any two of 49.
    """
    styles = {}
    for index, method in enumerate(methods):
        turn, colour = divmod(index, len(PALETTE))
        # neighbours differ in their marker, too: not everybody sees every colour
        marker = MARKERS[(colour + turn) % len(MARKERS)]
        styles[method] = MethodStyle(PALETTE[colour], marker, LINES[turn % 4], HATCHES[turn % 4])
    return styles
