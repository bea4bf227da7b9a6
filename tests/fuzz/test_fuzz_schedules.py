"""Files of prompts and schedules: what was written is read back, and whatever else is there is refused in one line."""

import json
import math
import re

import pytest
from hypothesis import assume
from hypothesis import strategies as st

from fifo_diffusion.errors import UserError
from fifo_diffusion.jobs.prompt_files import Time, in_frames, read_prompts, read_schedule, schedule_of
from fifo_diffusion.jobs.runs.commands import checked_command
from fuzzing import damaged, examples, holds, refused, texts, values
from streams import SMALL

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=20).map(str.strip)
PROMPTS = WORDS.filter(
    lambda said: said and not re.match(r"[\[#{\"]|[0-5]?\d\b|\d+\s*:", said) and not re.search(r"\s--neg\s", said)
)
FRAMES = st.integers(0, 10**9 - 1)
CLOCKS = st.integers(0, 5 * 10**5)
SPACES = st.sampled_from(["", " ", "  "])


def typed(seconds, way):
    """A time as people type it."""
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    return {
        "clock": f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}",
        "seconds": f"{seconds}s",
        "units": f"{hours}h{minutes}m{rest}s",
        "minutes": f"{seconds // 60} min {rest} sec",
    }[way]


WAYS = st.sampled_from(["clock", "seconds", "units", "minutes"])
KEYS = st.one_of(
    FRAMES.map(lambda frame: (frame, str(frame))),
    st.tuples(CLOCKS, WAYS).map(lambda time: (Time(time[0]), typed(*time))),
)
SCHEDULES = st.lists(st.tuples(KEYS, PROMPTS), max_size=5, unique_by=lambda line: line[0][0]).map(
    lambda lines: [((0, "0"), "a red ball"), *((key, said) for key, said in lines if key[0] != 0)]
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "s.txt"


@examples(25, 3000)
def test_what_is_written_is_read_back(count, path):
    """As lines, as JSON, and as pairs without braces."""

    @holds(count, SCHEDULES, SPACES, SPACES, st.sampled_from(["\n", "\r\n", "\n\n# a remark\n"]))
    def check(lines, before, after, end):
        meant = {key: said for (key, _), said in lines}
        path.write_bytes(end.join(f"{key}{before}:{after}{said}" for (_, key), said in lines).encode())
        assert read_schedule(path) == meant
        pairs = {key: said for (_, key), said in lines}
        assume(len(pairs) == len(lines))
        for text in (json.dumps(pairs), json.dumps(pairs, ensure_ascii=False, indent=2), json.dumps(pairs)[1:-1]):
            path.write_bytes(text.encode())
            assert read_schedule(path) == meant
        assert schedule_of(pairs) == meant
        frames = {round(key.seconds * 8) if isinstance(key, Time) else key: said for key, said in meant.items()}
        if len(frames) == len(meant):
            assert in_frames(meant, 8.0) == dict(sorted(frames.items()))
        else:
            with pytest.raises(UserError, match="are the same frame"):
                in_frames(meant, 8.0)


LINES = st.lists(
    st.one_of(texts, st.tuples(texts, st.sampled_from([":", " : ", "s:", "::", ":0:"]), texts).map("".join)), max_size=6
)
BYTES = st.binary(max_size=60) | LINES.map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass"))
BYTES |= values.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
BYTES |= st.dictionaries(st.sampled_from(["0", "1:30", "x"]) | texts, values, max_size=4).map(
    lambda found: json.dumps(found).encode()
)
BYTES |= damaged(b'{"0": "a red ball", "1:30": {"prompt": "a blue ball", "change": "queue"}, "200": "x"}')
BYTES |= damaged(b"0: a red ball\n1:30: a blue ball\n# no\n200: [x]\n")


@examples(40, 5000)
def test_whatever_a_file_holds(count, path):
    @holds(count, BYTES)
    def check(data):
        path.write_bytes(data)
        schedule, _ = refused(lambda: in_frames(read_schedule(path), 8.0), UserError)
        if schedule is not None:
            assert 0 in schedule
            assert all(isinstance(frame, int) and 0 <= frame < 8 * 10**9 for frame in schedule)
            for said in schedule.values():
                text = said if isinstance(said, str) else said["prompt"]
                assert text.strip()
                text.encode()
        prompts, _ = refused(lambda: read_prompts(path), UserError)
        assert prompts is None or all(said.strip() and said.encode() for said in prompts)


@examples(20, 2000)
def test_whatever_a_program_gives(count, fifo):
    """To a stream, as a command of a run, and in a request."""
    keys = st.integers() | st.sampled_from(["0", "1:30", 0, 0.0, None, math.nan, True]) | texts
    mappings = st.dictionaries(keys, values | st.just("a red ball"), max_size=3)

    @holds(count, mappings | mappings.map(lambda found: {0: "a red ball"} | found))
    def check(found):
        made, _ = refused(lambda: fifo.stream(found, num_frames=8, **SMALL), ValueError, TypeError)
        if made is not None:
            made.close()
        refused(lambda: schedule_of(found), UserError)
        command, _ = refused(lambda: checked_command("schedule", {"keys": found}), ValueError, UserError)
        assert command is None or json.loads(json.dumps(command))["keys"].keys() == command["keys"].keys()
