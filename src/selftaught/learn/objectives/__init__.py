"""Objectives: how records become tokens, and the pure function from log-probabilities to a loss.

| from | learn by |
|---|---|
| `Demo` | `sft`, `distill` |
| `Label` | `unlikelihood`, `mistake_tuning`, `kto`, `orm` |
| `Pair` | `dpo`, `rpo`, `spin`, `sppo`, `step_dpo`, `spo`, `simpo`, `orpo`, `reward_model` |
| `Ranking` | `tpo`, `quark` |
| `RolloutGroup` | `policy_gradient`, `grpo`, `dr_grpo`, `rloo`, `reinforce`, `nft`, `laser`, `p_ik` |
| `TokenAdvantages` | `policy_gradient`, `grpo`, `dr_grpo`, `reinforce`, with their own advantages and `kl_coef` |
| `ScoredSteps` | `prm` |

`upo_weighting` weights and smooths pairs by the uncertainty of a preference estimator, for any objective on pairs.

To add an objective, write a module with the class, its lowercase factory and `__all__`, and import it below. To train
with one of your own, it need not live here: `run.learn(policy, Mine(), demos)`.

```python
@dataclass(frozen=True)
class Mine(Objective):
    takes = (Demo,)
    name: str = "mine"

    def rows(self, record, tokenizer, where=""):
        prompt, completion = tokenizer.encode_prompt(record.prompt), tokenizer.encode_target(record.target)
        return [Row(tuple(prompt), tuple(completion), record.weight)]

    def loss(self, batch):
        return -(batch.weights * batch.sequence_logprobs / batch.lengths).sum()
```
"""

from selftaught.learn.objectives.base import Batch as Batch
from selftaught.learn.objectives.base import Group as Group
from selftaught.learn.objectives.base import Objective as Objective
from selftaught.learn.objectives.base import Row as Row
from selftaught.learn.objectives.conditional import *
from selftaught.learn.objectives.distill import *
from selftaught.learn.objectives.kto import *
from selftaught.learn.objectives.laser import *
from selftaught.learn.objectives.nft import *
from selftaught.learn.objectives.policy_gradient import *
from selftaught.learn.objectives.preference import *
from selftaught.learn.objectives.reference_free import *
from selftaught.learn.objectives.reward_models import *
from selftaught.learn.objectives.rpo import *
from selftaught.learn.objectives.sft import *
from selftaught.learn.objectives.spo import *
from selftaught.learn.objectives.step_dpo import *
from selftaught.learn.objectives.tpo import *
from selftaught.learn.objectives.upo import *
