# Two teachers and one student, mutual learning and ADM.
_base_ = './dml.py'
model = dict(
    roles=dict(second={{_base_.second_teacher}}),
    distillers=[
        dict(type='mmadm.MutualLearning', roles=['student', 'teacher', 'second'], at='logits'),
        dict(
            type='mmadm.ADM',
            student='student',
            teacher=['teacher', 'second'],
            at='feats',
            consensus=0.1,
            divergence=0.01,
            foreground=True,
        ),
    ],
)
optim_wrapper = dict(second=dict(optimizer={{_base_.optimizer}}))
custom_hooks = [dict(type='mmadm.ChannelsLastHook', roles=['teacher', 'second'])]
