# ADM on top of mutual learning.
_base_ = ['./dml.py', '../_base_/distillers/adm_bccd_paired.py']
model = dict(distillers=[{{_base_.dml}}, {{_base_.adm}}])
