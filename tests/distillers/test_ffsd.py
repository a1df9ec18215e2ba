"""FFSD: students, fusion, leader, chains; who learns from what, and what is exported."""

import math
from copy import deepcopy

import pytest
import small_detectors
import torch
from role_outputs import levels, run_roles
from small_segmentors import batch, distillation, plain_optimiser, segmentor, train
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmadm.functional import attention_distance, attention_map, kl_divergence
from mmadm.modules import resize_like
from mmadm.modules.fusion import FeatureFusion, LeaderTransform, SelfDistillation
from mmadm.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmadm.utils.errors import ConfigError
from mmadm.utils.export import extract_role

NAMES = ('first', 'second', 'leader')
SHALLOW = ['backbone.layer3', 'backbone.layer2', 'backbone.layer1']
FFSD = dict(type='FFSD', students=['first', 'second'], shallow=SHALLOW)


def together(**options):
    roles = {name: segmentor(4, dropout=0.0) for name in NAMES}
    return distillation(**{**dict(roles=roles, deploy='leader', distillers=[FFSD]), **options})


def losses_of(model, data=None):
    return model(**model.data_preprocessor(data or batch(), True), mode='loss')


def reached(model, loss):
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(named.values()), allow_unused=True, retain_graph=True)
    return {'.'.join(n.split('.')[1:3]) if n.startswith('conn') else n.split('.')[1]
            for n, g in zip(named, grads, strict=True) if g is not None and g.any()}  # fmt: skip


def test_each_loss_moves_its_learner_alone():
    model = together()
    losses = losses_of(model)
    expected = {
        'first.loss_peers': {'first'},
        'second.loss_peers': {'second'},
        'second.loss_diversity': {'second'},
        'fusion.loss_ce': {'ffsd.fuse_0', 'ffsd.head'},
        'fusion.loss_students': {'ffsd.fuse_0', 'ffsd.head'},
        'leader.loss_fused': {'leader'},
        'leader.loss_fusion': {'leader', 'ffsd.transform_0'},
        # the first student has no former one, so no target of a chain of its own would be looked at
        'self_distillation.loss_second': {'ffsd.chain_second'},
        'self_distillation.loss_leader': {'ffsd.chain_leader'},
    }
    found = {key: reached(model, loss) for key, loss in losses.items() if key in expected or key.startswith('self_')}
    assert found == expected


def test_values_against_the_pure_functions():
    model = together(distillers=[dict(FFSD, shallow=[], tau=3.0, fusion=7.0)])
    data = model.data_preprocessor(batch(), True)
    losses = model(**data, mode='loss')
    again = deepcopy(model)
    outputs = run_roles(again, data)
    z = {name: levels(outputs, name, 'logits')[0] for name in NAMES}
    f = {name: levels(outputs, name, 'pre_logits')[0] for name in NAMES}
    valid = (outputs['leader'].truth.labels != 255)[:, None].float()
    mask = torch.nn.functional.interpolate(valid, z['leader'].shape[2:])[:, 0] > 0
    parts = again.connectors['ffsd']
    fused = parts['fuse_0']([f['first'], f['second']])
    fused_z = parts['head'](fused)
    torch.testing.assert_close(losses['first.loss_peers'], kl_divergence(z['first'], z['second'], 3.0, mask))
    mean = (z['first'] + z['second']) / 2
    torch.testing.assert_close(losses['fusion.loss_students'], kl_divergence(fused_z, mean, 3.0, mask))
    torch.testing.assert_close(losses['leader.loss_fused'], kl_divergence(z['leader'], fused_z, 3.0, mask))
    spread = attention_map(parts['transform_0'](f['leader']))
    joined = attention_map(torch.cat([f['first'], f['second']], dim=1))
    expected = attention_distance(attention_map(f['leader']), attention_map(fused)) + attention_distance(spread, joined)
    torch.testing.assert_close(losses['leader.loss_fusion'], 7.0 * expected)


def test_coefficients_warm_up_by_iteration():
    with_ramp = train(together(distillers=[dict(FFSD, warmup=10)]), steps=1)[0]
    without = train(together(), steps=1)[0]
    factor = math.exp(-5 * (1 - 1 / 10) ** 2)
    for key in ('second.loss_diversity', 'leader.loss_fusion', 'self_distillation.loss_leader'):
        assert with_ramp[key] == pytest.approx(factor * without[key], rel=1e-4)
    assert with_ramp['leader.loss_fused'] == pytest.approx(without['leader.loss_fused'], rel=1e-5)


def test_fusion_and_chains_have_optimisers_of_their_own():
    model = together()
    assert set(model.owners) == {*NAMES, 'fusion', 'self_distillation'}
    entries = {owner: dict(optimizer=dict(type='SGD', lr=0.01)) for owner in (*NAMES, 'fusion')}
    entries['self_distillation'] = dict(optimizer=dict(type='Adam', lr=0.001))
    constructor = dict(type='mmadm.RoleOptimWrapperConstructor', optim_wrapper_cfg=entries)
    wrapper = OPTIM_WRAPPER_CONSTRUCTORS.build(constructor)(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    train(model, steps=2, optimiser=wrapper)
    still = {k for k, v in model.named_parameters() if torch.equal(v, before[k])}
    assert not {k for k in still if k.startswith('connectors')}
    assert isinstance(wrapper['self_distillation'].optimizer, torch.optim.Adam)
    lacking = {key: value for key, value in entries.items() if key != 'fusion'}
    with pytest.raises(ConfigError, match=r'optim_wrapper\.fusion: missing'):
        OPTIM_WRAPPER_CONSTRUCTORS.build(dict(constructor, optim_wrapper_cfg=lacking))(model)


def gradients(loss, chain):
    return torch.autograd.grad(loss, list(chain.parameters()), allow_unused=True, retain_graph=True)


def amp_step(model):
    """Outputs of the roles and the losses, in bfloat16, before a backward pass."""
    data = model.data_preprocessor(batch(), True)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        outputs = run_roles(model, data)
        return outputs, model.distillers['ffsd'](outputs, model.step_of('ffsd')).losses


def test_in_mixed_precision_every_weight_of_a_chain_learns():
    """A chain runs without gradient before it learns; before torch 2.10 autocast then kept weights without gradient."""
    model = together()
    outputs, losses = amp_step(model)
    for name in ('second', 'leader'):
        chain = model.connectors['ffsd'][f'chain_{name}']
        with torch.autocast('cpu', dtype=torch.bfloat16):
            last = levels(outputs, name, 'pre_logits')[-1].detach()
            pairs = [
                (resize_like(made, own), own)
                for made, own in zip(
                    chain(last), (levels(outputs, name, tap)[-1].detach() for tap in SHALLOW), strict=True
                )
            ]
            alone = 1000.0 * sum(
                attention_distance(a, b) + attention_distance(attention_map(a), attention_map(b)) for a, b in pairs
            )
        expected, found = (gradients(loss, chain) for loss in (alone, losses[f'self_distillation.loss_{name}']))
        for mine, theirs in zip(found, expected, strict=True):
            assert mine is not None and theirs.any()
            torch.testing.assert_close(mine, theirs)


def test_nothing_stays_in_autocasts_cache_from_a_pass_without_gradient():
    model = together()
    outputs, _ = amp_step(model)
    chain, feature = model.connectors['ffsd']['chain_leader'], levels(outputs, 'leader', 'pre_logits')[-1].detach()

    def cast_weight():
        """The node of the graph that casts the first weight: the same one as long as autocast remembers it."""
        return chain.steps[0][0](feature).grad_fn.next_functions[1][0]

    with torch.autocast('cpu', dtype=torch.bfloat16):
        first = cast_weight()
        assert cast_weight() is first
        model.distillers['ffsd']._from_chain(outputs['leader'], feature, model.step_of('ffsd'))
        assert cast_weight() is not first


def test_the_leaders_file_is_a_stock_model():
    model = together()
    leader = extract_role(dict(meta={}, state_dict=model.state_dict()), 'leader')
    stock = deepcopy(model.roles['first'])
    missing, unexpected = stock.load_state_dict(leader['state_dict'], strict=False)
    assert not missing and not unexpected
    data = batch()
    model.eval(), stock.eval()
    mine = model.test_step(deepcopy(data))[0].seg_logits.data
    assert torch.equal(mine, stock.test_step(deepcopy(data))[0].seg_logits.data)


def test_detectors_are_fused_level_by_level_with_a_head_of_their_kind():
    roles = {name: small_detectors.detector('fcos', 4) for name in NAMES}
    model = small_detectors.distillation(roles=roles, deploy='leader', distillers=[dict(FFSD, at='feats', shallow=[])])
    parts = model.connectors['ffsd']
    assert {f'fuse_{i}' for i in range(5)} <= set(parts.keys())
    assert type(parts['head']) is type(model.roles['leader'].bbox_head)
    losses = losses_of(model, small_detectors.batch())
    assert reached(model, losses['fusion.loss_cls']) <= {'ffsd.head', *(f'ffsd.fuse_{i}' for i in range(5))}
    assert reached(model, losses['leader.loss_fused']) == {'leader'}
    log = model.train_step(small_detectors.batch(), plain_optimiser(model, lr=0.001))
    assert all(torch.isfinite(value).all() for value in log.values())


def test_a_chain_reaches_larger_maps_and_keeps_equal_ones():
    chain = SelfDistillation((16, 4), [(8, 4), (4, 16)])
    first, second = chain(torch.randn(2, 16, 4, 4))
    assert first.shape == (2, 8, 4, 4) and second.shape == (2, 4, 16, 16)
    with pytest.raises(ValueError, match='factors of two'):
        SelfDistillation((16, 4), [(8, 12)])
    assert FeatureFusion(4, 3)([torch.randn(2, 4, 5, 5)] * 3).shape == (2, 4, 5, 5)
    assert LeaderTransform(4, 3)(torch.randn(2, 4, 5, 5)).shape == (2, 12, 5, 5)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(roles={n: segmentor(8 if n == 'first' else 4) for n in NAMES}), "'first' and 'leader' differ in arch"),
        (dict(frozen=['second']), "FFSD: role 'second' is frozen"),
        (dict(distillers=[dict(FFSD, students=['first'])]), 'needs at least two'),
        (dict(distillers=[dict(FFSD, students=['first', 'leader'])]), "'leader' not among them"),
        (dict(distillers=[dict(FFSD, shallow=['backbone.layer9'])]), 'backbone.layer'),
        (dict(distillers=[dict(FFSD, shallow='feats')]), r"FFSD\.shallow='feats': must be a list: \['feats'\]"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        together(**options)


def test_odd_sizes_are_compared_at_the_size_of_the_networks_own_feature():
    roles = {name: segmentor(4, dropout=0.0) for name in NAMES}
    for role in roles.values():
        role['data_preprocessor']['size'] = (40, 56)  # strides 4, 8, 16: 10x14, 5x7, 3x4
    model = together(roles=roles)
    data = model.data_preprocessor(batch(size=(40, 56)), True)
    again = deepcopy(model)
    losses = model(**data, mode='loss')
    assert reached(model, losses['self_distillation.loss_leader']) == {'ffsd.chain_leader'}
    assert reached(model, losses['leader.loss_fusion']) == {'leader', 'ffsd.transform_0'}
    outputs = run_roles(again, data)
    made = again.connectors['ffsd']['chain_leader'].train()(levels(outputs, 'leader', 'pre_logits')[0].detach())
    assert [tuple(m.shape[2:]) for m in made] == [(3, 4), (6, 8), (12, 16)]
    terms = []
    for rough, tap in zip(made, SHALLOW, strict=True):
        own = levels(outputs, 'leader', tap)[0]
        fitted = torch.nn.functional.interpolate(rough, size=own.shape[2:], mode='bilinear')
        terms += [attention_distance(fitted, own), attention_distance(attention_map(fitted), attention_map(own))]
    torch.testing.assert_close(losses['self_distillation.loss_leader'], 1000.0 * sum(terms))


@pytest.mark.parametrize(('norm', 'expected'), [('BN', nn.BatchNorm2d), ('SyncBN', nn.SyncBatchNorm)])
def test_the_fusion_normalises_over_all_ranks_where_the_roles_do(norm, expected):
    model = together(roles={name: segmentor(4, norm=norm) for name in NAMES})
    kinds = {type(part) for part in model.connectors.modules() if isinstance(part, _BatchNorm)}
    assert kinds == {expected}
