"""Trainable or random parts that are neither a role nor a loss."""

from mmadm.modules.connectors import Connector, resize_like

__all__ = ['Connector', 'resize_like']
