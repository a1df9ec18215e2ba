"""Overlap of what scores highest with ground-truth objects, by hand."""

import pytest
import torch

from mmadm.functional.foreground import chance_overlap, foreground_overlap, foreground_share

# image 0: objects at two of four positions, image 1: at one, image 2: nowhere, image 3: everywhere
OBJECTS = torch.tensor([[[1, 1], [0, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 0]], [[1, 1], [1, 1]]]).bool()


def test_as_many_positions_are_chosen_as_the_objects_have():
    scores = torch.tensor(
        [[[0.9, 0.1], [0.5, 0.2]], [[0.3, 0.2], [0.1, 0.8]], [[1.0, 2.0], [3.0, 4.0]], [[1.0, 2.0], [3.0, 4.0]]]
    )
    # image 0: 0.9 and 0.5 are chosen, one is an object: 1 of 3; image 1: 0.8 is chosen and right
    assert float(foreground_overlap(scores, OBJECTS)) == pytest.approx((1 / 3 + 1) / 2)
    assert float(foreground_overlap(-scores, OBJECTS)) == pytest.approx((1 / 3 + 0) / 2)
    assert float(foreground_overlap(OBJECTS.float(), OBJECTS)) == 1


def test_chance_is_what_random_scores_reach():
    assert float(chance_overlap(OBJECTS)) == pytest.approx((0.5 / 1.5 + 0.25 / 1.75) / 2)
    objects = (torch.arange(400) < 100).view(1, 20, 20)
    generator = torch.Generator().manual_seed(0)
    found = [foreground_overlap(torch.rand(1, 20, 20, generator=generator), objects) for _ in range(300)]
    assert float(torch.stack(found).mean()) == pytest.approx(float(chance_overlap(objects)), abs=0.004)


def test_positions_outside_are_neither_ranked_nor_background():
    generator = torch.Generator().manual_seed(0)
    scores, objects = torch.rand(2, 3, 6, 7, generator=generator), torch.rand(3, 6, 7, generator=generator) > 0.6
    weights = torch.rand(3, 6, 7, generator=generator)
    sizes = ((4, 5), (6, 2), (3, 3))
    mask = torch.zeros(3, 6, 7, dtype=torch.bool)
    for image, (rows, columns) in enumerate(sizes):
        mask[image, :rows, :columns] = True
    crops = [(slice(image, image + 1), slice(rows), slice(columns)) for image, (rows, columns) in enumerate(sizes)]
    overlap = torch.stack([foreground_overlap(scores[(slice(None), *crop)], objects[crop]) for crop in crops]).mean(
        dim=0
    )
    torch.testing.assert_close(foreground_overlap(scores, objects, mask), overlap)
    torch.testing.assert_close(foreground_overlap(scores + 9.0 * ~mask, objects | ~mask, mask), overlap)
    chance = torch.stack([chance_overlap(objects[crop]) for crop in crops]).mean()
    torch.testing.assert_close(chance_overlap(objects | ~mask, mask), chance)
    share = torch.stack([foreground_share(weights[crop], objects[crop]) for crop in crops]).mean()
    torch.testing.assert_close(foreground_share(weights * mask, objects | ~mask, mask), share)
    # an image without any position says nothing
    mask[1] = False
    torch.testing.assert_close(
        chance_overlap(objects, mask), torch.stack([chance_overlap(objects[crops[i]]) for i in (0, 2)]).mean()
    )
    assert foreground_share(weights * mask, objects, torch.zeros_like(mask)).item() == 0


def test_images_without_objects_or_without_background_say_nothing():
    scores = torch.rand(2, 2, 2)
    assert float(foreground_overlap(scores, OBJECTS[2:])) == 0
    assert float(chance_overlap(OBJECTS[2:])) == 0
