import pytest

from stock_families import Family


@pytest.fixture(scope="module")
def family():
    made = {}

    def get(name):
        if name not in made:
            made[name] = Family(name)
        return made[name]

    yield get
    for one in made.values():
        one.model.close()
