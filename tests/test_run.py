from scripted_world import make_run, make_task
from selftaught.method import find
from selftaught.conclude import conclude, write

def test_x(tmp_path):
    with make_run(tmp_path) as run:
        find("rest-em")(run, run.base, run.task, rounds=2, samples=4)
        out = write(run, conclude(run))
        print(out, run.history, run.gates)
        assert out["promoted"]
