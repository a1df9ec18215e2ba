"""The share of ADM's weight that would lie on padding, of a batch whose padding is known."""

import pytest
import small_detectors
from role_outputs import run_roles

from mmadm.bench.padding_share import _add
from mmadm.distillers.pairs import levels_of


def test_shares_of_a_padded_batch():
    adm = dict(type='ADM', at='backbone.layer1', region='uniform')
    model = small_detectors.distillation('retinanet', distillers=[adm])
    outputs = run_roles(model, model.data_preprocessor(small_detectors.batch(), True))
    found = {'positions': [], 'consensus': [], 'divergence': []}
    part = model.distillers['adm']
    assert _add(part, outputs, model.step_of('adm').connectors, found)
    (edge,) = part.edges()
    (grid,) = levels_of(edge, outputs)[1]
    cells = [grid.image_cells(image) for image in range(2)]
    expected = 1 - sum(rows * columns for rows, columns in cells) / (2 * grid.cells[0] * grid.cells[1])
    # uniform weights lie on padding as often as positions do
    assert found == {key: [pytest.approx(expected)] for key in ('positions', 'consensus', 'divergence')}
    assert 0 < expected < 1
