"""Plan of a generated street: its measures, the weather, the camera, and where everything stands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mmadm.demo.streets.canvas import Camera, Light, Thing
from mmadm.demo.streets.scenery import board, hedge, house, lamp, sign, tree
from mmadm.demo.streets.traffic import car, person

FAR = 110.0  # metres; where the drawn street ends
ZEBRA_LENGTH = 3.2  # metres along the street


@dataclass(frozen=True)
class Street:
    """Measures of a street in metres.

    Args:
        lanes: Lanes in each direction.
        lane: Width of a lane.
        verge: Width between the outer lane and the kerb, on both sides.
        walks: Width of the pavement on the left and on the right.
        parking: Chance of a parked car per place, left and right.
        crossing: Where a side road joins (start, end), or None.
        zebra: Where a zebra crossing starts, or None.
    """

    lanes: int
    lane: float
    verge: float
    walks: tuple[float, float]
    parking: tuple[float, float]
    crossing: tuple[float, float] | None
    zebra: float | None

    @property
    def half(self) -> float:
        """Half the width of the road."""
        return self.lanes * self.lane + self.verge

    def walk(self, side: int) -> float:
        """Width of the pavement on the left (-1) or right (1)."""
        return self.walks[(side + 1) // 2]

    def crossed(self, z: float, margin: float = 0.0) -> bool:
        """Whether a place along the street lies in the side road."""
        return self.crossing is not None and self.crossing[0] - margin < z < self.crossing[1] + margin


def sample_street(rng: np.random.Generator) -> Street:
    """Draw the measures of a street."""
    parking = tuple(float(chance) for chance in rng.choice([0.0, 0.0, 0.35, 0.75], 2))
    start = rng.uniform(13, 45)
    return Street(
        lanes=int(rng.choice([1, 2], p=[0.7, 0.3])),
        lane=rng.uniform(2.8, 3.5),
        verge=rng.uniform(2.1, 2.5) if any(parking) else rng.uniform(0.2, 0.9),
        walks=(rng.uniform(1.8, 4.5), rng.uniform(1.8, 4.5)),
        parking=parking,
        crossing=(start, start + rng.uniform(6, 11)) if rng.random() < 0.4 else None,
        zebra=start - ZEBRA_LENGTH - 1.5 if rng.random() < 0.35 else None,
    )


def sample_light(rng: np.random.Generator) -> Light:
    """Draw weather and time of day: sunny, overcast, low sun or dusk."""
    kind = rng.choice(4, p=[0.42, 0.3, 0.16, 0.12])
    tint, zenith, haze, visibility, shadow, slant, clouds = (
        ((1.16, 1.13, 1.08), (84, 138, 208), (202, 218, 232), 420.0, 0.5, 1.0, 0.3),
        ((0.92, 0.94, 0.97), (158, 166, 176), (208, 212, 216), 170.0, 0.1, 0.3, 0.9),
        ((1.2, 1.02, 0.84), (96, 124, 170), (248, 212, 160), 240.0, 0.45, 2.4, 0.4),
        ((0.58, 0.6, 0.72), (34, 42, 84), (128, 110, 124), 200.0, 0.08, 0.5, 0.5),
    )[kind]
    cast = rng.normal(1.0, 0.06) * rng.normal(1.0, 0.025, 3)
    sun = slant * rng.uniform(0.5, 1.1) * np.array([rng.choice([-1, 1]), rng.uniform(-0.6, 0.6)])
    return Light(
        tint=(np.asarray(tint) * cast).tolist(),
        zenith=(np.asarray(zenith) * cast).tolist(),
        haze=np.clip(np.asarray(haze) * cast, 0, 250).tolist(),
        visibility=visibility * rng.uniform(0.6, 1.5),
        shadow=shadow * rng.uniform(0.8, 1.15),
        sun=(float(sun[0]), float(sun[1])),
        clouds=float(np.clip(clouds + rng.normal(0, 0.2), 0, 1)),
        lamps=bool(kind == 3),
    )


def sample_camera(rng: np.random.Generator, size: tuple[int, int], street: Street) -> Camera:
    """Draw a camera in a lane of the right-hand half, with a little yaw, pitch and roll; `size` is (H, W) in pixels."""
    height, width = size
    return Camera(
        focal=width * rng.uniform(0.72, 1.0),
        height=rng.uniform(1.25, 1.9),
        lateral=street.lane * (rng.integers(street.lanes) + 0.5) + rng.normal(0, 0.2),
        centre=width * rng.uniform(0.36, 0.64),
        horizon=height * rng.uniform(0.38, 0.52),
        roll=rng.normal(0, 0.012),
        bend=rng.normal(0, 0.003),
    )


def place_things(rng: np.random.Generator, street: Street) -> list[Thing]:
    """Put houses, furniture, cars and people in their places along a street."""
    things: list[Thing] = []
    for side in (-1, 1):
        things += _houses(rng, street, side) + _furniture(rng, street, side) + _cars(rng, street, side)
    if street.crossing and rng.random() < 0.6:
        heading = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.2)
        things.append(car(rng, rng.uniform(-9, 9), sum(street.crossing) / 2 + rng.uniform(-1, 1), heading))
    return things + _people(rng, street)


def _houses(rng: np.random.Generator, street: Street, side: int) -> list[Thing]:
    """Line a side of the street with houses, gaps and small parks; the side road stays open."""
    things: list[Thing] = []
    wall, start = side * (street.half + street.walk(side)), rng.uniform(-8, 1)
    while start < FAR:
        end = start + rng.uniform(7, 19)
        if street.crossing and start < street.crossing[1] and end > street.crossing[0]:
            if street.crossing[0] - start > 4:
                things.append(house(rng, side, wall, start, street.crossing[0]))
            start = street.crossing[1]
            continue
        if rng.random() < 0.2:
            for z in np.arange(max(start, 3.0) + 0.8, end, 1.5):
                kind = hedge if rng.random() < 0.6 else tree
                things.append(kind(rng, wall + side * rng.uniform(0.8, 6), z))
        else:
            things.append(house(rng, side, wall, start, end))
        start = end + (0.0 if rng.random() < 0.7 else rng.uniform(1, 6))
    return things


def _furniture(rng: np.random.Generator, street: Street, side: int) -> list[Thing]:
    """Put lamps, trees, signs and boards along a kerb."""
    lamps = np.arange(rng.uniform(5, 20), 90, rng.uniform(14, 28))
    things = [lamp(rng, side * (street.half + 0.45), z) for z in lamps if not street.crossed(z)]
    if rng.random() < 0.5:
        trees = np.arange(rng.uniform(6, 16), 90, rng.uniform(6, 14))
        things += [
            tree(rng, side * (street.half + rng.uniform(0.7, 1.1)), z) for z in trees if not street.crossed(z, 2.0)
        ]
    for _ in range(rng.poisson(1.6)):
        kind = board if rng.random() < 0.12 else sign
        things.append(
            kind(
                rng, side * (street.half + rng.uniform(0.35, 0.8)), float(np.exp(rng.uniform(np.log(6.5), np.log(45))))
            )
        )
    return things


def _cars(rng: np.random.Generator, street: Street, side: int) -> list[Thing]:
    """Park cars along a kerb and drive some in its lanes, on the right ahead and on the left towards the camera."""
    things: list[Thing] = []
    ahead = 0.0 if side > 0 else np.pi
    for z in np.arange(rng.uniform(5, 9), 60, 5.9):
        busy = street.crossed(z, 3.0) or (street.zebra is not None and abs(z - street.zebra - ZEBRA_LENGTH / 2) < 4.5)
        if not busy and rng.random() < street.parking[(side + 1) // 2]:
            turned = np.pi if rng.random() < 0.15 else 0.0
            things.append(
                car(rng, side * (street.half - 1.05), z + rng.uniform(-0.4, 0.4), ahead + turned + rng.normal(0, 0.03))
            )
    for number in range(street.lanes):
        z = rng.uniform(9, 50)
        while z < 95:
            things.append(
                car(rng, side * (number + 0.5) * street.lane + rng.normal(0, 0.15), z, ahead + rng.normal(0, 0.03))
            )
            z += rng.exponential(26) + 8
    return things


def _people(rng: np.random.Generator, street: Street) -> list[Thing]:
    """Put walkers, alone or in twos and threes, on the pavements and across the road."""
    things: list[Thing] = []
    for _ in range(rng.poisson(7)):
        side, z = rng.choice([-1, 1]), float(np.exp(rng.uniform(np.log(5.5), np.log(42))))
        for _ in range(rng.choice([1, 2, 3], p=[0.65, 0.25, 0.1])):
            aside = rng.uniform(0.3, street.walk(side) - 0.3)
            things.append(person(rng, side * (street.half + aside), z + rng.uniform(-0.8, 0.8)))
    place = rng.uniform(12, 40) if street.zebra is None else street.zebra + ZEBRA_LENGTH / 2
    for _ in range(rng.poisson(0.35 if street.zebra is None else 1.6)):
        things.append(person(rng, rng.uniform(-street.half, street.half), place + rng.uniform(-1.2, 1.2)))
    return things
