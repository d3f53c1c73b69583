"""Engines: where tokens come from."""

from selftaught.engines.base import Engine, EngineError, PaidEngine, Request, RequestRefused, Sample, Sampling
from selftaught.engines.scripted import ScriptedEngine

__all__ = ["Engine", "EngineError", "PaidEngine", "Request", "RequestRefused", "Sample", "Sampling", "ScriptedEngine"]
