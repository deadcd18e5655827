import pytest

from tests.chaos.teeth import MUTANTS, copy_with


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_a_mutant_breaks_is_still_there(mutant, tmp_path):
    copy_with(mutant, tmp_path)
