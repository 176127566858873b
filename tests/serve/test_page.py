"""The server's own page: how its files are sent, and how it behaves in a browser."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeq.serve.guard import Guard, Keys
from edgeq.serve.page import POLICY, pages
from tests.patience import STUCK_S
from tests.serve.live import Live, Shared

TREE = Path(__file__).resolve().parents[2]
WEB = TREE / "edgeq" / "serve" / "web"
BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
SHORT, LONG = 12, 200  # tokens
PATIENCE_S = min(STUCK_S, 60)  # for what a page shows

# files -------------------------------------------------------------------------------------------------


def test_browsers_are_given_the_page_and_others_the_word(live: Live) -> None:
    page = live.ask("GET", "/", headers=BROWSER)
    assert page.status == 200 and page.body == (WEB / "index.html").read_bytes()
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    word = live.get("/")
    assert word.body == b"edgeq is running\n" and "Accept" in word.headers["vary"]
    assert "Accept" in page.headers["vary"]
    head = live.ask("HEAD", "/", headers=BROWSER)
    assert (head.status, head.body, head.headers["etag"]) == (200, b"", page.headers["etag"])
    assert live.ask("POST", "/", b"").status == 405


def test_headers_of_each_file(live: Live) -> None:
    kinds = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
    assert set(pages()) == {path.name for path in WEB.iterdir()}
    for name in pages():
        answer = live.get(f"/web/{name}")
        assert answer.status == 200 and answer.body == (WEB / name).read_bytes()
        assert answer.headers["content-type"] == f"{kinds[name.rpartition('.')[2]]}; charset=utf-8"
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-cache"
        assert live.ask("HEAD", f"/web/{name}").body == b""


def test_the_policy_lets_nothing_else_in() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in POLICY.split(";"))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }


def test_what_is_known_is_not_sent_again(live: Live) -> None:
    first = live.get("/web/page.js")
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = live.get("/web/page.js", **{"if-none-match": known})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["content-security-policy"] == POLICY
    assert live.get("/web/page.js", **{"if-none-match": '"other"'}).status == 200


def test_packed_where_that_is_taken(live: Live) -> None:
    plain, packed = live.get("/web/page.js"), live.get("/web/page.js", **{"accept-encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip" and gzip.decompress(packed.body) == plain.body
    assert packed.headers["etag"] != plain.headers["etag"]
    for refused in ("gzip;q=0", "br", "identity"):
        assert live.get("/web/page.js", **{"accept-encoding": refused}).body == plain.body


@pytest.mark.parametrize(
    "path",
    ["/web/none.js", "/web/", "/web", "/web/../page.py", "/web/%2e%2e%2fpage.py", "/web/..%5cpage.py",
     "/web//etc/passwd", "/web/%2fetc%2fpasswd", "/web/page.js%00", "/web/__init__.py"],
)  # fmt: skip
def test_no_other_file_is_reached(live: Live, path: str) -> None:
    answer = live.get(path)
    assert answer.status == 404 and b"import" not in answer.body


def test_the_files_need_no_key_and_all_else_does(start: Any) -> None:
    server = start(guard=Guard(keys=Keys(["secret"])))
    assert server.ask("GET", "/", headers=BROWSER).status == 200
    assert all(server.get(f"/web/{name}").status == 200 for name in pages())
    for path in ("/props", "/v1/models", "/webs", "/metrics"):
        assert server.get(path).status == 401
    crossed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert server.get("/web/page.js", **crossed).status == 403
    assert server.get("/web/page.js", origin="http://evil.example").status == 403


def test_the_page_is_small_and_names_nothing_elsewhere() -> None:
    assert sum(len(file.whole) for file in pages().values()) <= 35_000
    assert sum(len(file.packed) for file in pages().values()) <= 15_000
    assert len((WEB / "markdown.js").read_text().splitlines()) <= 150
    for name, file in pages().items():
        text = file.whole.decode()
        assert not re.findall(r"https?://[a-z0-9]", text), name
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("):
            assert word not in text, (name, word)
    html = pages()["index.html"].whole.decode()
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", html)


# a browser ---------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>window.hit=1</script>",
    "<img src=x onerror=window.hit=1>",
    "<img src=http://evil.example/a.png>",
    "<svg onload=window.hit=1>",
    "<svg><script>window.hit=1</script></svg>",
    "<iframe src=javascript:window.hit=1></iframe>",
    "<iframe srcdoc='<script>parent.hit=1</script>'></iframe>",
    "<a href=javascript:window.hit=1>x</a>",
    "<body onload=window.hit=1>",
    "<details open ontoggle=window.hit=1>x</details>",
    "<style>@import url(http://evil.example/a.css);</style>",
    "<link rel=stylesheet href=http://evil.example/a.css>",
    "<base href=http://evil.example/>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'>",
    "<form action=http://evil.example/><button>x</button></form>",
    "<object data=http://evil.example/></object>",
    "<video src=http://evil.example/a.mp4 onerror=window.hit=1></video>",
    "<math><mtext><img src=x onerror=window.hit=1></mtext></math>",
    "<template><script>window.hit=1</script></template>",
    "<!--><script>window.hit=1</script>-->",
    "</div></article></main><script>window.hit=1</script>",
    "[x](javascript:window.hit=1)",
    "[x](JaVaScRiPt:window.hit=1)",
    "[x](java\tscript:window.hit=1)",
    "[x](&#106;avascript:window.hit=1)",
    "[x](\x01javascript:window.hit=1)",
    "[x](data:text/html,<script>window.hit=1</script>)",
    "[x](vbscript:x)",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/)",
    "[x](/v1/models)",
    "[x](blob:http://evil.example/1)",
    "[x](http://evil.example\" onmouseover=\"window.hit=1)",
    "[x](http://evil.example/'onmouseover='window.hit=1)",
    "[<img src=x onerror=window.hit=1>](http://evil.example/)",
    "![x](http://evil.example/a.png)",
    "![x](data:image/png;base64,AAAA)",
    "[![x](http://evil.example/a.png)](http://evil.example/)",
    "[x]: javascript:window.hit=1\n\n[x]",
    "<javascript:window.hit=1>",
    "<http://evil.example/\"onclick=window.hit=1>",
    "`<script>window.hit=1</script>`",
    "```html\n<script>window.hit=1</script>\n```",
    "```<img src=x onerror=window.hit=1>\nx",
    "**<script>window.hit=1</script>**",
    "# <img src=x onerror=window.hit=1>",
    "> <img src=x onerror=window.hit=1>",
    "- <img src=x onerror=window.hit=1>",
    "| <img src=x onerror=window.hit=1> | b |\n|-|-|\n| <script>window.hit=1</script> | [x](javascript:1) |",
    "__proto__ constructor **__proto__** [constructor](http://__proto__/)",
    "\u202ejavascript:\u2066 \ud83d\ude00 \x00 \ufeff",
    "[x](http://a:b@evil.example/)",
    "[x](http://[)",
    "> " * 3000 + "deep",
    "- " * 3000 + "deep",
    "*" * 20000,
    "_" * 20000,
    "`" * 20000,
    "[" * 20000,
    "[a](" * 5000,
    "*a " * 7000,
    "**a " * 5000,
    "_a *b " * 3000,
    "~~" * 10000,
    "\\" * 20000,
    "| " * 10000 + "\n" + "|-" * 10000,
    "http://" * 3000,
    "\n" * 50000 + "end",
    "-\n" * 10000,
    "```\n" * 5000,
    "1. a\n" * 5000,
]  # fmt: skip

ALLOWED = {
    "P", "STRONG", "EM", "DEL", "BLOCKQUOTE", "UL", "OL", "LI", "CODE", "PRE", "A", "BR", "HR",
    "TABLE", "TR", "TH", "TD", "DIV", *(f"H{n}" for n in range(1, 7)),
}  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("chromium is not installed")
    with sync.sync_playwright() as made:
        browser = made.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


class Tab:
    """The page of a server in a browser, and what went wrong in it."""

    def __init__(self, browser: Any, server: Any, **settings: Any) -> None:
        self.url = server if isinstance(server, str) else f"http://127.0.0.1:{server.port}/"
        self.context = browser.new_context(**{"viewport": {"width": 1100, "height": 800}, **settings})
        self.context.set_default_timeout(1000 * PATIENCE_S)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", self._request)
        self.page.goto(self.url)
        self.page.wait_for_selector("#chats", state="attached")

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.wrong.append(message.text)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.foreign.append(request.url)

    def set(self, **fields: object) -> None:
        for name, value in fields.items():
            self.page.fill(f"[name={name}]", str(value))

    def send(self, text: str, wait: bool = True) -> None:
        self.page.fill("#text", text)
        self.page.press("#text", "Enter")
        if wait:
            self.wait("Done.")

    def wait(self, status: str) -> None:
        self.until(f"document.getElementById('status').textContent.includes({json.dumps(status)})")

    def until(self, expression: str) -> None:
        """Until it is true. playwright's own way needs `eval`, which the page's policy forbids."""
        end = time.monotonic() + PATIENCE_S
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, (expression, self.page.text_content("#status"), self.wrong)
            self.page.wait_for_timeout(20)

    def said(self, role: str = "assistant") -> list[str]:
        found: list[str] = self.page.eval_on_selector_all(
            f"article.{role} .said", "all => all.map(each => each.textContent)"
        )
        return found

    def click(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).last.click()

    def wide(self) -> bool:
        """Whether something stands out to the right."""
        found: bool = self.page.evaluate(
            "document.documentElement.scrollWidth > innerWidth || "
            "[...document.querySelectorAll('main, aside, #log')].some(e => e.scrollWidth > e.clientWidth)"
        )
        return found


@pytest.fixture
def tab(browser: Any, live: Live) -> Iterator[Tab]:
    found = Tab(browser, live)
    found.until("document.getElementById('model').textContent === 'stories'")
    yield found
    found.context.close()
    assert (found.wrong, found.foreign) == ([], [])
    live.wait_idle()


def test_a_message_is_answered(tab: Tab, live: Live) -> None:
    tab.set(max_tokens=SHORT, seed=3, system="Be kind.")
    tab.send("Once upon a time")
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Once upon a time"},
    ]
    answer = live.post("/v1/chat/completions", {"messages": messages, "max_tokens": SHORT, "seed": 3}).json
    expected = answer["choices"][0]["message"]["content"]
    assert "".join(tab.said()[0].split()) == "".join(expected.split())
    stats = tab.page.text_content("article.assistant .stats")
    assert re.search(r"^[\d.]+ tokens/s · 12 tokens · \d+ of \d+ before them cached · cut at", stats)
    used = tab.page.text_content("#used")
    assert used == f"{answer['usage']['total_tokens']} of {live.served.model.context} tokens"
    assert tab.page.evaluate("document.activeElement.id") == "text"
    assert tab.page.input_value("#text") == ""


def test_a_model_is_chosen(browser: Any, start: Any) -> None:
    server = start(models=("one", "two"))
    tab = Tab(browser, server)
    tab.until("document.getElementById('model').textContent === 'one'")
    tab.page.select_option("[name=model]", "two")
    tab.until("document.getElementById('model').textContent === 'two'")
    tab.set(max_tokens=3)
    tab.send("Hi")
    server.wait_idle()
    counts = {name: server.app.metrics.of(name).counters["edgeq_generated_tokens"] for name in ("one", "two")}
    assert counts == {"one": 0, "two": 3}
    tab.page.reload()
    tab.until("document.getElementById('model').textContent === 'two'")
    tab.context.close()
    assert tab.wrong == []


def test_an_answer_is_stopped(tab: Tab, live: Live) -> None:
    tab.set(max_tokens=LONG, temperature=0)
    with live.halted():
        tab.send("Once upon a time", wait=False)
        tab.page.wait_for_selector("#stop:visible")
        assert tab.page.get_attribute("article.assistant", "aria-busy") == "true"
        tab.page.keyboard.press("Escape")
        tab.wait("Stopped.")
    assert tab.said() == [] and tab.said("user") == ["Once upon a time"]
    live.wait_idle()
    tab.click("Answer")
    tab.wait("Done.")
    assert len(tab.said()) == 1


def test_what_was_said_before_a_stop_is_kept(browser: Any) -> None:
    with Scripted([[delta("Half"), None]]) as server:
        tab = Tab(browser, server.url)
        tab.send("Hi", wait=False)
        tab.until("document.querySelector('.assistant .said')?.textContent === 'Half'")
        tab.page.click("#stop")
        tab.wait("Stopped.")
        assert tab.said() == ["Half"]
        assert tab.page.text_content(".assistant .stats") == "stopped"
        server.go.set()
        tab.page.reload()
        assert tab.said() == ["Half"] and tab.wrong == []
        tab.context.close()


def test_answers_are_made_anew(tab: Tab) -> None:
    tab.set(max_tokens=SHORT, seed=1)
    tab.send("Once upon a time")
    first = tab.said()
    tab.set(seed=2)
    tab.click("Regenerate")
    tab.wait("Done.")
    second = tab.said()
    assert len(second) == 1 and second != first


def test_a_message_is_edited_and_sent_again(tab: Tab) -> None:
    tab.set(max_tokens=SHORT, seed=1)
    tab.send("Once")
    tab.send("And then")
    assert tab.said("user") == ["Once", "And then"]
    tab.page.locator("article.user").first.get_by_role("button", name="Edit").click()
    tab.page.get_by_label("Edited message").fill("Twice")
    tab.click("Send again")
    tab.wait("Done.")
    assert tab.said("user") == ["Twice"] and len(tab.said()) == 1


def test_chats_outlive_the_page(tab: Tab) -> None:
    tab.set(max_tokens=SHORT, seed=1)
    tab.send("The first")
    tab.click("New chat")
    assert tab.said("user") == []
    tab.send("The second")
    shown = tab.said()
    tab.page.reload()
    assert tab.said() == shown and tab.page.input_value("[name=seed]") == "1"
    titles = tab.page.eval_on_selector_all("#chats li", "all => all.map(e => e.firstChild.textContent)")
    assert titles == ["The second", "The first"]
    tab.click("The first")
    assert tab.said("user") == ["The first"]
    tab.page.on("dialog", lambda dialog: dialog.accept())
    tab.click("Delete The first")
    assert tab.said("user") == []
    assert tab.page.locator("#chats li").count() == 1


def test_chats_are_exported_and_read(tab: Tab, browser: Any, live: Live, tmp_path: Path) -> None:
    tab.set(max_tokens=SHORT, seed=1)
    tab.send("Keep this")
    with tab.page.expect_download() as download:
        tab.click("Export")
    path = tmp_path / "chats.json"
    download.value.save_as(path)
    data = json.loads(path.read_text())
    assert data["format"] == "edgeq chats 1" and len(data["chats"]) == 1
    other = Tab(browser, live)
    other.page.set_input_files("#file", path)
    other.wait("1 chats were read.")
    other.click("Keep this")
    assert other.said("user") == ["Keep this"] and other.said() == tab.said()
    path.write_text('{"a": 1}')
    other.page.set_input_files("#file", path)
    other.wait("no chats that this page exported")
    strange: dict[str, Any] = {
        "chats": [None, 3, {"messages": [{"role": "user", "content": {"a": 1}}, "x", None]}]
    }
    path.write_text(json.dumps(strange))
    other.page.set_input_files("#file", path)
    other.wait("1 chats were read.")
    assert other.wrong == []
    other.context.close()


def test_a_full_store_is_told(tab: Tab) -> None:
    tab.page.evaluate("localStorage.setItem('edgeq.chat.big', 'x'.repeat((2 << 20) - 500))")
    tab.set(max_tokens=40, seed=1)
    tab.send("Once " * 30, wait=False)
    tab.wait("There is no room for more")
    assert len(tab.said()) == 1  # shown, and not kept
    kept = "Object.entries(localStorage).filter(([k]) => k.startsWith('edgeq.chat.'))"
    assert tab.page.evaluate(f"{kept}.reduce((sum, [k, v]) => sum + k.length + v.length, 0)") <= 2 << 20
    tab.page.reload()
    assert tab.said() == []
    tab.page.evaluate("localStorage.removeItem('edgeq.chat.big')")


def test_settings_that_cannot_be_read_are_told(tab: Tab) -> None:
    tab.set(temperature=9)
    tab.send("Hi", wait=False)
    tab.wait("temperature:")
    assert tab.said("user") == [] and tab.page.input_value("#text") == "Hi"
    tab.set(temperature=1, schema="{")
    tab.send("Hi", wait=False)
    tab.wait("The schema is not JSON")


def test_the_key_is_asked_for_and_forgotten_with_the_tab(browser: Any, start: Any) -> None:
    server = start(guard=Guard(keys=Keys(["secret"])))
    tab = Tab(browser, server)
    tab.page.fill("#key-text", "wrong")
    tab.page.press("#key-text", "Enter")
    tab.until("document.getElementById('key-text').value === ''")
    tab.page.fill("#key-text", "secret")
    tab.page.press("#key-text", "Enter")
    tab.until("document.getElementById('model').textContent === 'stories'")
    tab.set(max_tokens=SHORT)
    tab.send("Hi")
    assert tab.page.evaluate("sessionStorage.length") == 1
    assert "secret" not in tab.page.evaluate("JSON.stringify(localStorage)")
    assert all("401" in each for each in tab.wrong) and tab.foreign == []
    tab.context.close()


def test_the_page_waits_for_the_model(browser: Any, start: Any, model: Any) -> None:
    go = threading.Event()

    def load() -> Shared:
        go.wait(STUCK_S)
        return Shared(model)

    tab = Tab(browser, start(load=load, ready=False))
    tab.wait("The server is busy (the model is being loaded). Trying again in")
    go.set()
    tab.until("document.getElementById('model').textContent === 'stories'")
    assert tab.page.text_content("#status") == "" and all("503" in each for each in tab.wrong)
    tab.context.close()


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(browser: Any, status: int) -> None:
    with Scripted([status, [delta("There")]]) as server:
        tab = Tab(browser, server.url)
        tab.send("Hi", wait=False)
        tab.wait("The server is busy (too much). Trying again in 2 s.")
        tab.wait("Trying again in 1 s.")
        tab.wait("Done.")
        assert tab.said() == ["There"] and all(str(status) in each for each in tab.wrong)
        tab.context.close()


def test_an_answer_that_is_cut_off_is_told(browser: Any) -> None:
    error = {"error": {"message": "the server is ending"}}
    with Scripted([[delta("Half"), "cut"], [delta("Other"), error]]) as server:
        tab = Tab(browser, server.url)
        tab.send("Hi", wait=False)
        tab.wait("The answer was cut off.")
        assert tab.said() == ["Half"]
        tab.click("Regenerate")
        tab.wait("the server is ending")
        assert tab.said() == ["Other"]
        tab.context.close()


def test_what_is_asked_and_what_is_shown(browser: Any) -> None:
    thought = {"choices": [{"delta": {"reasoning_content": "<b>Hm</b>"}}]}
    with Scripted([[thought, delta("# Yes\n\n- **a**\n  - b\n- `c`\n\n[d](http://e.example/)\n")]]) as server:
        tab = Tab(browser, server.url)
        tab.set(schema='{"type": "object"}', top_p=0.5, top_k=4, min_p=0.1)
        tab.send("Hi")
        assert server.bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
        assert [server.bodies[0][name] for name in ("top_p", "top_k", "min_p")] == [0.5, 4, 0.1]
        assert "temperature" not in server.bodies[0] and server.bodies[0]["messages"][0]["role"] == "user"
        details = tab.page.locator("details.thoughts")
        assert details.get_attribute("open") is None
        assert details.locator("div").text_content() == "<b>Hm</b>"
        html = tab.page.inner_html(".assistant .said")
        assert html == (
            "<h1>Yes</h1><ul><li><strong>a</strong><ul><li>b</li></ul></li><li><code>c</code></li></ul>"
            '<p><a href="http://e.example/" rel="noreferrer noopener" target="_blank">d</a></p>'
        )
        tab.context.close()


def test_the_policy_holds_in_a_browser(browser: Any, live: Live) -> None:
    elsewhere = socket.create_server(("127.0.0.1", 0))
    elsewhere.setblocking(False)
    other = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/"
    tab = Tab(browser, live)
    tries = """async other => {
        const found = [];
        await new Promise(done => setTimeout(done));  // a debugger's own code may use eval before
        for (const attempt of [
            () => { document.body.innerHTML = '<p>x'; },
            () => eval('1'),
            () => { document.createElement('script').src = 'x.js'; },
            () => fetch(other),
            () => new Worker(other),
        ]) {
            try { await attempt(); found.push('done'); } catch (error) { found.push('refused'); }
        }
        return found;
    }"""
    assert tab.page.evaluate(tries, other) == ["refused"] * 5
    tab.page.evaluate(
        "other => document.body.append(Object.assign(document.createElement('img'), {src: other}))", other
    )
    tab.until("document.images[0].complete")
    assert len(tab.wrong) >= 3 and all("Security Policy" in each or "Trusted" in each for each in tab.wrong)
    with elsewhere, pytest.raises(BlockingIOError):  # nobody came
        elsewhere.accept()
    tab.context.close()


def test_a_key_that_is_not_given(browser: Any, start: Any) -> None:
    tab = Tab(browser, start(guard=Guard(keys=Keys(["secret"]))))
    assert "a key is needed" in tab.page.text_content("#key-why")
    tab.page.press("#key-text", "Escape")
    tab.wait("a key is needed")
    tab.send("Hi", wait=False)
    tab.page.wait_for_selector("#key-dialog[open]")
    tab.click("Cancel")
    tab.wait("a key is needed")
    assert tab.said("user") == ["Hi"] and tab.said() == []
    tab.click("Answer")
    tab.page.fill("#key-text", "secret")
    tab.click("Use it")
    tab.wait("Done.")
    assert len(tab.said()) == 1
    tab.context.close()


SHOW = """async text => {
    const { show } = await import('/web/markdown.js');
    const element = document.createElement('div');
    document.querySelector('#log').append(element);
    const began = performance.now();
    show(element, text);
    const took = performance.now() - began;
    const all = [...element.querySelectorAll('*')];
    const found = {
        took, html: element.innerHTML, names: [...new Set(all.map(e => e.tagName))],
        attributes: [...new Set(all.flatMap(e => e.getAttributeNames()))],
        links: all.filter(e => e.tagName === 'A').map(e => [e.href, e.rel]),
    };
    await new Promise(done => setTimeout(done, 20));
    element.remove();
    return found;
}"""


def test_hostile_texts_stay_texts(tab: Tab) -> None:
    for text in HOSTILE:
        found = tab.page.evaluate(SHOW, text)
        assert set(found["names"]) <= ALLOWED, text[:80]
        assert set(found["attributes"]) <= {"href", "rel", "target", "class", "start"}, text[:80]
        for address, rel in found["links"]:
            assert address.startswith(("http://", "https://")) and rel == "noreferrer noopener", text[:80]
        assert found["took"] < 1500, (text[:80], found["took"])
    assert tab.page.evaluate("window.hit") is None


def test_hostile_answers_and_messages_stay_texts(browser: Any) -> None:
    texts = [text for text in HOSTILE if len(text) < 200]
    with Scripted([[delta(part) for part in "\n\n".join(texts)], [delta("Hm")]]) as server:
        tab = Tab(browser, server.url)
        tab.send("".join(texts))
        tab.send("<img src=x onerror=window.hit=1>")
        tab.page.reload()
        assert len(tab.said()) == 2 and "<script>" in tab.said()[0]
        assert tab.page.evaluate("window.hit") is None and tab.page.url == server.url
        assert (tab.wrong, tab.foreign) == ([], [])
        tab.context.close()


def test_a_chat_that_is_deleted_while_it_is_answered_stays_so(browser: Any) -> None:
    with Scripted([[delta("Half"), None], [delta("New")]]) as server:
        tab = Tab(browser, server.url)
        tab.page.on("dialog", lambda dialog: dialog.accept())
        tab.send("Hi", wait=False)
        tab.until("document.querySelector('.assistant .said')?.textContent === 'Half'")
        tab.click("Delete Hi")
        tab.until("!document.getElementById('send').hidden")
        server.go.set()
        tab.send("Ho")
        assert tab.said() == ["New"] and tab.page.locator("#chats li").count() == 1
        assert tab.wrong == []
        tab.context.close()


def test_what_stands_there_is_not_announced_again(tab: Tab) -> None:
    tab.set(max_tokens=SHORT)
    tab.send("One")
    tab.page.evaluate("window.first = document.querySelectorAll('article')")
    tab.send("Two")
    kept = "[...document.querySelectorAll('article')].slice(0, 2).every((e, n) => e === window.first[n])"
    assert tab.page.evaluate(kept)
    assert tab.page.locator(".again").count() == 1
    tab.click("Regenerate")
    tab.wait("Done.")
    assert tab.page.evaluate(kept) and tab.page.evaluate("document.activeElement.id") == "text"


@pytest.mark.parametrize(
    "text, html",
    [
        ("a *b* **c** _d_ ~~e~~", "<p>a <em>b</em> <strong>c</strong> <em>d</em> <del>e</del></p>"),
        ("snake_case_name 2 * 3 * 4", "<p>snake_case_name 2 * 3 * 4</p>"),
        ("`` a`b ``", "<p><code>a`b</code></p>"),
        (r"\*a\*", "<p>*a*</p>"),
        ("a  \nb", "<p>a<br>b</p>"),
        ("## A ##\ntext\n\n---", "<h2>A</h2><p>text</p><hr>"),
        ("```py\nx = '<b>'\n\n# y\n```\nz", "<pre><code>x = '&lt;b&gt;'\n\n# y</code></pre><p>z</p>"),
        ("> a\n> - b", "<blockquote><p>a</p><ul><li>b</li></ul></blockquote>"),
        ("3. a\n4. b\n\n   c", '<ol start="3"><li>a</li><li>b<p>c</p></li></ol>'),
        ("- a\n\n- b", "<ul><li>a</li><li>b</li></ul>"),
        ("|a|b|\n|-|:-:|\n|1|*2*|", '<div class="table"><table><tr><th>a</th><th>b</th></tr><tr><td>1</td>'
         "<td><em>2</em></td></tr></table></div>"),
        ("<b>x</b> &amp;", "<p>&lt;b&gt;x&lt;/b&gt; &amp;amp;</p>"),
        ("see http://a.example/b.", '<p>see <a href="http://a.example/b" rel="noreferrer noopener" '
         'target="_blank">http://a.example/b</a>.</p>'),
    ],
)  # fmt: skip
def test_markdown(tab: Tab, text: str, html: str) -> None:
    assert tab.page.evaluate(SHOW, text)["html"] == html


def test_a_text_that_grows_is_shown_as_the_whole(tab: Tab) -> None:
    text = "# A\n\nb *c*\n\n- d\n  - e\n\n```\nf\n```\n\n|g|h|\n|-|-|\n|1|2|\n\n> i\n"
    grown = """async text => {
        const { show } = await import('/web/markdown.js');
        const one = document.createElement('div'), bad = [];
        for (let n = 0; n <= text.length; n++) {
            const other = document.createElement('div');
            show(one, text.slice(0, n));
            show(other, text.slice(0, n));
            if (one.innerHTML !== other.innerHTML) bad.push(n);
        }
        return bad;
    }"""
    assert tab.page.evaluate(grown, text) == []


def test_a_long_answer_grows_without_halting_the_page(tab: Tab) -> None:
    longest = """async () => {
        const { show } = await import('/web/markdown.js');
        const element = document.createElement('div');
        document.querySelector('#log').append(element);
        let text = '', longest = 0;
        for (let n = 0; n < 1000; n++) {
            text += n % 20 ? 'ten words that are *said* by a `model` one by one ' : '\\n\\n';
            const began = performance.now();
            show(element, text);
            longest = Math.max(longest, performance.now() - began);
        }
        return longest;
    }"""
    assert tab.page.evaluate(longest) < 100


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1100])
def test_widths_and_schemes(browser: Any, width: int, scheme: str, tmp_path: Path) -> None:
    long = (
        "a" * 300 + "\n\n```\n" + "b" * 300 + "\n```\n\n|" + "c" * 200 + "|d|\n|-|-|\n|1|2|\n\n- " + "e" * 200
    )
    with Scripted([[delta("# A story\n\n" + long)]]) as server:
        tab = Tab(browser, server.url, viewport={"width": width, "height": 720}, color_scheme=scheme)
        assert not tab.wide()
        tab.send("f" * 300)
        assert not tab.wide()
        back = tab.page.evaluate("getComputedStyle(document.body).backgroundColor")
        bright = sum(map(int, re.findall(r"\d+", back)[:3])) > 384
        assert bright == (scheme == "light")
        if width == 360:
            assert not tab.page.is_visible("[name=system]")
            tab.page.click("text=Settings")
            assert tab.page.is_visible("[name=system]") and not tab.wide()
        box = tab.page.locator("#text").bounding_box()
        assert box["y"] + box["height"] <= 720
        assert tab.wrong == []
        tab.context.close()


def test_by_keyboard_and_named(tab: Tab) -> None:
    unnamed = """() => [...document.querySelectorAll('button, input, textarea, select')]
        .filter(e => !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"""
    tab.set(max_tokens=SHORT)
    tab.page.focus("#text")
    tab.page.keyboard.type("One")
    tab.page.keyboard.press("Shift+Enter")
    tab.page.keyboard.type("Two")
    tab.page.keyboard.press("Enter")
    tab.wait("Done.")
    assert tab.said("user") == ["One\nTwo"]
    assert tab.page.evaluate(unnamed) == []
    assert tab.page.get_attribute("#log", "aria-live") == "polite"
    assert tab.page.get_attribute("#status", "role") == "status"
    tab.page.keyboard.press("Shift+Tab")
    assert tab.page.evaluate("document.activeElement.textContent") == "Regenerate"


# a server that says what it is told to -------------------------------------------------------------------


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"delta": {"content": text}}]}


class Scripted:
    """The page's files, and for each chat the next answer: a status, or events, in which None waits for `go`
    and "cut" ends the connection."""

    def __init__(self, answers: list[Any]) -> None:
        self.answers, self.go = list(answers), threading.Event()
        self.bodies: list[dict[str, Any]] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}/"
        self._threads = [threading.Thread(target=self._run, daemon=True)]

    def __enter__(self) -> Scripted:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        for thread in self._threads:
            thread.join(STUCK_S)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self._threads.append(threading.Thread(target=self._answer, args=(connection,), daemon=True))
            self._threads[-1].start()

    def _answer(self, connection: socket.socket) -> None:
        connection.settimeout(STUCK_S)
        try:
            with connection, connection.makefile("rwb") as file:
                path = file.readline().split()[1:2]
                headers = {}
                while line := file.readline().strip():
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                if path:
                    self._say(file, path[0].decode(), file.read(int(headers.get("content-length", 0))))
        except OSError:
            pass

    def _say(self, file: Any, path: str, body: bytes) -> None:
        def head(status: int, kind: str, **more: str) -> None:
            lines = [f"HTTP/1.1 {status} x", f"Content-Type: {kind}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in more.items()]
            file.write("\r\n".join([*lines, "", ""]).encode())

        name = "index.html" if path == "/" else path.removeprefix("/web/")
        if name in pages():
            head(200, pages()[name].media, **{"Content-Security-Policy": POLICY})
            file.write(pages()[name].whole)
        elif path == "/v1/models":
            head(200, "application/json")
            file.write(b'{"data": [{"id": "script", "meta": {"n_ctx": 512}}]}')
        else:
            self.bodies.append(json.loads(body))
            answer = self.answers.pop(0)
            if isinstance(answer, int):
                head(answer, "application/json", **{"Retry-After": "2"})
                file.write(b'{"error": {"message": "too much"}}')
                return
            head(200, "text/event-stream")
            for event in answer:
                if event == "cut":
                    return
                if event is None:
                    file.flush()
                    self.go.wait(STUCK_S)
                    continue
                file.write(f"data: {json.dumps(event)}\n\n".encode())
            file.write(b"data: [DONE]\n\n")
