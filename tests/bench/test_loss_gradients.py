"""Norms of gradients by hand, and a training that is looked at and learns the same."""

import pytest
import torch
from small_trainings import role_config, runner_of, write_images

from mmadm.bench.loss_gradients import LossGradients, gradient_norms, main


def test_norms_by_hand():
    first, second = torch.tensor([3.0, 4.0], requires_grad=True), torch.tensor(2.0, requires_grad=True)
    losses = dict(squares=first.square().sum() / 2, both=first.sum() + 2 * second, constant=torch.tensor(1.0))
    found = gradient_norms(losses, [first, second])
    assert set(found) == {'squares', 'both'}
    assert found['squares'] == pytest.approx((12.5, 5.0)) and found['both'] == pytest.approx((11.0, 6**0.5))
    losses['both'].backward()  # the graph is still there


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gradients')
    return role_config(write_images(folder / 'data'), iterations=4)


def test_a_training_that_is_looked_at_learns_the_same(config, tmp_path):
    hook, states = LossGradients('teacher', 2), []
    for hooks in ([], [hook]):
        runner = runner_of(config, tmp_path / f'{len(hooks)}')  # sets the seed
        for each in hooks:
            runner.register_hook(each)
        runner.train()
        states.append(runner.model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert list(hook.found) == [2, 4]
    assert all(
        name.startswith('teacher.') and norm > 0 for norms in hook.found.values() for name, (_, norm) in norms.items()
    )


def test_the_command_prints_each_loss(config, tmp_path, capsys):
    config.dump(str(tmp_path / 'pair.py'))
    main([str(tmp_path / 'pair.py'), '--steps', '2', '--every', '2'])
    assert 'teacher.loss_mutual' in capsys.readouterr().out.replace('\n', '')
    assert not list(tmp_path.glob('work_dirs'))
    with pytest.raises(SystemExit):
        main([str(tmp_path / 'pair.py'), '--role', 'techer', '--steps', '2'])
    assert "no role 'techer' learns; did you mean 'teacher'" in capsys.readouterr().err
