"""Curation: plain functions from attempts to what is worth learning."""

from selftaught.curate.keep import by_problem, keep, keep_right, unsolved, whole
from selftaught.curate.pool import Gathered
from selftaught.curate.vote import Vote, vote

__all__ = ["Gathered", "Vote", "by_problem", "keep", "keep_right", "unsolved", "vote", "whole"]
