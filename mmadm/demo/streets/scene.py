"""One generated driving scene: sky, ground, shadows, things and exposure, from a seed alone."""

from __future__ import annotations

import cv2
import numpy as np

from mmadm.demo.streets.canvas import (
    BUILDING,
    IGNORE,
    INSTANCE,
    ROAD,
    SIDEWALK,
    SKY,
    VEGETATION,
    Array,
    Canvas,
    Thing,
    fractal,
)
from mmadm.demo.streets.plan import (
    FAR,
    ZEBRA_LENGTH,
    Street,
    place_things,
    sample_camera,
    sample_light,
    sample_street,
)

# Drawn at twice the size and averaged down, which smooths edges; labels take one of the four pixels.
_OVERSAMPLE = 2
_MIN_VISIBLE = 8  # pixels; what is left of a thing below this is ignored, as nobody could label it
_TEXTURE = 256  # side of the noise tile that is laid out on the ground


def _paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint sky with clouds over the whole canvas, and the far end of the street along the horizon."""
    height, width = canvas.ids.shape
    camera, light = canvas.camera, canvas.light
    rows = min(int(camera.horizon) + 12, height)
    haze, zenith = np.float32(light.haze), np.float32(light.zenith)
    up = np.clip(1.0 - np.arange(rows, dtype=np.float32) / np.float32(camera.horizon), 0, 1)[:, None, None] ** 0.7
    noise = fractal(rng, (rows, width), 2)[..., None]
    cover = 0.85 * np.clip(0.5 * noise + (1.6 * light.clouds - 0.75), 0, 1)
    clear = haze + (zenith - haze) * up
    cloudy = haze * np.float32(1.02 - 0.2 * light.clouds) + 14 * noise
    canvas.image[:rows] = np.clip(clear + (cloudy - clear) * cover, 0, 255)
    canvas.ids[:] = SKY
    for ident, colour, tall in ((BUILDING, rng.uniform(90, 150, 3), 0.055), (VEGETATION, np.array([74, 96, 58]), 0.04)):
        columns = np.linspace(-4, width + 4, 48 if ident == BUILDING else 90)
        skyline = np.abs(rng.normal(tall, tall / 2.5, len(columns))) * height
        if ident == BUILDING:  # flat roofs
            columns, skyline = np.repeat(columns, 2)[1:], np.repeat(skyline, 2)[:-1]
        base = camera.horizon + camera.roll * (columns - camera.centre)
        outline = np.concatenate([np.stack([columns, base - skyline], -1), [[width + 4, height], [-4, height]]])
        canvas.fill(outline[None], canvas.tone(colour, 1.3 * FAR), ident)


def _markings(street: Street, rng: np.random.Generator, x: Array, z: Array) -> Array:
    """Where paint lies on the road, as a mask over ground points (x, z)."""
    beat, phase = rng.uniform(5, 9), rng.uniform(0, 9)
    dashed = np.mod(z + phase, beat) < beat * rng.uniform(0.4, 0.6)
    width = rng.uniform(0.06, 0.1)
    paint = np.zeros(x.shape, bool)
    if rng.random() < 0.85:
        paint |= (np.abs(x) < width) & (dashed | (rng.random() < 0.3))
    if street.lanes > 1:
        paint |= (np.abs(np.abs(x) - street.lane) < width) & dashed
    if rng.random() < 0.5:
        paint |= np.abs(np.abs(x) - street.half + street.verge) < width
    if street.crossing:
        paint &= (z < street.crossing[0]) | (z > street.crossing[1])
    if street.zebra is not None:
        near = (z > street.zebra) & (z < street.zebra + ZEBRA_LENGTH)
        paint = np.where(near, np.mod(x, 1.0) < 0.5, paint)
        paint |= (np.abs(z - street.zebra + 1.5) < 0.2) & (x > 0)
    return paint & (np.abs(x) < street.half)


def _paint_ground(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Paint road, markings, kerb and pavement, textured in the plane of the ground."""
    height, width = canvas.ids.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    x, z = canvas.camera.ground(columns, rows)
    below = z < 6 * FAR
    x, z = x[below], z[below]
    crossing = (z > street.crossing[0]) & (z < street.crossing[1]) if street.crossing else np.zeros(z.shape, bool)
    road = (np.abs(x) < street.half) | crossing
    kerb = ~road & (np.abs(x) < street.half + 0.18)
    fade = np.exp(-z / 22)  # fine texture would only flicker far away
    texture = fractal(rng, (_TEXTURE, _TEXTURE), 8, 5)

    def at(scale: float) -> Array:
        """Read the texture on the ground, so many pixels to the metre."""
        along, across = ((value * scale).astype(np.int32) & (_TEXTURE - 1) for value in (z, x))
        return texture[along, across]

    coarse, fine = at(3.1), at(27.0)
    tracks = np.cos(4 * np.pi * x / street.lane)
    asphalt = rng.uniform(62, 122)
    grey = asphalt + 5 * coarse + 16 * fine * fade + 4 * tracks
    grey *= np.where(at(1.3) > 1.25, rng.uniform(0.78, 0.9), 1)  # patches
    grey *= np.where((np.abs(x) > street.half - 0.12) & ~crossing, 0.72, 1)  # gutter
    paint = _markings(street, rng, x, z) & road
    wear = np.clip(0.75 + 0.18 * coarse + 0.1 * fine, 0.2, 1)
    grey = np.where(paint, grey + (rng.uniform(205, 240) - grey) * wear, grey)
    tile = rng.uniform(0.5, 1.2)
    joints = (np.mod(x, tile) < 0.07) | (np.mod(z, tile) < 0.07)
    paving = rng.uniform(96, 176) + 6 * coarse + (12 * fine - rng.uniform(10, 40) * joints) * fade
    grey = np.where(road, grey, np.where(kerb, rng.uniform(125, 185) + 8 * coarse, paving))
    hues = rng.normal(1.0, [[0.02], [0.06]], (2, 3))

    light = canvas.light
    haze = (1 - np.exp(-z / light.visibility))[:, None].astype(np.float32)
    colour = grey[:, None].astype(np.float32) * (hues * light.tint).astype(np.float32)[(~road & ~kerb).astype(int)]
    canvas.image[below] = np.clip(colour + (np.float32(light.haze) - colour) * haze, 0, 255)
    canvas.ids[below] = np.where(road, ROAD, SIDEWALK)


def _cast_shadows(canvas: Canvas, things: list[Thing]) -> None:
    """Darken the ground where things cast shadows and where they stand."""
    cast, contact = (np.zeros(canvas.ids.shape, np.uint8) for _ in range(2))
    for thing in things:
        cv2.fillConvexPoly(cast, np.round(thing.shadow(canvas)).astype(np.int32), 255)
        if thing.span[0] == 0.0:
            cv2.fillConvexPoly(contact, np.round(thing.contact(canvas)).astype(np.int32), 255)
    strength = np.float32([canvas.light.shadow, 0.45]) / 255
    dark = cv2.blur(cast, (5, 5)) * strength[0] + cv2.blur(contact, (5, 3)) * strength[1]
    dark[(canvas.ids != ROAD) & (canvas.ids != SIDEWALK)] = 0
    canvas.image[:] = canvas.image * (1 - np.minimum(dark, 0.75))[..., None]


def _paint_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint the camera car's own bonnet, which belongs to no class."""
    height, width = canvas.ids.shape
    angle = np.linspace(np.pi, 2 * np.pi, 40)
    place, spread, rise = (
        width * rng.uniform(0.4, 0.6),
        width * rng.uniform(0.45, 0.75),
        height * rng.uniform(0.03, 0.12),
    )
    base = rng.uniform(20, 120) + rng.normal(0, 5, 3)
    for share in (1.0, 0.8, 0.55):
        outline = np.stack([place + spread * share * np.cos(angle), height + rise * share * np.sin(angle)], -1)
        canvas.fill(outline[None], canvas.tone(base * (1.5 - 0.6 * share), 1.0), IGNORE)


def _expose(canvas: Canvas, rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Turn the canvas into a photograph (H, W, 3): surface texture, vignette, lens blur, exposure, sensor noise."""
    labels = np.where(canvas.ids < INSTANCE, canvas.ids, canvas.ids // INSTANCE)
    strength = np.full(256, 0.04, np.float32)
    strength[[VEGETATION, BUILDING, SKY]] = 0.13, 0.06, 0.01
    grain = 1.5 * cv2.GaussianBlur(rng.standard_normal(labels.shape, dtype=np.float32), (3, 3), 0.8)
    grain += 0.6 * fractal(rng, labels.shape, 6, 4)
    image = cv2.resize(
        canvas.image * (1 + strength[labels] * grain)[..., None], size[::-1], interpolation=cv2.INTER_AREA
    )

    rows, columns = (np.linspace(-1, 1, length, dtype=np.float32) for length in size)
    image *= (1 - np.float32(rng.uniform(0, 0.16)) * (rows[:, None] ** 2 + columns**2))[..., None]
    sigma = rng.uniform(0.0, 0.75)
    if sigma > 0.3:
        image = cv2.GaussianBlur(image, (5, 5), sigma)
    image = 255 * np.clip(image * (rng.normal(1.0, 0.06) / 255), 0, 1) ** rng.uniform(0.8, 1.1)
    image += rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(0.8, 4.0) * np.sqrt(0.35 + image / 200)
    return np.clip(np.round(image), 0, 255).astype(np.uint8)


def draw_street(seed: int, split: int, index: int, size: tuple[int, int]) -> tuple[Array, Array]:
    """Draw one street scene; the same arguments give the same pixels.

    Args:
        seed: Seed of the data set.
        split: Number of the split.
        index: Number of the image within the split.
        size: Height and width in pixels.

    Returns:
        RGB image (H, W, 3) uint8, and ids (H, W) int32: a Cityscapes trainId, 255 for ignored pixels, or
        `trainId * INSTANCE + k` for the k-th car, person or sign.
    """
    rng = np.random.default_rng([seed, split, index])
    large = (size[0] * _OVERSAMPLE, size[1] * _OVERSAMPLE)
    street = sample_street(rng)
    canvas = Canvas(large, sample_camera(rng, large, street), sample_light(rng))
    things = sorted(place_things(rng, street), key=lambda thing: -thing.depth)
    _paint_sky(canvas, rng)
    _paint_ground(canvas, rng, street)
    _cast_shadows(canvas, things)
    for thing in things:
        thing.draw(canvas)
    if rng.random() < 0.4:
        _paint_bonnet(canvas, rng)
    image = _expose(canvas, rng, size)
    ids = canvas.ids[::_OVERSAMPLE, ::_OVERSAMPLE].copy()
    values, counts = np.unique(ids, return_counts=True)
    ids[np.isin(ids, values[(values >= INSTANCE) & (counts < _MIN_VISIBLE)])] = IGNORE
    return image, ids
