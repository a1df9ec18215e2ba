"""The generated streets on disk: who can read them, what the boxes bound, and what a cut-off leaves behind."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope

from mmadm.demo.streets import draw_street, make_streets
from mmadm.demo.streets.canvas import INSTANCE
from mmadm.registry import DATASETS
from mmadm.utils.errors import ConfigError

SIZE = (64, 128)
ARGUMENTS = dict(train=5, val=2, seed=3, size=SIZE)
TRAIN_IDS = {'person': 11, 'car': 13, 'traffic sign': 7}
SEGMENTATION = dict(data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'))


def hashes(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob('*')) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def build(type, **cfg):
    with DefaultScope.overwrite_default_scope(type.partition('.')[0].replace('mmadm', 'mmseg')):
        return DATASETS.build(dict(type=type, **cfg))


@pytest.fixture(scope='module')
def root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('streets')
    assert make_streets(root, **ARGUMENTS)
    return root


@pytest.fixture(scope='module')
def clean(root) -> dict[str, str]:
    return hashes(root)


def test_the_folders_are_those_of_cityscapes(clean):
    names = set(clean)
    assert {
        'leftImg8bit/train/oxenby/oxenby_000000_000000_leftImg8bit.png',
        'gtFine/train/oxenby/oxenby_000004_000000_gtFine_labelTrainIds.png',
        'leftImg8bit/val/larkholt/larkholt_000001_000000_leftImg8bit.png',
        'annotations/instances_train.json',
        'annotations/instances_val.json',
        'meta.json',
    } <= names
    assert len(names) == 2 * (5 + 2) + 2 + 1


def test_stock_mmseg_reads_just_what_was_drawn(root):
    load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    stock = build('mmseg.CityscapesDataset', data_root=str(root), pipeline=load, **SEGMENTATION)
    ours = build('mmadm.StreetsDataset', data_root=str(root), pipeline=load, **SEGMENTATION)
    assert len(stock) == len(ours) == 5
    for index in range(5):
        image, ids = draw_street(3, 0, index, SIZE)
        labels = np.where(ids < INSTANCE, ids, ids // INSTANCE)
        for item in (stock[index], ours[index]):
            assert np.array_equal(item['img'][..., ::-1], image)  # mmcv reads BGR
            assert np.array_equal(item['gt_seg_map'], labels)


def test_boxes_bound_what_is_visible(root):
    seen = 0
    for number, (split, city) in enumerate((('train', 'oxenby'), ('val', 'larkholt'))):
        boxes = json.loads((root / f'annotations/instances_{split}.json').read_text())
        names = {category['id']: category['name'] for category in boxes['categories']}
        assert sorted(names.values()) == sorted(TRAIN_IDS)
        for index, record in enumerate(boxes['images']):
            path = f'{city}/{city}_{index:06d}_000000'
            assert (record['file_name'], record['height'], record['width']) == (f'{path}_leftImg8bit.png', *SIZE)
            labels = cv2.imread(str(root / f'gtFine/{split}/{path}_gtFine_labelTrainIds.png'), cv2.IMREAD_UNCHANGED)
            assert (root / f'leftImg8bit/{split}' / record['file_name']).is_file()
            _, ids = draw_street(3, number, index, SIZE)
            mine = [box for box in boxes['annotations'] if box['image_id'] == record['id']]
            assert len(mine) == len(set(ids[ids >= INSTANCE].tolist()))
            covered = np.zeros(SIZE, bool)
            for box in mine:
                covered[inside(box)] |= labels[inside(box)] == TRAIN_IDS[names[box['category_id']]]
                check_tight(box, ids, TRAIN_IDS[names[box['category_id']]])
            assert np.array_equal(covered, np.isin(labels, list(TRAIN_IDS.values())))
            seen += len(mine)
        assert [box['id'] for box in boxes['annotations']] == list(range(1, len(boxes['annotations']) + 1))
    assert seen > 40


def inside(box):
    left, top, width, height = box['bbox']
    return np.s_[top : top + height, left : left + width]


def check_tight(box, ids, train_id):
    """One instance of the class has all its pixels in the box and touches all four sides of it."""
    left, top, width, height = box['bbox']
    assert min(left, top) >= 0
    assert left + width <= SIZE[1]
    assert top + height <= SIZE[0]
    crop = ids[inside(box)]
    candidates = [ident for ident in np.unique(crop) if ident // INSTANCE == train_id]
    tight = [
        ident
        for ident in candidates
        if (crop == ident).sum() == (ids == ident).sum() == box['area']
        and all((side == ident).any() for side in (crop[0], crop[-1], crop[:, 0], crop[:, -1]))
    ]
    assert len(tight) >= 1, box


def test_stock_mmdet_reads_the_boxes(root):
    pytest.importorskip('mmdet')
    cfg = dict(data_root=str(root), ann_file='annotations/instances_val.json', data_prefix=dict(img='leftImg8bit/val'))
    dataset = build('mmdet.CocoDataset', metainfo=dict(classes=('person', 'car')), pipeline=[], **cfg)
    boxes = json.loads((root / cfg['ann_file']).read_text())['annotations']
    assert len(dataset) == 2
    for index in range(2):
        info = dataset.get_data_info(index)
        assert Path(info['img_path']).is_file()
        assert len(info['instances']) == sum(b['image_id'] == index + 1 and b['category_id'] < 3 for b in boxes)


def test_the_tool_writes_the_same_bytes_in_another_process_without_mmseg(clean, tmp_path, repo_root):
    arguments = [str(tmp_path), '--train', '5', '--val', '2', '--seed', '3', '--size', '64', '128']
    script = f"""
import runpy, sys
sys.modules['mmseg'] = None  # importing it now fails as if it were not installed
sys.argv[1:] = {arguments}
runpy.run_path('tools/make_streets.py', run_name='__main__')
"""
    command = [sys.executable, '-c', script]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'drew 5 training and 2 validation images, seed 3' in ' '.join(done.stdout.split())
    assert hashes(tmp_path) == clean


def test_what_is_there_is_not_drawn_again(root, clean):
    before = {path: path.stat().st_mtime_ns for path in root.rglob('*')}
    assert not make_streets(root, **ARGUMENTS, progress=lambda *_: pytest.fail('drew an image'))
    assert {path: path.stat().st_mtime_ns for path in root.rglob('*')} == before


def test_a_damaged_or_different_set_is_made_anew(clean, tmp_path):
    assert make_streets(tmp_path, **{**ARGUMENTS, 'seed': 4, 'train': 7})
    other = hashes(tmp_path)
    label = 'gtFine/train/oxenby/oxenby_000002_000000_gtFine_labelTrainIds.png'
    assert other[label] != clean[label]
    note = tmp_path / 'leftImg8bit/train/oxenby/note.txt'
    note.write_text('mine')
    assert make_streets(tmp_path, **ARGUMENTS)  # fewer images: the other set's last ones must go
    assert note.read_text() == 'mine'
    note.unlink()
    assert hashes(tmp_path) == clean
    (tmp_path / label).unlink()
    assert make_streets(tmp_path, **ARGUMENTS)
    assert hashes(tmp_path) == clean


def test_an_image_does_not_depend_on_how_many_there_are(clean, tmp_path):
    make_streets(tmp_path, **{**ARGUMENTS, 'train': 1})
    name = 'leftImg8bit/train/oxenby/oxenby_000000_000000_leftImg8bit.png'
    assert hashes(tmp_path)[name] == clean[name]


def stop_at(image):
    def progress(done, total):
        assert total == 7
        if done == image:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize('before', [False, True])
def test_a_cut_off_generation_is_not_taken_for_a_finished_one(clean, tmp_path, before):
    if before:
        make_streets(tmp_path, **{**ARGUMENTS, 'seed': 4})
    kept = hashes(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        make_streets(tmp_path, **ARGUMENTS, progress=stop_at(4))
    # what was there stays whole, and nothing new can be read
    assert {name: value for name, value in hashes(tmp_path).items() if not name.startswith('.unfinished')} == kept
    if not before:
        with pytest.raises(ConfigError, match='does not exist'):
            build('mmadm.StreetsDataset', data_root=str(tmp_path), **SEGMENTATION)
    assert make_streets(tmp_path, **ARGUMENTS)
    assert hashes(tmp_path) == clean


def test_a_cut_while_files_move_into_place_is_seen_and_repaired(clean, tmp_path):
    make_streets(tmp_path, **{**ARGUMENTS, 'seed': 4})
    blocked = tmp_path / 'annotations/instances_val.json'  # a folder in its place stops the last move
    blocked.unlink()
    (blocked / 'sub').mkdir(parents=True)
    with pytest.raises(OSError, match=r'instances_val\.json'):
        make_streets(tmp_path, **ARGUMENTS)
    with pytest.raises(ConfigError, match='generation was not finished'):
        build('mmadm.StreetsDataset', data_root=str(tmp_path), **SEGMENTATION)
    (blocked / 'sub').rmdir()
    blocked.rmdir()
    assert make_streets(tmp_path, **ARGUMENTS)
    assert hashes(tmp_path) == clean


@pytest.mark.parametrize(
    'name', ['leftImg8bit/train/aachen/a_leftImg8bit.png', 'annotations/instances_train.json', 'meta.json']
)
def test_data_of_others_is_refused_and_left_alone(tmp_path, name):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('{"classes": []}')
    before = hashes(tmp_path)
    with pytest.raises(ConfigError, match=f'holds {name.partition("/")[0]}, which this generator did not write'):
        make_streets(tmp_path, **ARGUMENTS)
    assert hashes(tmp_path) == before


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(train=0), 'train=0: a split needs at least 1 image'),
        (dict(val=-1), 'val=-1'),
        (dict(seed=-2), 'seed=-2: a seed is 0 or more'),
        (dict(size=(64, 32)), r'size=\(64, 32\): height and width must be at least \(32, 64\)'),
    ],
)
def test_arguments_out_of_range_are_named(tmp_path, change, message):
    with pytest.raises(ConfigError, match=message):
        make_streets(tmp_path, **{**ARGUMENTS, **change})
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match=r"root='.*/file' cannot be written to: Not a directory"):
        make_streets(tmp_path / 'file', **ARGUMENTS)
