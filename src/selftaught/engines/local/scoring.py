"""Given texts: their log-probabilities, and what a value head says of them; each prompt is prefilled once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import linear

from selftaught.engines.base import HeadValues, RequestRefused
from selftaught.engines.local.prefill import Prefiller, PrefillRequest, find_shared_prefixes
from selftaught.engines.local.request_state import NAN_MESSAGE, RequestOutput, RequestState
from selftaught.errors import BadInput
from selftaught.models.heads import TRAIN_FIX
from selftaught.models.policy import Policy
from selftaught.samples import Likelihood

NAN_SCORE = "the value head returned NaN; try --dtype float32"


class ValueHead:
    """The value head of a policy: one number for each hidden state.

    Raises:
        BadInput: the policy has none, or one of several numbers.
    """

    def __init__(self, policy: Policy, device: str) -> None:
        from selftaught.learn.value_head import read_head

        self._where, tensors = str(policy.path), read_head(policy.path)
        if tensors is None:
            raise BadInput("it has no value head", where=self._where, fix=TRAIN_FIX)
        self._weight, self._bias = (tensors[name].float().to(device) for name in ("weight", "bias"))
        if len(self._weight) != 1:
            what = f"its value head returns {len(self._weight)} numbers per token, not one score"
            raise BadInput(what, where=self._where, fix=TRAIN_FIX)

    def __call__(self, hidden: Tensor) -> list[float]:
        """The number for each of the hidden states `[positions, width]`.

        Raises:
            BadInput: the head is of a model of another width.
        """
        if hidden.shape[-1] != self._weight.shape[-1]:
            what = f"its value head reads {self._weight.shape[-1]} numbers per token and the model has"
            fix = "use the head with the model that it was trained with"
            raise BadInput(f"{what} {hidden.shape[-1]}", where=self._where, fix=fix)
        return linear(hidden.float(), self._weight, self._bias)[:, 0].tolist()


def score_texts(prefiller: Prefiller, states: Sequence[RequestState]) -> list[RequestOutput]:
    """The likelihoods of the texts of `states`, all tokenized."""
    asked: list[tuple[RequestState, PrefillRequest]] = []
    for state in (state for state in states if state.output_ids):
        ids, start = (*state.prompt_ids, *state.output_ids[:-1]), len(state.prompt_ids) - 1
        asked.append((state, PrefillRequest(ids, scored_ids=tuple(state.output_ids), score_start=start)))
    read = _run(prefiller, asked, lambda _, output: tuple(output.tolist()), NAN_MESSAGE)
    outputs: list[RequestOutput] = [(state, (), None) for state in states if not state.output_ids]
    return [(s, Likelihood(found, len(s.prompt_ids)), error) for s, found, error in outputs + read]


def read_heads(prefiller: Prefiller, head: ValueHead, states: Sequence[RequestState]) -> list[RequestOutput]:
    """What the value head says of the texts of `states`, all tokenized."""
    asked: list[tuple[RequestState, PrefillRequest]] = []
    for state in states:
        read_at = tuple(sorted(set(state.read_at)))
        ids = (*state.prompt_ids, *state.output_ids)[: read_at[-1] + 1]
        asked.append((state, PrefillRequest(ids, read_at=read_at)))

    def values(state: RequestState, hidden: Tensor) -> tuple[float, ...]:
        found = dict(zip(sorted(set(state.read_at)), head(hidden), strict=True))
        return tuple(found[at] for at in state.read_at)

    read = _run(prefiller, asked, values, NAN_SCORE)
    sizes = {id(state): len(request.ids) for state, request in asked}
    return [(s, found if error else HeadValues(found, sizes[id(s)]), error) for s, found, error in read]


def _run(
    prefiller: Prefiller, asked: Sequence[tuple[RequestState, PrefillRequest]],
    values: Callable[[RequestState, Tensor], tuple[float, ...]], nan: str,
) -> list[RequestOutput]:  # fmt: skip
    """Prefill the requests, and turn each output into numbers; NaN fails its own request alone."""
    _prefill_shared(prefiller, [r.ids[: min(len(s.prompt_ids) - 1, r.cacheable)] for s, r in asked])
    states = {id(request): state for state, request in asked}
    outputs: list[RequestOutput] = []
    for result in prefiller.run([request for _, request in asked]):
        state, found = states[id(result.request)], ()
        try:
            found = values(state, result.output)
            error = RequestRefused(nan) if any(value != value for value in found) else None
        except BadInput as wrong:
            error = wrong
        outputs.append((state, found, error))
    return outputs


def _prefill_shared(prefiller: Prefiller, prompts: Sequence[tuple[int, ...]]) -> None:
    """Prefill what several prompts share, so that it is computed once."""
    distinct = set(filter(None, prompts))
    for ids in [] if prefiller.alone else find_shared_prefixes(list(distinct)):
        list(prefiller.run([PrefillRequest(ids)]))
    if len(distinct) < len(prompts) and not prefiller.alone:
        list(prefiller.run([PrefillRequest(ids) for ids in distinct]))
