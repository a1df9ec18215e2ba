# Offline ADM on top of KD: with a frozen teacher only the consensus loss is computed.
_base_ = ['./kd.py', '../_base_/distillers/adm_bccd_paired.py']
model = dict(distillers=[{{_base_.kd}}, {{_base_.adm}}])
