"""The zoo: metafiles and READMEs name every config of the method folders, and say of it what the config says."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.fileio import load

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ('adm', 'akd', 'baselines', 'ffsd', 'foundation', 'kdcl', 'sokd', 'switokd')
CONFIGS = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / 'configs' / folder).glob('*.py'))
METAFILES = [f'configs/{folder}/metafile.yml' for folder in FOLDERS]
ENTRIES = {model['Config']: model for file in METAFILES for model in load(ROOT / file)['Models']}
#: folder below configs/ that the docs leave to users; no test looks into it
OWN = 'mine'
PAGES = sorted(path.name for path in (ROOT / 'configs').iterdir() if path.name[0] != '_' and path.name != OWN)
LINK = re.compile(r'\]\((?!https?:)([^)#]+)\)')


def test_the_index_names_every_metafile():
    assert load(ROOT / 'model-index.yml') == {'Import': METAFILES}


def test_every_config_is_in_exactly_one_metafile():
    named = Counter(model['Config'] for file in METAFILES for model in load(ROOT / file)['Models'])
    assert named == Counter(CONFIGS)


def test_names_are_unique_so_that_openmim_finds_a_config_by_its_file_name():
    everywhere = Counter(path.name for path in (ROOT / 'configs').glob('**/*.py') if path.parent.name != OWN)
    assert {name: everywhere[Path(name).name] for name in CONFIGS if everywhere[Path(name).name] != 1} == {}


@pytest.mark.parametrize('file', METAFILES)
def test_collections_have_a_page(file):
    collections = {collection['Name']: collection for collection in load(ROOT / file)['Collections']}
    models = load(ROOT / file)['Models']
    for collection in collections.values():
        assert ROOT / collection['README'] == (ROOT / file).with_name('README.md')
        data = {m['Metadata']['Training Data'] for m in models if m['In Collection'] == collection['Name']}
        assert data == set(collection['Metadata']['Training Data'])
    assert {model['In Collection'] for model in models} == set(collections)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_metafile_says_what_the_config_says(name):
    entry, cfg = ENTRIES[name], Config.fromfile(ROOT / name, format_python_code=False)
    assert entry['Name'] == Path(name).stem
    facts = entry['Metadata']
    loop = cfg.train_cfg
    assert facts.get('Epochs') == loop.get('max_epochs') and facts.get('Iterations') == loop.get('max_iters')
    dataset = {'Cityscapes': 'CityscapesDataset', 'COCO': 'CocoDataset'}[facts['Training Data']]
    assert cfg.train_dataloader.dataset.type == dataset
    gpus = 4 if '4xb' in name else 8
    assert facts['Batch Size'] == gpus * cfg.train_dataloader.batch_size
    assert facts['Batch Size'] == cfg.get('auto_scale_lr', {}).get('base_batch_size', facts['Batch Size'])
    roles = {role.capitalize(): spec.cfg for role, spec in cfg.model.roles.items() if 'cfg' in spec}
    others = {'Training Data', 'Batch Size', 'Epochs', 'Iterations'}
    assert {key: value for key, value in facts.items() if key not in others} == roles


@pytest.mark.parametrize('folder', PAGES)
def test_pages_link_to_files_that_are_there(folder):
    page = ROOT / 'configs' / folder / 'README.md' if folder != 'README.md' else ROOT / 'configs/README.md'
    links = LINK.findall(page.read_text(encoding='utf-8'))
    assert [link for link in links if not (page.parent / link).exists()] == []
    if folder in FOLDERS:
        assert Counter(link for link in links if link.endswith('.py')) == Counter(
            path.name for path in page.parent.glob('*.py')
        )


@pytest.mark.parametrize('folder', FOLDERS)
def test_nothing_that_was_not_trained_has_a_result(folder):
    """Every row with a config ends with `not run`, and no metafile has results or weights of ours."""
    page = (ROOT / 'configs' / folder / 'README.md').read_text(encoding='utf-8')
    rows = [line for line in page.splitlines() if line.startswith('|') and LINK.search(line)]
    assert rows and all(row.endswith('| not run |') for row in rows)
    entries = [entry for name, entry in ENTRIES.items() if name.split('/')[1] == folder]
    assert not any({'Results', 'Weights'} & set(entry) for entry in entries)
