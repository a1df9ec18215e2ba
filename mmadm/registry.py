"""Child registries: ``type='mmadm.X'`` in any OpenMMLab config finds X here and imports it on first use."""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

MODELS = Registry(
    'model',
    parent=MMENGINE_MODELS,
    scope='mmadm',
    locations=['mmadm.adapters', 'mmadm.algorithms', 'mmadm.distillers', 'mmadm.losses', 'mmadm.modules'],
)
#: who runs which networks, see :class:`~mmadm.adapters.base.Adapter`
ADAPTERS = Registry('adapter', scope='mmadm', locations=['mmadm.adapters'])
DATASETS = Registry('dataset', parent=MMENGINE_DATASETS, scope='mmadm', locations=['mmadm.datasets', 'mmadm.demo'])
TRANSFORMS = Registry('transform', parent=MMENGINE_TRANSFORMS, scope='mmadm', locations=['mmadm.datasets'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmadm', locations=['mmadm.engine'])
LOOPS = Registry('loop', parent=MMENGINE_LOOPS, scope='mmadm', locations=['mmadm.engine'])
OPTIM_WRAPPERS = Registry('optim_wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mmadm', locations=['mmadm.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    'optimizer wrapper constructor',
    parent=MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS,
    scope='mmadm',
    locations=['mmadm.engine'],
)
