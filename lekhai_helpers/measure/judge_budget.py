"""What asking a judge costs, counted while it is asked, and a limit that is kept. Used by `judge_client`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What was asked and spent so far: calls (answered or not), answers from the cache, tokens, US dollars.

    ``cost`` is None where the price is not known, or where the endpoint did not say how many tokens a call took.
    """

    calls: int = 0
    cached: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    cost: float | None = 0.0

    @property
    def sentence(self) -> str:
        """Say it in one line."""
        cost = "cost not known" if self.cost is None else f"{self.cost:.4f} US dollars"
        return (
            f"{self.calls} calls and {self.cached} answers from the cache; {self.tokens_read:,} tokens read, "
            f"{self.tokens_written:,} written; {cost}"
        )


class Budget:
    """Counts calls, tokens and cost, and says when the next call would go beyond the limit.

    `price` is US dollars per million tokens read and written. What calls under way will cost is taken to be what the
    dearest one did; so only the very first ones, sent together, can pass the limit. Not safe between threads.
    """

    def __init__(self, price: tuple[float, float] | None, usd: float | None, calls: int | None) -> None:
        self.price, self.usd, self.limit = price, usd, calls
        self.calls = self.cached = self.read = self.written = self.under_way = 0
        self.cost: float | None = 0.0 if price else None
        self.dearest = 0.0

    def refuses(self) -> str:
        """Say why no further call may be made; "" where one may."""
        if self.limit is not None and self.calls >= self.limit:
            return f"the budget of {self.limit} calls is used up (judge.max_calls); a second run goes on from here"
        if self.usd is None:
            return ""
        if self.cost is None:
            return "the endpoint does not say how many tokens it took, so judge.budget_usd cannot be kept"
        if self.cost + (self.under_way + 1) * self.dearest > self.usd:
            return (
                f"the budget of {self.usd:g} US dollars is used up, {self.cost:.4f} are spent (judge.budget_usd); "
                "a second run goes on from here"
            )
        return ""

    def begin(self) -> None:
        """Note that a call is under way."""
        self.calls += 1
        self.under_way += 1

    def end(self, tokens: tuple[int, int] | None, answered: bool) -> None:
        """Note that a call has ended: tokens read and written, None where the endpoint did not say."""
        self.under_way -= 1
        if tokens is None:
            self.cost = None if answered else self.cost  # an error message is not charged for
            return
        self.read, self.written = self.read + tokens[0], self.written + tokens[1]
        if self.price is None or self.cost is None:
            return
        cost = (tokens[0] * self.price[0] + tokens[1] * self.price[1]) / 1e6
        self.cost, self.dearest = self.cost + cost, max(self.dearest, cost)

    @property
    def usage(self) -> Usage:
        """Return what was spent so far."""
        return Usage(self.calls, self.cached, self.read, self.written, self.cost)
