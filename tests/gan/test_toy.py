"""Eight Gaussians on a circle, on which a generator that collapses is plain to see (benchmarks/toy.py)."""

import pytest
import toy


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 3])
def test_a_critic_with_a_penalty_leads_to_every_mode(steps: int) -> None:
    found, near = toy.modes_of(toy.train(1500, steps))
    assert found == 8
    assert near > 0.7
