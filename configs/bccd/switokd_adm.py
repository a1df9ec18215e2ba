# ADM on top of SwitOKD.
_base_ = ['./switokd.py', '../_base_/distillers/adm_bccd.py']
model = dict(distillers=[{{_base_.switokd}}, {{_base_.adm}}])
