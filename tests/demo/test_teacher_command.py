"""How the weights of the demo's teacher are written."""

import torch
from mmengine.config import Config

from mmadm.bench.suites import ROOT
from mmadm.demo.teacher_command import CONFIG, publish
from mmadm.engine.provenance import recorded_classes, recorded_normalisation
from mmadm.utils.checkpoint import write_checkpoint
from mmadm.utils.weights import read_weights


def test_weights_are_halved_and_tell_classes_and_normalisation_but_no_folder(tmp_path):
    state = {'weight': torch.tensor([0.5, 1 / 3]), 'num_batches_tracked': torch.tensor(70000)}
    meta = {'dataset_meta': {'classes': ('road', 'sky')}, 'cfg': f"work_dir = '{tmp_path}'", 'seed': 3}
    write_checkpoint({'meta': meta, 'state_dict': state, 'optimizer': {}}, tmp_path / 'whole.pth')
    publish(tmp_path / 'whole.pth', ROOT / CONFIG, tmp_path / 'half.pth')
    weights, told = read_weights(str(tmp_path / 'half.pth'), 'the test')
    assert weights['weight'].dtype == torch.float16 and weights['weight'][1] == torch.tensor(1 / 3).half()
    assert weights['num_batches_tracked'] == 70000  # beyond what half precision holds
    assert recorded_classes(told) == ('road', 'sky')
    preprocessor = Config.fromfile(ROOT / CONFIG).model.data_preprocessor
    assert recorded_normalisation(told)['mean'] == tuple(preprocessor.mean)
    assert set(told) == {'dataset_meta', 'cfg'} and str(tmp_path) not in told['cfg']
