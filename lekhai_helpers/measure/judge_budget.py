"""What asking a judge costs, counted while it is asked, and a limit that is kept. Used by `judge_client`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """What was asked and spent so far: questions (answered or not), answers from the cache, tokens, US dollars.

    ``tries`` counts the requests that were really sent, the client's own repetitions among them. ``cost`` is None
    where the price is not known, or where the endpoint did not say how many tokens a call took; what was charged for
    tries without an answer is in it (see `Budget`).
    """

    calls: int = 0
    cached: int = 0
    tokens_read: int = 0
    tokens_written: int = 0
    cost: float | None = 0.0
    tries: int = 0

    @property
    def sentence(self) -> str:
        """Say it in one line."""
        tries = f" ({self.tries} tries)" if self.tries > self.calls else ""
        cost = "cost not known" if self.cost is None else f"{self.cost:.4f} US dollars"
        return (
            f"{self.calls} calls{tries} and {self.cached} answers from the cache; {self.tokens_read:,} tokens read, "
            f"{self.tokens_written:,} written; {cost}"
        )


class Budget:
    """Counts calls, tries, tokens and cost, and says when the next call would go beyond the limit.

    `price` is US dollars per million tokens read and written. What calls under way will cost is taken to be what the
    dearest one did, and until one cost is known no second call is made beside the first (`must_wait`). A try that
    nothing came back for may have been worked on and billed: it is charged like the dearest call. So dollars are kept
    but for what the first call costs, or a call costs more than the dearest before it; the limit of `calls`, which
    counts tries, but for the repetitions of calls under way. Not safe between threads.
    """

    def __init__(self, price: tuple[float, float] | None, usd: float | None, calls: int | None) -> None:
        self.price, self.usd, self.limit = price, usd, calls
        self.calls = self.cached = self.read = self.written = self.under_way = 0
        self.tries = self.lost = self.told = 0
        self.charged: float | None = 0.0 if price else None
        self.dearest = 0.0

    @property
    def cost(self) -> float | None:
        """Return what was spent in US dollars, tries without an answer charged like the dearest call."""
        return None if self.charged is None else self.charged + self.lost * self.dearest

    @property
    def must_wait(self) -> bool:
        """Say whether the next call has to wait for those under way: what one costs is not known yet."""
        return self.usd is not None and not self.told and self.under_way > 0

    def refuses(self) -> str:
        """Say why no further call may be made; "" where one may."""
        if self.limit is not None and self.tries + self.under_way >= self.limit:
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

    def end(self, tokens: tuple[int, int] | None, answered: bool, tries: int = 1, lost: int = 0) -> None:
        """Note that a call has ended: tokens read and written, None where the endpoint did not say.

        Of its `tries`, nothing came back for `lost`.
        """
        self.under_way -= 1
        self.tries, self.lost = self.tries + tries, self.lost + lost
        if tokens is None:
            self.charged = None if answered else self.charged  # an error message is not charged for
            return
        self.told += 1
        self.read, self.written = self.read + tokens[0], self.written + tokens[1]
        if self.price is None or self.charged is None:
            return
        cost = (tokens[0] * self.price[0] + tokens[1] * self.price[1]) / 1e6
        self.charged, self.dearest = self.charged + cost, max(self.dearest, cost)

    @property
    def usage(self) -> Usage:
        """Return what was spent so far."""
        return Usage(self.calls, self.cached, self.read, self.written, self.cost, self.tries)
