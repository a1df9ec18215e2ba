"""tools/visualize.py on images of other than three channels, in files that OpenCV cannot read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.registry import MODELS, TRANSFORMS, DefaultScope
from small_trainings import role_config

from mmadm.cli import visualize as tool
from mmadm.utils.checkpoint import write_checkpoint
from mmadm.visualization.overlay import SCALES


@TRANSFORMS.register_module()
class LoadArray(BaseTransform):
    """Reads a multispectral image, as a user may write it."""

    def transform(self, results):
        results['img'] = np.load(results['img_path'])
        results['img_shape'] = results['ori_shape'] = results['img'].shape[:2]
        return results


@pytest.mark.parametrize('channels', [1, 2, 5])
def test_images_of_other_channels_are_drawn(channels, tmp_path):
    cfg = role_config(tmp_path / 'nowhere')
    for role in (cfg.model.roles.student, cfg.model.roles.teacher.cfg):
        role.backbone.in_channels = channels
        role.data_preprocessor.update(mean=[0.5] * channels, std=[0.2] * channels, bgr_to_rgb=False)
    cfg.test_dataloader.dataset.pipeline[0] = dict(type='LoadArray')
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[cfg.test_dataloader.dataset])
    cfg.dump(tmp_path / 'many.py')
    with DefaultScope.overwrite_default_scope('mmseg'):
        state = MODELS.build(cfg.model).state_dict()
    write_checkpoint(dict(meta={}, state_dict=state), tmp_path / 'many.pth')
    values = np.random.default_rng(0).random((32, 48, channels), dtype=np.float32)
    np.save(tmp_path / 'a.npy', values)
    out = tmp_path / 'out'
    tool.main([str(tmp_path / name) for name in ('many.py', 'many.pth', 'a.npy')] + ['--out', str(out)])
    names = ['prediction_student', 'prediction_teacher', *(f'adm_backbone_layer4_{kind}' for kind in SCALES)]
    assert {str(path.relative_to(out)) for path in out.glob('*/*')} == {f'a/{name}.png' for name in names}
    # four tenths of the image, in grey or its first three channels, show through the class map
    shown = cv2.imread(str(out / 'a/prediction_student.png')).astype(float)
    bands = values[..., :3] if channels > 2 else values[..., :1].repeat(3, axis=2)
    assert np.corrcoef(shown.ravel(), bands.ravel())[0, 1] > 0.5
