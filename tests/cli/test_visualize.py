"""tools/visualize.py: which pictures it writes, what they show, and what it refuses without a trace."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import small_detectors
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from small_segmentors import CLASSES
from small_trainings import NAMES, role_config, stock_config

from mmadm.cli import visualize as tool
from mmadm.utils.checkpoint import write_checkpoint
from mmadm.visualization.overlay import SCALES, heat_overlay

AVATARS = dict(num=2, perturbation=dict(type='Dropout', p=0.3))
MAPS = [f'adm_backbone_layer4_{kind}' for kind in SCALES]


def save(cfg: Config, folder: Path, name: str, change=None) -> torch.nn.Module:
    """Write a config and a checkpoint of its model, which is returned in eval mode."""
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        torch.manual_seed(0)
        model = MODELS.build(cfg.model).eval()
    if change is not None:
        change(model)
    cfg.dump(folder / f'{name}.py')
    write_checkpoint(dict(meta={}, state_dict=model.state_dict()), folder / f'{name}.pth')
    return model


def stripes(path: Path, height: int, width: int) -> Path:
    """Write an image of coloured noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8))
    return path


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp('visualize')
    stripes(folder / 'in/a.png', 40, 72)
    stripes(folder / 'in/b.jpg', 64, 48)
    stripes(folder / 'other/a.png', 32, 32)
    (folder / 'in/notes.txt').write_text('no image')
    return folder


@pytest.fixture(scope='module')
def pair(folder):
    """Config ``pair.py``, whose teacher's own file is gone, and its model."""
    cfg = role_config(folder / 'nowhere')
    cfg.test_dataloader.dataset.pipeline.insert(1, dict(type='Resize', scale=(64, 64), keep_ratio=True))
    transfer = dict(
        type='mmadm.Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'), avatars=AVATARS
    )
    cfg.model.distillers = [*cfg.model.distillers, transfer]

    def varied(model):
        """Let no class win everywhere."""
        with torch.no_grad():
            for role in model.roles.values():
                logits = role(packed(folder / 'in/a.png', (36, 64)), mode='tensor')
                role.decode_head.conv_seg.bias -= logits.mean(dim=(0, 2, 3))

    model = save(cfg, folder, 'pair', varied)
    cfg.model.roles.teacher.checkpoint = str(folder / 'gone.pth')
    cfg.model.compile = True
    cfg.dump(folder / 'pair.py')
    return model


def run(*arguments: str | Path) -> None:
    tool.main([str(argument) for argument in arguments])


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path))[..., ::-1]


def written(out: Path) -> set[str]:
    return {str(path.relative_to(out)) for path in out.glob('**/*') if path.is_file()}


def packed(path: Path, size: tuple[int, int]) -> torch.Tensor:
    """An image as the networks see it."""
    resized = cv2.resize(cv2.imread(str(path)), size[::-1])
    return (torch.from_numpy(resized[..., ::-1].copy()).permute(2, 0, 1).float()[None] - 120) / 58


@pytest.fixture(scope='module')
def shown(folder, pair):
    """Pictures of a folder of two images and of a third that has the name of one of them."""
    run(folder / 'pair.py', folder / 'pair.pth', folder / 'in', folder / 'other/a.png', '--out', folder / 'out')
    return folder / 'out'


def test_every_image_has_a_folder_with_every_picture_at_its_size(folder, shown):
    names = ['prediction_student', 'prediction_teacher', *MAPS, 'transfer_logits_avatars']
    assert written(shown) == {f'{image}/{name}.png' for image in ('a', 'b', 'a_2') for name in names}
    sizes = {'a': (40, 72), 'b': (64, 48), 'a_2': (32, 32)}
    assert {image: {read(shown / image / f'{n}.png').shape[:2] for n in names} for image in sizes} == {
        image: {size} for image, size in sizes.items()
    }


@pytest.mark.parametrize('role', ['student', 'teacher'])
def test_predictions_are_the_classes_of_each_role_in_the_colours_of_the_data_set(folder, pair, shown, role):
    with torch.no_grad():
        logits = pair.roles[role](packed(folder / 'in/a.png', (36, 64)), mode='tensor')
        logits = F.interpolate(F.interpolate(logits, (36, 64), mode='bilinear'), (40, 72), mode='bilinear')
    palette = np.array([[40 * i, 90, 200 - 40 * i] for i in range(CLASSES)])
    labels = logits.argmax(dim=1)[0].numpy()
    assert len(np.unique(labels)) > 1
    expected = 0.4 * read(folder / 'in/a.png') + 0.6 * palette[labels]
    found = np.abs(read(shown / f'a/prediction_{role}.png') - expected).max(axis=2) <= 1
    assert found.mean() > 0.8  # names of classes are written over the rest


def test_maps_are_those_of_the_two_networks(folder, pair, shown):
    image = packed(folder / 'in/a.png', (36, 64))
    with torch.no_grad():
        student, teacher = (pair.roles[role].backbone(image)[-1] for role in ('student', 'teacher'))
        (connector,) = pair.connectors['adm'].values()
        similarity = F.cosine_similarity(connector(student), teacher, dim=1)
    expected = {'similarity': similarity[0]}
    for kind, sign in (('consensus', 1), ('divergence', -1)):
        weights = (sign * similarity / 0.1).flatten().softmax(0) * similarity.numel()
        expected[kind] = weights.view_as(similarity[0])
    for kind, values in expected.items():
        overlay = heat_overlay(read(folder / 'in/a.png'), values, *SCALES[kind])
        difference = np.abs(read(shown / f'a/adm_backbone_layer4_{kind}.png').astype(int) - overlay)
        assert difference.max() <= 2 and np.ptp(overlay) > 0


def test_it_says_what_it_wrote(folder, pair, tmp_path, capsys):
    run(folder / 'pair.py', folder / 'pair.pth', folder / 'other/a.png', '--out', tmp_path)
    said = capsys.readouterr().out
    assert all(f'{name}.png' in said for name in ('prediction_student', *MAPS, 'transfer_logits_avatars'))


def test_a_stock_segmentor_has_its_prediction_alone(folder, tmp_path):
    save(stock_config(folder / 'nowhere'), folder, 'stock')
    run(folder / 'stock.py', folder / 'stock.pth', folder / 'other/a.png', '--out', tmp_path)
    assert written(tmp_path) == {'a/prediction.png'}


def test_detectors_get_boxes_with_scores_and_maps_without_the_padding_of_their_pipeline(folder, tmp_path, capsys):
    cfg = role_config(folder / 'nowhere')
    cfg.default_scope = 'mmdet'
    roles = dict(student=small_detectors.detector('retinanet', 4), teacher=small_detectors.detector('retinanet', 8))
    logits = dict(type='mmadm.Transfer', source='teacher', learner='student', loss=dict(type='mmdet.MSELoss'))
    distillers = [dict(type='mmadm.ADM', at='feats[:2]'), dict(logits, avatars=AVATARS)]
    cfg.model = dict(type='mmadm.Distillation', roles=roles, distillers=distillers)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(64, 64), keep_ratio=True),
        dict(type='Pad', size=(64, 128), pad_val=dict(img=(114, 114, 114))),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ]
    dataset = dict(type='CocoDataset', data_root='nowhere', ann_file='none.json', metainfo=dict(classes=NAMES[:3]))
    cfg.test_dataloader.dataset = Config(dict(dataset, pipeline=pipeline))._cfg_dict

    def sure(model):
        for role, bias in (('student', 5.0), ('teacher', -5.0)):
            torch.nn.init.constant_(model.roles[role].bbox_head.retina_cls.bias, bias)

    model = save(cfg, folder, 'boxes', sure)
    run(folder / 'boxes.py', folder / 'boxes.pth', folder / 'in/b.jpg', '--out', tmp_path)
    said = capsys.readouterr().out
    image = read(folder / 'in/b.jpg')
    student, teacher = (read(tmp_path / f'b/prediction_{role}.png') for role in ('student', 'teacher'))
    assert (teacher == image).all() and '0 boxes' in said
    assert (student != image).any() and '100 boxes' in said
    # the upper left 64 x 48 of 128 x 64: 8 of 16 rows and 6 of 8 columns of level 0
    padded = np.full((128, 64, 3), 114, dtype=np.uint8)
    padded[:64, :48] = image
    mean, std = (torch.tensor(cfg.model.roles.student.data_preprocessor[key])[:, None, None] for key in ('mean', 'std'))
    with torch.no_grad():
        inputs = (torch.from_numpy(padded).permute(2, 0, 1).float() - mean) / std
        levels = [role.extract_feat(inputs[None])[0] for role in model.roles.values()]
    similarity = F.cosine_similarity(*levels, dim=1)[0, :8, :6]
    expected = heat_overlay(image, similarity, *SCALES['similarity'])
    assert np.abs(read(tmp_path / 'b/adm_feats_2_0_similarity.png').astype(int) - expected).max() <= 2
    assert {f'b/transfer_logits_{level}_avatars.png' for level in range(5)} <= written(tmp_path)


def refused(capsys, *arguments: str | Path) -> str:
    """Run the tool, which must end with code 2 and one line; returns that line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize(
    ('images', 'message'),
    [
        (['gone.png'], 'gone.png: no such file'),
        (['in/a.png', 'in/notes.txt'], 'notes.txt: LoadImageFromFile, which begins the test pipeline, cannot read it'),
        (['empty'], 'empty: the folder holds no image'),
    ],
)
def test_a_wrong_image_is_told_before_anything_is_written(folder, pair, tmp_path, capsys, images, message):
    (folder / 'empty').mkdir(exist_ok=True)
    files = [folder / image for image in images]
    assert message in refused(capsys, folder / 'pair.py', folder / 'pair.pth', *files, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_checkpoint_that_does_not_fit_is_told(folder, pair, tmp_path, capsys):
    image, out = folder / 'in/a.png', ('--out', tmp_path / 'out')
    state = pair.state_dict()
    write_checkpoint(dict(meta=dict(role='student'), state_dict=state), tmp_path / 'role.pth')
    write_checkpoint(
        dict(meta={}, state_dict={k: v for k, v in state.items() if 'conv_seg' not in k}), tmp_path / 'cut.pth'
    )
    (tmp_path / 'torn.pth').write_bytes((folder / 'pair.pth').read_bytes()[:1000])
    messages = {
        'gone': 'gone.pth: no such checkpoint',
        'torn': 'torn.pth is truncated or not a checkpoint',
        'cut': 'is of another architecture',
        'role': "holds only role 'student' of ['student', 'teacher']; give the full checkpoint",
    }
    for name, message in messages.items():
        assert message in refused(capsys, folder / 'pair.py', tmp_path / f'{name}.pth', image, *out)
    assert not (tmp_path / 'out').exists()


def test_a_config_without_what_is_needed_is_told(folder, pair, tmp_path, capsys):
    whole = Config.fromfile(folder / 'pair.py')
    changes = {
        'has no `model`': lambda cfg: cfg.pop('model'),
        'has no test_dataloader.dataset.pipeline': lambda cfg: cfg.update(test_dataloader=None, val_dataloader=None),
        'metainfo has no `classes`': lambda cfg: cfg.test_dataloader.dataset.pop('metainfo'),
    }
    for message, change in changes.items():
        cfg = whole.copy()
        change(cfg)
        cfg.dump(tmp_path / 'changed.py')
        error = refused(
            capsys, tmp_path / 'changed.py', folder / 'pair.pth', folder / 'in/a.png', '--out', tmp_path / 'o'
        )
        assert message in error
    error = refused(capsys, tmp_path / 'none.py', folder / 'pair.pth', folder / 'in/a.png', '--out', tmp_path / 'o')
    assert 'none.py' in error and 'no such file' in error
    assert not (tmp_path / 'o').exists()


def test_files_that_are_there_stay(folder, pair, tmp_path, capsys):
    blocked = tmp_path / 'blocked'
    blocked.write_text('precious')
    error = refused(capsys, folder / 'pair.py', folder / 'pair.pth', folder / 'in/a.png', '--out', blocked)
    assert '--out=' in error and 'cannot be written to' in error
    assert blocked.read_text() == 'precious'
    image = stripes(tmp_path / 'prediction_student/prediction_student.png', 32, 32)
    before = image.read_bytes()
    error = refused(capsys, folder / 'pair.py', folder / 'pair.pth', image, '--out', tmp_path)
    assert 'prediction_student.png is an input' in error
    assert image.read_bytes() == before and len(list(image.parent.iterdir())) == 1
