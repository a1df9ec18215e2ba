"""What a role takes of a checkpoint that does not fit as a whole, and when that is refused."""

from __future__ import annotations

import os
from pathlib import Path
from runpy import run_path

import pytest
import small_detectors
import torch
from mmdet.models import FCOSHead
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from mmengine.runner import load_checkpoint
from served_files import Bait, served
from small_segmentors import build, distillation, segmentor

from mmadm.utils.errors import CheckpointError
from mmadm.utils.export import extract_role

FEATURES = dict(
    type='Transfer', source='teacher', learner='student', at='feats', loss=dict(type='ChannelWiseDivergence')
)
LOGITS = dict(FEATURES, at='logits')


@pytest.fixture
def warned(logged):
    """What is logged of a misfit while a model is built."""
    return lambda: [record.getMessage() for record in logged.records if 'fits role' in record.getMessage()]


def saved(path, model, **changes):
    """Write a stock checkpoint of a network; changes are values by key, None takes a key out."""
    state = model.state_dict()
    for key, value in changes.items():
        state.pop(key) if value is None else state.update({key: value})
    torch.save(dict(meta={}, state_dict=state), path)
    return str(path)


def role(checkpoint, width=4, **options):
    return dict(cfg=segmentor(width, **{k: options.pop(k) for k in ('classes',) if k in options}),
                checkpoint=checkpoint, **options)  # fmt: skip


def offline(checkpoint, distiller, classes=5, **options):
    """A student and a frozen teacher of 8 base channels."""
    roles = dict(student=segmentor(4), teacher=role(checkpoint, 8, classes=classes))
    return distillation(roles=roles, frozen=['teacher'], distillers=[distiller], **options)


class TestTrainable:
    def test_a_head_for_other_classes_starts_as_the_toolbox_initialises_it(self, tmp_path, warned):
        other = build(segmentor(4, classes=3), seed=7)
        model = distillation(roles=dict(student=role(saved(tmp_path / 'a.pth', other))))
        found, expected = model.roles['student'].state_dict(), other.state_dict()
        left = {'decode_head.conv_seg.weight', 'decode_head.conv_seg.bias'}
        assert all(torch.equal(found[key], value) for key, value in expected.items() if key not in left)
        # mmseg's own: normal with deviation 0.01, and 0; torch alone would draw both from a wider range
        assert found['decode_head.conv_seg.bias'].eq(0).all()
        assert 0 < found['decode_head.conv_seg.weight'].abs().max() < 0.05
        (warning,) = warned()
        assert f"model.roles.student.checkpoint='{tmp_path}/a.pth' fits role 'student' in part" in warning
        assert 'conv_seg.weight ([3, 8, 1, 1] in the file, [5, 8, 1, 1] here)' in warning
        assert warning.count(' in the file') == 2 and 'Only' not in warning

    def test_a_detector_for_other_classes_keeps_its_prior(self, tmp_path):
        other = small_detectors.build(small_detectors.detector('retinanet', classes=7), seed=7)
        cfg = dict(cfg=small_detectors.detector('retinanet'), checkpoint=saved(tmp_path / 'a.pth', other))
        model = small_detectors.distillation(roles=dict(student=cfg))
        head = model.roles['student'].bbox_head
        assert head.retina_cls.bias.detach().numpy() == pytest.approx(-4.595, abs=1e-3)  # scores start at 0.01
        assert torch.equal(head.retina_reg.weight, other.bbox_head.retina_reg.weight)

    def test_what_is_missing_and_unknown_is_listed(self, tmp_path, warned):
        changes = {'decode_head.conv_seg.bias': None, 'ema_backbone_conv1_weight': torch.zeros(1)}
        file = saved(tmp_path / 'a.pth', build(segmentor(4)), **changes)
        distillation(roles=dict(student=role(file)))
        (warning,) = warned()
        assert warning.endswith(
            'Not in the file: decode_head.conv_seg.bias. Only in the file: ema_backbone_conv1_weight'
        )

    def test_what_does_not_learn_has_to_fit(self, tmp_path, warned):
        file = saved(tmp_path / 'a.pth', build(segmentor(4, classes=3)))
        distillation(roles=dict(student=role(file, train=['decode_head'])))
        assert len(warned()) == 1
        with pytest.raises(CheckpointError, match=r"\(train=\['backbone'\]\): Of another shape: decode_head\.conv_seg"):
            distillation(roles=dict(student=role(file, train=['backbone'])))

    @pytest.mark.parametrize('harm', ['wider', 'nothing'])
    def test_another_architecture_is_refused(self, tmp_path, harm):
        changes = {} if harm == 'wider' else dict.fromkeys(build(segmentor(8)).state_dict()) | {'a': torch.zeros(1)}
        file = saved(tmp_path / 'a.pth', build(segmentor(8)), **changes)
        with pytest.raises(
            CheckpointError, match=r'of \d+ keys \d+ are missing, [01] unexpected.* another architecture'
        ):
            distillation(roles=dict(student=role(file)))


class TestFrozen:
    def test_other_classes_do_not_matter_where_features_are_tapped(self, tmp_path, warned):
        other = build(segmentor(8, classes=3), seed=7)
        model = offline(saved(tmp_path / 'a.pth', other), FEATURES)
        known = model.frozen_roles['teacher']
        assert (known.loaded, known.whole, known.features_only) == (True, False, True)
        assert len(warned()) == 1
        backbone = model.roles['teacher'].backbone.state_dict()
        # nothing is left of the trial with NaN
        assert all(torch.equal(backbone[key], value) for key, value in other.backbone.state_dict().items())
        assert all(value.isfinite().all() for value in model.roles['teacher'].state_dict().values())

    def test_at_logits_they_do(self, tmp_path):
        file = saved(tmp_path / 'a.pth', build(segmentor(8, classes=3)))
        message = (
            r"needs what does not fit \(taps \['logits'\]\): Of another shape: decode_head\.conv_seg\.weight \(\[3"
        )
        with pytest.raises(CheckpointError, match=message):
            offline(file, LOGITS)

    @pytest.mark.parametrize(('at', 'fits'), [('backbone.layer2', True), ('backbone.layer3', False)])
    def test_nothing_beyond_the_last_tap_is_needed(self, tmp_path, at, fits):
        file = saved(tmp_path / 'a.pth', build(segmentor(8)), **{'backbone.layer3.0.conv1.weight': None})
        if fits:
            assert offline(file, dict(FEATURES, at=at)).frozen_roles['teacher'].loaded
        else:
            with pytest.raises(CheckpointError, match=r'Not in the file: backbone\.layer3\.0\.conv1\.weight$'):
                offline(file, dict(FEATURES, at=at))

    def test_a_deeper_backbone_is_another_one_though_all_keys_are_there(self, tmp_path):
        deeper = build(segmentor(8) | dict(backbone=dict(segmentor(8)['backbone'], depth=34)))
        with pytest.raises(CheckpointError, match=r'Only in the file: backbone\.layer1\.2\.conv1\.weight, '):
            offline(saved(tmp_path / 'a.pth', deeper), FEATURES)

    def test_a_head_that_the_config_leaves_out_is_no_fault(self, tmp_path, warned):
        file = saved(tmp_path / 'a.pth', build(segmentor(8, auxiliary=True)))
        assert offline(file, LOGITS).frozen_roles['teacher'].whole
        assert 'Only in the file: auxiliary_head.conv_seg.weight' in warned()[0]

    def test_a_role_that_predicts_needs_all(self, tmp_path):
        file = saved(tmp_path / 'a.pth', build(segmentor(8, classes=3)))
        with pytest.raises(CheckpointError, match='Of another shape: decode_head'):
            offline(file, FEATURES, deploy='teacher')

    def test_regions_need_no_proposals(self, tmp_path):
        """A two-stage teacher scores the learner's regions, so its own region proposals do not count."""
        roles = dict(
            student=small_detectors.detector('faster', 4), teacher=dict(cfg=small_detectors.detector('faster', 8))
        )
        state = small_detectors.build(ConfigDict(roles['teacher']['cfg']))
        both = dict(frozen=['teacher'], distillers=[dict(LOGITS, loss=dict(type='KLDivergence'))])
        for lost, fits in (('rpn_head.rpn_cls.weight', True), ('roi_head.bbox_head.fc_cls.weight', False)):
            roles['teacher']['checkpoint'] = saved(tmp_path / 'a.pth', state, **{lost: None})
            if fits:
                small_detectors.distillation(roles=roles, **both)
            else:
                with pytest.raises(CheckpointError, match=r'Not in the file: roi_head\.bbox_head\.fc_cls\.weight$'):
                    small_detectors.distillation(roles=roles, **both)


class TestKindsOfFiles:
    @pytest.mark.parametrize('prefix', ['architecture.', 'teacher.'])
    def test_one_of_mmrazor_is_recognised_and_its_way_out_works(self, tmp_path, monkeypatch, prefix):
        monkeypatch.chdir(tmp_path)
        student = build(segmentor(4), seed=5)
        state = {f'{prefix}{key}': value for key, value in student.state_dict().items()}
        torch.save(dict(meta={}, state_dict=state | {'connectors.a.weight': torch.zeros(1)}), 'FILE')
        with pytest.raises(CheckpointError, match=rf'below {prefix[:-1]!r}, as checkpoints of mmrazor do') as error:
            distillation(roles=dict(student=role('FILE')))
        recipe = str(error.value).partition('python -c ')[2].strip('"').replace('(FILE', "('FILE'")
        (tmp_path / 'recipe.py').write_text(recipe)
        run_path('recipe.py')
        model = distillation(roles=dict(student=role('stock.pth')))
        assert torch.equal(model.roles['student'].backbone.conv1.weight, student.backbone.conv1.weight)

    @pytest.mark.parametrize('prefix', ['', 'module.'])
    def test_versions_of_modules_count_so_that_no_key_is_renamed(self, tmp_path, prefix):
        """Without them mmdet takes a file for one of 2020 and makes ``aux_cls`` to ``conv_cls``."""
        cfg = small_detectors.detector('fcos')
        cfg['bbox_head']['type'] = 'HeadWithAnotherScore'
        stock = small_detectors.build(cfg, seed=7)
        state = stock.state_dict(prefix=prefix)
        assert state._metadata[f'{prefix}bbox_head'] == {'version': 7}
        torch.save(dict(meta={}, state_dict=state), tmp_path / 'a.pth')
        model = small_detectors.distillation(roles=dict(student=dict(cfg=cfg, checkpoint=str(tmp_path / 'a.pth'))))
        found = model.roles['student'].state_dict()
        assert all(torch.equal(found[key], value) for key, value in stock.state_dict().items())
        assert not model.origins['student'].misfit

        if not prefix:  # as load_from of a Runner takes it
            other = small_detectors.distillation(roles=dict(student=cfg))
            load_checkpoint(other, str(tmp_path / 'a.pth'), logger='silent')
            assert torch.equal(other.roles['student'].bbox_head.aux_cls.weight, stock.bbox_head.aux_cls.weight)
        # and into the file of the role that a training writes
        full = dict(meta={}, state_dict=model.state_dict())
        assert extract_role(full, 'student')['state_dict']._metadata == stock.state_dict()._metadata

    @pytest.mark.parametrize('by', ['checkpoint', 'load_from'])
    def test_a_file_of_2020_is_brought_up_to_date_as_in_the_toolbox(self, tmp_path, by):
        cfg = small_detectors.detector('fcos')
        stock = small_detectors.build(cfg, seed=7)
        state = {key.replace('.conv_cls.', '.fcos_cls.'): value for key, value in stock.state_dict().items()}
        torch.save(state, tmp_path / 'a.pth')
        start = dict(checkpoint=str(tmp_path / 'a.pth')) if by == 'checkpoint' else {}
        model = small_detectors.distillation(roles=dict(student=dict(cfg=cfg, **start)))
        if by == 'load_from':  # as a Runner does
            load_checkpoint(model, str(tmp_path / 'a.pth'), logger='silent')
        found = model.roles['student'].state_dict()
        assert all(torch.equal(found[key], value) for key, value in stock.state_dict().items())

    def test_a_url_is_read_as_safely_as_a_file(self, tmp_path, monkeypatch):
        monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
        monkeypatch.setenv('no_proxy', '*')
        student = build(segmentor(4), seed=5)
        saved(tmp_path / 'good.pth', student)
        torch.save(dict(meta=Bait(), state_dict=student.state_dict()), tmp_path / 'odd.pth')
        monkeypatch.chdir(tmp_path)
        with served(tmp_path) as url:
            model = distillation(roles=dict(student=role(f'{url}/good.pth')))
            with pytest.raises(CheckpointError, match=r"checkpoint='http.*odd\.pth' holds eval, and such a class"):
                distillation(roles=dict(student=role(f'{url}/odd.pth')))
            with pytest.raises(
                CheckpointError, match=r'gone\.pth. cannot be read \(HTTPError: .* Without a network pass'
            ):
                distillation(roles=dict(student=role(f'{url}/gone.pth')))
        assert not Path('ran').exists() and 'TORCH_FORCE_WEIGHTS_ONLY_LOAD' not in os.environ
        assert torch.equal(model.roles['student'].backbone.conv1.weight, student.backbone.conv1.weight)


@MODELS.register_module()
class HeadWithAnotherScore(FCOSHead):
    """A user's head whose own layer has a name that was another one's in 2020."""

    _version = 7

    def _init_layers(self):
        super()._init_layers()
        self.aux_cls = torch.nn.Conv2d(self.feat_channels, 2, 1)
