# ADM on top of KDCL.
_base_ = ['./kdcl.py', '../_base_/distillers/adm_camvid_paired.py']
model = dict(distillers=[{{_base_.kdcl}}, {{_base_.adm}}])
