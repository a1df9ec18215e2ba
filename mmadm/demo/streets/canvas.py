"""Camera, light and canvas of the generated street scenes.

World frame in metres: x to the right of the road's middle line, y up from the ground, z ahead along the road.
Colours are RGB in 0..255.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]

# Cityscapes trainIds of what is drawn.
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, SKY, PERSON, CAR, IGNORE = 0, 1, 2, 5, 7, 8, 10, 11, 13, 255
# Ids on the canvas: a trainId for stuff, `trainId * INSTANCE + k` for the k-th instance of a thing (k > 0).
INSTANCE = 1000

_SUBPIXEL_BITS = 4
_NEAREST = 0.8  # metres; nearer points are pulled out to here, which keeps pixel coordinates finite


@dataclass(frozen=True)
class Camera:
    """Pinhole camera above a road that bends.

    Args:
        focal: Focal length in pixels.
        height: Height above the ground in metres.
        lateral: Place across the road in metres.
        centre: Column towards which the road runs; differs from the image's middle by the yaw.
        horizon: Row of the horizon at that column.
        roll: Slope of the horizon, rows per column.
        bend: Curvature of the road, 1 / metres.
    """

    focal: float
    height: float
    lateral: float
    centre: float
    horizon: float
    roll: float
    bend: float

    def project(self, points: ArrayLike) -> Array:
        """Project world points (..., 3), as (x, y, z), to pixels (..., 2), as (column, row)."""
        points = np.asarray(points, np.float64)
        x, y = points[..., 0], points[..., 1]
        z = np.maximum(points[..., 2], _NEAREST)
        pixels = np.empty((*points.shape[:-1], 2))
        pixels[..., 0] = self.centre + self.focal * ((x - self.lateral) / z + self.bend * z / 2)
        pixels[..., 1] = self.horizon + self.focal * (self.height - y) / z + self.roll * (pixels[..., 0] - self.centre)
        return pixels

    def ground(self, columns: Array, rows: Array) -> tuple[Array, Array]:
        """Find the ground point (x, z) seen by each pixel; z is infinite above the horizon."""
        below = rows - self.horizon - self.roll * (columns - self.centre)
        z = self.focal * self.height / np.maximum(below, 1e-6)
        x = (columns - self.centre) * z / self.focal - self.bend * z**2 / 2 + self.lateral
        return x, np.where(below > 1e-3, z, np.inf)


@dataclass(frozen=True)
class Light:
    """Weather and time of day.

    Args:
        tint: RGB factor of all that is lit.
        zenith: RGB of the sky overhead.
        haze: RGB of the sky at the horizon, to which far things fade.
        visibility: Distance in metres at which 63 % is haze.
        shadow: Share of light that a shadow takes away.
        sun: Ground displacement (x, z) of the shadow per metre of height.
        clouds: Share of cloud in the sky, 0..1.
        lamps: Whether windows and headlights are lit.
    """

    tint: tuple[float, float, float]
    zenith: tuple[float, float, float]
    haze: tuple[float, float, float]
    visibility: float
    shadow: float
    sun: tuple[float, float]
    clouds: float
    lamps: bool

    def side(self, normal_x: float) -> float:
        """Brightness factor of an upright face whose normal has this x part: sunlit, grazed or in its own shade."""
        towards_sun = -normal_x * float(np.sign(self.sun[0]))
        return 1.0 - self.shadow * (0.45 - 0.45 * towards_sun)


class Canvas:
    """Image and ids that every stroke paints together, so that labels agree with the image to the pixel.

    Args:
        size: Height and width in pixels.
        camera: Maps the world to pixels.
        light: Tints and fades colours.
    """

    def __init__(self, size: tuple[int, int], camera: Camera, light: Light) -> None:
        self.image = np.zeros((*size, 3), np.uint8)
        self.ids = np.full(size, IGNORE, np.int32)
        self.camera = camera
        self.light = light
        self._instances = 0

    def instance(self, label: int) -> int:
        """Open an instance of a thing class and return its id."""
        self._instances += 1
        return label * INSTANCE + self._instances

    def tones(self, colour: ArrayLike, depth: float, shades: ArrayLike) -> list[list[float]]:
        """Colours (M, 3) as seen from `depth` metres away under this light, one for each brightness factor (M,)."""
        haze = 1.0 - math.exp(-depth / self.light.visibility)
        lit = np.outer(shades, np.multiply(colour, self.light.tint) * (1.0 - haze))
        return np.minimum(np.maximum(lit + np.multiply(self.light.haze, haze), 0), 255).tolist()

    def tone(self, colour: Iterable[float], depth: float, shade: float = 1.0) -> tuple[float, ...]:
        """One colour as seen from `depth` metres away under this light."""
        clear = math.exp(-depth / self.light.visibility)
        # written out for single colours, since thousands of strokes per image come through here
        mixed = (
            float(c) * t * shade * clear + h * (1.0 - clear)
            for c, t, h in zip(colour, self.light.tint, self.light.haze, strict=True)
        )
        return tuple([min(max(value, 0.0), 255.0) for value in mixed])

    def fill(self, polygons: Array, colour: Sequence[float], ident: int) -> None:
        """Fill pixel polygons (M, N, 2), which do not overlap, with a toned colour and an id."""
        points = list(np.rint(polygons * 2**_SUBPIXEL_BITS).astype(np.int32))
        cv2.fillPoly(self.image, points, colour, shift=_SUBPIXEL_BITS)
        cv2.fillPoly(self.ids, points, ident, shift=_SUBPIXEL_BITS)

    def face(self, corners: ArrayLike, colour: Iterable[float], ident: int, shade: float = 1.0) -> None:
        """Fill a world polygon (N, 3), or several of equal colour (M, N, 3), toned by the depth of their middle."""
        corners = np.asarray(corners, np.float64)
        depths = corners[..., 2]
        pixels = self.camera.project(corners).reshape(-1, corners.shape[-2], 2)
        self.fill(pixels, self.tone(colour, float(depths.min() + depths.max()) / 2, shade), ident)

    def upright(self, outline: Array, z: float, colour: Iterable[float], ident: int, shade: float = 1.0) -> None:
        """Fill an outline (N, 2), as (x, y), that stands across the street at depth z."""
        corners = np.empty((len(outline), 3))
        corners[:, :2] = outline
        corners[:, 2] = z
        self.face(corners, colour, ident, shade)

    def discs(self, centres: Array, radii: Array, colours: Sequence[Sequence[float]], ident: int) -> None:
        """Fill discs of toned colours and one id; centres (M, 2) and radii (M,) in pixels."""
        places = np.round(centres * 2**_SUBPIXEL_BITS).astype(int).tolist()
        for place, radius, colour in zip(
            places, (radii * 2**_SUBPIXEL_BITS).astype(int).tolist(), colours, strict=True
        ):
            cv2.circle(self.image, place, radius, colour, -1, shift=_SUBPIXEL_BITS)
            cv2.circle(self.ids, place, radius, ident, -1, shift=_SUBPIXEL_BITS)


@dataclass(frozen=True)
class Thing:
    """Something that stands on the ground.

    Args:
        depth: Distance in metres by which things are painted, farthest first.
        draw: Paints it.
        footprint: Ground outline (N, 2), as (x, z), of the part that casts a shadow.
        span: Heights in metres between which it casts the shadow.
    """

    depth: float
    draw: Callable[[Canvas], None]
    footprint: Array
    span: tuple[float, float]

    def shadow(self, canvas: Canvas) -> Array:
        """Outline of its cast shadow in pixels (N, 2)."""
        sun = np.asarray(canvas.light.sun)
        return self._hull(canvas, [self.footprint + sun * height for height in self.span])

    def contact(self, canvas: Canvas) -> Array:
        """Outline in pixels (N, 2) of the ground that it keeps dark by standing on it."""
        middle = self.footprint.mean(0)
        return self._hull(canvas, [middle + (self.footprint - middle) * 1.08])

    @staticmethod
    def _hull(canvas: Canvas, outlines: list[Array]) -> Array:
        ground = np.concatenate(outlines)
        world = np.stack([ground[:, 0], np.zeros(len(ground)), ground[:, 1]], -1)
        return cv2.convexHull(canvas.camera.project(world).astype(np.float32))[:, 0]


def bar(start: tuple[float, float], end: tuple[float, float], thick: float, thin: float) -> Array:
    """Tapered bar between two points, as corners (4, 2)."""
    ahead = np.subtract(end, start)
    across = np.array([-ahead[1], ahead[0]]) / max(float(np.hypot(*ahead)), 1e-6) / 2
    return np.array([start + across * thick, end + across * thin, end - across * thin, start - across * thick])


def ring(centre: tuple[float, float], radius: float, corners: int = 10) -> Array:
    """Corners (N, 2) of a regular polygon."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    return np.asarray(centre) + radius * np.stack([np.cos(angle), np.sin(angle)], -1)


def fractal(rng: np.random.Generator, shape: tuple[int, int], cells: int, octaves: int = 4) -> Array:
    """Smooth noise (H, W) of mean 0 and deviation 1: grids of `cells`, `2 * cells`, ... rows, each half as strong."""
    noise = np.zeros(shape, np.float32)
    for octave in range(octaves):
        rows = cells * 2**octave
        grid = rng.standard_normal((rows, rows * 2), dtype=np.float32)
        noise += cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC) / 2**octave
    return (noise - noise.mean()) / max(float(noise.std()), 1e-6)
