"""Cascades of stages: the policy, and what cascades could do."""

from selectkit.policies.cascade.front import CascadePoint, cascade_front
from selectkit.policies.cascade.policy import CascadePolicy
from selectkit.policies.cascade.rows import StageCosts
from selectkit.policies.cascade.stage import Stage

__all__ = ["CascadePoint", "CascadePolicy", "Stage", "StageCosts", "cascade_front"]
