"""The batches of a run: each item once an epoch, shared by the processes, the same on resuming."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, strategies as st

from deepmusic.training.batches import BatchPlan

plans = st.builds(
    lambda items, batch_size, epochs, seed, processes: [
        BatchPlan(
            items=items,
            batch_size=batch_size,
            epochs=epochs,
            seed=seed,
            processes=processes,
            rank=rank,
        )
        for rank in range(processes)
    ],
    items=st.integers(1, 60),
    batch_size=st.integers(1, 70),
    epochs=st.integers(1, 4),
    seed=st.integers(0, 2**32),
    processes=st.integers(1, 4),
)


@given(plans)
def test_every_item_counts_once_an_epoch(ranks: list[BatchPlan]) -> None:
    plan = ranks[0]
    seen: Counter[tuple[int, int]] = Counter()
    for step, batches in enumerate(zip(*(rank.batches(0) for rank in ranks), strict=True)):
        shares = [rank.share(step) for rank in ranks]
        assert {total for _, total in shares} == {sum(mine for mine, _ in shares)}
        for batch, (mine, total) in zip(batches, shares, strict=True):
            assert len(batch) == max(mine, 1)  # a process without an item borrows one
            assert {epoch for epoch, _ in batch} == {step // plan.steps_per_epoch}
            assert total <= plan.batch_size
            seen.update(batch[:mine])
    assert seen == {(e, i): 1 for e in range(plan.epochs) for i in range(plan.items)}


@given(plans)
def test_batches_of_an_epoch_are_of_nearly_one_size(ranks: list[BatchPlan]) -> None:
    sizes = [ranks[0].share(step)[1] for step in range(ranks[0].steps_per_epoch)]
    assert max(sizes) - min(sizes) <= 1
    assert ranks[0].steps == ranks[0].epochs * len(sizes)


@given(plans, st.data())
def test_starting_later_continues_the_same_batches(
    ranks: list[BatchPlan], data: st.DataObject
) -> None:
    plan = ranks[-1]
    start = data.draw(st.integers(0, plan.steps))
    assert list(plan.batches(start)) == list(plan.batches(0))[start:]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        plan = BatchPlan(items=20, batch_size=20, epochs=4, seed=seed)
        return tuple(index for _, index in list(plan.batches(0))[epoch])

    assert len({order(seed, epoch) for seed in range(4) for epoch in range(4)}) == 16
