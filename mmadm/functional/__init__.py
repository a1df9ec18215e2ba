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
from mmadm.functional.attention import attention_distance, attention_map
from mmadm.functional.avatars import (
    avatar_uncertainty,
    avatar_weights,
    batch_standardise,
    uncertainty_between,
    weights_from_uncertainty,
)
from mmadm.functional.common import channel_statistics
from mmadm.functional.cwd import channel_wise_divergence
from mmadm.functional.dist import dist_distance
from mmadm.functional.dkd import decoupled_kl
from mmadm.functional.ffsd import attention_diversity, diversity_target, warmup_ramp
from mmadm.functional.hint import mean_squared_distance
from mmadm.functional.kl import binary_kl_divergence, kl_divergence
from mmadm.functional.maskd import mask_similarity, masked_distance, receptive_masks
from mmadm.functional.mgd import generation_distance
from mmadm.functional.pkd import pearson_distance
from mmadm.functional.switokd import SwitchThreshold, switch_threshold

__all__ = [
    'Region',
    'SwitchThreshold',
    'attention_distance',
    'attention_diversity',
    'attention_map',
    'avatar_uncertainty',
    'avatar_weights',
    'batch_standardise',
    'binary_kl_divergence',
    'channel_statistics',
    'channel_wise_divergence',
    'consensus_from_map',
    'consensus_loss',
    'decoupled_kl',
    'dist_distance',
    'divergence_from_map',
    'divergence_loss',
    'diversity_target',
    'generation_distance',
    'kl_divergence',
    'mask_similarity',
    'masked_distance',
    'mean_squared_distance',
    'pearson_distance',
    'receptive_masks',
    'region_weights',
    'similarity_map',
    'switch_threshold',
    'uncertainty_between',
    'warmup_ramp',
    'weights_from_uncertainty',
]
