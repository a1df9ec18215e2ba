"""Pure torch mathematics: no config, no state, no gradient routing."""

from mmadm.functional.adm import (
    Region,
    consensus_from_map,
    consensus_loss,
    divergence_from_map,
    divergence_loss,
    region_weights,
    similarity_map,
)
from mmadm.functional.kl import kl_divergence

__all__ = [
    'Region',
    'consensus_from_map',
    'consensus_loss',
    'divergence_from_map',
    'divergence_loss',
    'kl_divergence',
    'region_weights',
    'similarity_map',
]
