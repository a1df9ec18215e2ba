# For runs of two iterations: tell of each
_base_ = './detection.py'
default_hooks = dict(logger=dict(interval=1))
