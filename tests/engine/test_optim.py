import math

import pytest
import torch
from torch import nn

from detnet.engine.optim import Ema, Schedule, sgd


def small_model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_sgd_has_one_group_where_nothing_differs() -> None:
    model = small_model()
    optimizer = sgd(model, lr=0.02)
    (group,) = optimizer.param_groups
    assert group["params"] == list(model.parameters())
    assert (group["lr"], group["initial_lr"]) == (0.02, 0.02)
    assert (group["momentum"], group["weight_decay"]) == (0.9, 1e-4)


def test_sgd_groups_norms_and_biases() -> None:
    model = small_model()
    model[0].weight.requires_grad_(False)
    optimizer = sgd(model, lr=0.02, norm_weight_decay=0.0, bias_weight_decay=0.5, bias_lr_factor=2)
    found = {
        name: (group["initial_lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
        for name, other in model.named_parameters()
        if other is parameter
    }
    assert found == {
        "0.bias": (0.04, 0.5),
        "1.weight": (0.02, 0.0),
        "1.bias": (0.02, 0.0),
        "3.weight": (0.02, 1e-4),
        "3.bias": (0.04, 0.5),
    }


def test_a_shift_counts_as_a_bias_where_it_is_asked_for() -> None:
    """DetNAS's release goes by the name: every "bias", those of batch norms too."""
    model = small_model()
    optimizer = sgd(model, lr=0.02, bias_weight_decay=0.0, bias_lr_factor=2, norm_shift="bias")
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [
        (group["initial_lr"], group["weight_decay"], [names[p] for p in group["params"]])
        for group in optimizer.param_groups
    ]
    assert found == [
        (0.02, 1e-4, ["0.weight", "1.weight", "3.weight"]),
        (0.04, 0.0, ["0.bias", "1.bias", "3.bias"]),
    ]
    with pytest.raises(ValueError, match="'norm' or 'bias', got 'shift'"):
        sgd(model, lr=0.02, norm_shift="shift")  # type: ignore[arg-type]


def test_sgd_takes_a_shared_parameter_once() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    (group,) = sgd(model, lr=1.0).param_groups
    assert len(group["params"]) == 3


def test_sgd_steps_as_the_textbook_says() -> None:
    """v = 0.5 v + (g + wd w); w = w - lr v, over two steps."""
    layer = nn.Linear(2, 1, bias=False)
    start = torch.tensor([[1.0, -2.0]])
    with torch.no_grad():
        layer.weight.copy_(start)
    optimizer = sgd(layer, lr=0.1, momentum=0.5, weight_decay=0.2)
    weight, velocity = start.clone(), torch.zeros_like(start)
    for gradient in (torch.tensor([[1.0, 3.0]]), torch.tensor([[-2.0, 0.5]])):
        layer.weight.grad = gradient.clone()
        optimizer.step()
        velocity = 0.5 * velocity + gradient + 0.2 * weight
        weight = weight - 0.1 * velocity
        torch.testing.assert_close(layer.weight.data, weight)


def test_sgd_refuses_a_frozen_model() -> None:
    with pytest.raises(ValueError, match="frozen"):
        sgd(small_model().requires_grad_(False), lr=0.1)


def test_paper_schedule() -> None:
    """Two times the usual length on 16 images: 180k iterations, drops at 120k and 160k."""
    schedule = Schedule(180_000, steps=(120_000, 160_000))
    expected = {0: 0.3, 499: 0.3, 500: 1.0, 119_999: 1.0, 120_000: 0.1, 160_000: 0.01}
    for iteration, factor in expected.items():
        assert schedule.factor(iteration) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("kind", "factors"),
    [
        ("cosine", [1.0, 0.5 * (1 + math.cos(math.pi / 4)), 0.5, 0.0]),
        ("linear", [1.0, 0.75, 0.5, 0.0]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_courses(kind: str, factors: list[float]) -> None:
    schedule = Schedule(100, kind, warmup="none")  # type: ignore[arg-type]
    found = [schedule.factor(iteration) for iteration in (0, 25, 50, 100)]
    assert found == pytest.approx(factors)


def test_linear_warmup_ends_where_the_course_goes_on() -> None:
    schedule = Schedule(100, "constant", warmup="linear", warmup_iterations=10, warmup_factor=0.5)
    found = [schedule.factor(iteration) for iteration in (0, 5, 10, 11)]
    assert found == pytest.approx([0.5, 0.75, 1.0, 1.0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "stairs"}, "'linear' or 'constant', got 'stairs'"),
        ({"warmup": "slow"}, "'linear' or 'none', got 'slow'"),
        ({"iterations": 0}, "at least 1, got 0"),
        ({"steps": (20, 10)}, r"ascend, got \(20, 10\)"),
        ({"warmup_iterations": -1}, "negative: -1"),
    ],
)
def test_wrong_schedules_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(**{"iterations": 100, **wrong})  # type: ignore[arg-type]


def test_ema_averages_weights_and_statistics() -> None:
    model = small_model()
    ema = Ema(model, decay=0.15)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for update in (1, 2):
        model(torch.rand(2, 3, 6, 8))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        ema.update()
        decay = min(0.15, (1 + update) / (10 + update))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()
    found = ema.model_state()
    assert found["1.num_batches_tracked"] == 2
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_ema_looks_back_over_few_steps_at_first() -> None:
    """Keeps 2/11 of the old average, then 3/12, 4/13 …, and never more than the decay."""
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    ema = Ema(layer, decay=0.3)
    average = 0.0
    for step, kept in enumerate((2 / 11, 3 / 12, 0.3, 0.3), start=1):
        nn.init.constant_(layer.weight, step)
        ema.update()
        average = kept * average + (1 - kept) * step
        assert ema.model_state()["weight"].item() == pytest.approx(average), step


def test_ema_is_lent_and_taken_back_bit_for_bit() -> None:
    model = small_model()
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        model.get_parameter("0.weight").add_(1.0)
    ema.update()
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), ema.applied() as averaged:
        assert torch.equal(averaged.state_dict()["0.weight"], ema.model_state()["0.weight"])
        assert not torch.equal(averaged.state_dict()["0.weight"], own["0.weight"])
        raise KeyError
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_ema_knows_the_buffers_that_are_saved() -> None:
    """YOLO's anchors are not: the settings have them."""
    model = nn.BatchNorm2d(2)
    model.register_buffer("anchors", torch.ones(3), persistent=False)
    assert len(Ema(model, 0.9).buffers()) == 3


def test_ema_goes_on_from_its_state() -> None:
    model = small_model()
    first, second = Ema(model, decay=0.9), Ema(model, decay=0.9)
    for _ in range(3):
        with torch.no_grad():
            model.get_parameter("0.weight").mul_(1.5)
        first.update()
    second.load_state_dict(first.state_dict())
    for ema in (first, second):
        ema.update()
    assert first.updates == second.updates == 4
    found = second.model_state()
    assert all(torch.equal(value, found[name]) for name, value in first.model_state().items())


def test_ema_refuses_another_models_state() -> None:
    state = Ema(nn.Linear(2, 2), decay=0.9).state_dict()
    with pytest.raises(ValueError, match="another model's: 0.bias"):
        Ema(small_model(), decay=0.9).load_state_dict(state)


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_ema_refuses_a_decay_that_never_or_always_moves(decay: float) -> None:
    with pytest.raises(ValueError, match="decay must be in"):
        Ema(small_model(), decay=decay)
