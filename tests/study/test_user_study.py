"""The user study and VBench's layout: what is shown and to whom it belongs, also where it is written in parts."""

import csv
import json

import numpy as np
import pytest

from fifo_diffusion.cli import user_study
from fifo_diffusion.evaluation import whole_files
from fifo_diffusion.study import user_study as study
from fifo_diffusion.study import vbench
from fifo_diffusion.video import count_frames, iter_frames, read_frames, write_video


@pytest.fixture
def videos(tmp_path):
    made = {}
    for name in ("fifo", "genl", "plain"):
        for k, prompt in enumerate(("a cat", "a dog / a ball")):
            folder = tmp_path / name / f"{k}"
            folder.parent.mkdir(exist_ok=True)
            write_video(f"{folder}/", np.full((4, 16, 16, 3), 50 * k, np.uint8), fps=8)
            made.setdefault(name, []).append((prompt, folder))
    return made


def test_study_is_blind_and_analysed(tmp_path, videos, capsys):
    study.write_study(tmp_path / "study", videos, "fifo", seed=1)
    key = json.loads((tmp_path / "study" / "key.json").read_text())
    page = (tmp_path / "study" / "index.html").read_text()
    assert len(key) == 4
    assert all("fifo" in (pair["A"], pair["B"]) for pair in key.values())
    assert "fifo" not in page
    assert "genl" not in page
    assert page.count("<fieldset") == 4 * 5
    assert len(list((tmp_path / "study" / "videos").iterdir())) == 8
    assert {pair["A"] for pair in key.values()} != {"fifo"}

    rows = [
        {"who": "x", "pair": pair, "criterion": name, "answer": "A" if sides["A"] == "fifo" else "B"}
        for pair, sides in key.items()
        for name in study.CRITERIA
    ]
    found = study.analyse(key, rows, "fifo")
    assert len(found) == 2 * 5
    assert all((row["ours"], row["draw"], row["theirs"], row["p"]) == (2, 0, 0, 0.5) for row in found)
    with open(tmp_path / "answers.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert user_study.main([str(tmp_path / "study" / "key.json"), str(tmp_path / "answers.csv")]) == 0
    assert "baseline genl  criterion overall  ours 2" in capsys.readouterr().out
    with pytest.raises(ValueError, match="makes no sense"):
        study.analyse(key, [{"pair": "99", "criterion": "overall", "answer": "A"}], "fifo")


def told_apart(folder, videos):
    """The methods of a study's videos by what they show, and the names that key.json gives them."""
    key = json.loads((folder / "key.json").read_text())
    shades = {round(float(np.mean(list(iter_frames(path))))): name for name, own in videos.items() for _, path in own}
    for number, pair in key.items():
        for letter in "AB":
            shade = float(np.mean(read_frames(folder / "videos" / f"{number}{letter}.mp4")))
            yield shades[min(shades, key=lambda known: abs(known - shade))], pair[letter]


@pytest.fixture
def shaded(tmp_path):
    """Videos that their grey tells apart."""
    made = {}
    for j, name in enumerate(("fifo", "genl", "plain", "chunked-1")):
        for k in range(3):
            folder = tmp_path / name / f"{k}"
            folder.parent.mkdir(exist_ok=True)
            write_video(f"{folder}/", np.full((4, 16, 16, 3), 20 + 60 * j + 15 * k, np.uint8), fps=8)
            made.setdefault(name, []).append((f"prompt {k}", folder))
    return made


def test_a_study_written_again_is_of_the_same_pairs(tmp_path, shaded):
    """Rows are added and left out between two writings: each video is of the method that key.json says, pairs keep
    their names and sides, and answers to those that were left out still count."""
    folder, keys = tmp_path / "study", []
    for names in (("fifo", "genl"), tuple(shaded), ("plain", "fifo"), tuple(reversed(shaded))):
        study.write_study(folder, {name: shaded[name] for name in names}, "fifo")
        assert all(shown == said for shown, said in told_apart(folder, shaded))
        keys.append(json.loads((folder / "key.json").read_text()))
        assert (folder / "index.html").read_text().count("<section") == 3 * (len(names) - 1)
    assert keys[0].items() < keys[1].items()
    assert keys[1] == keys[2] == keys[3]
    assert {pair["A"] == "fifo" for pair in keys[3].values()} == {True, False}


def test_a_study_of_other_videos_under_the_same_names_is_another(tmp_path, shaded):
    study.write_study(tmp_path / "study", shaded, "fifo")
    before = set(json.loads((tmp_path / "study" / "key.json").read_text()))
    for _, path in shaded["genl"]:
        write_video(f"{path}/", np.full((4, 16, 16, 3), 3, np.uint8), fps=8)
    study.write_study(tmp_path / "study", shaded, "fifo")
    after = json.loads((tmp_path / "study" / "key.json").read_text())
    assert {pair["A" if pair["B"] == "fifo" else "B"] for number, pair in after.items() if number not in before} == {
        "genl"
    }


@pytest.mark.parametrize("part", ["study", "vbench"])
def test_interrupted_while_a_video_is_written_it_is_written_again(tmp_path, videos, monkeypatch, part):
    """After Ctrl-C there is no short video under a name that counts as done."""
    write = {"study": lambda: study.write_study(tmp_path / "out", videos, "fifo")}.get(
        part, lambda: vbench.export(tmp_path / "out", videos)
    )
    real, handed = whole_files.write_video, []

    def stopping(path, frames, **options):
        handed.append(path)

        def some():
            for k, frame in enumerate(frames):
                if len(handed) == 2 and k == 2:
                    raise KeyboardInterrupt
                yield frame

        return real(path, some(), **options)

    monkeypatch.setattr(whole_files, "write_video", stopping)
    with pytest.raises(KeyboardInterrupt):
        write()
    write()
    films = list((tmp_path / "out").rglob("*.mp4"))
    assert len(films) == {"study": 8, "vbench": 6}[part]
    assert {count_frames(film) for film in films} == {4}


@pytest.mark.parametrize(("wins", "losses", "p"), [(0, 0, 1), (5, 5, 1), (10, 0, 2 / 1024), (8, 2, 2 * 56 / 1024)])
def test_sign_test(wins, losses, p):
    assert study.sign_test(wins, losses) == study.sign_test(losses, wins) == pytest.approx(p)


def test_vbench_layout(tmp_path, videos):
    commands = vbench.export(tmp_path / "vbench", videos)
    assert len(commands) == 3
    assert all("--mode=custom_input" in command for command in commands)
    assert count_frames(tmp_path / "vbench" / "genl" / "a dog   a ball-0.mp4") == 4


def test_vbench_names_that_files_can_have(tmp_path, videos):
    """Long ones, ones that begin alike, and ones that no system takes."""
    prompts = ["写真" * 200, "写真" * 200 + "!", "a\nb", "..", "a/b", "a b"]
    path = videos["fifo"][0][1]
    vbench.export(tmp_path / "vbench", {"fifo": [(prompt, path) for prompt in prompts]})
    assert len(list((tmp_path / "vbench" / "fifo").iterdir())) == len(prompts)
