"""The page in a browser, over a stand-in for the model: live, after a reload, in two tabs, by keyboard, on a phone."""

import io
import time

import av
import pytest
from page_stand_in import PROMPT, badge, drawn, generate, opened, shown, until
from PIL import Image

from fifo_diffusion.studio.schema import new_video

PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True}


def test_a_video_grows_on_the_page(tab, runs, working):
    """Of 20 frames at least 15 are drawn, with the queue below them."""
    working.rate = 5.0  # a machine that does other things besides
    page = tab()
    run = runs.get(generate(page, 20))
    until(lambda: badge(page) == "done")
    assert run.request["num_frames"] == 20
    assert run.request["prompt"] == PROMPT
    assert drawn(page) >= 15
    assert shown(page) == 20
    box = page.evaluate("[document.getElementById('picture').width, document.getElementById('strip').width > 100]")
    assert box == [32, True]


@pytest.mark.slow
def test_a_reload_and_a_second_tab_find_the_run_again(tab, working):
    page = tab()
    run = generate(page, 400)
    until(lambda: shown(page) >= 5)
    page.fill("#change-text", "a blue ball moving left")
    page.check("input[value=queue]", force=True)
    page.click("#change .primary")
    until(lambda: "a blue ball" in page.text_content("#legend"))
    before = shown(page)
    page.reload()
    until(lambda: shown(page) >= before)
    until(lambda: "a blue ball" in page.text_content("#legend"))
    drawn_before = drawn(page)
    until(lambda: drawn(page) > drawn_before)
    other = tab(f"/?run={run}")
    until(lambda: shown(other) >= shown(page))
    other.click("#stop")
    until(lambda: badge(page) == badge(other) == "stopped")
    assert shown(page) == shown(other)


@pytest.mark.slow
def test_stop_comes_at_once_and_the_download_is_what_was_made(tab, runs, working, tmp_path):
    page = tab()
    run = runs.get(generate(page, 400))
    until(lambda: shown(page) >= 5)
    at = run.status.frames
    page.click("#stop")
    until(lambda: badge(page) == "stopped")
    frames = run.status.frames
    assert at <= frames <= at + 4  # two frames, and what the browser took to click
    with page.expect_download() as found:
        page.click("#download")
    found.value.save_as(tmp_path / "video.mp4")
    with av.open(str(tmp_path / "video.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == frames


@pytest.mark.slow
def test_what_is_there_is_looked_at_and_played(tab, made):
    run = made(24)
    page = tab(f"/?run={run.id}")
    until(lambda: shown(page) == 24)
    page.focus("#seek")
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    until(lambda: page.evaluate("document.documentElement.dataset.frame") == "20")
    page.click("#loop")
    until(lambda: page.evaluate("document.getElementById('player').currentTime") > 0.3)
    assert page.evaluate("document.getElementById('player').loop")
    page.click("#play")
    assert page.is_visible("#picture")


@pytest.mark.slow
def test_fork_and_extend(tab, made, runs, working):
    first = made(24)
    page = tab(f"/?run={first.id}")
    until(lambda: shown(page) == 24)
    page.locator("#seek").fill("16")
    page.click("#fork")
    page.fill("#ask-prompt", "a green ball")
    page.fill("#ask-num_frames", "30")
    page.click("#ask-ok")
    fork = runs.get(until(lambda: opened(page) if opened(page) != first.id else ""))
    assert fork.parent["id"] == first.id
    assert fork.parent["frame"] == 16
    until(lambda: shown(page) == 30)
    page.click("#extend")
    page.fill("#ask-seconds", "1")
    page.click("#ask-ok")
    until(lambda: shown(page) == 40)


@pytest.mark.slow
def test_the_queue_is_reordered_edited_and_emptied(tab, runs, working):
    working.held.set()
    page = tab()
    ids = []
    for k in range(3):
        generate(page, 20 + k, f"video {k}")
        ids.append(until(lambda: opened(page) if opened(page) not in ids else ""))

    def queue():
        return page.evaluate("[...document.querySelectorAll('#waiting-runs li')].map((item) => item.dataset.id)")

    until(lambda: queue() == ids)
    page.click("[aria-label='Move up: video 2']")
    until(lambda: queue() == [ids[0], ids[2], ids[1]])
    page.click("[aria-label='Change: video 1']")
    until(lambda: page.input_value("#prompt") == "video 1")
    page.fill("#prompt", "another video")
    page.click("#generate")
    until(lambda: page.locator("#waiting-runs .title").all_text_contents() == ["video 0", "video 2", "another video"])
    assert [run.request["num_frames"] for run in runs.queue()] == [20, 22, 21]
    page.click("[aria-label='Remove: video 0']")
    page.click("#ask-ok")
    until(lambda: queue() == [run.id for run in runs.queue()] and len(queue()) == 2)


@pytest.mark.slow
def test_history_gives_its_settings_back(tab, made):
    run = made(12, num_partitions=2, guidance_scale=3.5, lookahead=False, lora=["owner/style:0.6"])
    page = tab()
    page.click("[aria-label^='Use these settings']")
    until(lambda: page.input_value("#prompt") == run.request["prompt"])
    values = {
        name: page.input_value(f"#f-{name}") for name in ("num_partitions", "guidance_scale", "lookahead", "seed")
    }
    assert values == {"num_partitions": "2", "guidance_scale": "3.5", "lookahead": "false", "seed": "3"}
    assert page.input_value("#length") == "12"
    assert page.is_checked(".lora-on")
    assert page.input_value("#lora-0") == "0.6"
    thumbnail = page.locator("#history img").first
    until(lambda: thumbnail.evaluate("image => image.naturalWidth") > 0)


@pytest.mark.slow
def test_a_dropped_picture_is_where_it_starts(tab, runs):
    page = tab()
    data = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(data, "PNG")
    page.set_input_files("#start-file", {"name": "teal.png", "mimeType": "image/png", "buffer": data.getvalue()})
    assert page.is_visible("#start-preview")
    run = runs.get(generate(page, 12))
    assert (run.folder / run.request["start"]).read_bytes() == data.getvalue()


@pytest.mark.slow
def test_the_form_has_every_setting_and_says_what_is_wrong(tab):
    page = tab()
    elsewhere = {
        "prompt",
        "schedule",
        "num_frames",
        "seconds",
        "forever",
        "lora",
        "size",
        "input_reference",
        "start_of",
    }
    for name in new_video()["properties"].keys() - elsewhere:
        assert page.locator(f"#f-{name}").count() == 1, name
    page.click("#generate")
    assert "say what should be seen" in page.text_content("#error-prompt")
    page.fill("#prompt", PROMPT)
    page.fill("#length", "0.5")
    page.select_option("#unit", "num_frames")
    until(lambda: page.text_content("#error-length"))
    page.fill("#length", "20")
    until(lambda: "a remark" in page.text_content("#cost") and not page.text_content("#error-length"))


@pytest.mark.slow
def test_a_prompt_is_planned_for_later(tab, runs, working):
    page = tab()
    page.click("#add-later")
    page.fill(".later-frame", "60")
    page.fill(".later-text", "a blue ball")
    run = runs.get(generate(page, 80))
    assert run.request["schedule"] == {"0": PROMPT, "60": "a blue ball"}


@pytest.mark.slow
def test_a_failed_run_says_why(tab, made, maker, runs):
    run = runs.create({"prompt": "a red ball", "num_frames": 20, "seed": 3})
    maker(run).make(4).end("failed", error={"code": "OutOfMemory", "message": "not enough memory on cuda:0"})
    page = tab(f"/?run={run.id}")
    until(lambda: "not enough memory on cuda:0" in page.text_content("#problem"))
    assert page.text_content("#pause") == "Resume"


def keyed(page, target, most=80):
    """Go to an element as somebody without a mouse does."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == target:
            return
    raise AssertionError(f"{target} is not reached by Tab")


@pytest.mark.slow
def test_the_keyboard_alone_does_all_of_it(tab, runs, working):
    page = tab()
    keyed(page, "prompt")
    page.keyboard.type(PROMPT)
    keyed(page, "unit")
    page.keyboard.press("f")  # frames
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Control+a")
    page.keyboard.type("300")
    page.keyboard.press("Enter")
    until(lambda: shown(page) >= 3)
    keyed(page, "change-text")
    page.keyboard.press("Control+a")
    page.keyboard.type("a green ball")
    keyed(page, "change-frame")
    page.keyboard.press("Enter")
    until(lambda: "a green ball" in page.text_content("#legend"))
    keyed(page, "stop")
    page.keyboard.press("Enter")
    until(lambda: badge(page) == "stopped")
    keyed(page, "fork")
    page.keyboard.press("Enter")
    until(lambda: page.evaluate("document.getElementById('ask').open"))
    page.keyboard.press("Escape")
    until(lambda: page.evaluate("document.activeElement.id") == "fork")


@pytest.mark.slow
@pytest.mark.parametrize("look", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_nobody_is_shut_out(tab, working, look):
    """No violation that axe knows, and on a phone nothing to be moved sideways."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="make browser").Axe()
    page = tab(bypass_csp=True, **look)
    for stage in ("empty", "running"):
        if stage == "running":
            generate(page, 60)
            until(lambda: shown(page) >= 3 and page.is_visible("#strip"))
            for summary in page.locator("main summary:visible").all():
                summary.click()
        found = axe.run(page).response["violations"]
        assert [(each["id"], each["nodes"][0]["html"]) for each in found] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


@pytest.mark.slow
def test_nothing_is_written_into_the_page_as_markup(tab, runs, working):
    page = tab()
    text = "<img src=x onerror=document.title='taken'> & \"quotes\""
    generate(page, 10, text)
    until(lambda: badge(page) == "done")
    time.sleep(0.3)
    assert page.title() != "taken"
    assert page.text_content("#stage-title") == text
