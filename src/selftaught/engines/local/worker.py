"""The local engine's worker thread: it admits requests into a batch and decodes until none are left."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from selftaught.engines.base import EngineError
from selftaught.engines.local.loaded_policies import LoadedPolicies
from selftaught.machine.threads import release_threads
from selftaught.models.policy import Policy

if TYPE_CHECKING:
    from selftaught.engines.local.batch import ContinuousBatch
    from selftaught.engines.local.request_state import RequestOutput, RequestState

ADMIT_CHUNK = 8  # a full batch admits requests once one place in this many is free: their prompts share a prefill
MAX_POLICY_WAIT = 30.0  # seconds that one policy is served while requests for another one wait


class EngineWorker:
    """A thread that owns weights and batches; started by the first request.

    Attributes:
        busy_seconds: see `Engine`.
    """

    def __init__(self, policies: LoadedPolicies) -> None:
        self.busy_seconds = 0.0
        self._policies = policies
        self._wake = threading.Condition()  # guards the next three
        self._inbox: list[RequestState] = []
        self._between_steps: list[tuple[Callable[[], None], Future[None]]] = []
        self._closed = False
        self._thread: threading.Thread | None = None
        # Used by the thread only:
        self._queue: list[RequestState] = []
        self._admitting: list[RequestState] = []
        self._outputs: list[RequestOutput] = []
        self._batch: ContinuousBatch | None = None
        self._policy_since = 0.0

    @property
    def running(self) -> bool:
        """Whether the thread was started and not closed."""
        with self._wake:
            return self._thread is not None and not self._closed

    def submit(self, state: RequestState) -> None:
        """Queue a request.

        Raises:
            EngineError: the engine is closed.
        """
        with self._wake:
            self._start()
            self._inbox.append(state)
            self._wake.notify()

    def run_between_steps(self, call: Callable[[], None]) -> None:
        """Run `call` on the thread once no request is in progress, and wait for it.

        Raises:
            EngineError: the engine is closed.
            Exception: what `call` raises.
        """
        done: Future[None] = Future()
        with self._wake:
            self._start()
            self._between_steps.append((call, done))
            self._wake.notify()
        done.result()

    def close(self) -> None:
        """Stop the thread; see `LocalEngine.close`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        atexit.unregister(self.close)

    def _start(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="selftaught-engine", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # torch aborts the process if a thread still computes at its end

    # --- from here on, on the worker thread ---

    def drop_batch(self) -> None:
        """Serve no policy until the next request."""
        self._batch = None

    def unload_all(self) -> None:
        """Free all weights and caches."""
        self._policies.clear()
        self._batch = None

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while self._wait_for_work():
                started = time.perf_counter()
                try:
                    self._step()
                except Exception as error:  # a bug, or out of memory: no request may hang
                    self._recover(error)
                self._deliver()
                self.busy_seconds += time.perf_counter() - started
        closed = EngineError("the engine was closed")
        self._recover(closed)
        self._outputs += [(state, None, closed) for state in self._queue]
        self._queue.clear()
        self._deliver()
        self.unload_all()
        for _, done in self._between_steps:
            done.set_exception(closed)

    def _deliver(self) -> None:
        from selftaught.engines.local.request_state import deliver_outputs

        outputs = self._outputs + (self._batch.take_outputs() if self._batch else [])
        self._outputs = []
        if outputs:
            deliver_outputs(outputs)

    def _wait_for_work(self) -> bool:
        """Block until there is work; False once the engine is closed."""
        with self._wake:
            while not (self._inbox or self._queue or self._between_steps or self._active or self._closed):
                release_threads()
                self._wake.wait()
            self._queue += self._inbox
            self._inbox.clear()
            return not self._closed

    @property
    def _active(self) -> list[RequestState]:
        return self._batch.active if self._batch else []

    def _step(self) -> None:
        """Admit requests, and decode one token for each active one."""
        if not self._between_steps:
            self._admit()
        elif not self._active:
            self._run_pending_calls()
        if self._batch and self._batch.active:
            self._batch.step()

    def _recover(self, error: Exception) -> None:
        """Free the batch's cache, which may be half written, and retry its requests in a smaller batch, or fail them.

        They are retried if memory ran out with more than one of them. As seeds determine their tokens, only the time
        changes.
        """
        states = list({id(state): state for state in [*self._active, *self._admitting]}.values())
        self._admitting = []
        batch = self._batch
        if batch:
            batch.active.clear()
            batch.free_cache()
        if batch and len(states) > 1 and _is_out_of_memory(error):
            batch.max_batch_size = len(states) // 2
            self._queue = [state.restarted() for state in states] + self._queue
        else:
            self._outputs += [(state, None, error) for state in states]

    def _run_pending_calls(self) -> None:
        with self._wake:
            calls, self._between_steps = self._between_steps, []
        for call, done in calls:
            try:
                call()
                done.set_result(None)
            except Exception as error:  # for the caller
                done.set_exception(error)

    # --- admission ---

    def _admit(self) -> None:
        """Move requests for the current policy from the queue into the batch, as many as fit."""
        if not self._active and self._queue and not self._switch_policy(self._queue[0].policy):
            return
        batch = self._batch
        if batch is None or not self._queue or self._must_drain(batch.policy.version):
            return
        free = batch.max_batch_size - len(batch.active)
        if batch.active and free < min(len(self._queue), batch.max_batch_size // ADMIT_CHUNK):
            return
        candidates = self._candidates(batch, free)
        to_score = [state for state in candidates if state.score_text is not None]
        to_sample = [state for state in candidates if state.score_text is None]
        to_sample = to_sample[: batch.admit_count(to_sample)]
        self._admitting = to_score + to_sample
        admitted = {id(state) for state in self._admitting}
        self._queue = [state for state in self._queue if id(state) not in admitted]
        batch.score(to_score)
        batch.admit(to_sample)
        self._admitting = []

    def _candidates(self, batch: ContinuousBatch, count: int) -> list[RequestState]:
        """The first `count` queued requests for the batch's policy, tokenized; others that are done leave the queue."""
        candidates: list[RequestState] = []
        kept: list[RequestState] = []
        for i, state in enumerate(self._queue):
            if len(candidates) >= count:
                kept += self._queue[i:]
                break
            if state.policy.version != batch.policy.version:
                kept.append(state)
            elif not state.future.cancelled() and self._tokenized(batch, state):
                candidates.append(state)
                kept.append(state)
        self._queue = kept
        return candidates

    def _tokenized(self, batch: ContinuousBatch, state: RequestState) -> bool:
        """Tokenize a request; False if it cannot be served, which fails it alone."""
        try:
            batch.tokenize(state)
        except Exception as error:  # of any type
            self._outputs.append((state, None, error))
            return False
        return True

    def _must_drain(self, version: str) -> bool:
        """Whether requests for another policy have waited so long that the batch must empty for them."""
        if not self._active or time.monotonic() - self._policy_since < MAX_POLICY_WAIT:
            return False
        since = next((state.arrival_time for state in self._queue if state.policy.version != version), None)
        return since is not None and time.monotonic() - since > MAX_POLICY_WAIT

    def _switch_policy(self, policy: Policy) -> bool:
        """Serve `policy` from now on; if it cannot be loaded, fail all requests for it."""
        previous, self._batch = self._batch, None
        if previous and previous.policy.version != policy.version:
            previous.free_cache()
        del previous  # its weights may have to make room
        try:
            self._batch = self._policies.load(policy)
        except Exception as error:  # of many kinds; each means that these weights cannot be loaded
            self._outputs += [(state, None, error) for state in self._queue if state.policy.version == policy.version]
            self._queue = [state for state in self._queue if state.policy.version != policy.version]
            return False
        self._policy_since = time.monotonic()
        return True


def _is_out_of_memory(error: Exception) -> bool:
    from selftaught.models.load import is_machine_error

    return isinstance(error, MemoryError) or is_machine_error(error)
