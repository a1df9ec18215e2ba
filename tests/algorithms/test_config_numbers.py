"""What is no number, list or name where one is meant is refused while the model is built, by its key."""

import pytest
from small_segmentors import distillation, segmentor

from mmadm.utils.errors import ConfigError

ROLES = ['student', 'teacher']
KL = dict(type='Transfer', source='teacher', learner='student', loss=dict(type='KLDivergence'))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (
            dict(distillers=[dict(type='KDCL', roles=ROLES, weight='nonsense')]),
            r"distillers\[0\]\.weight='nonsense': must",
        ),
        (dict(distillers=[dict(KL, weight=-1)]), r'distillers\[0\]\.weight=-1: must be a number of at least 0'),
        (dict(distillers=[dict(type='ADM', divergence=float('nan'))]), r'distillers\[0\]\.divergence=nan'),
        (dict(distillers=[dict(KL, loss=dict(type='KLDivergence', tau=True))]), r'Transfer\.loss\.tau=True'),
        (dict(distillers=[dict(KL, loss=dict(type=''))]), r"Transfer\.loss\.type=''"),
        (dict(distillers=[dict(KL, avatars=dict(num=1.5))]), r'avatars\.num=1\.5: must be a whole number'),
        (dict(distillers=[dict(KL, schedule=dict(warmup='linear', length='10'))]), r"schedule\.length='10'"),
        (dict(distillers=[dict(KL, schedule=5)]), 'schedule=5: must be a dict'),
        (dict(distillers=None), 'model.distillers=None: must be a list'),
        (dict(distillers=[dict(KL, learner=True)]), r'no role True'),
        (dict(frozen=[{}]), r'model\.frozen=\{\} is not a role'),
        (dict(frozen=3), r'model\.frozen=3: must be a list'),
        (dict(deploi='student'), r"model\.deploi: unknown; did you mean 'deploy'"),
        (dict(roles=dict(student=segmentor(4), other=dict(like={}))), r'roles\.other\.like'),
    ],
)
def test_one_sentence_names_the_key(options, message):
    with pytest.raises(ConfigError, match=message):
        distillation(**options)
