"""Images, class maps and figures as pictures of a page."""

import base64
import io

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from mmadm.bench.pictures import IGNORED, paint, png, png_uri


def test_labels_are_painted_in_their_colours():
    painted = paint(torch.tensor([[0, 1, 255]]), [[10, 20, 30], [40, 50, 60]])
    assert painted.tolist() == [[[10, 20, 30], [40, 50, 60], list(IGNORED)]]


def test_small_images_grow_by_a_whole_factor():
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    decoded = np.asarray(Image.open(io.BytesIO(png(image, width=5))))
    assert decoded.shape == (6, 6, 3)
    assert (decoded == image.repeat(3, axis=0).repeat(3, axis=1)).all()


def test_a_figure_becomes_a_png_inside_the_page():
    figure = Figure()
    figure.subplots().plot([1, 2], [3, 5])
    kind, _, code = png_uri(figure).partition(',')
    assert kind == 'data:image/png;base64'
    assert np.asarray(Image.open(io.BytesIO(base64.b64decode(code)))).std() > 0
