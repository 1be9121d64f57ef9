"""The route ``choice``: ``echo`` or ``named_tokens``, whichever makes the server work less for the labels at hand."""

from __future__ import annotations

from collections.abc import Sequence

from ...identity import current_spelling
from ...tokens.codec import TokenRow
from ...tokens.label_trie import label_trie
from .base import SHARED_IDENTITY, Answer, Placed, RouteClient, RouteOptions, RowSize, ServerFacts, TokenRoute, Work
from .echo import Echo
from .named_tokens import NamedTokens

_NODE_TOKENS = 24  # what a node of the label trie costs a server with a prefix cache, in tokens read


class Choice(TokenRoute):
    """The first rows decide for all: they come alone, and labels are those of all rows.

    An echo reads prompt and label anew for each label. Named tokens read the prompt once, and each further node of the label trie
    costs the part of a block that the cache cannot hold (experiments/vllm_routes.md).
    """

    name = "choice"
    summary = "echo or named_tokens, whichever is less work for the server with the labels at hand"
    is_exact = True
    identity_name = SHARED_IDENTITY
    depends_on_rows = True

    def __init__(self, options: RouteOptions) -> None:
        super().__init__(options)
        self._echo = Echo(options)
        self._named_tokens = NamedTokens(options)

    @property
    def default(self) -> TokenRoute:
        return self._echo

    def obstacle(self, server: ServerFacts) -> str | None:
        return self._echo.obstacle(server) or self._named_tokens.obstacle(server)

    def rows_together(self, n_labels: int) -> int:
        return min(route.rows_together(n_labels) for route in (self._echo, self._named_tokens))

    def settle(self, rows: Sequence[Placed]) -> TokenRoute:
        echoed = sum(len(row.context) + len(target) for _, row in rows for target in row.targets)
        named = sum(len(row.context) + _NODE_TOKENS * label_trie(row.targets).n_nodes for _, row in rows)
        return self._named_tokens if named <= echoed and rows else self._echo

    def recalled(self, name: str | None) -> TokenRoute | None:
        routes: dict[str, TokenRoute] = {route.name: route for route in (self._echo, self._named_tokens)}
        return routes.get(current_spelling(name))

    def work(self, row: RowSize, n_together: int) -> Work:
        return self.settle([(0, TokenRow((0,) * row.context, row.labels))]).work(row, n_together)

    async def score_tokens(self, client: RouteClient, rows: Sequence[Placed]) -> list[Answer]:
        return await self.settle(rows).score_tokens(client, rows)
