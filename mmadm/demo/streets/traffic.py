"""What stands in the generated streets: cars and people."""

from __future__ import annotations

from functools import partial

import numpy as np

from mmadm.demo.streets.canvas import CAR, PERSON, Array, Canvas, Thing, bar, ring

GLASS = (46, 54, 62)
RUBBER = (30, 30, 32)
_CAR_PAINTS = (
    (200, 202, 205), (235, 235, 232), (28, 29, 32), (95, 98, 104), (150, 24, 28), (28, 52, 120), (70, 110, 160),
    (36, 78, 52), (190, 170, 130), (205, 120, 30), (110, 80, 60), (215, 190, 60),
)  # fmt: skip
# Length, width, height of the body's top edge, of the roof (metres); then where the cabin's floor and roof begin and
# end, as shares of the length from the rear.
_CAR_SHAPES = {
    'saloon': (4.5, 1.78, 0.92, 1.43, (0.10, 0.74), (0.24, 0.58)),
    'hatchback': (3.9, 1.72, 0.95, 1.48, (0.02, 0.76), (0.10, 0.60)),
    'estate': (4.6, 1.80, 0.94, 1.50, (0.01, 0.73), (0.06, 0.58)),
    'off-roader': (4.5, 1.90, 1.08, 1.75, (0.01, 0.77), (0.07, 0.62)),
    'van': (4.9, 1.95, 1.15, 2.15, (0.00, 0.92), (0.01, 0.74)),
}
# Below this many pixels per metre, on the canvas, lamps and wheels of a car are left out.
_DETAIL = 9.0
_SKINS = ((236, 196, 170), (214, 168, 134), (160, 112, 80), (96, 64, 46))


def _within(face: Array, left: float, right: float, low: float, high: float) -> Array:
    """Part of a quad (4, 3), given as shares of its width and height; corners run from low left to high left."""
    low_left, low_right, high_right, high_left = face

    def at(u: float, v: float) -> Array:
        """Interpolate between the corners."""
        return (1 - v) * ((1 - u) * low_left + u * low_right) + v * ((1 - u) * high_left + u * high_right)

    return np.stack([at(left, low), at(right, low), at(right, high), at(left, high)])


def _box_faces(low: tuple[float, float, float, float], high: tuple[float, float, float, float]) -> dict[str, Array]:
    """Faces of a tapered box in (along, across, up); `low` and `high` are (rear, front, half width, height)."""

    def corner(level: tuple[float, float, float, float], front: int, side: int) -> tuple[float, float, float]:
        """One corner of the lower or upper level; `front` is 0 or 1, `side` -1 or 1."""
        return level[front], side * level[2], level[3]

    def quad(first: tuple[int, int], second: tuple[int, int]) -> Array:
        """An upright face between two corners (front, side)."""
        return np.array([corner(low, *first), corner(low, *second), corner(high, *second), corner(high, *first)])

    # Seen from outside, each runs from its left to its right.
    return {
        'top': np.array([corner(high, 0, -1), corner(high, 0, 1), corner(high, 1, 1), corner(high, 1, -1)]),
        'rear': quad((0, -1), (0, 1)),
        'front': quad((1, 1), (1, -1)),
        'left': quad((1, -1), (0, -1)),
        'right': quad((0, 1), (1, 1)),
    }


class _Car:
    """Draws one car; its own frame is (along, across, up) with the origin on the ground below its middle."""

    def __init__(
        self, canvas: Canvas, rng: np.random.Generator, x: float, z: float, heading: float, shape: str
    ) -> None:
        self.canvas = canvas
        self.ident = canvas.instance(CAR)
        self.place = np.array([x, 0.0, z])
        sine, cosine = np.sin(heading), np.cos(heading)
        self.axes = np.array([[sine, 0, cosine], [cosine, 0, -sine], [0, 1, 0]])
        self.length, width, self.shoulder, self.roof, self.floor, self.crown = _CAR_SHAPES[shape]
        self.half = width / 2
        self.paint = np.clip(np.asarray(_CAR_PAINTS[rng.integers(len(_CAR_PAINTS))]) + rng.normal(0, 9, 3), 12, 245)
        self.sky = 0.25 * np.asarray(canvas.light.haze) + 0.75 * np.asarray(GLASS)

    def world(self, points: Array) -> Array:
        """World coordinates of points in the car's frame."""
        return self.place + points @ self.axes

    def seen(self, box: dict[str, Array]) -> list[str]:
        """Names of a box's faces that are turned towards the camera, in the order of the box."""
        pixels = self.canvas.camera.project(self.world(np.stack(list(box.values()))))
        (u1, v1), (u2, v2) = (np.moveaxis(pixels[:, corner] - pixels[:, 0], -1, 0) for corner in (1, 2))
        return [side for side, turned in zip(box, u1 * v2 - v1 * u2 < 0, strict=True) if turned]

    def fill(self, face: Array, colour: tuple[float, ...] | Array, shade: float = 1.0) -> None:
        """Paint a face, given in the car's frame, in a colour times a brightness."""
        self.canvas.face(self.world(face), colour, self.ident, shade)

    def shade(self, side: str) -> float:
        """Brightness of a face from the way it is turned."""
        if side == 'top':
            return 1.12
        outward = {'front': self.axes[0], 'rear': -self.axes[0], 'right': self.axes[1], 'left': -self.axes[1]}[side]
        return 0.92 * self.canvas.light.side(float(outward[0]))

    def draw(self) -> None:
        """Paint underside, wheels, body and cabin, in this order."""
        back, front = -self.length / 2, self.length / 2
        chassis = _box_faces(
            (back + 0.15, front - 0.15, self.half * 0.93, 0.1), (back + 0.1, front - 0.1, self.half * 0.95, 0.4)
        )
        body = _box_faces((back, front, self.half, 0.3), (back + 0.06, front - 0.12, self.half * 0.95, self.shoulder))
        (low0, low1), (high0, high1) = (
            [back + share * self.length for share in pair] for pair in (self.floor, self.crown)
        )
        cabin = _box_faces((low0, low1, self.half * 0.93, self.shoulder), (high0, high1, self.half * 0.74, self.roof))
        close = self.canvas.camera.focal / self.place[2] > _DETAIL
        for side in self.seen(chassis):
            self.fill(chassis[side], RUBBER, 0.7)
        for side in self.seen(body):
            self.fill(body[side], self.paint, self.shade(side))
            if close:
                self.trim(side, body[side])
        for side in self.seen(cabin):
            self.fill(cabin[side], self.paint, self.shade(side))
            self.windows(side, cabin[side])

    def trim(self, side: str, face: Array) -> None:
        """Lamps, plate, bumper, wheels on a face of the body."""
        lit = self.canvas.light.lamps
        if side in ('left', 'right'):
            self.fill(_within(face, 0.02, 0.98, 0.0, 0.12), RUBBER)
            for seam in (0.36, 0.58):
                self.fill(_within(face, seam, seam + 0.008, 0.15, 0.98), self.paint * 0.55)
            across = self.half * (1.01 if side == 'right' else -1.01)
            for along in (-0.31 * self.length, 0.32 * self.length):
                for radius, colour in ((0.34, RUBBER), (0.2, (150, 152, 156))):
                    wheel = ring((along, 0.34), radius, 14)
                    self.fill(np.stack([wheel[:, 0], np.full(14, across), wheel[:, 1]], -1), colour, 0.85)
        elif side in ('front', 'rear'):
            lamp = (
                ((255, 250, 225) if lit else (225, 228, 230))
                if side == 'front'
                else ((255, 40, 30) if lit else (165, 22, 24))
            )
            self.fill(_within(face, 0.0, 1.0, 0.0, 0.24), self.paint * 0.45 + 12)
            for left in (0.03, 0.79):
                self.fill(_within(face, left, left + 0.18, 0.5, 0.82), lamp, 2.2 if lit else 1.0)
            self.fill(_within(face, 0.37, 0.63, 0.22, 0.4), (225, 225, 205))
            if side == 'front':
                self.fill(_within(face, 0.26, 0.74, 0.5, 0.74), (40, 41, 44))

    def windows(self, side: str, face: Array) -> None:
        """Panes on a face of the cabin."""
        if side in ('left', 'right'):
            for left, right in ((0.06, 0.36), (0.39, 0.66), (0.69, 0.94)):
                self.fill(_within(face, left, right, 0.14, 0.86), self.sky)
        elif side != 'top':
            self.fill(_within(face, 0.07, 0.93, 0.1, 0.9), self.sky, 1.05)
            self.fill(_within(face, 0.07, 0.93, 0.62, 0.9), self.sky * 1.3 + 12)


def car(rng: np.random.Generator, x: float, z: float, heading: float) -> Thing:
    """Make a car whose front points `heading` radians to the right of straight ahead."""
    shape = str(rng.choice(list(_CAR_SHAPES)))
    length, width, _, roof, *_ = _CAR_SHAPES[shape]
    corners = np.array([[-1, -1], [-1, 1], [1, 1], [1, -1]]) * (length / 2, width / 2)
    sine, cosine = np.sin(heading), np.cos(heading)
    footprint = np.array([x, z]) + corners @ np.array([[sine, cosine], [cosine, -sine]])
    return Thing(z, lambda canvas: _Car(canvas, rng, x, z, heading, shape).draw(), footprint, (0.0, roof))


def _draw_person(canvas: Canvas, rng: np.random.Generator, x: float, z: float, height: float) -> None:
    """Paint someone who stands or walks: limbs are bars in the plane that faces the camera, in units of the height."""
    ident = canvas.instance(PERSON)
    skin = np.asarray(_SKINS[rng.integers(len(_SKINS))])
    top, bottom, hair = (
        rng.uniform(25, 220) + rng.normal(0, 38, 3),
        rng.uniform(15, 130) + rng.normal(0, 14, 3),
        rng.uniform(15, 120) * np.array([1, 0.8, 0.6]),
    )
    facing, stride, build = rng.choice([-1, 1]), rng.uniform(0.0, 0.17), rng.uniform(0.9, 1.2)

    def paint(shape: Array, colour: Array, shade: float = 1.0) -> None:
        """Paint an outline given in shares of the height, upright where the person stands."""
        canvas.upright(shape * (facing * height, height) + (x, 0), z, np.clip(colour, 8, 250), ident, shade)

    def leg(reach: float, shade: float) -> None:
        """Paint a leg whose foot stands so far in front of the hip."""
        knee = (reach * 0.55 + 0.02, 0.27)
        paint(bar((0.0, 0.5), knee, 0.1 * build, 0.075), bottom, shade)
        paint(bar(knee, (reach, 0.03), 0.075, 0.055), bottom, shade)
        paint(bar((reach - 0.03, 0.02), (reach + 0.08, 0.015), 0.05, 0.03), np.array([35, 32, 30]), shade)

    def arm(reach: float, shade: float) -> None:
        """Paint an arm whose hand hangs so far in front of the shoulder."""
        elbow = (reach * 0.5 - 0.015, 0.62)
        paint(bar((0.0, 0.8), elbow, 0.07, 0.06), top, shade)
        paint(bar(elbow, (reach, 0.49), 0.06, 0.04), top, shade)
        paint(ring((reach, 0.475), 0.022, 6), skin, shade)

    leg(-stride, 0.75)
    arm(stride * 0.9, 0.75)
    if rng.random() < 0.3:
        paint(bar((-0.09, 0.8), (-0.1, 0.58), 0.1, 0.12), rng.uniform(20, 200, 3))
    leg(stride, 1.0)
    paint(np.array([(-0.075, 0.82), (0.075, 0.82), (0.07 * build, 0.48), (-0.07 * build, 0.48)]) * (build, 1), top)
    if rng.random() < 0.35:
        hem = rng.uniform(0.3, 0.44)
        paint(np.array([(-0.07, 0.55), (0.07, 0.55), (0.09, hem), (-0.09, hem)]) * (build, 1), top * 0.9)
    arm(-stride * 0.9, 1.0)
    paint(bar((0.0, 0.8), (0.005, 0.87), 0.06, 0.05), skin, 0.9)
    paint(ring((-0.008, 0.935), 0.064, 10), hair)
    paint(ring((0.012, 0.925), 0.052, 10), skin)


def person(rng: np.random.Generator, x: float, z: float) -> Thing:
    """Make a person, tall or small."""
    height = rng.uniform(1.1, 1.4) if rng.random() < 0.15 else rng.normal(1.72, 0.08)
    return Thing(z, partial(_draw_person, rng=rng, x=x, z=z, height=height), ring((x, z), 0.2, 6), (0.0, height))
