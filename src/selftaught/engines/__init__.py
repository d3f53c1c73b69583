"""Engines: sample answers from policies."""

from selftaught.engines.base import (
    BaseEngine,
    Capabilities,
    Engine,
    EngineError,
    HeadValues,
    Likelihood,
    PaidEngine,
    Request,
    RequestFailed,
    RequestRefused,
    Sample,
    Sampling,
)
from selftaught.engines.create import EngineConfig, create_engine
from selftaught.engines.scripted import ScriptedEngine

__all__ = [
    "BaseEngine", "Capabilities", "Engine", "EngineConfig", "EngineError", "HeadValues", "Likelihood", "PaidEngine",
    "Request", "RequestFailed", "RequestRefused", "Sample", "Sampling", "ScriptedEngine", "create_engine",
]  # fmt: skip
