"""Engines: where tokens come from."""

from selftaught.engines.base import Engine, EngineError, Paid, Request, RequestRefused, Sample, Sampling
from selftaught.engines.scripted import ScriptedEngine

__all__ = ["Engine", "EngineError", "Paid", "Request", "RequestRefused", "Sample", "Sampling", "ScriptedEngine"]
