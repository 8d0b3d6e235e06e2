"""The page in a real browser: choose, write, see the table, find it again, and every fault said in words.

The service is `page_stub`; the browser is any Chromium of this machine (LEKHAI_CHROMIUM names one).
"""

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright, which is not here")
pytest.importorskip("uvicorn", reason="the page's stand-in service needs uvicorn")

from tests.serving.page_stub import (  # noqa: E402
    CHOICES,
    EVIL,
    INDUSTRIES,
    PATH,
    PATH_TABLE,
    PROMPT_CHOICES,
    SCRIPT,
    TONES,
    Behaviour,
    add_script,
    make_app,
    running,
)

expect = playwright.expect
SLOW = 30_000  # ms: the machine may be busy with something else
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome-headless-shell", "chromium-headless-shell")


def find_browser(play) -> str | None:
    """Return a Chromium: the one named, one on the PATH, or Playwright's own download."""
    named = os.environ.get("LEKHAI_CHROMIUM")
    on_path = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    own = play.chromium.executable_path
    return named or on_path or (own if Path(own).exists() else None)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as play:
        found = find_browser(play)
        if found is None:
            pytest.skip("no Chromium here: apt install chromium, or LEKHAI_CHROMIUM=/path/to/chromium")
        # A container's root has no user namespaces to build a sandbox from; the page opened is our own.
        browser = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site():
    """One stand-in for all tests; each gets it as good as new."""
    state = Behaviour()
    with running(make_app(state)) as address:
        yield state, address


@pytest.fixture
def state(site):
    vars(site[0]).update(vars(Behaviour()))
    return site[0]


@pytest.fixture
def open_page(browser, site, state):
    """Return a function that opens the page; the test fails where the browser complained about anything unexpected."""
    complaints: list[str] = []
    contexts = []

    def opened(width=1280, height=900, path="", **options):
        context = browser.new_context(
            viewport={"width": width, "height": height}, locale="bn-BD", timezone_id="Asia/Dhaka", **options
        )
        context.set_default_timeout(SLOW)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.goto(site[1] + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    # The browser itself reports each refused request; these were asked for by the test.
    assert [line for line in complaints if "Failed to load resource" not in line] == []


def fill(page, brand="ঝিলমাটি", product="দেয়ালের রং"):
    page.locator("#brand").fill(brand)
    page.locator("#product").fill(product)


def write(page):
    page.locator("#write").click()


def seen(locator):
    expect(locator).to_be_visible(timeout=SLOW)
    return locator


def ready(page):
    """Wait until the choices are there: the history has said how much it holds."""
    expect(page.locator("#history-words")).not_to_be_empty(timeout=SLOW)
    return page


def until(true, otherwise: str) -> None:
    deadline = time.monotonic() + SLOW / 1000
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def tutor(state, markdown="A fraction is a part of a whole.", table=None):
    """Let the stand-in be a service that takes messages."""
    state.choices, state.markdown, state.table = PROMPT_CHOICES, markdown, table


BENGALI = re.compile(r"[\u0980-\u09ff]")

# --- a service that takes messages


def test_a_service_for_messages_shows_one_box_and_the_answer_as_text(open_page, state):
    tutor(state, "A fraction is a part of a whole.\nWhat is | a half?\n| of | this |".replace("?", "."))
    page = ready(open_page())
    shown = [field for field in ("industry", "tone", "duration_seconds", "brand", "product") if
             page.locator(f"#{field}").is_visible()]  # fmt: skip
    assert shown == [] and page.locator("#only-industry").is_hidden()
    page.locator("#message").fill("Explain what a fraction is.")
    write(page)
    assert "It is an answer of the right form." in seen(page.locator('.verdict[data-ok="yes"]')).inner_text()
    assert page.locator("pre.raw").inner_text() == state.markdown, "strokes in an answer are no table"
    assert page.locator("#result-body h3").inner_text() == "Explain what a fraction is."
    assert state.scripts[0]["request"] == {"message": "Explain what a fraction is."}
    assert "1 answer" in page.locator("#history-words").inner_text()


def test_an_english_service_has_a_page_without_bengali(open_page, state):
    tutor(state, "Is that so?")
    page = ready(open_page())
    page.locator("#message").fill("Explain it.")
    write(page)
    seen(page.locator('.verdict[data-ok="no"]'))
    assert "it asks back" in page.locator(".verdict").inner_text()
    state.engine_down = True
    write(page)
    assert "The engine is down" in seen(page.locator("#notice")).inner_text()
    assert BENGALI.findall(page.locator("body").inner_text()) == []
    assert page.locator("html").get_attribute("lang") == "en" and "A tutor" in page.title()


def test_an_answer_that_is_a_table_is_drawn_with_its_own_columns(open_page, state):
    tutor(state, PATH, PATH_TABLE)
    page = ready(open_page())
    page.locator("#message").fill("Plan fractions.")
    write(page)
    seen(page.locator("table.script"))
    assert page.locator("table.script thead th").all_inner_texts() == ["level", "title"]
    assert page.locator("table.script tbody tr").first.locator("td").all_inner_texts() == ["1", "Halves"]


def test_the_text_stands_under_the_table_of_an_answer_with_a_fault(open_page, state):
    """What the table cannot show, words beside it or a value twice, was nowhere on the page."""
    tutor(state, "Is this a path? " + PATH, PATH_TABLE)
    page = ready(open_page())
    page.locator("#message").fill("Plan fractions.")
    write(page)
    seen(page.locator('.verdict[data-ok="no"]'))
    assert page.locator("table.script").count() == 1
    assert page.locator("pre.raw").inner_text() == state.markdown


def test_an_empty_message_is_said_before_anything_is_sent(open_page, state):
    tutor(state)
    page = ready(open_page())
    write(page)
    assert "must not be empty" in seen(page.locator("#message-error")).inner_text()
    assert state.written == 0 and state.scripts == []


# --- the way through: choose, write, see, find again


def test_an_agency_chooses_writes_and_sees_a_table_of_two_columns(open_page, state):
    page = ready(open_page())
    page.locator("#industry").press("ArrowRight")
    page.locator("#tone").press("End")
    fill(page)
    write(page)
    seen(page.locator('.verdict[data-ok="yes"]'))
    assert page.locator("table.script thead th").all_inner_texts() == ["দৃশ্য Visual", "শব্দ Audio"]
    rows = [row.locator("td").all_inner_texts() for row in page.locator("table.script tbody tr").all()]
    assert len(rows) == 6 and all(len(row) == 2 for row in rows)
    assert rows[0][0].startswith("ওয়াইড শট: বগুড়ার রিকশা")
    asked = state.scripts[0]["request"]
    assert (asked["industry"], asked["tone"], asked["duration_seconds"]) == (INDUSTRIES[1], TONES[-1], 30)
    assert "lekhai-q8_0.gguf@3f2a9c1d" in page.locator(".facts").inner_text()


def test_the_script_grows_while_it_is_written_and_the_form_says_so(open_page, state):
    state.pace = 0.15
    page = ready(open_page())
    fill(page)
    write(page)
    seen(page.locator("table.script td").first)
    assert page.locator("#result").get_attribute("aria-busy") == "true"
    expect(page.locator("#write")).to_be_disabled()
    state.pace = 0
    seen(page.locator(".verdict"))
    assert page.locator("#result").get_attribute("aria-busy") == "false"
    expect(page.locator("#live")).to_contain_text("চিত্রনাট্য তৈরি")


def test_stopping_ends_the_request_and_keeps_the_form(open_page, state):
    state.pace = 0.2
    page = ready(open_page())
    fill(page)
    write(page)
    seen(page.locator("table.script td").first)
    page.locator("#stop").click()
    expect(page.locator("#write")).to_be_enabled()
    expect(page.locator("#result-body")).to_contain_text("অসমাপ্ত")
    assert page.locator("#brand").input_value() == "ঝিলমাটি"
    until(lambda: state.cancelled >= 1, "the service was not told that nobody listens any more")
    assert state.written == 0


def test_after_a_reload_the_script_is_still_there_and_in_the_history(open_page, state):
    page = ready(open_page())
    fill(page)
    write(page)
    seen(page.locator(".verdict"))
    page.reload()
    seen(page.locator(".verdict"))
    assert page.locator("table.script tbody tr").count() == 6
    expect(page.locator("#history button")).to_have_count(1)
    assert page.locator("#history button").get_attribute("aria-current") == "true"
    assert page.locator("#brand").input_value() == "ঝিলমাটি", "what was typed is kept over a reload"


def test_the_history_is_searched_narrowed_and_goes_on(open_page, state):
    for number in range(45):
        brief = {"industry": INDUSTRIES[number % 3], "tone": TONES[0], "brand": f"ব্র্যান্ড-{number:02d}"}
        add_script(state, brief | {"product": "চা", "duration_seconds": 30, "message": ""}, SCRIPT)
    page = ready(open_page())
    expect(page.locator("#history li")).to_have_count(20)
    page.locator("#more").click()
    expect(page.locator("#history li")).to_have_count(40)
    page.locator("#more").click()
    expect(page.locator("#history li")).to_have_count(45)
    expect(page.locator("#more")).to_be_hidden()
    page.locator("#only-industry").select_option(INDUSTRIES[1])
    expect(page.locator("#history li")).to_have_count(15)
    page.locator("#query").fill("ব্র্যান্ড-07")
    expect(page.locator("#history li")).to_have_count(1)
    page.locator("#history button").click()
    expect(page.locator(".title h3")).to_contain_text("ব্র্যান্ড-07")
    page.locator("#query").fill("কোথাও নেই")
    expect(page.locator("#history-words")).to_contain_text("কিছু পাওয়া গেল না")


def test_copy_gives_the_markdown_and_downloads_come_from_the_service(open_page, state, site):
    page = ready(open_page(permissions=["clipboard-read", "clipboard-write"]))
    fill(page)
    write(page)
    seen(page.locator(".verdict"))
    page.get_by_role("button", name="Markdown কপি").click()
    seen(page.locator(".copied"))
    assert page.evaluate("navigator.clipboard.readText()") == SCRIPT
    for ending, begins in (("docx", b"PK"), ("csv", b"\xef\xbb\xbfVisual,Audio")):
        with page.expect_download() as waiting:
            page.locator(f'[data-file="{ending}"]').click()
        assert waiting.value.suggested_filename == f"lekhai-ঝিলমাটি-দেয়ালের-রং.{ending}"
        assert Path(waiting.value.path()).read_bytes().startswith(begins)


def test_copy_works_where_the_browser_has_no_clipboard_for_plain_http(open_page, state):
    """On an office network the page comes over http, and `navigator.clipboard` is not there."""
    page = open_page()
    page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.reload()
    fill(ready(page))
    write(page)
    seen(page.locator(".verdict"))
    page.get_by_role("button", name="Markdown কপি").click()
    expect(page.locator(".copied")).to_contain_text("কপি হয়েছে")


# --- what goes wrong, in words


def test_a_broken_contract_is_said_in_words(open_page, state):
    state.markdown = "\n".join(SCRIPT.split("\n")[:5]) + "\n| একা ঘর |"
    page = ready(open_page())
    fill(page)
    write(page)
    verdict = seen(page.locator('.verdict[data-ok="no"]'))
    assert "৪ নম্বর সারিতে ২টির জায়গায় ১টি ঘর" in verdict.inner_text()
    assert "শট ৩টি; ৩০ সেকেন্ডের ছবিতে থাকে ৬ থেকে ৯টি" in verdict.inner_text()


def test_text_that_is_no_table_is_shown_as_it_came(open_page, state):
    state.markdown = "এটা কোনো টেবিল নয়।"
    page = ready(open_page())
    fill(page)
    write(page)
    assert "এটা কোনো টেবিল নয়।" in seen(page.locator("pre.raw")).inner_text()
    expect(page.locator(".verdict")).to_contain_text("কোনো টেবিল নেই")


def test_an_engine_that_is_down_is_said_and_the_next_try_works(open_page, state):
    page = ready(open_page())
    fill(page)
    state.engine_down = True
    write(page)
    notice = seen(page.locator("#notice"))
    expect(notice).to_contain_text("লেখার ইঞ্জিন এখন বন্ধ")
    expect(notice).to_contain_text("the engine is down")
    expect(page.locator("#engine")).to_contain_text("ইঞ্জিন বন্ধ")
    assert page.locator("#brand").input_value() == "ঝিলমাটি"
    state.engine_down = False
    notice.get_by_role("button", name="আবার চেষ্টা করুন").click()
    seen(page.locator(".verdict"))
    expect(notice).to_be_hidden()


def test_a_busy_service_is_asked_again_after_the_time_it_named(open_page, state):
    state.busy_times, state.wait = 2, 1
    page = ready(open_page())
    fill(page)
    write(page)
    expect(seen(page.locator('#notice[data-kind="busy"]'))).to_contain_text("সেকেন্ড পর")
    seen(page.locator(".verdict"))
    assert state.written == 1 and state.busy_times == 0


def test_waiting_for_a_busy_service_can_be_stopped(open_page, state):
    state.busy_times, state.wait = 9, 60
    page = ready(open_page())
    fill(page)
    write(page)
    seen(page.locator('#notice[data-kind="busy"]'))
    page.locator("#stop").click()
    expect(page.locator("#notice")).to_be_hidden()
    assert state.busy_times == 8


def test_a_refused_field_is_marked_and_gets_the_focus(open_page, state):
    state.refuse_field = "brand"
    page = ready(open_page())
    fill(page)
    write(page)
    expect(page.locator("#brand-error")).to_have_text("বেশি লম্বা হয়ে গেছে, সর্বোচ্চ ৮০ অক্ষর")
    expect(page.locator("#brand")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#brand")).to_be_focused()
    page.locator("#brand").fill("ছোট")
    expect(page.locator("#brand-error")).to_be_hidden()


def test_an_empty_field_is_said_before_anything_is_sent(open_page, state):
    page = ready(open_page())
    page.locator("#brand").fill("   ")
    write(page)
    expect(page.locator("#brand-error")).to_have_text("এই ঘরটা খালি রাখা যাবে না")
    expect(page.locator("#product-error")).to_be_visible()
    expect(page.locator("#brand")).to_be_focused()
    assert state.written == 0


def test_offline_is_told_apart_and_nothing_typed_is_lost(open_page, state):
    page = ready(open_page())
    fill(page)
    page.context.set_offline(True)
    write(page)
    expect(page.locator("#notice")).to_contain_text("ইন্টারনেট নেই")
    assert page.locator("#product").input_value() == "দেয়ালের রং"
    page.context.set_offline(False)
    page.locator("#notice button").click()
    seen(page.locator(".verdict"))


def test_a_stream_cut_in_the_middle_is_said_and_what_came_stays(open_page, state):
    state.cut = True
    page = ready(open_page())
    fill(page)
    write(page)
    expect(page.locator("#notice")).to_contain_text("মাঝপথে থেমে গেছে")
    expect(page.locator("#result-body")).to_contain_text("অসমাপ্ত")


def test_a_script_that_could_not_be_kept_says_so_and_offers_no_download(open_page, state):
    page = ready(open_page())
    fill(page)
    state.store_down = True
    write(page)
    seen(page.locator(".verdict"))
    expect(page.locator("#result-body")).to_contain_text("জমা রাখা যায়নি")
    expect(page.locator("[data-file]")).to_have_count(0)
    expect(page.locator("#notice")).to_contain_text("আগের লেখাগুলো এখন আনা যাচ্ছে না")
    state.store_down = False
    page.locator("#notice button").click()
    expect(page.locator("#notice")).to_be_hidden()


def test_where_the_next_script_fails_the_one_before_stays_on_the_page(open_page, state):
    page = ready(open_page())
    fill(page)
    write(page)
    seen(page.locator(".verdict"))
    state.engine_down = True
    write(page)
    seen(page.locator("#notice"))
    assert page.locator("table.script tbody tr").count() == 6


def test_a_link_to_a_script_that_is_gone_is_explained(open_page, state):
    page = open_page(path="/#script=not-there")
    expect(page.locator("#notice")).to_contain_text("লেখাটা পাওয়া গেল না")


def test_the_key_is_asked_for_once_and_lives_only_in_this_tab(open_page, state):
    state.key = "a-secret"
    page = open_page()
    seen(page.locator("#key-dialog"))
    page.locator("#key").fill("wrong")
    page.locator("#key").press("Enter")
    expect(page.locator("#key-words")).to_contain_text("key মেলেনি")
    page.locator("#key").fill("a-secret")
    page.locator("#key").press("Enter")
    expect(page.locator("#key-dialog")).to_be_hidden()
    fill(ready(page))
    write(page)
    seen(page.locator(".verdict"))
    page.reload()
    seen(page.locator(".verdict"))
    expect(page.locator("#key-dialog")).to_be_hidden()
    assert page.evaluate("JSON.stringify(localStorage)").find("a-secret") == -1
    assert "a-secret" not in page.url and "a-secret" not in page.content()


# --- nothing from outside becomes part of the page


def test_html_from_model_history_and_service_stays_text(open_page, state):
    state.markdown = SCRIPT.replace("ওয়াইড শট", EVIL).replace("টপ শট", "<script>alert(2)</script>")
    state.scripts.clear()
    add_script(state, dict.fromkeys(["industry", "tone", "message"], EVIL) | {"brand": EVIL, "product": EVIL}, SCRIPT)
    page = open_page()
    page.on("dialog", lambda dialog: pytest.fail(f"the page ran a script: {dialog.message}"))
    fill(ready(page), brand=EVIL)
    write(page)
    seen(page.locator(".verdict"))
    assert EVIL in page.locator("table.script").inner_text()
    assert EVIL in page.locator("#history li").last.inner_text()
    assert page.locator("main img").count() == 0 and page.locator("main script").count() == 0


def test_the_page_asks_nobody_but_its_own_service(browser, site, state):
    context = browser.new_context()
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(site[1])
    expect(page.locator("#history-words")).not_to_be_empty(timeout=SLOW)
    context.close()
    assert asked and all(url.startswith(site[1] + "/") for url in asked)
    assert f"{site[1]}/static/fonts/NotoSansBengali-Regular.ttf" in asked


def test_the_policy_stops_a_script_written_into_the_page(browser, site, state):
    context = browser.new_context()
    page = context.new_page()
    page.goto(site[1])
    page.evaluate("""() => { const s = document.createElement('script'); s.textContent = 'window.ran = true';
        document.body.append(s); document.body.setAttribute('onclick', 'window.ran = true');
        document.body.click(); }""")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("fetch('https://example.org').then(() => 'sent', () => 'stopped')") == "stopped"
    context.close()


# --- for everybody: keyboard, screen reader, phone, dark, less motion


def test_everything_is_done_by_keyboard_alone(open_page, state):
    page = ready(open_page())
    order = []
    for _ in range(8):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id"))
    assert order == ["theme", "industry", "tone", "duration_seconds", "brand", "product", "message", "write"]
    page.locator("#theme").focus()
    for key in ("Tab", "ArrowRight", "Tab", "ArrowRight", "Tab", "ArrowRight", "Tab"):
        page.keyboard.press(key)
    page.keyboard.type("Jhilmati")
    page.keyboard.press("Tab")
    page.keyboard.type("Paint")
    page.keyboard.press("Enter")
    seen(page.locator(".verdict"))
    request = state.scripts[0]["request"]
    assert (request["industry"], request["tone"], request["duration_seconds"]) == (INDUSTRIES[1], TONES[1], 35)
    page.locator("#result-title").focus()
    page.keyboard.press("Tab")
    assert "Markdown" in page.evaluate("document.activeElement.innerText")


def test_whoever_waited_is_taken_to_the_script(open_page, state):
    page = ready(open_page())
    fill(page)
    page.locator("#write").focus()
    page.keyboard.press("Enter")
    seen(page.locator(".verdict"))
    expect(page.locator("#result-title")).to_be_focused()


def test_sliders_have_names_for_the_ear(open_page, state):
    page = ready(open_page())
    assert page.locator("#industry").get_attribute("aria-valuetext") == "রং ও গৃহসজ্জা, Paint & Home"
    page.locator("#industry").press("ArrowRight")
    assert page.locator("#industry").get_attribute("aria-valuetext") == "পার্সোনাল কেয়ার, Personal Care"
    assert page.locator("#duration_seconds").get_attribute("aria-valuetext") == "৩০ সেকেন্ড, 30 seconds"
    assert page.locator("#duration_seconds").get_attribute("max") == str(CHOICES["duration_seconds"]["most"])


def test_every_control_has_a_name_and_every_id_is_unique(open_page, state):
    page = ready(open_page())
    fill(page)
    write(page)
    seen(page.locator(".verdict"))
    nameless = page.evaluate("""() => [...document.querySelectorAll('input, select, textarea, button')].filter((e) =>
        !(e.labels?.length || e.innerText?.trim() || e.getAttribute('aria-label'))).map((e) => e.outerHTML)""")
    assert nameless == []
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
    pointed = page.evaluate("""() => [...document.querySelectorAll('[aria-labelledby], [aria-describedby], [for]')]
        .flatMap((e) => ['aria-labelledby', 'aria-describedby', 'for'].map((a) => e.getAttribute(a) ?? ''))
        .flatMap((ids) => ids.split(' '))
        .filter((id) => id && !document.getElementById(id) && id !== 'notice-title')""")
    assert pointed == []
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map((e) => e.tagName)")
    assert levels[0] == "H1" and levels.count("H1") == 1
    assert page.evaluate("document.documentElement.lang") == "bn"


CONTRAST = """() => {
  const read = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return {rgb: n.slice(0, 3), a: n[3] ?? 1}; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = read(getComputedStyle(e).backgroundColor);
      if (c.a === 1) return c.rgb; } return [255, 255, 255]; };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const e = node.parentElement;
    if (!node.textContent.trim() || !e.checkVisibility() || e.closest('script, noscript, :disabled, option')) continue;
    const [a, b] = [light(read(getComputedStyle(e).color).rgb), light(ground(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), node.textContent.trim().slice(0, 40)]);
  }
  return found; }"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("markdown", [SCRIPT, "কোনো টেবিল নয়"], ids=["kept", "broken"])
def test_all_text_stands_out_from_its_ground(open_page, state, scheme, markdown):
    """WCAG 2.2, 1.4.3: 4.5 to 1, computed from the colours the browser really uses."""
    state.markdown = markdown
    page = ready(open_page(color_scheme=scheme))
    write(page)  # empty fields are marked
    fill(page)
    page.locator("#product").fill("")
    write(page)
    measured = page.evaluate(CONTRAST)
    fill(page)
    write(page)
    seen(page.locator(".verdict"))
    state.engine_down = True
    write(page)
    seen(page.locator("#notice"))
    measured += page.evaluate(CONTRAST)
    assert len(measured) > 80, "the measure looked at hardly anything"
    assert [pair for pair in measured if pair[0] < 4.5] == []


def test_dark_follows_the_system_and_the_button_is_remembered(open_page, state):
    page = ready(open_page(color_scheme="dark"))
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.locator("#theme").click()
    assert page.evaluate(ground) != dark
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize("width", [320, 360, 768, 1280])
def test_nothing_runs_out_of_the_screen(open_page, state, width):
    state.markdown = SCRIPT.replace("ভিও: বর্ষা আসে", "https://example.org/" + "ক" * 80)
    page = ready(open_page(width=width, height=740))
    fill(page, brand="দীর্ঘনাম" * 10)
    write(page)
    seen(page.locator(".verdict"))
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for cell in page.locator("table.script td").all():
        box = cell.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width


def test_targets_on_a_phone_are_large_enough_for_a_thumb(open_page, state):
    """WCAG 2.2, 2.5.8 asks for 24 px; a thumb wants 44."""
    page = ready(open_page(width=360, height=740, has_touch=True))
    fill(page)
    write(page)
    seen(page.locator(".verdict"))
    for control in page.locator("button:visible, input:visible, select:visible, textarea:visible").all():
        assert control.bounding_box()["height"] >= 44, control.evaluate("e => e.outerHTML.slice(0, 80)")


def test_nothing_moves_for_whoever_wants_it_still(open_page, state):
    state.pace = 0.2
    page = ready(open_page(reduced_motion="reduce"))
    fill(page)
    write(page)
    seen(page.locator(".pulse"))
    assert page.evaluate("getComputedStyle(document.querySelector('.pulse')).animationName") == "none"
    page.locator("#stop").click()


def test_bengali_is_drawn_with_the_font_that_came_along(open_page, state):
    page = ready(open_page())
    assert page.evaluate("document.fonts.check('16px \"Lekhai Bengali\"', 'ক')")
    assert page.evaluate("[...document.fonts].map((font) => font.status)") == ["loaded"]


# --- the same page over the real service, with an engine that only pretends


def test_over_the_real_service_a_script_is_written_kept_found_and_taken_away(browser, start):
    """What the stand-in above answers must be what the service answers; here nothing but the model is pretended."""
    from lekhai_helpers.ship.limits import Security

    bench = start(security=Security("a-secret", "admin-token"))
    context = browser.new_context(accept_downloads=True)
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.goto(str(bench.client.base_url))
    page.locator("#key").fill("a-secret")
    page.locator("#key").press("Enter")
    ready(page)
    assert page.locator("#industry").get_attribute("max") == "16" and page.locator("#tone").get_attribute("max") == "12"
    fill(page)
    write(page)
    seen(page.locator('.verdict[data-ok="yes"]'))
    page.reload()
    expect(page.locator("table.script tbody tr")).to_have_count(6, timeout=SLOW)
    page.locator("#query").fill("ঝিলমাটি")
    expect(page.locator("#history li")).to_have_count(1, timeout=SLOW)
    for ending, begins in (("docx", b"PK"), ("csv", b"\xef\xbb\xbf")):
        with page.expect_download() as waiting:
            page.locator(f'[data-file="{ending}"]').click()
        assert Path(waiting.value.path()).read_bytes().startswith(begins)
    context.close()


def test_over_the_real_service_an_engine_that_dies_in_the_middle_is_said(browser, start):
    bench = start()
    bench.world.of("one.gguf").dies_after = 2
    context = browser.new_context()
    context.set_default_timeout(SLOW)
    page = context.new_page()
    page.goto(str(bench.client.base_url))
    fill(ready(page))
    write(page)
    expect(page.locator("#notice")).to_contain_text("লেখার ইঞ্জিন এখন বন্ধ", timeout=SLOW)
    bench.world.of("one.gguf").dies_after = None
    page.locator("#notice button").click()
    seen(page.locator(".verdict"))
    context.close()


# --- on a host of its own


def test_the_built_page_talks_to_the_one_address_it_was_given(browser, tmp_path):
    """What Vercel does: LEKHAI_API is written in, and the policy lets the page call that address and no other."""
    if shutil.which("node") is None:
        pytest.skip("no node here: Vercel's build step is not tried")
    from fastapi import FastAPI
    from fastapi.staticfiles import StaticFiles

    host = FastAPI()
    with running(host) as page_address:
        state = Behaviour(key="a-secret", busy_times=1)
        with running(make_app(state, origins=(page_address,))) as service:
            build(tmp_path, service)
            host.mount("/", StaticFiles(directory=tmp_path, html=True))
            context = browser.new_context()
            page = context.new_page()
            page.goto(page_address)
            page.locator("#key").fill("a-secret")
            page.locator("#key").press("Enter")
            fill(ready(page))
            write(page)
            seen(page.locator(".verdict"))
            assert page.evaluate("fetch('https://example.org').then(() => 'sent', () => 'stopped')") == "stopped"
            context.close()


def build(folder: Path, address: str) -> subprocess.CompletedProcess:
    from lekhai_helpers.ship.page import WEB

    return subprocess.run(
        ["node", WEB / "build.mjs", folder], env=os.environ | {"LEKHAI_API": address}, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "LEKHAI_API is not set"),
        ("no address", "is no address"),
        ("http://example.org", "must begin with https://"),
        ("https://me:secret@example.org", "must hold no password"),
    ],
)
def test_the_build_refuses_an_address_that_cannot_work(tmp_path, address, words):
    if shutil.which("node") is None:
        pytest.skip("no node here: Vercel's build step is not tried")
    done = build(tmp_path / "dist", address)
    assert done.returncode == 1 and words in done.stderr
    assert not (tmp_path / "dist").exists()


# --- the files themselves


def test_only_the_pages_own_files_are_served(site, state):
    import httpx

    with httpx.Client(base_url=site[1]) as client:
        assert client.get("/static/app.js").headers["content-type"].startswith("text/javascript")
        assert client.get("/static/fonts/OFL.txt").status_code == 200, "the font's licence goes with the font"
        for name in ("DEPLOY.md", "vercel.json", "../page.py", "%2e%2e/page.py", "fonts/%2e%2e/app.js", "build.mjs"):
            assert client.get(f"/static/{name}").status_code == 404, name


def test_the_policy_is_the_same_in_the_page_and_in_the_header():
    from lekhai_helpers.ship.page import CONTENT_SECURITY_POLICY, WEB

    text = (WEB / "index.html").read_text(encoding="utf-8")
    assert f'content="{CONTENT_SECURITY_POLICY}"' in text
    assert "unsafe" not in CONTENT_SECURITY_POLICY and "*" not in CONTENT_SECURITY_POLICY


def test_no_file_of_the_page_can_turn_text_into_html():
    from lekhai_helpers.ship.page import WEB

    code = "\n".join(file.read_text(encoding="utf-8") for file in WEB.glob("*.js"))
    for door in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert door not in code
    page = (WEB / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script>", page)
