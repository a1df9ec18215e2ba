"""What is drawn in the generated streets: geometry, light, labels that fit the image, and the mix of classes."""

import numpy as np
import pytest

from mmadm.demo.streets import draw_street
from mmadm.demo.streets.canvas import CAR, INSTANCE, PERSON, Camera, Canvas, Light, Thing, ring
from mmadm.demo.streets.traffic import car, person

SIZE = (128, 256)
ROAD, SIDEWALK, BUILDING, POLE, SIGN, VEGETATION, SKY, IGNORE = 0, 1, 2, 5, 7, 8, 10, 255
STUFF, THINGS = {ROAD, SIDEWALK, BUILDING, POLE, VEGETATION, SKY, IGNORE}, {PERSON, CAR, SIGN}
STRAIGHT = Camera(focal=200.0, height=1.5, lateral=0.0, centre=100.0, horizon=80.0, roll=0.0, bend=0.0)
BENT = Camera(focal=230.0, height=1.7, lateral=1.2, centre=90.0, horizon=70.0, roll=0.02, bend=0.004)


def light(**changes):
    daylight = dict(
        tint=(1.0, 1.0, 1.0), zenith=(80, 130, 200), haze=(200, 210, 220), visibility=100.0,
        shadow=0.5, sun=(1.0, 0.0), clouds=0.2, lamps=False,
    )  # fmt: skip
    return Light(**{**daylight, **changes})


@pytest.fixture(scope='module')
def scenes():
    """24 scenes as (image, ids, labels)."""
    drawn = [draw_street(7, 0, index, SIZE) for index in range(24)]
    return [(image, ids, np.where(ids < INSTANCE, ids, ids // INSTANCE)) for image, ids in drawn]


def test_the_same_arguments_give_the_same_pixels_and_others_do_not(scenes):
    np.random.seed(1)
    image, ids = draw_street(7, 0, 3, SIZE)
    assert np.random.random() == np.random.RandomState(1).random()  # the global generator was not drawn from
    assert np.array_equal(image, scenes[3][0])
    assert np.array_equal(ids, scenes[3][1])
    for other in ((8, 0, 3), (7, 1, 3), (7, 0, 4)):
        assert not np.array_equal(draw_street(*other, SIZE)[1], ids)


def test_only_known_ids_are_drawn(scenes):
    for image, ids, labels in scenes:
        assert (image.shape, image.dtype, ids.shape) == ((*SIZE, 3), np.uint8, SIZE)
        assert set(np.unique(labels[ids < INSTANCE])) <= STUFF
        assert set(np.unique(labels[ids >= INSTANCE])) <= THINGS


def test_every_class_has_its_share(scenes):
    labels = np.stack([labels for *_, labels in scenes])
    share = {ident: (labels == ident).mean() for ident in STUFF | THINGS}
    shown = {ident: (labels == ident).any((1, 2)).mean() for ident in STUFF | THINGS}
    for ident, (least, most) in {
        ROAD: (0.2, 0.45), SIDEWALK: (0.015, 0.15), BUILDING: (0.15, 0.45), POLE: (0.005, 0.05), SIGN: (0.002, 0.03),
        VEGETATION: (0.04, 0.25), SKY: (0.03, 0.2), PERSON: (0.003, 0.05), CAR: (0.05, 0.25), IGNORE: (0.0, 0.06),
    }.items():  # fmt: skip
        assert least <= share[ident] <= most, (ident, share[ident])
    for ident in (ROAD, SIDEWALK, BUILDING, POLE, VEGETATION, SKY, CAR):
        assert shown[ident] == 1.0, ident
    assert shown[PERSON] >= 0.75
    assert shown[SIGN] >= 0.6


def test_scenes_are_as_different_as_day_and_dusk(scenes):
    brightness = [image.mean() for image, *_ in scenes]
    assert max(brightness) > 1.5 * min(brightness)
    assert min(brightness) > 40
    assert max(brightness) < 200
    assert len({int(labels[:, 128].argmin()) for *_, labels in scenes}) > 5  # where the road ends


def test_labels_fit_the_image_to_the_pixel(scenes):
    """Across the borders of the labels the image changes most where the labels lie, not beside it."""
    strength = {}
    for shift in range(-3, 4):
        change = [
            np.abs(np.diff(np.roll(image, shift, 1).astype(float), axis=1))
            .mean(-1)[np.diff(labels, axis=1) != 0]
            .mean()
            for image, _, labels in scenes
        ]
        strength[shift] = np.mean(change)
    assert max(strength, key=strength.get) == 0
    assert strength[0] > 1.3 * max(strength[-2], strength[2])


def test_what_is_left_of_a_thing_is_seen_or_ignored(scenes):
    for _, ids, _ in scenes:
        values, counts = np.unique(ids[ids >= INSTANCE], return_counts=True)
        assert counts.min() >= 8
        assert len(values) > 3


def test_a_point_is_projected_by_hand():
    # 1 m right, 10 m ahead, on the ground: 200 / 10 = 20 pixels per metre
    assert STRAIGHT.project([1.0, 0.0, 10.0]).tolist() == [120.0, 110.0]
    assert STRAIGHT.project([[-2.0, 1.5, 20.0]]).tolist() == [[80.0, 80.0]]  # eye height lies on the horizon
    # a bend of 0.004 / m moves a point at 20 m by 0.004 * 20**2 / 2 = 0.8 m
    assert BENT.project([1.2 - 0.8, 1.7, 20.0]) == pytest.approx([90.0, 70.0])


@pytest.mark.parametrize('camera', [STRAIGHT, BENT])
def test_ground_inverts_the_projection(camera):
    points = np.array([[0.0, 5.0], [-3.0, 12.0], [4.0, 40.0]])
    pixels = camera.project(np.stack([points[:, 0], np.zeros(3), points[:, 1]], -1))
    x, z = camera.ground(pixels[:, 0], pixels[:, 1])
    assert np.stack([x, z], -1) == pytest.approx(points, rel=1e-6, abs=1e-6)
    assert np.isinf(camera.ground(np.array([50.0]), np.array([10.0]))[1])


def test_colours_fade_into_the_haze():
    canvas = Canvas((8, 8), STRAIGHT, light(tint=(1.0, 0.5, 2.0)))
    assert canvas.tone((100, 100, 100), 0.0) == pytest.approx((100, 50, 200))
    assert canvas.tone((100, 100, 200), 1e6) == pytest.approx((200, 210, 220))
    # at the visibility 1 - 1/e = 63.2 % is haze
    assert canvas.tone((100, 0, 0), 100.0)[0] == pytest.approx(200 - 100 / np.e)
    assert canvas.tones((100, 100, 100), 0.0, [0.5, 9.0]) == [pytest.approx([50, 25, 100]), [255.0, 255.0, 255.0]]


def test_the_side_towards_the_sun_is_brighter():
    shining = light(sun=(1.0, 0.0))  # shadows fall to the right, so the sun stands on the left
    assert shining.side(-1.0) == 1.0
    assert shining.side(0.0) == pytest.approx(1 - 0.5 * 0.45)
    assert shining.side(1.0) == pytest.approx(1 - 0.5 * 0.9)


def test_a_shadow_falls_away_from_the_sun():
    canvas = Canvas((160, 200), STRAIGHT, light(sun=(2.0, 0.0)))
    post = Thing(10.0, lambda canvas: None, ring((0.0, 10.0), 0.1), (0.0, 1.0))
    columns = post.shadow(canvas)[:, 0]
    assert columns.min() == pytest.approx(98, abs=0.2)  # from the post at column 100, 20 pixels per metre
    assert columns.max() == pytest.approx(142, abs=0.5)  # to 2 m to the right of it


def test_the_nearer_thing_hides_the_farther_one():
    canvas = Canvas((100, 100), STRAIGHT, light())
    far, near = canvas.instance(PERSON), canvas.instance(CAR)
    square = np.array([(20, 20), (60, 20), (60, 60), (20, 60)], float)
    canvas.fill(square[None], (10, 20, 30), far)
    canvas.fill(square[None] + 20, (200, 100, 50), near)
    assert (far, near) == (11001, 13002)
    assert canvas.ids[30, 30] == far
    assert canvas.ids[50, 50] == near
    assert canvas.ids[90, 90] == IGNORE
    painted = canvas.image[canvas.ids == near]
    assert (painted == (200, 100, 50)).all()
    assert len(painted) == 41 * 41


def drawn_rows(z, height=None):
    canvas = Canvas((400, 200), STRAIGHT, light())
    person(np.random.default_rng(2), 0.0, z).draw(canvas)
    return np.nonzero(canvas.ids >= INSTANCE)[0]


def test_people_shrink_with_distance():
    near, far = drawn_rows(5.0), drawn_rows(10.0)
    assert np.ptp(near) / np.ptp(far) == pytest.approx(2, rel=0.08)
    assert near.max() == pytest.approx(80 + 200 * 1.5 / 5, abs=3)  # feet stand on the ground
    assert far.max() == pytest.approx(80 + 200 * 1.5 / 10, abs=3)
    assert 1.0 < np.ptp(near) / 40 < 2.1  # metres


@pytest.mark.parametrize(('heading', 'red'), [(0.0, True), (np.pi, False)])
def test_a_car_shows_its_rear_when_it_drives_ahead(heading, red):
    canvas = Canvas((200, 200), STRAIGHT, light(lamps=True))
    car(np.random.default_rng(0), 0.0, 8.0, heading).draw(canvas)
    pixels = canvas.image[canvas.ids == CAR * INSTANCE + 1].astype(int)
    assert len(pixels) > 500
    assert ((pixels[:, 0] - pixels[:, 1]) > 120).any() == red


@pytest.mark.parametrize(('x', 'heading'), [(0.0, 0.0), (2.0, np.pi), (-3.0, 0.3), (0.0, np.pi / 2)])
def test_a_car_is_as_large_as_its_place(x, heading):
    canvas = Canvas((400, 400), Camera(200.0, 1.5, 0.0, 200.0, 150.0, 0.0, 0.0), light())
    thing = car(np.random.default_rng(0), x, 12.0, heading)
    thing.draw(canvas)
    outline = np.concatenate(
        [np.insert(thing.footprint, 1, height, axis=1) for height in thing.span]  # (x, y, z) of the box around it
    )
    corners = canvas.camera.project(outline)
    rows, columns = np.nonzero(canvas.ids >= INSTANCE)
    assert columns.min() == pytest.approx(corners[:, 0].min(), abs=6)
    assert columns.max() == pytest.approx(corners[:, 0].max(), abs=6)
    assert rows.max() <= corners[:, 1].max() + 2
    assert rows.min() >= corners[:, 1].min() - 2
