"""Objectives: how records become tokens, and the pure function from log-probabilities to a loss.

| from | learn by |
|---|---|
| `Demo` | `sft`, `distill` |
| `Label` | `Unlikelihood`, `MistakeTuning`, `Kto`, `OutcomeReward` |
| `Pair` | `dpo`, `spin`, `sppo`, `step_dpo`, `DegreeDpo`, `Simpo`, `Orpo`, `PairwiseReward` |
| `Ranking` | `tpo`, `Quark` |
| `Rollouts` | `grpo`, `dr_grpo`, `rloo`, `reinforce`, `Nft`, `Laser`, `Knows` |
| `Credit` | `grpo`, `dr_grpo`, `reinforce`, with advantages and KL anchors of their own |
| `Steps` | `ProcessReward` |

`doubted` weighs and softens pairs for any of those that learn from them.

One of your own says which records it takes, how one becomes rows, and the loss; `run.learn(policy, Mine(), demos)`
trains it. `Base` has the rest, to be overridden: `size` for another mean than one over records, `needs` for what a
reference, a teacher or a head says, `groups` for what must see all records at once.

```python
@dataclass(frozen=True)
class Mine(Base):
    takes = (Demo,)
    name: str = "mine"

    def rows(self, record, tokenizer, where=""):
        prompt, target = tokenizer.encode_prompt(record.prompt), tokenizer.encode_target(record.target)
        return [Row(tuple(prompt), tuple(target), record.weight)]

    def loss(self, batch):
        return -(batch.weights * batch.sums / batch.lengths).sum()
```
"""

from selftaught.learn.objectives.base import Base, Batch, Group, Objective, Row
from selftaught.learn.objectives.conditional import MistakeTuning, Quark
from selftaught.learn.objectives.degree import DegreeDpo
from selftaught.learn.objectives.distill import Distill, distill
from selftaught.learn.objectives.heads import Knows, OutcomeReward, PairwiseReward, ProcessReward, Steps
from selftaught.learn.objectives.laser import Laser
from selftaught.learn.objectives.listwise import Tpo, tpo
from selftaught.learn.objectives.nft import Nft
from selftaught.learn.objectives.policy_gradient import PolicyGradient, dr_grpo, grpo, reinforce, rloo
from selftaught.learn.objectives.preference import Dpo, dpo, spin
from selftaught.learn.objectives.preference import sppo_objective as sppo
from selftaught.learn.objectives.reference_free import Orpo, Simpo
from selftaught.learn.objectives.rollouts import Rollouts
from selftaught.learn.objectives.sft import Sft, Unlikelihood, sft
from selftaught.learn.objectives.steps import StepDpo, advantage_margin, step_dpo, visit_softness
from selftaught.learn.objectives.uncertain import doubted
from selftaught.learn.objectives.unpaired import Kto

__all__ = [
    "Base", "Batch", "DegreeDpo", "Distill", "Dpo", "Group", "Knows", "Kto", "Laser", "MistakeTuning", "Nft",
    "Objective", "Orpo", "OutcomeReward", "PairwiseReward", "PolicyGradient", "ProcessReward", "Quark", "Rollouts",
    "Row", "Sft", "Simpo", "StepDpo", "Steps", "Tpo", "Unlikelihood", "advantage_margin", "distill", "doubted", "dpo",
    "dr_grpo", "grpo", "reinforce", "rloo", "sft", "spin", "sppo", "step_dpo", "tpo", "visit_softness",
]  # fmt: skip
