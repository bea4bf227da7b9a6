"""The page and runs that change: stopped and resumed, forked, edited, many that wait."""

import pytest
from page_stand_in import badge, generate, opened, shown, until


@pytest.mark.slow
def test_a_stopped_run_is_seen_to_go_on_and_a_refusal_stays_to_be_read(tab, runs, working):
    page = tab()
    run = runs.get(generate(page, 60))
    until(lambda: shown(page) >= 5)
    page.route("**/command", lambda route: route.fulfill(status=409, json={"error": {"message": "not now"}}))
    page.click("#pause")
    until(lambda: page.text_content("#problem") == "not now")
    at = shown(page)
    until(lambda: shown(page) > at + 2)
    assert page.text_content("#problem") == "not now"
    page.unroute("**/command")
    page.click("#stop")
    until(lambda: badge(page) == "stopped")
    at = run.status.frames
    until(lambda: page.get_attribute("#picture", "aria-label") == f"frame {at - 1}")
    page.click("#pause")  # which says Resume
    until(lambda: shown(page) > at)
    until(lambda: badge(page) == "done", 30)


@pytest.mark.slow
def test_a_fork_goes_on_as_its_parent_where_nobody_says_otherwise(tab, runs, maker):
    run = runs.create({"schedule": {"0": "a red ball", "20": "a blue ball"}, "num_frames": 24, "seed": 3})
    maker(run).make(24).end()
    page = tab(f"/?run={run.id}")
    until(lambda: page.input_value("#change-text") == "a blue ball")
    page.locator("#seek").fill("10")
    page.click("#fork")
    assert page.input_value("#ask-prompt") == "a red ball"
    page.click("#ask-ok")
    fork = runs.get(until(lambda: opened(page) if opened(page) != run.id else ""))
    assert (fork.parent["frame"], fork.parent.get("prompt")) == (10, None)


@pytest.mark.slow
def test_prompts_by_time_and_with_a_way_are_given_back_as_they_were(tab, made, runs):
    asked = {"0s": "a red ball", "1:30": {"prompt": "a blue ball", "change": "blend"}, "95s": "a green ball"}
    run = runs.create({"schedule": asked, "num_frames": 2000, "seed": 3})
    wanted = run.request["schedule"]
    page = tab(f"/?run={run.id}")
    page.click("[aria-label^='Change: ']")
    until(lambda: page.input_value("#prompt") == "a red ball")
    page.click("#generate")
    other = runs.get(until(lambda: opened(page) if opened(page) != run.id else ""))
    assert list(other.request["schedule"].values()) == list(wanted.values())
    assert list(other.request["schedule"])[1:] == list(wanted)[1:]


@pytest.mark.slow
def test_what_is_made_next_is_seen_however_many_wait(tab, runs):
    first = runs.create({"prompt": "the first", "num_frames": 20})
    for k in range(29):
        runs.create({"prompt": f"video {k}", "num_frames": 20})
    page = tab()
    until(lambda: page.locator("#waiting-runs li").count() == 30)
    assert page.locator("#waiting-runs li").first.get_attribute("data-id") == first.id
