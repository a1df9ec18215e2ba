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
from mmadm.functional.boxes import box_distance
from mmadm.functional.cirkd import class_means, class_samples, cross_image_divergence, memory_divergence
from mmadm.functional.common import channel_statistics
from mmadm.functional.crosskd import align_statistics, focal_binary_divergence
from mmadm.functional.cwd import channel_wise_divergence
from mmadm.functional.dist import dist_distance
from mmadm.functional.dkd import decoupled_kl
from mmadm.functional.ffsd import attention_diversity, diversity_target, warmup_ramp
from mmadm.functional.fgd import fgd_attention, fgd_attention_distance, fgd_feature_distance, fgd_masks
from mmadm.functional.freekd import haar_bands, prompted_band_distance
from mmadm.functional.hint import mean_squared_distance
from mmadm.functional.kl import binary_kl_divergence, kl_divergence
from mmadm.functional.ld import distribution_divergence, expected_distances, localization_regions
from mmadm.functional.maskd import mask_similarity, masked_distance, receptive_masks
from mmadm.functional.mgd import generation_distance
from mmadm.functional.pkd import pearson_distance
from mmadm.functional.reviewkd import hierarchical_distance
from mmadm.functional.rkd import relation_angle, relation_distance
from mmadm.functional.switokd import SwitchThreshold, switch_threshold

__all__ = [
    'Region',
    'SwitchThreshold',
    'align_statistics',
    'attention_distance',
    'attention_diversity',
    'attention_map',
    'avatar_uncertainty',
    'avatar_weights',
    'batch_standardise',
    'binary_kl_divergence',
    'box_distance',
    'channel_statistics',
    'channel_wise_divergence',
    'class_means',
    'class_samples',
    'consensus_from_map',
    'consensus_loss',
    'cross_image_divergence',
    'decoupled_kl',
    'dist_distance',
    'distribution_divergence',
    'divergence_from_map',
    'divergence_loss',
    'diversity_target',
    'expected_distances',
    'fgd_attention',
    'fgd_attention_distance',
    'fgd_feature_distance',
    'fgd_masks',
    'focal_binary_divergence',
    'generation_distance',
    'haar_bands',
    'hierarchical_distance',
    'kl_divergence',
    'localization_regions',
    'mask_similarity',
    'masked_distance',
    'mean_squared_distance',
    'memory_divergence',
    'pearson_distance',
    'prompted_band_distance',
    'receptive_masks',
    'region_weights',
    'relation_angle',
    'relation_distance',
    'similarity_map',
    'switch_threshold',
    'uncertainty_between',
    'warmup_ramp',
    'weights_from_uncertainty',
]
