# ADM on top of KDCL.
_base_ = ['./kdcl_mbv2.py', '../_base_/distillers/adm_camvid.py']
model = dict(distillers=[{{_base_.kdcl}}, {{_base_.adm}}])
