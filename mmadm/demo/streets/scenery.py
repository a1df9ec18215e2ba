"""What stands along the generated streets: houses, trees, hedges, lamps and signs."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mmadm.demo.streets.canvas import BUILDING, POLE, SIGN, VEGETATION, Array, Canvas, Thing, bar, ring

_BARKS = ((74, 58, 44), (92, 82, 72), (60, 52, 46))
_LEAVES = ((72, 104, 42), (58, 92, 48), (92, 116, 50), (48, 80, 46), (112, 112, 48), (150, 104, 44))


def _post(
    canvas: Canvas,
    start: tuple[float, float],
    end: tuple[float, float],
    z: float,
    width: float,
    colour: Array,
    ident: int,
) -> None:
    """Paint a bar between two points (x, y) at depth z, at least two pixels wide so that it never breaks up."""
    least = 2.0 * z / canvas.camera.focal
    post = bar(start, end, max(width, least), max(width * 0.8, least))
    canvas.upright(post, z, colour, ident, canvas.light.side(-np.sign(start[0])))


def lamp(rng: np.random.Generator, x: float, z: float) -> Thing:
    """Make a street lamp whose arm reaches over the road."""
    height, reach = rng.uniform(5, 8.5), rng.uniform(0.8, 2.2) * -np.sign(x)
    colour = rng.uniform(50, 150) * np.ones(3)

    def draw(canvas: Canvas) -> None:
        """Draw the post, the arm and the lamp."""
        _post(canvas, (x, 0), (x, height), z, 0.16, colour, POLE)
        _post(canvas, (x, height), (x + reach, height + 0.25), z, 0.09, colour, POLE)
        head = (255, 225, 160) if canvas.light.lamps else (195, 195, 190)
        _post(
            canvas, (x + reach * 0.8, height + 0.2), (x + reach * 1.2, height + 0.25), z, 0.16, np.asarray(head), POLE
        )

    return Thing(z, draw, ring((x, z), 0.09, 4), (0.0, height))


_RED, _BLUE, _WHITE, _BLACK, _YELLOW, _GREEN = (
    (196, 26, 32),
    (24, 72, 170),
    (240, 240, 238),
    (25, 25, 25),
    (236, 190, 30),
    (20, 110, 66),
)
# Corners, turn, and the colours of rim, field and mark of a plate.
_SIGNS = (
    (3, np.pi / 2, _RED, _WHITE, _BLACK),
    (3, -np.pi / 2, _RED, _WHITE, _WHITE),
    (16, 0.0, _RED, _WHITE, _BLACK),
    (16, 0.0, _RED, _RED, _WHITE),
    (16, 0.0, _WHITE, _BLUE, _WHITE),
    (8, np.pi / 8, _WHITE, _RED, _WHITE),
    (4, np.pi / 4, _WHITE, _BLUE, _WHITE),
    (4, 0.0, _WHITE, _YELLOW, _YELLOW),
)


def _draw_plate(
    canvas: Canvas, x: float, y: float, z: float, outline: Array, colours: tuple[tuple[int, ...], ...]
) -> None:
    """Paint a plate: rim, field and a mark, each inside the last."""
    ident = canvas.instance(SIGN)
    for share, colour in zip((1.0, 0.76, 0.3), colours, strict=True):
        canvas.upright(outline * share + (x, y), z, colour, ident)


def sign(rng: np.random.Generator, x: float, z: float) -> Thing:
    """Make a pole with one or two traffic signs."""
    radius, y = rng.uniform(0.36, 0.52), rng.uniform(2.4, 3.2)
    plates = [_SIGNS[index] for index in rng.choice(len(_SIGNS), 1 + int(rng.random() < 0.3), replace=False)]

    def draw(canvas: Canvas) -> None:
        """Draw the pole and its plates, one below the other."""
        _post(canvas, (x, 0), (x, y), z, 0.1, np.full(3, 140.0), POLE)
        for index, (corners, turn, *colours) in enumerate(plates):
            angle = np.arange(corners) * (2 * np.pi / corners) + turn
            outline = radius * np.stack([np.cos(angle), np.sin(angle)], -1)
            _draw_plate(canvas, x, y - 2.05 * radius * index, z, outline, tuple(colours))

    return Thing(z, draw, ring((x, z), 0.06, 4), (0.0, y + radius))


def board(rng: np.random.Generator, x: float, z: float) -> Thing:
    """Make a direction board on two legs."""
    width, tall, y = rng.uniform(1.6, 2.8), rng.uniform(0.9, 1.5), rng.uniform(2.6, 3.4)
    colours = ((_WHITE, _BLUE, _WHITE), (_WHITE, _GREEN, _WHITE), (_BLACK, _YELLOW, _BLACK), (_BLACK, _WHITE, _BLACK))[
        rng.integers(4)
    ]
    outline = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * (width / 2, tall / 2)

    def draw(canvas: Canvas) -> None:
        """Draw the two posts and the board."""
        for side in (-0.35, 0.35):
            _post(canvas, (x + side * width, 0), (x + side * width, y), z, 0.12, np.full(3, 120.0), POLE)
        _draw_plate(canvas, x, y, z, outline, colours)

    return Thing(z, draw, ring((x, z), width / 2, 4), (y - tall / 2, y + tall / 2))


def _draw_leaves(canvas: Canvas, rng: np.random.Generator, centre: Array, extent: Array, leaf: Array) -> None:
    """Paint a crown of discs inside an ellipse (x, y): bright on top and towards the sun, dark on the other side."""
    light, depth = canvas.light, float(centre[2])
    radius = canvas.camera.focal / max(depth, 1.0) * extent.min()
    clumps = int(np.clip(1.6 * radius, 14, 90))
    offsets = rng.normal(0, 0.42, (clumps, 2))
    distance = np.maximum(np.linalg.norm(offsets, axis=1), 1e-6)
    offsets *= (np.minimum(distance, 0.93) / distance)[:, None]
    # outer clumps are small, so the silhouette is ragged and the middle closed
    sizes = radius * (0.48 - 0.34 * np.minimum(distance, 0.93)) * rng.uniform(0.6, 1.1, clumps)
    shade = (
        0.85
        + 0.5 * offsets[:, 1]
        - 0.25 * light.shadow * offsets[:, 0] * np.sign(light.sun[0])
        + rng.normal(0, 0.13, clumps)
    )
    order = np.argsort(shade)
    pixels = canvas.camera.project(centre + np.concatenate([offsets * extent, np.zeros((clumps, 1))], 1))
    bright = np.clip(shade[order], 0.45, 1.7)
    canvas.discs(pixels[order], np.maximum(sizes[order], 1.0), canvas.tones(leaf, depth, bright), VEGETATION)


def tree(rng: np.random.Generator, x: float, z: float) -> Thing:
    """Make a tree of one of several kinds, with its trunk (which counts as vegetation)."""
    height, spread = rng.uniform(4.5, 10), rng.uniform(1.3, 2.8)
    leaf = np.asarray(_LEAVES[rng.integers(len(_LEAVES))]) + rng.normal(0, 8, 3)
    bark = np.asarray(_BARKS[rng.integers(len(_BARKS))])
    low = height * rng.uniform(0.2, 0.4)

    def draw(canvas: Canvas) -> None:
        """Draw the trunk, then the leaves."""
        _post(canvas, (x, 0), (x + rng.normal(0, 0.15), low * 1.5), z, rng.uniform(0.2, 0.42), bark, VEGETATION)
        centre = np.array([x, (low + height) / 2, z])
        _draw_leaves(canvas, rng, centre, np.array([spread, (height - low) / 2]), leaf)

    return Thing(z, draw, ring((x, z), spread, 10), (low, height * 0.9))


def hedge(rng: np.random.Generator, x: float, z: float) -> Thing:
    """Make a bush, or a piece of hedge."""
    height, spread = rng.uniform(0.8, 2.2), rng.uniform(0.9, 1.8)
    leaf = np.asarray(_LEAVES[rng.integers(len(_LEAVES) - 1)]) * 0.9 + rng.normal(0, 8, 3)

    def draw(canvas: Canvas) -> None:
        """Draw the leaves."""
        _draw_leaves(canvas, rng, np.array([x, height * 0.45, z]), np.array([spread, height * 0.6]), leaf)

    return Thing(z, draw, ring((x, z), spread * 0.7, 8), (0.0, height))


def house(rng: np.random.Generator, side: int, wall: float, start: float, end: float) -> Thing:
    """Make a house on the left (-1) or right (1) whose front stands at x = `wall` between two depths."""
    style = _House(rng, side, wall, start, end)
    corners = [(x, z) for x in (wall, wall + side * 8) for z in (max(start, 1.0), end)]
    return Thing(end, style.draw, np.array(corners), (0.0, style.height))


class _House:
    """Paints a house: the front along the street, the end wall that faces the camera, windows, shop, roof."""

    def __init__(self, rng: np.random.Generator, side: int, wall: float, start: float, end: float) -> None:
        self.rng, self.side, self.wall, self.start, self.length = (
            rng,
            side,
            wall,
            max(start, 1.0),
            end - max(start, 1.0),
        )
        self.storey, self.floors = rng.uniform(2.9, 3.7), int(rng.integers(2, 7))
        self.height = self.storey * self.floors + rng.uniform(0.3, 1.0)
        hues = np.array([(1.0, 0.94, 0.84), (1.0, 0.72, 0.6), (0.95, 0.97, 1.0), (0.96, 1.0, 0.9)])
        self.base = np.clip(rng.uniform(85, 215) * hues[rng.integers(4)], 0, 235)
        self.shop = int(rng.random() < 0.45)

    def panel(self, left: ArrayLike, right: ArrayLike, low: ArrayLike, high: ArrayLike) -> Array:
        """Quads (M, 4, 3) on the front, from shares (M,) of its length and heights (M,) in metres."""
        left, right, low, high = np.broadcast_arrays(
            *(np.atleast_1d(np.asarray(v, np.float64)) for v in (left, right, low, high))
        )
        along = self.start + np.stack([left, right, right, left], -1) * self.length
        return np.stack([np.full(along.shape, self.wall), np.stack([low, low, high, high], -1), along], -1)

    def draw(self, canvas: Canvas) -> None:
        """Paint walls and roof, then what is on the front."""
        front, gable = canvas.light.side(-self.side), canvas.light.side(0.0) * 0.88
        wall, start, height = self.wall, self.start, self.height
        far, deep = wall + self.side * 28, wall + self.side * 4
        canvas.face(
            [(wall, 0, start), (far, 0, start), (far, height, start), (wall, height, start)], self.base, BUILDING, gable
        )
        if self.rng.random() < 0.45:
            ridge, end = height + self.rng.uniform(1.2, 2.6), start + self.length
            tiles = ((120, 62, 46), (72, 70, 74), (98, 84, 72))[self.rng.integers(3)]
            canvas.face(
                [(wall, height, start), (deep, ridge, start), (deep, ridge, end), (wall, height, end)],
                tiles,
                BUILDING,
                front,
            )
            canvas.face(
                [(wall, height, start), (far, height, start), (far, ridge, start), (deep, ridge, start)],
                self.base,
                BUILDING,
                gable,
            )
        canvas.face(self.panel(0, 1, 0, height)[0], self.base, BUILDING, front)
        glass = np.array([52, 60, 70]) * self.rng.uniform(0.7, 1.5)
        self._windows(canvas, glass, front)
        self._ground_floor(canvas, glass, front)
        canvas.face(self.panel(0, 1, height - 0.35, height)[0], np.clip(self.base * 1.15, 0, 250), BUILDING, front)

    def _windows(self, canvas: Canvas, glass: Array, front: float) -> None:
        rng, lit = self.rng, canvas.light.lamps
        columns = max(int(self.length / rng.uniform(2.0, 3.4)), 1)
        wide, tall = rng.uniform(0.38, 0.62) / columns, rng.uniform(0.45, 0.66) * self.storey
        column, floor = (grid.ravel() for grid in np.meshgrid(np.arange(columns), np.arange(self.shop, self.floors)))
        middle, low = (column + 0.5) / columns, self.storey * (floor + 0.26)
        rim = np.clip(self.base * rng.choice([0.72, 1.25]), 0, 245)
        canvas.face(
            self.panel(middle - 0.62 * wide, middle + 0.62 * wide, low - 0.12, low + tall + 0.12), rim, BUILDING, front
        )
        kind = np.digitize(rng.random(len(low)), (0.5, 0.8))
        panes = ((glass, front), (glass * 1.5, front), ((250, 205, 120), 1.9) if lit else (glass * 0.6, front))
        for number, (colour, shade) in enumerate(panes):
            some = kind == number
            if some.any():
                canvas.face(
                    self.panel(middle[some] - wide / 2, middle[some] + wide / 2, low[some], low[some] + tall),
                    colour,
                    BUILDING,
                    shade,
                )

    def _ground_floor(self, canvas: Canvas, glass: Array, front: float) -> None:
        rng, lit, storey = self.rng, canvas.light.lamps, self.storey
        if not self.shop:
            left = rng.uniform(0.1, 0.8)
            canvas.face(
                self.panel(left, left + 1.2 / self.length, 0.0, 2.2)[0], rng.uniform(20, 150, 3), BUILDING, front
            )
            return
        colour, shade = ((230, 200, 140), 1.5) if lit else (glass * 1.2, front)
        canvas.face(self.panel(0.04, 0.96, 0.3, storey * 0.72)[0], colour, BUILDING, shade)
        canvas.face(self.panel(0.02, 0.98, storey * 0.74, storey * 0.98)[0], rng.uniform(20, 230, 3), BUILDING, front)
        bars = np.linspace(0.04, 0.96, max(int(self.length / 2.5), 2) + 1)
        canvas.face(
            self.panel(bars - 0.15 / self.length, bars + 0.15 / self.length, 0.0, storey * 0.72),
            self.base * 0.6,
            BUILDING,
            front,
        )
