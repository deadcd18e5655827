import os
import subprocess
import sys

import pytest

from tests.processes.conftest import ROOT


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.skipif(os.environ.get("TEST_POSTGRES", "18") != "18", reason="once is enough")
def test_a_queue_that_is_harmed_loses_nothing_and_repeats_nothing_without_cause(tmp_path):
    seed = os.environ.get("CHAOS_SEED", "1")
    command = [sys.executable, "-m", "tests.chaos", "--minutes", "3", "--seed", seed]
    # What is slow is no failure here.
    command += ["--patience", "600", "--folder", tmp_path]
    done = subprocess.run(command, cwd=ROOT, text=True, check=False)
    assert done.returncode == 0
