# Focal and global distillation (FGD) of every level of the neck, with what is published for FCOS.
_base_ = './cwd.py'
fgd = dict(type='mmadm.FGD', tau=0.8, foreground=1.6e-3, background=8e-4, attention=8e-4, relation=8e-6)
model = dict(distillers=[fgd])
