# ADM on top of SwitOKD.
_base_ = ['./switokd_mbv2.py', '../_base_/distillers/adm_camvid.py']
model = dict(distillers=[{{_base_.switokd}}, {{_base_.adm}}])
