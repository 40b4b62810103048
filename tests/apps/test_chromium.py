"""The Flask application behind the gateway, walked with a browser as a person would."""

import re

from playwright.sync_api import expect

LOGIN = re.compile(r"/_vestibule/login")
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


def fill_in(page, user, password):
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_sign_in_several_tabs_sign_out(guarded, visitor, shoot):
    browser = visitor(locale="en-GB")
    page = browser.new_page()
    page.goto(guarded.url + "/notes?order=new")
    expect(page).to_have_url(LOGIN)
    expect(page.get_by_role("heading")).to_have_text("Sign in")
    shoot(page, "1-login")

    fill_in(page, "alice", "not the password")
    expect(page.get_by_role("alert")).to_contain_text("not right")
    expect(page.get_by_label("User name")).to_have_value("alice")
    shoot(page, "2-wrong-password")

    fill_in(page, "alice", guarded.passwords["alice"])
    expect(page).to_have_url(guarded.url + "/notes?order=new")
    page.get_by_role("link", name="Who am I").click()
    expect(page.locator("#name")).to_have_text("alice")
    shoot(page, "3-who-am-i")

    tab = browser.new_page()
    tab.goto(guarded.url + "/")
    expect(tab.locator("#name")).to_have_text("alice")
    expect(tab.locator("#visits")).to_have_text("2")
    tab.get_by_role("link", name="Dark").click()
    expect(tab.locator("body")).to_have_class("dark")
    page.reload()
    expect(page.locator("body")).to_have_class("dark")

    page.get_by_role("link", name="Notes").click()
    page.get_by_label("Note").fill("milk & <b>bread</b>")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("listitem")).to_have_text("milk & <b>bread</b>")

    names = {cookie["name"]: cookie for cookie in browser.cookies()}
    assert {"session", "theme", "flask_session"} <= names.keys()
    assert names["session"]["httpOnly"] and names["session"]["sameSite"] == "Lax" and names["session"]["expires"] == -1
    assert names["session"]["value"] not in page.evaluate("document.cookie")

    page.get_by_role("link", name="Sign out").click()
    shoot(page, "4-logout")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")
    shoot(page, "5-signed-out")
    for open_tab in [page, tab]:
        open_tab.goto(guarded.url + "/")
        expect(open_tab).to_have_url(LOGIN)
    # Signing out is the gateway's: the application's cookies stay what they were.
    left = {cookie["name"] for cookie in browser.cookies()}
    assert {"theme", "flask_session"} <= left and "session" not in left


def test_a_page_kept_by_the_browser_is_not_shown_after_sign_out(guarded, visitor):
    page = visitor().new_page()
    page.goto(guarded.url + "/")
    fill_in(page, "alice", guarded.passwords["alice"])
    expect(page.locator("#name")).to_have_text("alice")
    page.goto(guarded.url + "/_vestibule/logout")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")
    page.goto(guarded.url + "/ops/")
    expect(page).to_have_url(LOGIN)


def test_everywhere_ends_the_sessions_of_other_browsers(guarded, visitor):
    name = "Zoë Müller"
    pages = [visitor().new_page() for _ in range(2)]
    for page in pages:
        page.goto(guarded.url + "/")
        fill_in(page, name, guarded.passwords[name])
        expect(page.locator("#name")).to_have_text(name)
    pages[0].goto(guarded.url + "/_vestibule/logout")
    pages[0].get_by_label("On all my devices").check()
    pages[0].get_by_role("button", name="Sign out").click()
    expect(pages[0].get_by_role("heading")).to_have_text("You are signed out")
    pages[1].goto(guarded.url + "/")
    expect(pages[1]).to_have_url(LOGIN)


def test_one_looks_through_ones_sessions_and_ends_some(guarded, visitor, shoot):
    name = "Zoë Müller"
    page, phone, tablet = (
        visitor(locale="en-GB", java_script_enabled=False, **options).new_page()
        for options in [{}, {"user_agent": IPHONE}, {"user_agent": "our-script/1.0 <b>"}]
    )
    for browser in [page, phone, tablet]:
        browser.goto(guarded.url + "/")
        fill_in(browser, name, guarded.passwords[name])
        expect(browser.locator("#name")).to_have_text(name)

    page.get_by_role("link", name="Sign out").click()
    page.get_by_role("link", name="Where else am I signed in?").click()
    expect(page.get_by_role("heading")).to_have_text("Where you are signed in")
    rows = page.get_by_role("row")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("this one")
    expect(page.get_by_role("rowheader", name="Safari on iPhone")).to_be_visible()
    expect(page.get_by_role("rowheader", name="our-script/1.0 <b>")).to_be_visible()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", page.get_by_role("time").first.inner_text())
    page.set_viewport_size({"width": 1100, "height": 640})
    shoot(page, "1-account")
    phone.goto(guarded.url + "/_vestibule/account")
    phone.set_viewport_size({"width": 360, "height": 900})
    shoot(phone, "2-on-a-phone")
    assert phone.evaluate("document.documentElement.scrollWidth <= window.innerWidth")

    page.get_by_role("button", name="End: Safari on iPhone").click()
    expect(rows).to_have_count(3)
    phone.goto(guarded.url + "/")
    expect(phone).to_have_url(LOGIN)
    page.get_by_role("button", name="End all others").click()
    expect(rows).to_have_count(2)
    tablet.goto(guarded.url + "/")
    expect(tablet).to_have_url(LOGIN)
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")


def test_the_account_page_speaks_chinese(guarded, visitor, shoot):
    page = visitor(locale="zh-CN", color_scheme="dark").new_page()
    page.goto(guarded.url + "/_vestibule/account")
    page.get_by_label("用户名").fill("alice")
    page.get_by_label("密码").fill(guarded.passwords["alice"])
    page.get_by_role("button", name="登录").click()
    expect(page.get_by_role("heading")).to_have_text("您登录的地方")
    shoot(page, "account")


def test_the_wrong_group_is_told_so_and_may_change(guarded, visitor, shoot):
    name = "Zoë Müller"
    page = visitor(locale="en-GB").new_page()
    page.goto(guarded.url + "/ops/")
    fill_in(page, name, guarded.passwords[name])
    expect(page.get_by_role("heading")).to_have_text("No access")
    shoot(page, "no-access")


def test_a_visitor_from_china_reads_chinese(guarded, visitor, shoot):
    page = visitor(locale="zh-CN").new_page()
    page.goto(guarded.url + "/")
    expect(page.locator("html")).to_have_attribute("lang", re.compile("^zh"))
    expect(page.get_by_role("heading")).to_have_text("登录")
    shoot(page, "login")
    page.get_by_label("用户名").fill("alice")
    page.get_by_label("密码").fill(guarded.passwords["alice"])
    page.get_by_role("button", name="登录").click()
    expect(page.locator("#name")).to_have_text("alice")


def test_sign_in_works_without_javascript(guarded, visitor):
    page = visitor(java_script_enabled=False, locale="en-GB").new_page()
    page.goto(guarded.url + "/")
    fill_in(page, "alice", guarded.passwords["alice"])
    expect(page.locator("#name")).to_have_text("alice")
    page.get_by_role("link", name="Sign out").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading")).to_have_text("You are signed out")


def test_sign_in_works_with_the_keyboard_alone(guarded, visitor):
    page = visitor(locale="en-GB").new_page()
    page.goto(guarded.url + "/")
    # The page gives it the focus itself; keys typed before would be lost.
    expect(page.get_by_label("User name")).to_be_focused()
    page.keyboard.type("alice")
    page.keyboard.press("Tab")
    page.keyboard.type(guarded.passwords["alice"])
    page.keyboard.press("Enter")
    expect(page.locator("#name")).to_have_text("alice")


def test_a_form_sent_after_the_session_ended_is_not_lost_without_a_word(guarded, visitor, shoot):
    browser = visitor(locale="en-GB")
    page = browser.new_page()
    page.goto(guarded.url + "/notes")
    fill_in(page, "alice", guarded.passwords["alice"])
    page.get_by_label("Note").fill("long thought")
    browser.clear_cookies(name="session")
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("heading")).to_have_text("Please sign in again")
    shoot(page, "sign-in-again")


def test_the_own_pages_stay_readable_on_a_small_dark_screen(guarded, visitor, shoot):
    page = visitor(locale="en-GB", color_scheme="dark").new_page()
    page.set_viewport_size({"width": 360, "height": 640})
    messages = []
    page.on("console", lambda message: messages.append(message.text))
    page.goto(guarded.url + "/")
    shoot(page, "login")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # A blocked style or a missing file would be told here.
    assert messages == []
