# Pearson distance (PKD) on every level of the neck, with the published weight for one stage.
_base_ = './kd.py'
model = dict(
    distillers=[
        dict(
            type='mmadm.Transfer',
            source='teacher',
            learner='student',
            at='feats',
            loss=dict(type='PearsonDistance'),
            weight=3 * 10.0,  # published for each level; Transfer takes the mean over the three
        )
    ]
)
