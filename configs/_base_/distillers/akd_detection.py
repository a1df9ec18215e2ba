# AKD on top of published distillers of a detector. Published weights are for each level and are summed over the five
# levels of the FPN; Transfer takes the mean over levels, hence the factor 5.
avatars = dict(num=4, perturbation=dict(type='Dropout', p=0.1))
edge = dict(type='mmadm.Transfer', source='teacher', learner='student')
neck = dict(at='feats', avatars=avatars, **edge)
cwd = dict(loss=dict(type='ChannelWiseDivergence', tau=1.0), weight=5 * 10.0, **neck)
mgd_one_stage = dict(loss=dict(type='MaskedGeneration', mask_ratio=0.65), weight=5 * 2e-5, **neck)
mgd_two_stage = dict(loss=dict(type='MaskedGeneration', mask_ratio=0.45), weight=5 * 5e-7, **neck)
box_maps = dict(at='boxes', loss=dict(type='mmdet.L1Loss'), weight=5 * 1.0, **edge)
