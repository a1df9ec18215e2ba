# AKD on top of published distillers of a segmentor, with their published weights
avatars = dict(num=4, perturbation=dict(type='Dropout', p=0.1))
edge = dict(type='mmadm.Transfer', source='teacher', learner='student', avatars=avatars)
cwd = dict(at='logits', loss=dict(type='ChannelWiseDivergence', tau=1.0), weight=5.0, **edge)
# the last stage of any backbone; the level is chosen because MixVisionTransformer has no module for it
mgd = dict(at='backbone[3]', loss=dict(type='MaskedGeneration', mask_ratio=0.75), weight=2e-5, **edge)
